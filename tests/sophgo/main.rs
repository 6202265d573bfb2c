// SPDX-License-Identifier: MPL-2.0

//! Bmodels on the vendor's runtime against transformers on the same bf16 weights.
//!
//! `cargo xtask test --tpu` compiles the models, makes the references and sets
//! `VLMCAPTION_SOPHON_LIB` (the runtime: an emulator or a board's) and `VLMCAPTION_TPU_MODELS` (a
//! folder of bmodels by variant, each with a `variant.json`, and of references).

#![expect(clippy::print_stdout, reason = "reports what was compared")]

#[path = "../common/mod.rs"]
mod common;
mod counts;
mod drafts;
mod failures;
mod reference;
mod worker;

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gstvlmcaption::backend::sophgo::{Described, Family, History, Options, Sophgo, Tables};
use gstvlmcaption::backend::{
    Cancel, Error, Next, Position, Program, Segment, SequenceId, VisualTokens,
};

use reference::{Case, Choice, Part, Reference, Turn, least_cosine};

/// Least cosine of features and hidden states with the reference's.
const COSINE: f32 = 0.999;

/// Sure choices that a case must have to say something.
const SURE_STEPS: usize = 16;

static TURN: Mutex<()> = Mutex::new(());

/// A loaded variant.
struct Loaded {
    described: Described,
    program: Sophgo,
    reference: Reference,
    taps: mpsc::Receiver<(String, Vec<f32>)>,
    /// The last block's output is not normalised.
    norm_in_head: bool,
    /// One test at a time: the emulator takes all cores, and what it prints stays together.
    _turn: MutexGuard<'static, ()>,
}

fn folder(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable);
    PathBuf::from(value.unwrap_or_else(|| panic!("{variable} is not set")))
}

/// The bmodel of a variant.
fn bmodel(variant: &str) -> PathBuf {
    let folder = folder("VLMCAPTION_TPU_MODELS").join(variant);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let found = paths.find(|path| path.extension().is_some_and(|e| e == "bmodel"));
    found.unwrap_or_else(|| panic!("no bmodel in {}", folder.display()))
}

fn load(variant: &str) -> Loaded {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = bmodel(variant);
    let described = Described::open(&path).unwrap();
    let window = match described.layout.vision.family {
        // window_size 56 of the small checkpoint
        Family::Qwen25Vl => 2,
        Family::Qwen3Vl | Family::InternVl3 => 4,
    };
    let variant = fs::read(path.with_file_name("variant.json")).unwrap();
    let variant: serde_json::Value = serde_json::from_slice(&variant).unwrap();
    let name = variant["reference"].as_str().unwrap();
    let folder = folder("VLMCAPTION_TPU_MODELS");
    let reference = Reference::read(&folder.join("reference").join(name));
    let options = Options {
        device: 0,
        vocab_size: reference.vocab_size,
        tables: Tables { side: 48, window },
        embedding: [
            path.with_file_name("embedding.bin"),
            path.with_file_name("config").join("embedding.bin"),
        ]
        .into_iter()
        .find(|path| path.exists()),
    };
    let mut program = described
        .load(&options, &mut |_| {}, &Cancel::default())
        .unwrap();
    let (sender, taps) = mpsc::channel();
    program.watch(Box::new(move |name, rows| {
        sender.send((name.to_owned(), rows.to_vec())).unwrap();
    }));
    Loaded {
        described,
        program,
        reference,
        taps,
        norm_in_head: variant["version"] != "1.30.2",
        _turn: turn,
    }
}

impl Loaded {
    fn last_block(&self) -> String {
        (self.described.layout.n_layers - 1).to_string()
    }

    fn visuals(&mut self, turn: &Turn) -> Vec<Option<Arc<VisualTokens>>> {
        let mut visuals = vec![None; self.reference.visuals.len()];
        for part in &turn.segments {
            if let Part::Visual(k) = *part {
                let patches = self.reference.patches(k);
                let tokens = self.program.encode(&patches, &Cancel::default()).unwrap();
                self.compare_features(k);
                visuals[k] = Some(Arc::new(tokens));
            }
        }
        visuals
    }

