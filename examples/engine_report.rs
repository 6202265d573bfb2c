// SPDX-License-Identifier: MPL-2.0

//! What the embedded engine takes for one caption of a 10-frame clip, in time and memory.
//!
//! ```text
//! engine_report FOLDER [auto|f32|bf16|int8] [THREADS] [PAIRS] [TOKENS]
//! ```
//!
//! FOLDER is a Qwen3-VL checkpoint, or one that `tools/golden/big_shapes.py` wrote. The clip is
//! 5 pairs of 512x288 frames of noise. Every stage is reported in wall and in processor time, and
//! the last line is the processor times once more, in JSON, for `cargo xtask bench`.

#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gstvlmcaption::backend::cpu::{self, Options, Precision, Weights};
use gstvlmcaption::backend::spec::{Head, Rope, Spec, TextSpec, Tower, VisionSpec};
use gstvlmcaption::backend::{
    Cancel, GridThw, Next, Patches, Program, Segment, Step, VisualTokens,
};
use serde_json::Value;

/// Rows of text before each pair (its time, and the marks around its tokens).
const TEXT_ROWS_PER_PAIR: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("usage: engine_report FOLDER ...")?);
    let precision = match args.next().as_deref() {
        None | Some("auto") => Precision::Auto,
        Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        Some("int8") => Precision::Int8,
        Some(other) => return Err(format!("unknown precision {other}").into()),
    };
    let threads = args.next().map(|n| n.parse()).transpose()?;
    let pairs = args.next().map_or(Ok(5), |n| n.parse())?;
    let n_tokens = args.next().map_or(Ok(48), |n| n.parse())?;

    let spec = spec(&folder)?;
    let options = Options {
        precision,
        threads,
        cache: std::env::var_os("VLMCAPTION_CACHE").map(PathBuf::from),
    };
    let watch = Watch::start();
    let weights = Weights::Files(weight_files(&folder)?);
    let mut program = cpu::load(&spec, &weights, &options, &mut |_| (), &Cancel::default())?;
    let bytes = program.limits().weight_bytes;
    let isa = program.arithmetic().kernels.unwrap_or_default();
    println!("weights  {:.2} GB in memory", bytes as f64 / 1e9);
    watch.report("load", "");

    let (visuals, vision) = see(&mut *program, &spec, pairs)?;
    let clip = caption(&mut *program, &visuals, n_tokens)?;
    let last = as_it_comes(&mut *program, &spec, &visuals)?;
    let streams = streams(&mut *program, &visuals[..1], n_tokens)?;
    drafts(&mut *program, &visuals, n_tokens)?;
    let peak = peak_rss_bytes()?;
    println!("peak RSS {:.2} GB", peak as f64 / 1e9);
    println!(
        "{{\"vision\": {vision:.4}, \"prefill\": {:.4}, \"decode\": {:.4}, \"rows\": {}, \
         \"tokens\": {n_tokens}, \"last\": {last:.4}, \"streams\": {streams:.3}, \"peak\": {peak}, \
         \"isa\": \"{isa}\"}}",
        clip.prefill, clip.decode, clip.rows
    );
    Ok(())
}

/// What a caption took, seconds of processor time.
struct Clip {
    rows: usize,
    prefill: f64,
    decode: f64,
}

/// Patches of a frame of 512x288 pixels, or as near as the patches allow.
fn grid(vision: &VisionSpec) -> GridThw {
    let step = vision.patch_size * vision.spatial_merge_size;
    let patches = |pixels: usize| pixels / step * vision.spatial_merge_size;
    GridThw {
        t: 1,
        h: patches(288),
        w: patches(512),
    }
}

/// A pair of frames of noise.
fn noise(vision: &VisionSpec, pair: usize) -> Patches {
    let grid = grid(vision);
    let row_len = vision.in_channels * vision.temporal_patch_size * vision.patch_size.pow(2);
    let pixels = (0..grid.n_patches() * row_len).map(|i| (i * 7919 + pair * 101) as u8 ^ 0x5a);
    Patches {
        grid,
        pixels: pixels.collect(),
        mean: [0.5; 3],
        std: [0.5; 3],
    }
}

