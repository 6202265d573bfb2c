// SPDX-License-Identifier: MPL-2.0

use proptest::prelude::*;

use super::*;
use crate::backend::{self, GridThw, Limits, Patches, Position, Segment, SequenceId};
use crate::vlm::PromptRun;
use crate::vlm::sampling::Sampling;
use crate::vlm::tokenizer::demo;

const EOS: u32 = 506;
const VOCAB: usize = 512;

/// Says given tokens, one per call, and keeps account of its only sequence.
struct Scripted {
    limits: Limits,
    script: Vec<u32>,
    said: usize,
    logits: Vec<f32>,
    rows: Vec<Position>,
    is_open: bool,
    /// The call that fails.
    fails_at: Option<usize>,
}

impl Scripted {
    fn new(script: Vec<u32>) -> Self {
        Self {
            limits: Limits {
                context: 1000,
                prompt: 1000,
                vocab_size: VOCAB,
                weight_bytes: 0,
            },
            script,
            said: 0,
            logits: Vec::new(),
            rows: Vec::new(),
            is_open: false,
            fails_at: None,
        }
    }
}

impl Program for Scripted {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, _: &Patches, _: &Cancel) -> Result<VisualTokens, backend::Error> {
        Err(backend::Error::Cancelled)
    }

    fn open(&mut self) -> Result<SequenceId, backend::Error> {
        assert!(!self.is_open);
        self.is_open = true;
        Ok(SequenceId(7))
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, backend::Error> {
        cancel.check()?;
        assert_eq!(sequence, SequenceId(7));
        let n_rows: usize = segments.iter().map(Segment::n_rows).sum();
        assert_eq!(n_rows, positions.len());
        self.rows.extend_from_slice(positions);
        assert!(self.rows.len() <= self.limits.context);
        if self.fails_at == Some(self.said) {
            return Err(backend::Error::Shape {
                what: "device".into(),
                want: "there".into(),
                got: "gone".into(),
            });
        }
        let token = self.script.get(self.said).copied().unwrap_or(EOS);
        self.said += 1;
        self.logits = vec![0.0; VOCAB];
        self.logits[token as usize] = 1.0;
        Ok(Next::Logits(&self.logits))
    }

    fn truncate(&mut self, _: SequenceId, n_rows: usize) {
        self.rows.truncate(n_rows);
    }

    fn close(&mut self, _: SequenceId) {
        assert!(self.is_open);
        self.is_open = false;
    }
}

fn options() -> GenerateOptions {
    GenerateOptions {
        max_tokens: 100,
        sampling: Sampling::greedy(),
        eos: vec![504, EOS],
        stop: vec![],
    }
}

/// Two text rows, four visual tokens, one text row: seven rows.
fn prompt() -> (Prompt, Vec<Arc<VisualTokens>>) {
    let prompt = Prompt {
        runs: vec![
            PromptRun::Tokens(vec![1, 2]),
            PromptRun::Visual(0),
            PromptRun::Tokens(vec![3]),
        ],
        positions: (0..7).map(|n| [n; 3]).collect(),
        next_position: 5,
        placeholder: Some(511),
    };
    let tokens = VisualTokens {
        grid: GridThw { t: 1, h: 4, w: 4 },
        n_tokens: 4,
        features: backend::Features::Host {
            launch: 0,
            embeds: vec![],
            deepstack: vec![],
        },
    };
    (prompt, vec![Arc::new(tokens)])
}

struct Outcome {
    result: Result<Generated, Error>,
    pieces: Vec<String>,
    program: Scripted,
}

fn run(mut program: Scripted, options: &GenerateOptions) -> Outcome {
    let (prompt, visuals) = prompt();
    let mut pieces = Vec::new();
    let result = generate(
        &mut program,
        demo(),
        &prompt,
        &visuals,
        options,
        &Cancel::default(),
        &mut |piece| pieces.push(piece.to_owned()),
    );
    assert!(!program.is_open, "the sequence is closed");
    Outcome {
        result,
        pieces,
        program,
    }
}

fn say(text: &str, options: &GenerateOptions) -> Outcome {
    run(Scripted::new(demo().encode(text).unwrap()), options)
}