    /// Compares what the vision net made of visual `k` just now; nothing if nobody listens.
    fn compare_features(&self, k: usize) {
        for (name, rows) in self.taps.try_iter() {
            let want = match name.as_str() {
                "vit_0" => format!("visual.{k}.embeds"),
                _ => match name.strip_prefix("vit_").map(str::parse::<usize>) {
                    Some(Ok(level)) => format!("visual.{k}.deepstack.{}", level - 1),
                    _ => continue,
                },
            };
            let want = self.reference.floats(&want).unwrap();
            let cosine = least_cosine(&rows, &want, self.described.layout.hidden_size);
            println!("  visual {k} {name}: least cosine {cosine:.6}");
            assert!(cosine >= COSINE, "visual {k} {name}: cosine {cosine}");
        }
    }

    /// The token that follows the turn's rows.
    fn prefill(&mut self, sequence: SequenceId, turn: &Turn) -> Result<u32, Error> {
        let visuals = self.visuals(turn);
        let segments = segments(turn, &visuals);
        let next = self
            .program
            .extend(sequence, &segments, &turn.positions, &Cancel::default())?;
        Ok(token(&next))
    }

    fn feed(&mut self, sequence: SequenceId, id: u32, position: u32) -> Result<u32, Error> {
        let position: Position = [position; 3];
        let next = self.program.extend(
            sequence,
            &[Segment::Tokens(&[id])],
            &[position],
            &Cancel::default(),
        )?;
        Ok(token(&next))
    }

    /// Compares one turn: blocks, then up to `steps` choices, each after the reference's tokens.
    fn compare(&mut self, sequence: SequenceId, name: &str, turn: &Turn, steps: usize) {
        let _ = self.taps.try_iter().count();
        let first = self.prefill(sequence, turn).unwrap();
        let hidden = self.described.layout.hidden_size;
        let mut done = std::collections::BTreeMap::<String, Vec<f32>>::new();
        for (block, rows) in self.taps.try_iter() {
            done.entry(block).or_default().extend(rows);
        }
        for (block, rows) in done {
            let index = block.trim_start_matches("block_");
            if self.norm_in_head && index == self.last_block() {
                // Compilers before 1.30 leave the final norm to the head; the tokens tell.
                continue;
            }
            let want = self
                .reference
                .floats(&format!("case.{name}.block.{index}"))
                .unwrap();
            if rows.len() != want.len() {
                // Rows that were there before were not computed again.
                continue;
            }
            let cosine = least_cosine(&rows, &want, hidden);
            println!("  {name} {block}: least cosine {cosine:.6}");
            assert!(cosine >= COSINE, "{name} {block}: cosine {cosine}");
        }
        let mut choices = vec![(first, turn.greedy[0])];
        for step in 1..steps.min(turn.greedy.len()) {
            let fed = turn.greedy[step - 1].token;
            let position = turn.next_position + step as u32 - 1;
            let got = self.feed(sequence, fed, position).unwrap();
            choices.push((got, turn.greedy[step]));
        }
        judge(name, &choices);
    }

    /// Whether this bmodel can hold a case with `steps` tokens of answer.
    fn fits(&self, turns: &[&Turn], steps: usize) -> bool {
        let limits = self.program.limits();
        let rows: usize = turns.iter().map(|turn| turn.positions.len()).sum();
        let later_visual = turns.iter().skip(1).any(|turn| {
            let mut parts = turn.segments.iter();
            parts.any(|part| matches!(part, Part::Visual(_)))
        });
        let history = self.described.layout.prefill.history != History::None;
        turns[0].positions.len() <= limits.prompt
            && rows + turns.len() * steps <= limits.context
            && (history || !later_visual)
    }
}

