// SPDX-License-Identifier: MPL-2.0

//! What a sampled frame costs before the model sees it: resize, patch rows, prompt.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gstvlmcaption::vlm::files::ModelFiles;
use gstvlmcaption::vlm::grid::Geometry;
use gstvlmcaption::vlm::image::{RgbImage, patch_rows};
use gstvlmcaption::vlm::{Checkpoint, PromptRequest, VisualInput, VisualKind};

/// Noise: nothing in it is easier than in a camera's picture.
fn noise(width: usize, height: usize) -> RgbImage {
    let value = |n: usize| (n.wrapping_mul(2_654_435_761) >> 13) as u8;
    RgbImage {
        width,
        height,
        pixels: (0..width * height * 3).map(value).collect(),
    }
}

fn preprocess(criterion: &mut Criterion) {
    let camera = noise(1920, 1080);
    criterion.bench_function("resize 1920x1080 to 512x288", |bencher| {
        bencher.iter(|| black_box(&camera).resize(512, 288).expect("sides above 0"));
    });

    let geometry = Geometry {
        patch_size: 16,
        temporal_patch_size: 2,
        merge_size: 2,
    };
    let pair = [noise(512, 288), noise(512, 288)];
    criterion.bench_function("patch rows of a 512x288 pair", |bencher| {
        bencher.iter(|| patch_rows(black_box(&pair), geometry).expect("multiples of 32"));
    });

    let checkpoint = Checkpoint::open(ModelFiles::demo()).expect("the demo is whole");
    let (grid, _) = patch_rows(&pair, geometry).expect("multiples of 32");
    let visuals = [[0.0, 1.0], [2.0, 3.0]].map(|seconds| VisualInput {
        grid,
        seconds: seconds.to_vec(),
    });
    let request = PromptRequest {
        system: None,
        history: &[],
        text: "Describe the video.",
        kind: VisualKind::Video,
        visuals: &visuals,
    };
    criterion.bench_function("prompt of two pairs", |bencher| {
        bencher.iter(|| {
            checkpoint
                .vlm
                .prompt(black_box(&request))
                .expect("a prompt")
        });
    });
}

criterion_group!(benches, preprocess);
criterion_main!(benches);