#[test]
fn every_end_token_ends_an_answer() {
    for end in [504, EOS] {
        let mut script = demo().encode("A red circle").unwrap();
        let n = script.len();
        script.push(end);
        script.extend(demo().encode(" and more").unwrap());
        let answer = run(Scripted::new(script), &options()).result.unwrap();
        assert_eq!(answer.text, "A red circle");
        assert_eq!(answer.stop_reason, StopReason::Eos);
        assert_eq!(answer.tokens_out, n + 1);
    }
}

#[test]
fn an_answer_ends_at_eos_without_white_space_around() {
    let script = demo().encode(" \n A red circle. \n").unwrap();
    let n = script.len();
    let Outcome {
        result,
        pieces,
        program,
    } = run(Scripted::new(script), &options());
    let answer = result.unwrap();
    assert_eq!(answer.text, "A red circle.");
    assert_eq!(pieces.concat(), answer.text);
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    assert_eq!(answer.stop_reason, StopReason::Eos);
    assert_eq!((answer.tokens_in, answer.tokens_out), (7, n + 1));
    assert!(answer.ttft <= answer.total);
    // The answer goes on where the prompt's positions end, not at its number of rows.
    assert_eq!(program.rows[6..9], [[6; 3], [5; 3], [6; 3]]);
    assert_eq!(program.rows.len(), 7 + n);
}

#[test]
fn reasoning_before_an_answer_is_never_heard() {
    let said = "<think>\nA cat? No. </thin\n</think>\n\nA red circle.";
    let Outcome { result, pieces, .. } = say(said, &options());
    assert_eq!(result.unwrap().text, "A red circle.");
    assert_eq!(pieces.concat(), "A red circle.");
}

#[test]
fn reasoning_without_an_answer_is_an_error_and_not_an_answer() {
    let said = "<think>A cat? No. Yes. ".repeat(20);
    let Outcome { result, pieces, .. } = say(&said, &options());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("reasoned until max-tokens"), "{error}");
    assert!(pieces.is_empty(), "{pieces:?}");
}

#[test]
fn an_answer_that_begins_like_reasoning_is_told() {
    for said in ["<thin ice", "<", "<thi"] {
        let Outcome { result, pieces, .. } = say(said, &options());
        assert_eq!(result.unwrap().text, said);
        assert_eq!(pieces.concat(), said);
    }
}

#[test]
fn a_stop_text_over_several_tokens_is_never_heard() {
    let stop = |text: &str| GenerateOptions {
        stop: vec![text.to_owned()],
        ..options()
    };
    let Outcome { result, pieces, .. } = say("A red qxz circle", &stop("qxz"));
    let answer = result.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.stop_reason),
        ("A red", StopReason::StopText)
    );
    assert_eq!(pieces.concat(), "A red");
    assert!(answer.tokens_out < demo().encode("A red qxz circle").unwrap().len());
    // What only began like it is told.
    let Outcome { result, pieces, .. } = say("A qx qxy", &stop("qxz"));
    assert_eq!(result.unwrap().text, "A qx qxy");
    assert_eq!(pieces.concat(), "A qx qxy");
    let answer = say("A qx", &stop("qxz")).result.unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.stop_reason),
        ("A qx", StopReason::Eos)
    );
    // An empty text stops nothing.
    assert_eq!(say("A", &stop("")).result.unwrap().text, "A");
}

#[test]
fn of_several_stop_texts_the_first_counts() {
    let options = GenerateOptions {
        stop: vec!["zz".into(), "y".into()],
        ..options()
    };
    assert_eq!(say("xyzz", &options).result.unwrap().text, "x");
    assert_eq!(say("xzzy", &options).result.unwrap().text, "x");
}

#[test]
fn a_cut_answer_has_whole_characters_only() {
    let script = demo().encode("a🙂").unwrap();
    for (max_tokens, text) in [(1, "a"), (2, "a"), (4, "a"), (5, "a🙂")] {
        let options = GenerateOptions {
            max_tokens,
            ..options()
        };
        let answer = run(Scripted::new(script.clone()), &options).result.unwrap();
        assert_eq!(answer.text, text);
        assert_eq!(answer.stop_reason, StopReason::MaxTokens);
        assert_eq!(answer.tokens_out, max_tokens);
    }
}

