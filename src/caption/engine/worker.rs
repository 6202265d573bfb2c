// SPDX-License-Identifier: MPL-2.0

//! What is done in one turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::asked::{Asked, Stop, answered, tell_failed};
use super::exhibit;
use super::prompts::{Fitted, RenderedPrompt, fit, rendered};
use super::shared::Shared;
use super::turn::{Context, Outcome, Turn, Work};
use crate::backend::{self, Cancel, Program, VisualTokens};
use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{Pair, Window};
use crate::caption::questions::question::Question;
use crate::caption::reports::evidence::Evidence;
use crate::caption::reports::report::WindowReport;
use crate::caption::trace::{self, Span, Stage};
use crate::vlm::generate::Generated;
use crate::vlm::interview::{self, Interview};
use crate::vlm::{self, Checkpoint, Prompt};

/// Encodes a pair, or answers the questions about a window.
pub(crate) fn work(
    shared: &Shared,
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    turn: &Turn,
) -> Outcome {
    if let Work::Pair { pair, ahead } = &turn.work {
        let of = Of {
            element: &turn.element,
            window: 0,
        };
        return encode_pair(
            checkpoint,
            program,
            (pair, of),
            ahead.as_deref(),
            &turn.cancel,
        );
    }
    answered(shared, turn, |asked, tell| {
        answer(checkpoint, program, asked, tell)
    })
}

/// Answers questions about a window.
pub(crate) fn answer(
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    asked: &Asked<'_>,
    tell: &mut dyn FnMut(WindowReport),
) -> Result<Option<vlm::Turn>, Stop> {
    let answers = Answers { checkpoint, asked };
    let window = &asked.context.job.window;
    answers.make(program, tell).map_err(|error| match error {
        error if is_cancel(&error) => Stop::Cancelled,
        error => Stop::Failed(explain(&error, window)),
    })
}

/// Encodes a pair while its window fills, and begins to compute the window's prompt.
fn encode_pair(
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    (pair, of): (&Pair, Of<'_>),
    ahead: Option<&Context>,
    cancel: &Cancel,
) -> Outcome {
    match encode(program, pair, of, cancel) {
        Ok(_) => {}
        Err(error) if is_cancel(&error) => return Outcome::Cancelled,
        Err(error) => {
            return Outcome::Failed {
                frames: Vec::new(),
                reason: error.to_string(),
            };
        }
    }
    match ahead.map(|context| prefill_ahead(checkpoint, program, context, cancel)) {
        Some(Err(error)) if is_cancel(&error) => Outcome::Cancelled,
        // A head start alone: what fails here fails again when the window's turn comes, and is told
        // then.
        Some(Err(_) | Ok(())) | None => Outcome::Encoded,
    }
}

/// Computes the prompt of a window that is being filled, as far as it is known.
fn prefill_ahead(
    checkpoint: &Checkpoint,
    program: &mut dyn Program,
    context: &Context,
    cancel: &Cancel,
) -> Result<(), vlm::Error> {
    let tokens = encode_all(program, context, cancel)?;
    // All questions come after the pixels, so any will do.
    let question = [context.ask.main()];
    let mut fitted = rendered(checkpoint, context, &question, &tokens, 0, 0)?;
    let Some(Ok(RenderedPrompt { prompt, .. })) = fitted.prompts.pop() else {
        return Ok(());
    };
    let (limits, rows) = (program.limits(), prompt.n_rows());
    // What does not fit already will be cut at its beginning.
    if rows > limits.prompt || rows + context.max_tokens(&question[0]) > limits.context {
        return Ok(());
    }
    interview::prepare(program, &prompt, &tokens, cancel)
}

/// Answers by a program.
struct Answers<'a> {
    checkpoint: &'a Checkpoint,
    asked: &'a Asked<'a>,
}