/// Encodes the pairs of a clip of noise; the seconds that took.
fn see(
    program: &mut dyn Program,
    spec: &Spec,
    pairs: usize,
) -> Result<(Vec<VisualTokens>, f64), Box<dyn Error>> {
    let clip: Vec<Patches> = (0..pairs).map(|pair| noise(&spec.vision, pair)).collect();
    let watch = Watch::start();
    let mut visuals = Vec::new();
    for patches in &clip {
        visuals.push(program.encode(patches, &Cancel::default())?);
    }
    let (_, cpu) = watch.read();
    let GridThw { h, w, .. } = grid(&spec.vision);
    let each = cpu.as_secs_f64() / pairs as f64;
    watch.report(
        "vision",
        &format!("{each:.3} s CPU a pair of {h}x{w} patches"),
    );
    Ok((visuals, cpu.as_secs_f64()))
}

/// Prefills the clip at once and decodes.
fn caption(
    program: &mut dyn Program,
    visuals: &[VisualTokens],
    n_tokens: usize,
) -> Result<Clip, Box<dyn Error>> {
    let text: Vec<u32> = (1..=TEXT_ROWS_PER_PAIR as u32).collect();
    let mut segments = Vec::new();
    for tokens in visuals {
        segments.push(Segment::Tokens(&text));
        segments.push(Segment::Visual(tokens));
    }
    segments.push(Segment::Tokens(&text));
    let rows: usize = segments.iter().map(Segment::n_rows).sum();
    let positions: Vec<_> = (0..rows as u32).map(|i| [i; 3]).collect();
    let sequence = program.open()?;
    let watch = Watch::start();
    let mut token = choose(program.extend(sequence, &segments, &positions, &Cancel::default())?);
    let prefill = watch.read().1.as_secs_f64();
    let rate = rows as f64 / prefill;
    watch.report(
        "prefill",
        &format!("{rows} rows, {rate:.1} a second of CPU"),
    );

    let watch = Watch::start();
    for i in 0..n_tokens {
        let position = [(rows + i) as u32; 3];
        let segment = [Segment::Tokens(&[token])];
        token = choose(program.extend(sequence, &segment, &[position], &Cancel::default())?);
    }
    let decode = watch.read().1.as_secs_f64();
    let rate = n_tokens as f64 / decode;
    watch.report(
        "decode",
        &format!("{n_tokens} tokens, {rate:.1} a second of CPU"),
    );
    program.close(sequence);
    Ok(Clip {
        rows,
        prefill,
        decode,
    })
}

/// Prefills each pair as it comes; the seconds from the last pair's frames to the first token.
fn as_it_comes(
    program: &mut dyn Program,
    spec: &Spec,
    visuals: &[VisualTokens],
) -> Result<f64, Box<dyn Error>> {
    let text: Vec<u32> = (1..=TEXT_ROWS_PER_PAIR as u32).collect();
    let sequence = program.open()?;
    let mut rows = 0;
    let mut extend = |program: &mut dyn Program, segments: &[Segment<'_>]| {
        let n: usize = segments.iter().map(Segment::n_rows).sum();
        let positions: Vec<_> = (rows..rows + n).map(|i| [i as u32; 3]).collect();
        rows += n;
        program
            .extend(sequence, segments, &positions, &Cancel::default())
            .map(choose)
    };
    let (last, before) = visuals.split_last().ok_or("no pair")?;
    for tokens in before {
        extend(program, &[Segment::Tokens(&text), Segment::Visual(tokens)])?;
    }
    let patches = noise(&spec.vision, before.len());
    let watch = Watch::start();
    let tokens = program.encode(&patches, &Cancel::default())?;
    let segments = [
        Segment::Tokens(&text),
        Segment::Visual(&tokens),
        Segment::Tokens(&text),
    ];
    extend(program, &segments)?;
    debug_assert_eq!(tokens.n_tokens, last.n_tokens);
    let took = watch.read().1.as_secs_f64();
    watch.report("last", "from the last frame to the first token");
    program.close(sequence);
    Ok(took)
}

