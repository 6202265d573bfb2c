// SPDX-License-Identifier: MPL-2.0

//! What the engine thread does in one turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::engine::Shared;
use super::inquiry::{FLUSHED, Inquiry};
use super::note::Note;
use super::prompt::{Ask, Variables, render};
use super::question::{Kind, Question};
use super::schedule::{Begin, Job, Outcome, Turn, Work};
use super::window::{FrameTime, Pair, Visual, Window};
use super::{Caption, Report};
use crate::backend::{self, Cancel, Limits, Program, VisualTokens};
use crate::vlm::generate::GenerateOptions;
use crate::vlm::interview::{self, Interview};
use crate::vlm::sampling::Sampling;
use crate::vlm::{self, Checkpoint, Prompt, PromptRequest, VisualInput, VisualKind};

/// Encodes a pair, or answers the questions about a window.
pub(super) fn work(shared: &Shared, program: &mut dyn Program, turn: &Turn) -> Outcome {
    let cancel = &turn.cancel;
    match &turn.work {
        Work::Pair { pair, begin } => match encode(program, pair, cancel) {
            Ok(_) => {
                let begin = begin.as_deref();
                let begun = begin.map(|begin| prepare(shared, program, begin, cancel));
                match begun {
                    Some(Err(vlm::Error::Backend(backend::Error::Cancelled))) => Outcome::Cancelled,
                    // A head start alone: what fails here fails again when the window's turn
                    // comes, and is told then.
                    Some(Err(_) | Ok(())) | None => Outcome::Encoded,
                }
            }
            Err(vlm::Error::Backend(backend::Error::Cancelled)) => Outcome::Cancelled,
            Err(error) => Outcome::Failed {
                frames: Vec::new(),
                reason: error.to_string(),
            },
        },
        Work::Inquiry {
            inquiry,
            job,
            ask,
            stream,
            last,
        } => Outcome::Inquired(match job {
            Some(job) => {
                let scene = Scene {
                    checkpoint: &shared.checkpoint,
                    job,
                    ask,
                    stream,
                    history: &[],
                    last,
                };
                inquire(&scene, program, inquiry)
            }
            None => Err(FLUSHED.into()),
        }),
        Work::Window {
            job,
            ask,
            questions,
            stream,
            history,
            last,
        } => {
            let scene = Scene {
                checkpoint: &shared.checkpoint,
                job,
                ask,
                stream,
                history,
                last,
            };
            // Nobody waits for what a flush has overtaken; the cancel ends the turn.
            let mut tell = |report| shared.tell(turn, report);
            if questions.is_empty() {
                tell(Report::Unasked);
            }
            match answer(&scene, program, questions, cancel, &mut tell) {
                Ok(said) => Outcome::Answered(said),
                Err(vlm::Error::Backend(backend::Error::Cancelled)) => Outcome::Cancelled,
                Err(error) => Outcome::Failed {
                    frames: job.window.frames.clone(),
                    reason: explain(&error, &job.window),
                },
            }
        }
    }
}

/// Computes the prompt of a window that is being filled, as far as it is known.
fn prepare(
    shared: &Shared,
    program: &mut dyn Program,
    begin: &Begin,
    cancel: &Cancel,
) -> Result<(), vlm::Error> {
    let scene = Scene {
        checkpoint: &shared.checkpoint,
        job: &begin.job,
        ask: &begin.ask,
        stream: &begin.stream,
        history: &begin.history,
        last: &begin.last,
    };
    let pairs = begin.job.window.pairs.iter();
    let tokens = pairs
        .map(|pair| encode(program, pair, cancel))
        .collect::<Result<Vec<_>, _>>()?;
    // All questions come after the pixels, so any will do.
    let question = [begin.ask.main()];
    let mut fitted = rendered(&scene, &question, scene.history, &tokens, 0)?;
    let Some(Ok(Asked { prompt, .. })) = fitted.prompts.pop() else {
        return Ok(());
    };
    let (limits, rows) = (program.limits(), prompt.n_rows());
    // What does not fit already will be cut at its beginning.
    if rows > limits.prompt || rows + scene.max_tokens(&question[0]) > limits.context {
        return Ok(());
    }
    interview::prepare(program, &prompt, &tokens, cancel)
}

/// Answers a question of the application's.
fn inquire(
    scene: &Scene<'_>,
    program: &mut dyn Program,
    inquiry: &Inquiry,
) -> Result<Box<Caption>, String> {
    let mut answered = None;
    let mut tell = |report| {
        if let Report::Caption(caption) = report {
            answered = Some(caption);
        }
    };
    let questions = [inquiry.question.clone()];
    let result = answer(scene, program, &questions, &inquiry.cancel, &mut tell);
    match (result, answered) {
        (Ok(_), Some(answer)) => Ok(answer),
        (Err(vlm::Error::Backend(backend::Error::Cancelled)), _) | (Ok(_), None) => {
            Err(FLUSHED.into())
        }
        (Err(error), _) => Err(explain(&error, &scene.job.window)),
    }
}

