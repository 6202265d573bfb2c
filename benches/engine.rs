// SPDX-License-Identifier: MPL-2.0

//! The embedded engine on the demo model: one frame pair, a prompt, one more token; in f32 and in
//! int8. `examples/engine_report.rs` measures a whole caption of a large model.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use gstvlmcaption::backend::cpu::{Options, Precision};
use gstvlmcaption::backend::{Cancel, GridThw, Next, Patches, Program, Segment, SequenceId};
use gstvlmcaption::vlm::Checkpoint;
use gstvlmcaption::vlm::files::ModelFiles;

/// Patches of a pair: 16:9, as large as a camera's frames become by default.
const GRID: GridThw = GridThw { t: 1, h: 6, w: 10 };

/// Rows of text of the prompt.
const N_TEXT: u32 = 60;

fn load(precision: Precision) -> Box<dyn Program> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let checkpoint = Checkpoint::open(ModelFiles::Folder(folder)).expect("the demo model");
    let options = Options {
        precision,
        threads: Some(1),
        ..Options::default()
    };
    checkpoint
        .load_cpu(&options, &mut |_| (), &Cancel::default())
        .expect("the demo model's weights")
}

fn patches() -> Patches {
    let row_len = 3 * 2 * 16 * 16;
    Patches {
        grid: GRID,
        pixels: (0..GRID.n_patches() * row_len)
            .map(|i| (i * 7919) as u8)
            .collect(),
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

/// Appends `segments` and gives back the first logit, so that nothing is optimised away.
fn extend(program: &mut dyn Program, sequence: SequenceId, segments: &[Segment<'_>]) -> f32 {
    let n_rows: usize = segments.iter().map(Segment::n_rows).sum();
    let positions: Vec<_> = (0..n_rows as u32).map(|i| [i; 3]).collect();
    match program.extend(sequence, segments, &positions, &Cancel::default()) {
        Ok(Next::Logits(logits)) => logits[0],
        other => panic!("logits expected, got {other:?}"),
    }
}

fn engine(c: &mut Criterion) {
    for (name, precision) in [("f32", Precision::F32), ("int8", Precision::Int8)] {
        let mut program = load(precision);
        let mut group = c.benchmark_group(name);
        let patches = patches();
        group.bench_function("encode a pair of 6x10 patches", |b| {
            b.iter(|| {
                program
                    .encode(black_box(&patches), &Cancel::default())
                    .expect("tokens")
            });
        });

        let visual = program
            .encode(&patches, &Cancel::default())
            .expect("tokens");
        let text: Vec<u32> = (1..=N_TEXT).collect();
        let prompt = [
            Segment::Visual(&visual),
            Segment::Visual(&visual),
            Segment::Tokens(&text),
        ];
        let sequence = program.open().expect("a sequence");
        group.bench_function("prefill 90 rows", |b| {
            b.iter(|| {
                program.truncate(sequence, 0);
                extend(&mut *program, sequence, &prompt)
            });
        });

        let n_rows = prompt.iter().map(Segment::n_rows).sum();
        group.bench_function("decode a token after 90 rows", |b| {
            b.iter(|| {
                program.truncate(sequence, n_rows);
                extend(&mut *program, sequence, &[Segment::Tokens(&[7])])
            });
        });
        group.finish();
    }
}

criterion_group!(benches, engine);
criterion_main!(benches);
