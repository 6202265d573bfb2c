// SPDX-License-Identifier: MPL-2.0

//! What rounding a checkpoint's weights does to its answers: each precision against f32.
//!
//! `cargo xtask quant-check MODEL` builds and runs it; `--help` says what it takes.

#![expect(clippy::print_stdout, reason = "a report")]

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use gstvlmcaption::backend::cpu::{LayerError, Options, Precision};
use gstvlmcaption::backend::{Cancel, Next, Program, Segment, VisualTokens};
use gstvlmcaption::vlm::files::ModelFiles;
use gstvlmcaption::vlm::image::RgbImage;
use gstvlmcaption::vlm::{
    Checkpoint, PixelBudget, Prompt, PromptRequest, PromptRun, VisualInput, VisualKind,
};

const HELP: &str = "\
cargo xtask quant-check <model> [options]

Asks a checkpoint about texts, images and videos in f32, then in each other precision, and tells
how far apart they are: KL divergence of the distributions of the next token (nats), how often the
likeliest token is the same, how many tokens of the greedy answers agree, and which layers' results
are the furthest off in int8 (the first of tower and decoder, which stay in bf16, are not listed).
Fails if the first token's divergence reaches the bound for any prompt.

  <model>              folder of a checkpoint, or `demo` for the built-in one
  --precision LIST     bf16,int8
  --tokens N           tokens of an answer (32)
  --layers N           layers to list (12; 0 for none: listing takes both precisions' memory at once)
  --bound KL           of the first token (0.01)
  --threads N          all cores but one

f32 takes 4 bytes a parameter: 9 GB for a model of 2B.";

struct Arguments {
    model: String,
    precisions: Vec<(String, Precision)>,
    tokens: usize,
    layers: usize,
    bound: f64,
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match arguments(words).and_then(|arguments| check(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quant-check: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(words: Vec<String>) -> Result<Arguments, Box<dyn Error>> {
    let mut parsed = Arguments {
        model: String::new(),
        precisions: vec![precision("bf16")?, precision("int8")?],
        tokens: 32,
        layers: 12,
        bound: 0.01,
        threads: None,
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if !word.starts_with("--") {
            parsed.model = word;
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        match word.as_str() {
            "--precision" => {
                parsed.precisions = value.split(',').map(precision).collect::<Result<_, _>>()?;
            }
            "--tokens" => parsed.tokens = value.parse::<usize>()?.max(1),
            "--layers" => parsed.layers = value.parse()?,
            "--bound" => parsed.bound = value.parse()?,
            "--threads" => parsed.threads = Some(value.parse()?),
            _ => return Err(format!("unknown option {word}; --help lists them").into()),
        }
    }
    if parsed.model.is_empty() {
        return Err("which model? give a checkpoint's folder, or demo".into());
    }
    Ok(parsed)
}

fn precision(name: &str) -> Result<(String, Precision), String> {
    let precision = match name {
        "bf16" => Precision::Bf16,
        "int8" => Precision::Int8,
        "f32" => Precision::F32,
        other => {
            return Err(format!(
                "{other} is no precision of the cpu's; try int8 or bf16"
            ));
        }
    };
    Ok((name.to_owned(), precision))
}

/// What is asked, and what f32 answered.
struct Question {
    name: String,
    kind: VisualKind,
    frames: Vec<RgbImage>,
    text: &'static str,
}

struct Answer {
    tokens: Vec<u32>,
    /// Log-probabilities of each step, `[tokens][vocab_size]`.
    steps: Vec<Vec<f32>>,
}

fn check(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let files = match arguments.model.as_str() {
        "demo" => ModelFiles::demo(),
        folder => ModelFiles::Folder(PathBuf::from(folder)),
    };
    let checkpoint = Checkpoint::open(files)?;
    let questions = questions();
    let threads = arguments.threads;
    let load = |precision| {
        let options = Options {
            precision,
            threads,
            ..Options::default()
        };
        checkpoint.load_cpu(&options, &mut |_| (), &Cancel::default())
    };
    println!(
        "{}: {} prompts, f32 first",
        checkpoint.name,
        questions.len()
    );
    let mut exact = load(Precision::F32)?;
    let wanted = questions
        .iter()
        .map(|question| answer(&checkpoint, &mut *exact, question, None, arguments.tokens))
        .collect::<Result<Vec<_>, _>>()?;
    drop(exact);
    let mut good = true;
    for (name, precision) in &arguments.precisions {
        let mut program = load(*precision)?;
        good &= compare(
            arguments,
            &checkpoint,
            name,
            &mut *program,
            &questions,
            &wanted,
        )?;
    }
    if arguments.layers > 0 {
        let (mut program, rounding) = checkpoint.load_compared(threads, &Cancel::default())?;
        for (question, want) in questions.iter().zip(&wanted) {
            let given = Some(want.tokens.as_slice());
            answer(
                &checkpoint,
                &mut *program,
                question,
                given,
                arguments.tokens,
            )?;
        }
        list(&rounding.errors(), arguments.layers);
    }
    Ok(good)
}

/// Prints a table; whether the first tokens are within the bound.
fn compare(
    arguments: &Arguments,
    checkpoint: &Checkpoint,
    name: &str,
    program: &mut dyn Program,
    questions: &[Question],
    wanted: &[Answer],
) -> Result<bool, Box<dyn Error>> {
    println!("\n{name} against f32");
    println!(
        "{:<22} {:>10} {:>10} {:>10}  {:>11}  {:>11}",
        "prompt", "first KL", "mean KL", "worst KL", "same choice", "same words"
    );
    let (mut first, mut sum, mut steps, mut same) = (0.0f64, 0.0, 0, 0);
    let (mut whole, n) = (0, questions.len());
    for (question, want) in questions.iter().zip(wanted) {
        let given = Some(want.tokens.as_slice());
        let got = answer(checkpoint, program, question, given, arguments.tokens)?;
        let kl: Vec<f64> = want.steps.iter().zip(&got.steps).map(divergence).collect();
        let alike = want.steps.iter().zip(&got.steps);
        let alike = alike.filter(|(a, b)| argmax(a) == argmax(b)).count();
        let free = answer(checkpoint, program, question, None, arguments.tokens)?;
        let words = want.tokens.iter().zip(&free.tokens);
        let words = words.take_while(|(a, b)| a == b).count();
        whole += usize::from(free.tokens == want.tokens);
        println!(
            "{:<22} {:>10.6} {:>10.6} {:>10.6}  {:>5} of {:<2}  {:>5} of {:<2}",
            question.name,
            kl[0],
            kl.iter().sum::<f64>() / kl.len() as f64,
            kl.iter().fold(0.0f64, |a, &b| a.max(b)),
            alike,
            kl.len(),
            words,
            want.tokens.len(),
        );
        first = first.max(kl[0]);
        sum += kl.iter().sum::<f64>();
        steps += kl.len();
        same += alike;
    }
    println!(
        "in all: mean KL {:.6}, same choice {:.1} %, same answers {whole} of {n}",
        sum / steps as f64,
        100.0 * same as f64 / steps as f64
    );
    let good = first < arguments.bound;
    let verdict = if good { "ok" } else { "too far" };
    println!(
        "largest KL of a first token {first:.6}, bound {}: {verdict}",
        arguments.bound
    );
    Ok(good)
}

fn list(errors: &[LayerError], n: usize) {
    println!("\nint8: error of a layer's result, as a part of its size");
    println!("{:>10} {:>10}  layer", "many rows", "few rows");
    for error in errors.iter().take(n) {
        println!("{:>10.5} {:>10.5}  {}", error.many, error.few, error.name);
    }
}

/// The greedy answer, or the distributions along a given one.
fn answer(
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    question: &Question,
    given: Option<&[u32]>,
    tokens: usize,
) -> Result<Answer, Box<dyn Error>> {
    let cancel = Cancel::default();
    let (prompt, visuals) = prompt(checkpoint, program, question)?;
    let segments: Vec<Segment<'_>> = prompt
        .runs
        .iter()
        .map(|run| match run {
            PromptRun::Tokens(ids) => Segment::Tokens(ids),
            PromptRun::Visual(index) => Segment::Visual(&visuals[*index]),
        })
        .collect();
    let sequence = program.open()?;
    let mut answer = Answer {
        tokens: Vec::new(),
        steps: Vec::new(),
    };
    let mut step = log_softmax(program.extend(sequence, &segments, &prompt.positions, &cancel)?)?;
    loop {
        let token = match given {
            Some(given) => given[answer.tokens.len()],
            None => argmax(&step),
        };
        answer.steps.push(step);
        answer.tokens.push(token);
        let at_end = match given {
            Some(given) => answer.tokens.len() == given.len(),
            None => checkpoint.defaults.eos.contains(&token),
        };
        if at_end || answer.tokens.len() == tokens {
            break;
        }
        let position = [prompt.next_position + answer.tokens.len() as u32 - 1; 3];
        let segment = [Segment::Tokens(&[token])];
        step = log_softmax(program.extend(sequence, &segment, &[position], &cancel)?)?;
    }
    program.close(sequence);
    Ok(answer)
}

fn prompt(
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    question: &Question,
) -> Result<(Prompt, Vec<VisualTokens>), Box<dyn Error>> {
    let vlm = &checkpoint.vlm;
    let fit = |frame: &RgbImage| vlm.fit(frame, question.kind, PixelBudget::default());
    let frames = question
        .frames
        .iter()
        .map(fit)
        .collect::<Result<Vec<_>, _>>()?;
    let size = vlm.temporal_patch_size();
    let (mut inputs, mut visuals) = (Vec::new(), Vec::new());
    for (n, frames) in frames.chunks(size).enumerate() {
        let tokens = program.encode(&vlm.patches(frames)?, &Cancel::default())?;
        let last = n * size + frames.len() - 1;
        inputs.push(VisualInput {
            grid: tokens.grid,
            seconds: (n * size..(n + 1) * size)
                .map(|i| i.min(last) as f64)
                .collect(),
        });
        visuals.push(tokens);
    }
    let prompt = vlm.prompt(&PromptRequest {
        system: None,
        history: &[],
        text: question.text,
        kind: question.kind,
        visuals: &inputs,
    })?;
    Ok((prompt, visuals))
}

/// Texts, pictures and clips of the street.
fn questions() -> Vec<Question> {
    let text = |name: &str, text| Question {
        name: name.to_owned(),
        kind: VisualKind::Video,
        frames: Vec::new(),
        text,
    };
    let mut questions = vec![
        text("text, short", "What is a camera?"),
        text(
            "text, list",
            "Name five colors and something of each color.",
        ),
        text("text, numbers", "Count from one to twenty in words."),
    ];
    for (seed, (n_frames, asked)) in (1..).zip([
        (1, "Describe the image."),
        (1, "What colors are the objects?"),
        (2, "Describe the video."),
        (4, "Describe the video."),
        (8, "What moves, and where to?"),
    ]) {
        let street = world::Street::new(seed, 16);
        let (width, height) = (480, 270);
        let frames = (0..n_frames).map(|second| RgbImage {
            width,
            height,
            pixels: street.draw(f64::from(second), width, height).into_rgb(),
        });
        let (kind, what) = match n_frames {
            1 => (VisualKind::Image, "image".to_owned()),
            n => (VisualKind::Video, format!("video of {n} frames")),
        };
        questions.push(Question {
            name: format!("{what}, {seed}"),
            kind,
            frames: frames.collect(),
            text: asked,
        });
    }
    questions
}

fn log_softmax(next: Next<'_>) -> Result<Vec<f32>, Box<dyn Error>> {
    let Next::Logits(logits) = next else {
        return Err("this program gives no logits".into());
    };
    let largest = logits.iter().fold(f32::MIN, |a, &b| a.max(b));
    let sum: f64 = logits.iter().map(|l| f64::from(l - largest).exp()).sum();
    let shift = f64::from(largest) + sum.ln();
    Ok(logits
        .iter()
        .map(|&l| (f64::from(l) - shift) as f32)
        .collect())
}

fn divergence((p, q): (&Vec<f32>, &Vec<f32>)) -> f64 {
    let term = |(&p, &q): (&f32, &f32)| f64::from(p).exp() * f64::from(p - q);
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(id, _)| id as u32)
}
