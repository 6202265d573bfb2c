// SPDX-License-Identifier: MPL-2.0

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::backend::{GridThw, cpu};
use crate::vlm::files::ModelFiles;
use crate::vlm::generate::{GenerateOptions, generate};
use crate::vlm::sampling::Sampling;
use crate::vlm::{Checkpoint, Prompt, PromptRun};

/// What a program was asked.
#[derive(Debug, PartialEq)]
enum Call {
    Long,
    One(u32),
    Each(Vec<u32>),
    Truncate(usize),
    Close,
}

/// How a program fares with several tokens at a time.
#[derive(Clone, Copy, PartialEq)]
enum Together {
    Works,
    Fails,
    /// Works after a word.
    Waits,
}

/// Says the token after the one it was given; the vision net waits for a word.
struct Scripted {
    limits: Limits,
    calls: Sender<Call>,
    go: Receiver<()>,
    together: Together,
    /// The token that fails alone.
    bad: Option<u32>,
}

impl Program for Scripted {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, _: &Cancel) -> Result<VisualTokens, Error> {
        self.calls.send(Call::Long).unwrap();
        self.go.recv().unwrap();
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens: 0,
            features: crate::backend::Features::Host {
                launch: 0,
                embeds: Vec::new(),
                deepstack: Vec::new(),
            },
        })
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        Ok(SequenceId(0))
    }

    fn extend(
        &mut self,
        _: SequenceId,
        segments: &[Segment<'_>],
        _: &[Position],
        _: &Cancel,
    ) -> Result<Next<'_>, Error> {
        let [Segment::Tokens([token])] = segments else {
            panic!("one token");
        };
        self.calls.send(Call::One(*token)).unwrap();
        if self.bad == Some(*token) {
            return Err(Error::Scripted("bad token".into()));
        }
        Ok(Next::Token(token + 1))
    }

    fn extend_each(
        &mut self,
        steps: &[Step],
        _: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let mut tokens: Vec<u32> = steps.iter().map(|step| step.token).collect();
        for (i, token) in tokens.iter().enumerate() {
            take(i, Next::Token(token + 1));
        }
        tokens.sort_unstable();
        self.calls.send(Call::Each(tokens)).unwrap();
        match self.together {
            Together::Works => Ok(()),
            Together::Fails => Err(Error::Scripted("together".into())),
            Together::Waits => {
                self.go.recv().unwrap();
                Ok(())
            }
        }
    }

    fn verifies(&self, _: usize) -> Vec<Launch> {
        vec![Launch::of(4)]
    }

    fn truncate(&mut self, _: SequenceId, n_rows: usize) {
        self.calls.send(Call::Truncate(n_rows)).unwrap();
    }

    fn close(&mut self, _: SequenceId) {
        self.calls.send(Call::Close).unwrap();
    }
}

fn batcher(together: Together, bad: Option<u32>) -> (Batcher, Receiver<Call>, Sender<()>) {
    let (calls, called) = channel();
    let (going, go) = channel();
    let program = Scripted {
        limits: Limits {
            context: 100,
            prompt: 100,
            vocab_size: 10,
            weight_bytes: 0,
        },
        calls,
        go,
        together,
        bad,
    };
    let program = Watched::new(Box::new(program), 0);
    (Batcher::new(program, 3), called, going)
}

fn patches() -> Patches {
    Patches {
        grid: GridThw { t: 1, h: 2, w: 2 },
        pixels: Vec::new().into(),
        mean: [0.0; 3],
        std: [1.0; 3],
    }
}

fn extend(slot: &mut Slot<'_>, token: u32, cancel: &Cancel) -> Result<u32, Error> {
    let segment = [Segment::Tokens(&[token])];
    match slot.extend(SequenceId(token), &segment, &[[0; 3]], cancel)? {
        Next::Token(token) => Ok(token),
        Next::Logits(_) => panic!("a token"),
    }
}

/// Two turns wait with tokens 3 and 7 while a third is in a long call; then that ends.
fn two_wait(
    batcher: &Batcher,
    called: &Receiver<Call>,
    go: &Sender<()>,
) -> [Result<u32, Error>; 2] {
    let mut slots = [(); 3].map(|()| batcher.slot());
    slots.iter_mut().for_each(Slot::begin_turn);
    let [mut long, mut one, mut other] = slots;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let encoded = long.encode(&patches(), &Cancel::default());
            long.end_turn();
            encoded.expect("features");
        });
        assert_eq!(called.recv().unwrap(), Call::Long);
        let one = scope.spawn(move || {
            let said = extend(&mut one, 3, &Cancel::default());
            one.end_turn();
            said
        });
        let other = scope.spawn(move || {
            let said = extend(&mut other, 7, &Cancel::default());
            other.end_turn();
            said
        });
        while batcher.core().waiting.len() < 2 {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        [one.join().unwrap(), other.join().unwrap()]
    })
}

#[test]
fn a_draft_is_for_a_turn_that_has_the_program_to_itself() {
    let (batcher, called, _) = batcher(Together::Works, None);
    let (mut one, mut two) = (batcher.slot(), batcher.slot());
    one.begin_turn();
    assert_eq!(one.verifies(3), [Launch::of(4)]);
    let (mut said, at) = (Vec::new(), [[3; 3], [4; 3]]);
    let verified = one.verify(
        SequenceId(0),
        &[1, 2],
        &at,
        &Cancel::default(),
        &mut |i, next| {
            if let Next::Token(token) = next {
                said.push((i, token));
            }
        },
    );
    verified.unwrap();
    assert_eq!(said, [(0, 2), (1, 3)]);
    assert_eq!(
        [called.recv(), called.recv()],
        [Ok(Call::One(1)), Ok(Call::One(2))]
    );
    two.begin_turn();
    assert!(
        one.verifies(3).is_empty(),
        "tokens of both are made together"
    );
    two.end_turn();
    assert_eq!(one.verifies(3).len(), 1);
    one.end_turn();
}