/// Decodes one stream and four in a batch, in turns; each begins with a pair.
fn streams(
    program: &mut dyn Program,
    visuals: &[VisualTokens],
    n_tokens: usize,
) -> Result<f64, Box<dyn Error>> {
    const STREAMS: usize = 4;
    let segment = [Segment::Visual(&visuals[0])];
    let n_rows = visuals[0].n_tokens;
    let positions: Vec<_> = (0..n_rows as u32).map(|i| [i; 3]).collect();
    let mut steps = Vec::new();
    for _ in 0..STREAMS {
        let sequence = program.open()?;
        let next = program.extend(sequence, &segment, &positions, &Cancel::default())?;
        steps.push(Step {
            sequence,
            token: choose(next),
            position: [0; 3],
        });
    }
    let mut took = [Duration::ZERO; 2];
    for i in 0..n_tokens {
        for (n, took) in [1, STREAMS].into_iter().zip(&mut took) {
            let before = cpu_time();
            for step in &mut steps {
                step.position = [(n_rows + i) as u32; 3];
                program.truncate(step.sequence, n_rows + i);
            }
            let mut tokens = [0; STREAMS];
            let steps = &steps[..n];
            program.extend_each(steps, &Cancel::default(), &mut |i, next| {
                tokens[i] = choose(next);
            })?;
            *took += cpu_time() - before;
            std::hint::black_box(tokens);
        }
    }
    let [one, four] = took.map(|took| 1e3 * took.as_secs_f64() / n_tokens as f64);
    let times = STREAMS as f64 * one / four;
    println!("streams  one {one:.1} ms CPU a step, four {four:.1} ms: {times:.2} times the tokens");
    Ok(times)
}

/// Decodes a token by itself and several that are verified together, in turns, behind the clip.
fn drafts(
    program: &mut dyn Program,
    visuals: &[VisualTokens],
    n_steps: usize,
) -> Result<(), Box<dyn Error>> {
    let segments: Vec<_> = visuals.iter().map(Segment::Visual).collect();
    let n_rows: usize = segments.iter().map(Segment::n_rows).sum();
    let positions: Vec<_> = (0..n_rows as u32).map(|i| [i; 3]).collect();
    let sequence = program.open()?;
    program.extend(sequence, &segments, &positions, &Cancel::default())?;
    let lengths: Vec<usize> = program.verifies(n_rows).iter().map(|l| l.tokens).collect();
    let (mut alone, mut together) = (Duration::ZERO, vec![Duration::ZERO; lengths.len()]);
    let tokens: Vec<u32> = (1..).take(lengths.last().copied().unwrap_or(0)).collect();
    let positions: Vec<_> = (n_rows as u32..)
        .map(|i| [i; 3])
        .take(tokens.len())
        .collect();
    for _ in 0..n_steps.div_ceil(4) {
        let before = cpu_time();
        let token = [Segment::Tokens(&tokens[..1])];
        choose(program.extend(sequence, &token, &positions[..1], &Cancel::default())?);
        alone += cpu_time() - before;
        program.truncate(sequence, n_rows);
        for (&n, took) in lengths.iter().zip(&mut together) {
            let before = cpu_time();
            let (tokens, positions) = (&tokens[..n], &positions[..n]);
            program.verify(
                sequence,
                tokens,
                positions,
                &Cancel::default(),
                &mut |_, next| {
                    std::hint::black_box(choose(next));
                },
            )?;
            *took += cpu_time() - before;
            program.truncate(sequence, n_rows);
        }
    }
    program.close(sequence);
    let steps = n_steps.div_ceil(4) as f64;
    print!(
        "drafts   one token {:.1} ms CPU",
        1e3 * alone.as_secs_f64() / steps
    );
    for (n, took) in lengths.iter().zip(together) {
        let times = took.as_secs_f64() / alone.as_secs_f64();
        print!(", {n} together {times:.2} of it");
    }
    println!();
    Ok(())
}