impl Answers<'_> {
    /// Tells each answer at once. The pixels go through the vision net once, and what the prompts
    /// have in common is computed once.
    ///
    /// A question that fails by itself is told, and the others are asked all the same. Returns the
    /// exchange that [`Ask::main`](crate::caption::questions::prompt::Ask::main) came to, if it is
    /// among them.
    ///
    /// # Errors
    /// Those of the program, and the first question's if no question was answered.
    fn make(
        &self,
        program: &mut dyn Program,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<Option<vlm::Turn>, vlm::Error> {
        let Asked {
            context,
            questions,
            cancel,
        } = *self.asked;
        let (job, timing) = (&context.job, self.asked.begin());
        let tokens = encode_all(program, context, cancel)?;
        let fitted = fit(
            self.checkpoint,
            context,
            program.limits(),
            questions,
            &tokens,
        )?;
        if fitted.skip > 0 {
            tell(self.cut(&fitted));
        }
        let Fitted {
            prompts,
            forget,
            skip,
            frames,
        } = fitted;
        let again = |pair: &&Arc<Pair>| pair.answered.swap(true, Ordering::Relaxed);
        let mut reused_pairs = job.window.pairs[skip..].iter().filter(again).count();
        let main = context.ask.main();
        let (mut exchange, mut failed, mut n_answered) = (None, Vec::new(), 0);
        let tokenizer = &self.checkpoint.tokenizer;
        let weight_bytes = program.limits().weight_bytes;
        let arithmetic = context.ask.evidence.then(|| program.arithmetic());
        let mut interview = Interview::new(program, tokenizer, &tokens[skip..]);
        interview.keep_likelihoods(context.ask.evidence);
        for (question, rendered) in questions.iter().zip(prompts) {
            let before = timing.began.elapsed();
            let answered = rendered.and_then(|rendered| {
                let answer = self.ask(&mut interview, question, &rendered.prompt, tell)?;
                Ok((answer, rendered))
            });
            match answered {
                Ok((answer, rendered)) => {
                    n_answered += 1;
                    if question.id == main.id {
                        let (user, assistant) = (rendered.text.clone(), answer.text.clone());
                        exchange = Some(vlm::Turn { user, assistant });
                    }
                    let evidence = context.ask.evidence.then(|| {
                        let options = context.options(question, self.checkpoint);
                        let evidence = exhibit::evidence(context, &frames, options, &answer);
                        Arc::new(Evidence {
                            forgotten: forget,
                            text: rendered.text,
                            prompt: Some(exhibit::written(rendered.prompt, tokenizer)),
                            weight_bytes: Some(weight_bytes),
                            arithmetic: arithmetic.clone().unwrap_or_default(),
                            ..evidence
                        })
                    });
                    let mut caption = self
                        .asked
                        .caption(question, answer, &frames, &timing, before);
                    caption.evidence = evidence;
                    caption.reused_pairs = std::mem::take(&mut reused_pairs);
                    tell(WindowReport::Caption(Box::new(caption)));
                }
                // What the program could not do for one question it cannot do for the next.
                Err(error @ vlm::Error::Backend(_)) => return Err(error),
                Err(error) => failed.push((question, error)),
            }
        }
        tell_failed(failed, n_answered, tell)?;
        Ok(exchange)
    }

    /// Asks one question.
    fn ask(
        &self,
        interview: &mut Interview<'_>,
        question: &Question,
        prompt: &Prompt,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<Generated, vlm::Error> {
        let mut partial = String::new();
        let mut on_text = |piece: &str| {
            partial.push_str(piece);
            self.asked.partial(question, &partial, tell);
        };
        let (options, cancel) = (
            self.asked.context.options(question, self.checkpoint),
            self.asked.cancel,
        );
        let drafters = self.asked.context.drafters.as_ref();
        interview.set_drafter(drafters.map(|drafters| drafters.take(&question.id)));
        let answer = interview.answer(prompt, question.form(), &options, cancel, &mut on_text);
        if let (Some(drafters), Some(drafter)) = (drafters, interview.take_drafter()) {
            drafters.put(&question.id, drafter);
        }
        answer
    }

    fn cut(&self, fitted: &Fitted) -> WindowReport {
        let prompts = fitted.prompts.iter().flatten();
        let rows = prompts.map(|rendered| rendered.prompt.n_rows());
        WindowReport::Cut {
            frames: fitted.frames.len(),
            of: self.asked.context.job.window.frames.len(),
            tokens: rows.max().unwrap_or(0),
        }
    }
}

fn encode_all(
    program: &mut dyn Program,
    context: &Context,
    cancel: &Cancel,
) -> Result<Vec<Arc<VisualTokens>>, vlm::Error> {
    let of = Of {
        element: &context.element,
        window: context.job.sequence,
    };
    let pairs = context.job.window.pairs.iter();
    pairs
        .map(|pair| encode(program, pair, of, cancel))
        .collect()
}

/// Whose pair is encoded, and of which window; 0 of one that is being filled.
#[derive(Clone, Copy)]
struct Of<'a> {
    element: &'a str,
    window: u64,
}

/// What the vision net makes of a pair; computed once, then shared.
fn encode(
    program: &mut dyn Program,
    pair: &Pair,
    of: Of<'_>,
    cancel: &Cancel,
) -> Result<Arc<VisualTokens>, vlm::Error> {
    let began = Instant::now();
    // The lock is not held while the device works.
    let taken = std::mem::replace(&mut *pair.visual.lock().unwrap(), Visual::Taken);
    let (result, left) = match taken {
        Visual::Tokens(tokens) => (Ok(tokens.clone()), Visual::Tokens(tokens)),
        Visual::Pixels(patches) => match program.encode(&patches, cancel) {
            Ok(tokens) => {
                trace::tell(&Span {
                    stage: Stage::Encode,
                    element: of.element,
                    window: of.window,
                    question: "",
                    tokens: tokens.n_tokens,
                    began,
                    ended: Instant::now(),
                });
                let tokens = Arc::new(tokens);
                (Ok(tokens.clone()), Visual::Tokens(tokens))
            }
            Err(error) => (Err(error.into()), Visual::Pixels(patches)),
        },
        Visual::Jpeg(jpeg) => {
            let reason = "a frame for a server cannot be shown to a vision net".into();
            (Err(vlm::Error::Grid(reason)), Visual::Jpeg(jpeg))
        }
        Visual::Taken => {
            let reason = "the vision net failed on these frames before".into();
            (Err(vlm::Error::Grid(reason)), Visual::Taken)
        }
    };
    *pair.visual.lock().unwrap() = left;
    result
}

fn is_cancel(error: &vlm::Error) -> bool {
    matches!(error, vlm::Error::Backend(backend::Error::Cancelled))
}

/// An error in the words of somebody who sets properties.
fn explain(error: &vlm::Error, window: &Window) -> String {
    match error {
        vlm::Error::Backend(backend::Error::Context { needed, context }) => format!(
            "a window of {} frames takes {needed} tokens and the model holds {context}; lower \
             window, max-pixels, video-ratio, history or max-tokens",
            window.frames.len()
        ),
        other => other.to_string(),
    }
}