/// A window and how questions about it are asked.
pub(super) struct Scene<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) job: &'a Job,
    /// How: the questions are not taken from it.
    pub(super) ask: &'a Ask,
    pub(super) stream: &'a str,
    pub(super) history: &'a [vlm::Turn],
    /// For `{last}`.
    pub(super) last: &'a str,
}

/// Answers questions about a window, in their order, and tells each answer at once. The pixels go
/// through the vision net once, and what the prompts have in common is computed once.
///
/// A question that fails by itself is told, and the others are asked all the same. Returns the
/// exchange that [`Ask::main`] came to, if it is among them.
///
/// # Errors
/// Those of the program, and the first question's if no question was answered.
pub(super) fn answer(
    scene: &Scene<'_>,
    program: &mut dyn Program,
    questions: &[Arc<Question>],
    cancel: &Cancel,
    tell: &mut dyn FnMut(Report),
) -> Result<Option<vlm::Turn>, vlm::Error> {
    if questions.is_empty() {
        return Ok(None);
    }
    let queue_wait = scene.job.complete_since.elapsed();
    let began = Instant::now();
    let pairs = scene.job.window.pairs.iter();
    let tokens = pairs
        .map(|pair| encode(program, pair, cancel))
        .collect::<Result<Vec<_>, _>>()?;
    let Fitted {
        prompts,
        skip,
        frames,
    } = fit(scene, program.limits(), questions, &tokens)?;
    if skip > 0 {
        let rows = prompts.iter().flatten().map(|asked| asked.prompt.n_rows());
        tell(Report::Cut {
            frames: frames.len(),
            of: scene.job.window.frames.len(),
            tokens: rows.max().unwrap_or(0),
        });
    }
    let again = |pair: &&Arc<Pair>| pair.answered.swap(true, Ordering::Relaxed);
    let mut reused_pairs = scene.job.window.pairs[skip..].iter().filter(again).count();
    let main = scene.ask.main();
    let mut exchange = None;
    let (mut failed, mut n_answered) = (Vec::new(), 0);
    let mut interview = Interview::new(program, &scene.checkpoint.tokenizer, &tokens[skip..]);
    for (question, asked) in questions.iter().zip(prompts) {
        let before = began.elapsed();
        let answered = asked.and_then(|Asked { prompt, text }| {
            let mut partial = String::new();
            let mut on_text = |piece: &str| {
                if scene.ask.emit_partial {
                    partial.push_str(piece);
                    tell(Report::Partial {
                        sequence: scene.job.sequence,
                        prompt_id: question.id.clone(),
                        text: partial.clone(),
                    });
                }
            };
            let options = scene.options(question);
            let form = question.form();
            let said = interview.answer(&prompt, form, &options, cancel, &mut on_text)?;
            Ok((said, text))
        });
        match answered {
            Ok((said, text)) => {
                n_answered += 1;
                if question.id == main.id {
                    exchange = Some(vlm::Turn {
                        user: text,
                        assistant: said.text.clone(),
                    });
                }
                tell(Report::Caption(Box::new(Caption {
                    question: question.clone(),
                    text: said.text,
                    probability: said.probability,
                    probabilities: said.probabilities,
                    sequence: scene.job.sequence,
                    frames: frames.clone(),
                    prompt_hash: scene.ask.hash(question),
                    tokens_in: said.tokens_in,
                    reused: said.reused,
                    reused_pairs: std::mem::take(&mut reused_pairs),
                    tokens_out: said.tokens_out,
                    stop_reason: said.stop_reason,
                    queue_wait,
                    ttft: before + said.ttft,
                    total: before + said.total,
                    note: Note {
                        max_tokens: scene.max_tokens(question),
                        ..scene.job.note
                    },
                })));
            }
            // What the program could not do for one question it cannot do for the next.
            Err(error @ vlm::Error::Backend(_)) => return Err(error),
            Err(error) => failed.push((question, error)),
        }
    }
    if n_answered == 0
        && let Some((_, error)) = failed.pop()
    {
        return Err(error);
    }
    for (question, error) in failed {
        tell(Report::QuestionFailed {
            id: question.id.clone(),
            reason: format!("question {}: {error}", question.id),
        });
    }
    Ok(exchange)
}

impl Scene<'_> {
    fn max_tokens(&self, question: &Question) -> usize {
        let asked = question.max_tokens.unwrap_or(self.ask.max_tokens);
        match question.kind {
            Kind::Caption => self.job.note.rung.max_tokens(asked),
            // Cut short, it would be another answer.
            _ => asked,
        }
    }

    fn options(&self, question: &Question) -> GenerateOptions {
        let (ask, defaults) = (self.ask, &self.checkpoint.defaults);
        GenerateOptions {
            max_tokens: self.max_tokens(question),
            sampling: Sampling {
                temperature: ask.temperature,
                top_p: ask.top_p,
                top_k: ask.top_k,
                min_p: ask.min_p,
                repetition_penalty: ask
                    .repetition_penalty
                    .unwrap_or(defaults.repetition_penalty),
                seed: ask.seed,
            },
            eos: defaults.eos.clone(),
            stop: ask.stop.clone(),
        }
    }
}