fn token(next: &Next<'_>) -> u32 {
    match next {
        Next::Token(token) => *token,
        Next::Logits(logits) => {
            assert!(logits.iter().all(|l| l.is_finite()), "logits are numbers");
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            best.unwrap() as u32
        }
    }
}

/// Compares choices where the reference is sure; a reference that says too little is told.
fn judge(name: &str, choices: &[(u32, Choice)]) {
    let mut sure = 0;
    for (step, (got, want)) in choices.iter().enumerate() {
        if want.is_sure() {
            sure += 1;
            assert_eq!(
                *got, want.token,
                "{name} step {step}: margin {} noise {}",
                want.margin, want.noise
            );
        } else {
            let verdict = if *got == want.token { "same" } else { "other" };
            println!(
                "  {name} step {step}: margin {:.4} is below {} times the noise {:.4}: not \
                 compared ({verdict})",
                want.margin,
                reference::SURE,
                want.noise
            );
        }
    }
    println!(
        "  {name}: {sure} of {} choices compared, all equal",
        choices.len()
    );
    assert!(
        choices.len() < SURE_STEPS || sure >= SURE_STEPS,
        "{name}: only {sure} choices of the reference are sure; make it anew with another seed"
    );
}

/// Steps of an answer that are compared; none leaves the case out. The emulator takes a second for
/// a step and more for a layer of a prompt: without `VLMCAPTION_TPU_LONG` one answer is compared at
/// length, and the conversation. `VLMCAPTION_TPU_CASE` names the only case to compare, with all it
/// takes.
fn steps(variant: &str, case: &str) -> usize {
    if let Some(only) = std::env::var_os("VLMCAPTION_TPU_CASE") {
        return if only == case { 20 } else { 0 };
    }
    let long = std::env::var_os("VLMCAPTION_TPU_LONG").is_some();
    match case {
        _ if long => 24,
        "two_pairs" | "one_tile" => 20,
        // With two_pairs one case for each stage of the prompt, and both of the vision net.
        "text" | "fills_192" if variant.contains("_stages") => 3,
        "three_turns" => 6,
        _ => 0,
    }
}