fn choose(next: Next<'_>) -> u32 {
    match next {
        Next::Logits(logits) => {
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(id, _)| id as u32)
        }
        Next::Token(id) => id,
    }
}

/// Wall and processor time since it was made.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Self(Instant::now(), cpu_time())
    }

    fn read(&self) -> (Duration, Duration) {
        (self.0.elapsed(), cpu_time() - self.1)
    }

    fn report(&self, stage: &str, note: &str) {
        let (wall, cpu) = self.read();
        let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
        println!("{stage:<8} {wall:.2} s, {cpu:.2} s CPU  {note}");
    }
}

/// Processor time of all threads of this process, as exact as the scheduler counts.
fn cpu_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Duration::ZERO;
    };
    // proc(5), schedstat: the first number is the time spent on the processor in nanoseconds.
    let nanos = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

/// `VmHWM`.
fn peak_rss_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmHWM in /proc/self/status")?
        .parse()?;
    Ok(1024 * kib)
}

fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "safetensors") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn spec(folder: &Path) -> Result<Spec, Box<dyn Error>> {
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    let (text, vision) = (&config["text_config"], &config["vision_config"]);
    let rope = &text["rope_parameters"];
    let float = |value: &Value| value.as_f64().ok_or("a number is missing in config.json");
    Ok(Spec {
        vision: VisionSpec {
            depth: number(vision, "depth")?,
            hidden_size: number(vision, "hidden_size")?,
            intermediate_size: number(vision, "intermediate_size")?,
            num_heads: number(vision, "num_heads")?,
            in_channels: number(vision, "in_channels")?,
            patch_size: number(vision, "patch_size")?,
            temporal_patch_size: number(vision, "temporal_patch_size")?,
            spatial_merge_size: number(vision, "spatial_merge_size")?,
            out_hidden_size: number(vision, "out_hidden_size")?,
            tower: Tower::Qwen3Vl {
                num_position_embeddings: number(vision, "num_position_embeddings")?,
                deepstack_visual_indexes: numbers(vision, "deepstack_visual_indexes")?,
            },
        },
        text: TextSpec {
            num_hidden_layers: number(text, "num_hidden_layers")?,
            hidden_size: number(text, "hidden_size")?,
            intermediate_size: number(text, "intermediate_size")?,
            num_attention_heads: number(text, "num_attention_heads")?,
            num_key_value_heads: number(text, "num_key_value_heads")?,
            head_dim: number(text, "head_dim")?,
            vocab_size: number(text, "vocab_size")?,
            rms_norm_eps: float(&text["rms_norm_eps"])? as f32,
            rope_theta: float(&rope["rope_theta"])?,
            qkv_bias: false,
            qk_norm: true,
            rope: Rope::Interleaved(
                numbers(rope, "mrope_section")?
                    .try_into()
                    .map_err(|_| "mrope_section has three parts")?,
            ),
            head: match config["tie_word_embeddings"].as_bool() {
                Some(false) => Head::Own,
                Some(true) | None => Head::AsFound,
            },
            max_position_embeddings: number(text, "max_position_embeddings")?,
            packing: None,
        },
    })
}

fn number(object: &Value, key: &str) -> Result<usize, String> {
    let number = object[key].as_u64();
    number
        .map(|n| n as usize)
        .ok_or_else(|| format!("{key} is missing in config.json"))
}

fn numbers(object: &Value, key: &str) -> Result<Vec<usize>, String> {
    let list = object[key]
        .as_array()
        .ok_or_else(|| format!("{key} is missing in config.json"))?;
    Ok(list
        .iter()
        .filter_map(Value::as_u64)
        .map(|n| n as usize)
        .collect())
}