#[test]
fn a_full_context_cuts_the_answer() {
    let with = |context| {
        let mut program = Scripted::new(vec![64; 50]);
        program.limits.context = context;
        run(program, &options())
    };
    let Outcome {
        result, program, ..
    } = with(10);
    let answer = result.unwrap();
    assert_eq!(answer.stop_reason, StopReason::Context);
    // Three fed rows and the token after them.
    assert_eq!((answer.tokens_out, program.rows.len()), (4, 10));
    let Outcome {
        result, program, ..
    } = with(7);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "8 rows do not fit the context of 7");
    assert_eq!(program.said, 0);
}

#[test]
fn a_failure_ends_the_sequence() {
    for fails_at in [0, 2] {
        let mut program = Scripted::new(vec![64; 50]);
        program.fails_at = Some(fails_at);
        let error = run(program, &options()).result.unwrap_err();
        assert_eq!(error.to_string(), "device: expected there, got gone");
    }
}

#[test]
fn cancelling_ends_the_answer_between_tokens() {
    let (prompt, visuals) = prompt();
    let cancel = Cancel::default();
    let mut program = Scripted::new(vec![64; 50]);
    let mut hear = |_: &str| cancel.cancel();
    let result = generate(
        &mut program,
        demo(),
        &prompt,
        &visuals,
        &options(),
        &cancel,
        &mut hear,
    );
    assert!(matches!(
        result,
        Err(Error::Backend(backend::Error::Cancelled))
    ));
    assert_eq!((program.said, program.is_open), (1, false));
}

#[test]
fn the_penalty_counts_prompt_placeholder_and_answer() {
    struct Flat(Scripted);
    // Every token is likely, less so with a growing id: what is there already falls behind.
    impl Program for Flat {
        fn limits(&self) -> &Limits {
            self.0.limits()
        }
        fn encode(&mut self, p: &Patches, c: &Cancel) -> Result<VisualTokens, backend::Error> {
            self.0.encode(p, c)
        }
        fn open(&mut self) -> Result<SequenceId, backend::Error> {
            self.0.open()
        }
        fn extend(
            &mut self,
            sequence: SequenceId,
            segments: &[Segment<'_>],
            positions: &[Position],
            cancel: &Cancel,
        ) -> Result<Next<'_>, backend::Error> {
            self.0.extend(sequence, segments, positions, cancel)?;
            self.0.logits = vec![0.0; VOCAB];
            for (rank, id) in [511, 1, 2, 3, 64, 65, 66].into_iter().enumerate() {
                self.0.logits[id] = 10.0 - rank as f32 / 100.0;
            }
            Ok(Next::Logits(&self.0.logits))
        }
        fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
            self.0.truncate(sequence, n_rows);
        }
        fn close(&mut self, sequence: SequenceId) {
            self.0.close(sequence);
        }
    }
    let (prompt, visuals) = prompt();
    let mut options = options();
    options.max_tokens = 3;
    options.sampling.repetition_penalty = 1.5;
    let mut program = Flat(Scripted::new(vec![]));
    let tokenizer = demo();
    let answer = generate(
        &mut program,
        tokenizer,
        &prompt,
        &visuals,
        &options,
        &Cancel::default(),
        &mut |_| {},
    );
    assert_eq!(
        answer.unwrap().text,
        tokenizer.decode(&[64, 65, 66]).unwrap()
    );
}

proptest! {
    #[test]
    fn what_is_heard_is_the_text_up_to_the_stop(
        text in "[ab🙂 \n]{0,16}",
        stop in "[ab🙂 ]{1,3}",
    ) {
        let options = GenerateOptions { stop: vec![stop.clone()], ..options() };
        let Outcome { result, pieces, .. } = say(&text, &options);
        let answer = result.unwrap();
        let (want, reason) = match text.find(&stop) {
            Some(at) => (&text[..at], StopReason::StopText),
            None => (text.as_str(), StopReason::Eos),
        };
        prop_assert_eq!(&answer.text, want.trim());
        prop_assert_eq!(answer.stop_reason, reason);
        prop_assert_eq!(pieces.concat(), answer.text);
    }
}