#[test]
fn tokens_that_wait_are_made_together_after_the_long_call() {
    let (batcher, called, go) = batcher(Together::Works, None);
    let [one, other] = two_wait(&batcher, &called, &go);
    assert_eq!((one.unwrap(), other.unwrap()), (4, 8));
    assert_eq!(
        called.try_iter().collect::<Vec<_>>(),
        [Call::Each(vec![3, 7])]
    );
}

#[test]
fn turns_whose_tokens_are_being_made_are_waited_for() {
    let (batcher, called, go) = batcher(Together::Waits, None);
    let (batcher, word) = (&batcher, go.clone());
    std::thread::scope(|scope| {
        let two = scope.spawn(move || two_wait(batcher, &called, &go));
        let are_being_made = |core: &Core| core.next_ticket == 2 && core.waiting.is_empty();
        while !are_being_made(&batcher.core()) {
            std::thread::yield_now();
        }
        let busy = batcher.core().busy;
        word.send(()).unwrap();
        assert!(two.join().unwrap().iter().all(Result::is_ok));
        assert!(busy >= 2, "{busy}");
    });
    assert_eq!(batcher.core().busy, 0);
}

#[test]
fn a_batch_that_fails_is_tried_one_by_one_and_each_has_its_own_error() {
    let (batcher, called, go) = batcher(Together::Fails, Some(7));
    let [one, other] = two_wait(&batcher, &called, &go);
    assert_eq!(one.unwrap(), 4);
    assert_eq!(other.unwrap_err().to_string(), "bad token");
    let mut calls: Vec<Call> = called.try_iter().collect();
    assert_eq!(calls.remove(0), Call::Each(vec![3, 7]));
    assert_eq!(calls.len(), 2);
    assert!(calls.contains(&Call::One(3)) && calls.contains(&Call::One(7)));
}

#[test]
fn a_fault_is_that_of_the_turn_that_had_it() {
    let (batcher, _called, _go) = batcher(Together::Fails, Some(7));
    let mut slot = batcher.slot();
    slot.begin_turn();
    assert!(extend(&mut slot, 7, &Cancel::default()).is_err());
    assert!(slot.end_turn().1);
    slot.begin_turn();
    assert!(extend(&mut slot, 5, &Cancel::default()).is_ok());
    assert!(!slot.end_turn().1);
}

#[test]
fn a_cancelled_turn_waits_for_nobody_else_s_call() {
    let (batcher, called, go) = batcher(Together::Works, None);
    let [mut long, mut token, mut other] = [(); 3].map(|()| batcher.slot());
    for slot in [&mut long, &mut token, &mut other] {
        slot.begin_turn();
    }
    std::thread::scope(|scope| {
        let long = scope.spawn(move || long.encode(&patches(), &Cancel::default()));
        assert_eq!(called.recv().unwrap(), Call::Long);
        let cancel = Cancel::default();
        cancel.cancel();
        let cancelled = extend(&mut token, 3, &cancel);
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        let cancelled = other.encode(&patches(), &cancel);
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        // Nor does the end of its sequence.
        token.truncate(SequenceId(3), 5);
        token.close(SequenceId(3));
        go.send(()).unwrap();
        assert!(long.join().unwrap().is_ok());
    });
    token.open().expect("a sequence");
    let calls: Vec<Call> = called.try_iter().collect();
    assert_eq!(calls, [Call::Truncate(5), Call::Close]);
}

#[test]
fn answers_of_turns_side_by_side_are_those_of_turns_alone() {
    let checkpoint = Checkpoint::open(ModelFiles::demo()).expect("the demo model");
    let options = cpu::Options {
        threads: Some(1),
        ..cpu::Options::default()
    };
    let load = || {
        let program = checkpoint.load_cpu(&options, &mut |_| (), &Cancel::default());
        program.expect("the demo model")
    };
    let prompts = ["a red circle", "what moves?", "two", "left and right"];
    let say = |program: &mut dyn Program, text: &str| {
        let tokens = checkpoint.tokenizer.encode(text).expect("tokens");
        let n = tokens.len() as u32;
        let prompt = Prompt {
            runs: vec![PromptRun::Tokens(tokens)],
            positions: (0..n).map(|i| [i; 3]).collect(),
            next_position: n,
            placeholder: None,
        };
        let options = GenerateOptions {
            max_tokens: 30,
            sampling: Sampling::greedy(),
            eos: Vec::new(),
            stop: Vec::new(),
        };
        let (tokenizer, cancel) = (&checkpoint.tokenizer, Cancel::default());
        let said = generate(
            program,
            tokenizer,
            &prompt,
            &[],
            &options,
            &cancel,
            &mut |_| (),
        );
        let said = said.expect("an answer");
        (said.text, said.tokens_out)
    };
    let mut program = load();
    let alone = prompts.map(|text| say(&mut *program, text));
    let batcher = Batcher::new(Watched::new(load(), 0), prompts.len());
    let together = std::thread::scope(|scope| {
        let turns = prompts.map(|text| {
            let (batcher, say) = (&batcher, &say);
            scope.spawn(move || {
                let mut slot = batcher.slot();
                slot.begin_turn();
                let said = say(&mut slot, text);
                assert!(!slot.end_turn().0.is_zero());
                said
            })
        });
        turns.map(|turn| turn.join().expect("an answer"))
    });
    assert_eq!(together, alone);
}