/// Prompts that the program can hold, about the same frames.
struct Fitted {
    /// One for each question.
    prompts: Vec<Result<Asked, vlm::Error>>,
    /// Pairs at the beginning of the window that were left out.
    skip: usize,
    /// The frames of the others.
    frames: Vec<FrameTime>,
}

/// A question as it is asked.
struct Asked {
    prompt: Prompt,
    /// Its text, the variables replaced.
    text: String,
}

/// Renders the prompts of a window. What does not fit is left out before anything is computed, for
/// all questions alike: the oldest exchanges first, then the oldest pairs, until one pair is left.
fn fit(
    scene: &Scene<'_>,
    limits: &Limits,
    questions: &[Arc<Question>],
    tokens: &[Arc<VisualTokens>],
) -> Result<Fitted, vlm::Error> {
    let history = scene.history;
    let attempt =
        |forget: usize, skip: usize| rendered(scene, questions, &history[forget..], tokens, skip);
    let fits = |fitted: &Fitted| {
        let fits = |(question, asked): (&Arc<Question>, &Result<Asked, _>)| {
            let Ok(asked) = asked else { return true };
            let rows = asked.prompt.n_rows();
            rows <= limits.prompt && rows + scene.max_tokens(question) <= limits.context
        };
        questions.iter().zip(&fitted.prompts).all(fits)
    };
    let mut fitted = attempt(0, 0)?;
    for forget in 1..=history.len() {
        if fits(&fitted) {
            return Ok(fitted);
        }
        fitted = attempt(forget, 0)?;
    }
    let most = scene.job.window.pairs.len().saturating_sub(1);
    if fits(&fitted) || most == 0 {
        return Ok(fitted);
    }
    // Fewer pairs never take more rows. Whether the last one fits, the program says.
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low.midpoint(high);
        match fits(&attempt(history.len(), middle)?) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    attempt(history.len(), low)
}

/// The prompts of a window less its first `skip` pairs.
fn rendered(
    scene: &Scene<'_>,
    questions: &[Arc<Question>],
    history: &[vlm::Turn],
    tokens: &[Arc<VisualTokens>],
    skip: usize,
) -> Result<Fitted, vlm::Error> {
    let window = &scene.job.window;
    let pairs = &window.pairs[skip..];
    let mut frames = window.frames.clone();
    if let Some(first) = pairs.first().and_then(|pair| pair.pts.first()) {
        frames.retain(|frame| frame.pts >= *first);
    }
    let visuals: Vec<VisualInput> = pairs
        .iter()
        .zip(&tokens[skip..])
        .map(|(pair, tokens)| VisualInput {
            grid: tokens.grid,
            seconds: seconds(&frames, pair),
        })
        .collect();
    let (first, last) = (frames.first(), frames.last());
    let variables = Variables {
        stream: scene.stream,
        n: scene.job.sequence,
        start: first.map_or_else(Default::default, |f| f.pts),
        end: last.map_or_else(Default::default, |f| f.pts),
        wallclock: first.map_or_else(Default::default, |f| f.wallclock),
        last: scene.last,
    };
    let system = render(&scene.ask.system_prompt, &variables);
    let kind = if window.frames.len() == 1 {
        VisualKind::Image
    } else {
        VisualKind::Video
    };
    let asked = |question: &Arc<Question>| {
        let text = render(&question.text, &variables);
        let prompt = scene.checkpoint.vlm.prompt(&PromptRequest {
            system: (!system.is_empty()).then_some(&system),
            history,
            text: &text,
            kind,
            visuals: &visuals,
        })?;
        Ok(Asked { prompt, text })
    };
    Ok(Fitted {
        prompts: questions.iter().map(asked).collect(),
        skip,
        frames,
    })
}

/// What the vision net makes of a pair; computed once, then shared.
fn encode(
    program: &mut dyn Program,
    pair: &Pair,
    cancel: &Cancel,
) -> Result<Arc<VisualTokens>, vlm::Error> {
    // The lock is not held while the device works.
    let taken = std::mem::replace(&mut *pair.visual.lock().unwrap(), Visual::Taken);
    let (result, kept) = match taken {
        Visual::Tokens(tokens) => (Ok(tokens.clone()), Visual::Tokens(tokens)),
        Visual::Pixels(patches) => match program.encode(&patches, cancel) {
            Ok(tokens) => {
                let tokens = Arc::new(tokens);
                (Ok(tokens.clone()), Visual::Tokens(tokens))
            }
            Err(error) => (Err(error.into()), Visual::Pixels(patches)),
        },
        Visual::Taken => {
            let reason = "the vision net failed on these frames before".into();
            (Err(vlm::Error::Grid(reason)), Visual::Taken)
        }
    };
    *pair.visual.lock().unwrap() = kept;
    result
}

/// Times of a pair's frames since the first frame.
fn seconds(frames: &[FrameTime], pair: &Pair) -> Vec<f64> {
    let first = frames.first().map_or_else(Default::default, |f| f.pts);
    pair.pts
        .iter()
        .map(|pts| pts.saturating_sub(first).as_secs_f64())
        .collect()
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