/// Compares features and all cases that a variant can hold.
fn check(variant: &str) {
    let mut loaded = load(variant);
    println!("{variant}: {:#?}", loaded.described.layout);
    let cases = std::mem::take(&mut loaded.reference.cases);
    // The emulators do not run the vision net that 1.24 made of Qwen3-VL, its own neither, and that
    // of BM1684X takes a quarter of an hour for a tile of InternVL3's.
    let long = ["VLMCAPTION_TPU_LONG", "VLMCAPTION_TPU_CASE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let blind = variant.starts_with("q3_") && variant.ends_with("_124")
        || variant.starts_with("iv3_") && !long;
    let mut compared = 0;
    for case in &cases {
        match case {
            Case::One { name, turn } if blind && name == "text" => {
                let sequence = loaded.program.open().unwrap();
                loaded.compare(sequence, name, turn, 20);
                loaded.program.close(sequence);
                compared += 1;
            }
            _ if blind => {}
            Case::One { name, .. } | Case::Turns { name, .. } if steps(variant, name) == 0 => {}
            Case::One { name, turn } if loaded.fits(&[turn], steps(variant, name)) => {
                let sequence = loaded.program.open().unwrap();
                loaded.compare(sequence, name, turn, steps(variant, name));
                loaded.program.close(sequence);
                compared += 1;
            }
            Case::Turns { name, turns, .. }
                if loaded.fits(&turns.iter().collect::<Vec<_>>(), steps(variant, name)) =>
            {
                let sequence = loaded.program.open().unwrap();
                for (t, turn) in turns.iter().enumerate() {
                    let steps = turn.kept.unwrap_or(steps(variant, name));
                    loaded.compare(sequence, &format!("{name}.turn.{t}"), turn, steps);
                }
                loaded.program.close(sequence);
                compared += 1;
            }
            Case::One { name, .. } | Case::Turns { name, .. } => {
                println!("  {name}: does not fit this bmodel");
            }
        }
    }
    assert!(compared >= 1, "no case fits this bmodel");
}

/// A window after another, after a cancelled one, one that just fits and one that does not: each is
/// what it is on its own.
fn check_sequences(variant: &str) {
    let mut loaded = load(variant);
    let cases = std::mem::take(&mut loaded.reference.cases);
    let turn = |wanted: &str| {
        let found = cases.iter().find_map(|case| match case {
            Case::One { name, turn } if name == wanted => Some(turn),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no case {wanted}"))
    };
    let (pair, pairs) = (turn("one_pair"), turn("two_pairs"));
    // Windows in a row, the second like the first: rows may be taken over, the answer may not
    // change.
    for (name, turn) in [("one_pair", pair), ("one_pair", pair), ("two_pairs", pairs)] {
        let sequence = loaded.program.open().unwrap();
        loaded.compare(sequence, name, turn, 3);
        loaded.program.close(sequence);
    }

    // Cancelled while the second block runs.
    let cancel = Cancel::default();
    let raised = cancel.clone();
    loaded.program.watch(Box::new(move |block, _| {
        if block == "block_1" {
            raised.cancel();
        }
    }));
    let visuals = loaded.visuals(pair);
    let segments = segments(pair, &visuals);
    let sequence = loaded.program.open().unwrap();
    let result = loaded
        .program
        .extend(sequence, &segments, &pair.positions, &cancel);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    loaded.program.close(sequence);
    let (sender, taps) = mpsc::channel();
    loaded.taps = taps;
    loaded.program.watch(Box::new(move |name, rows| {
        sender.send((name.to_owned(), rows.to_vec())).unwrap();
    }));
    let sequence = loaded.program.open().unwrap();
    loaded.compare(sequence, "one_pair", pair, 3);

    // Pictures after rows that a bmodel without history cannot see.
    if loaded.described.layout.prefill.history == History::None {
        let visual = [Segment::Visual(visuals.iter().flatten().next().unwrap())];
        let n = pair.next_position;
        let positions = vec![[n; 3]; visuals.iter().flatten().next().unwrap().n_tokens];
        let result = loaded
            .program
            .extend(sequence, &visual, &positions, &Cancel::default());
        let error = result.unwrap_err().to_string();
        assert!(error.contains("--use_history_kv"), "{error}");
    }

    // A second sequence beside it, rows beyond the context, positions beyond the table.
    assert!(loaded.program.open().is_err(), "a bmodel has one cache");
    let limits = loaded.program.limits().clone();
    loaded.program.close(sequence);
    let sequence = loaded.program.open().unwrap();
    let many = vec![1; limits.prompt + 1];
    let positions: Vec<Position> = (0..=limits.prompt as u32).map(|n| [n; 3]).collect();
    let cancel = Cancel::default();
    let tokens = [Segment::Tokens(&many)];
    let result = loaded
        .program
        .extend(sequence, &tokens, &positions, &cancel);
    let Err(Error::Context { needed, context }) = result else {
        panic!("{result:?}");
    };
    assert_eq!((needed, context), (limits.prompt + 1, limits.prompt));
    let beyond = [[limits.context as u32; 3]];
    let tokens = [Segment::Tokens(&[1])];
    let result = loaded.program.extend(sequence, &tokens, &beyond, &cancel);
    assert!(matches!(result, Err(Error::Context { .. })), "{result:?}");
    let fits = format!("fills_{}", limits.prompt.min(192));
    loaded.compare(sequence, &fits, turn(&fits), 1);
    loaded.program.close(sequence);
}

fn segments<'a>(turn: &'a Turn, visuals: &'a [Option<Arc<VisualTokens>>]) -> Vec<Segment<'a>> {
    let parts = turn.segments.iter();
    let segment = |part: &'a Part| match part {
        Part::Tokens(ids) => Segment::Tokens(ids),
        Part::Visual(k) => Segment::Visual(visuals[*k].as_ref().unwrap()),
    };
    parts.map(segment).collect()
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn windows_of_a_static_bmodel_do_not_touch_each_other() {
    check_sequences("q3_static");
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn windows_of_a_history_bmodel_do_not_touch_each_other() {
    check_sequences("q3_kv");
}

/// What no emulator runs in bearable time is read at least.
#[test]
#[ignore = "needs bmodels: cargo xtask test --tpu"]
fn every_bmodel_that_was_compiled_is_understood() {
    let mut n_read = 0;
    for entry in fs::read_dir(folder("VLMCAPTION_TPU_MODELS")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().join("variant.json").is_file() {
            let variant = entry.file_name().into_string().unwrap();
            let described = Described::open(&bmodel(&variant)).unwrap();
            println!("  {variant}: {:?}", described.layout.prefill);
            n_read += 1;
        }
    }
    assert!(n_read > 0, "no variant was compiled");
}

/// Clips through the whole element: the same words on the device as on the host's cores.
fn check_clips(variant: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let many = std::env::var_os("VLMCAPTION_TPU_LONG").is_some();
    let evidence = tempfile::tempdir().unwrap();
    let device = format!(
        "model={} isolation=auto eos-timeout=7200000000000 evidence={}",
        bmodel(variant).display(),
        evidence.path().display()
    );
    let clips = common::clips::clips();
    let mut wrong = Vec::new();
    for (n, clip) in clips.iter().take(if many { 50 } else { 3 }).enumerate() {
        let (format, scale) = common::clips::camera(n);
        let (pictures, decoy) = common::clips::draw(clip, scale);
        // An emulator on a busy machine: minutes for a caption, and nobody waits for it.
        let patience = gst::ClockTime::from_seconds(8000);
        // Said in whichever process the vendor's library is.
        let isolation = ["process", "none"][n % 2];
        let device = device.replace("isolation=auto", &format!("isolation={isolation}"));
        let [on_device, on_host] = [device.as_str(), ""].map(|properties| {
            let prompt = "Describe the video.";
            common::clips::ask_with(properties, &pictures, &decoy, format, prompt, patience)
        });
        println!(
            "  {} pictures, isolation={isolation}: {on_device} ({on_host})",
            pictures.len()
        );
        if on_device != on_host {
            wrong.push(format!("{on_device:?} where the host says {on_host:?}"));
        }
    }
    // bf16 on the device, f32 on the host: one in fifty may fall the other way.
    let allowed = usize::from(many);
    assert!(wrong.len() <= allowed, "{wrong:#?}");
    let n = common::records::made_again(evidence.path());
    println!("  {n} captions compared with those made again from their records, all equal");
    assert_eq!(n, if many { 50 } else { 3 });
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn demo_clips_are_captioned_as_on_the_cpu() {
    check_clips("demo_bm1684x");
}

#[test]
#[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
fn demo_clips_are_captioned_on_two_cores() {
    check_clips("demo_bm1688");
}

macro_rules! variants {
    ($($name:ident)*) => {
        $(
            #[test]
            #[ignore = "needs bmodels, references and libsophon: cargo xtask test --tpu"]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

variants! {
    q3_static q3_kv q3_dyn q3_stages q3_sample q3_embdisk q3_w4 q3_w8 q3_f16 q3_w4f16
    q3_static_124 q3_kv_124 q3_stages_126
    q25_static q25_kv q25_dyn
    q25_static_124 q25_kv_124 q25_dyn_124 q25_static_121 q25_kv_121 q25_dyn_121
    iv3_static iv3_dyn iv3_kv iv3_static_124 iv3_kv_124 iv3_dyn_124 iv3_static_121 iv3_kv_121
    iv3_dyn_121
    q3_1688 q3_1688_1core q3_1688_kv iv3_1688
}
