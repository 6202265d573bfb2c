// SPDX-License-Identifier: MPL-2.0

//! What the engine thread does in one turn.

use std::sync::Arc;

use super::engine::{Listener, Shared};
use super::prompt::{Ask, Variables, render};
use super::schedule::{Job, Outcome, Turn, Work};
use super::window::{FrameTime, Pair, Visual, Window};
use super::{Caption, Report};
use crate::backend::{self, Cancel, Limits, Program, VisualTokens};
use crate::vlm::generate::{GenerateOptions, generate};
use crate::vlm::sampling::Sampling;
use crate::vlm::{self, Checkpoint, Prompt, PromptRequest, VisualInput, VisualKind};

/// Encodes a pair, or captions a window.
pub(super) fn work(shared: &Shared, program: &mut dyn Program, turn: &mut Turn) -> Outcome {
    let (cancel, listener) = (&turn.cancel, &turn.listener);
    match &turn.work {
        Work::Pair(pair) => match encode(program, pair, cancel) {
            Ok(_) => Outcome::Encoded,
            Err(vlm::Error::Backend(backend::Error::Cancelled)) => Outcome::Cancelled,
            Err(error) => Outcome::Failed {
                frames: Vec::new(),
                reason: error.to_string(),
            },
        },
        Work::Window {
            job,
            ask,
            stream,
            history,
        } => {
            let mut partial = String::new();
            let mut on_text = |piece: &str| {
                if ask.emit_partial {
                    partial.push_str(piece);
                    listener(Report::Partial {
                        sequence: job.sequence,
                        text: partial.clone(),
                    });
                }
            };
            match caption(
                shared,
                program,
                job,
                ask,
                stream,
                history,
                cancel,
                listener,
                &mut on_text,
            ) {
                Ok((caption, said)) => Outcome::Caption(Box::new(caption), said),
                Err(vlm::Error::Backend(backend::Error::Cancelled)) => Outcome::Cancelled,
                Err(error) => Outcome::Failed {
                    frames: job.window.frames.clone(),
                    reason: explain(&error, &job.window),
                },
            }
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one caller, which has just taken them apart"
)]
fn caption(
    shared: &Shared,
    program: &mut dyn Program,
    job: &Job,
    ask: &Ask,
    stream: &str,
    history: &[vlm::Turn],
    cancel: &Cancel,
    listener: &Listener,
    on_text: &mut dyn FnMut(&str),
) -> Result<(Caption, vlm::Turn), vlm::Error> {
    let queue_wait = job.complete_since.elapsed();
    let began = std::time::Instant::now();
    let window = &job.window;
    let tokens = window
        .pairs
        .iter()
        .map(|pair| encode(program, pair, cancel))
        .collect::<Result<Vec<_>, _>>()?;
    let checkpoint = &shared.checkpoint;
    let fitted = fit(
        checkpoint,
        program.limits(),
        job,
        ask,
        stream,
        history,
        &tokens,
    )?;
    let Fitted {
        prompt,
        text,
        skip,
        frames,
    } = fitted;
    if skip > 0 {
        listener(Report::Cut {
            frames: frames.len(),
            of: window.frames.len(),
            tokens: prompt.n_rows(),
        });
    }
    let options = GenerateOptions {
        max_tokens: ask.max_tokens,
        sampling: Sampling {
            temperature: ask.temperature,
            top_p: ask.top_p,
            top_k: ask.top_k,
            repetition_penalty: ask
                .repetition_penalty
                .unwrap_or(checkpoint.defaults.repetition_penalty),
            seed: ask.seed,
        },
        eos: checkpoint.defaults.eos.clone(),
        stop: ask.stop.clone(),
    };
    let before = began.elapsed();
    let said = generate(
        program,
        &checkpoint.tokenizer,
        &prompt,
        &tokens[skip..],
        &options,
        cancel,
        on_text,
    )?;
    let caption = Caption {
        text: said.text.clone(),
        sequence: job.sequence,
        frames,
        prompt_hash: ask.prompt_hash(),
        tokens_in: said.tokens_in,
        tokens_out: said.tokens_out,
        stop_reason: said.stop_reason,
        queue_wait,
        ttft: before + said.ttft,
        total: before + said.total,
    };
    Ok((
        caption,
        vlm::Turn {
            user: text,
            assistant: said.text,
        },
    ))
}

/// A prompt that the program can hold.
struct Fitted {
    prompt: Prompt,
    /// The question, its variables replaced.
    text: String,
    /// Pairs at the beginning of the window that were left out.
    skip: usize,
    /// The frames of the others.
    frames: Vec<FrameTime>,
}

/// Renders the prompt of a window. What does not fit is left out before anything is computed: the
/// oldest exchanges first, then the oldest pairs, until one pair is left.
fn fit(
    checkpoint: &Checkpoint,
    limits: &Limits,
    job: &Job,
    ask: &Ask,
    stream: &str,
    history: &[vlm::Turn],
    tokens: &[Arc<VisualTokens>],
) -> Result<Fitted, vlm::Error> {
    let attempt = |forget: usize, skip: usize| {
        let history = &history[forget..];
        rendered(checkpoint, job, ask, stream, history, tokens, skip)
    };
    let fits = |fitted: &Fitted| {
        let rows = fitted.prompt.n_rows();
        rows <= limits.prompt && rows + ask.max_tokens <= limits.context
    };
    let mut fitted = attempt(0, 0)?;
    for forget in 1..=history.len() {
        if fits(&fitted) {
            return Ok(fitted);
        }
        fitted = attempt(forget, 0)?;
    }
    let most = job.window.pairs.len().saturating_sub(1);
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

/// The prompt of a window less its first `skip` pairs.
fn rendered(
    checkpoint: &Checkpoint,
    job: &Job,
    ask: &Ask,
    stream: &str,
    history: &[vlm::Turn],
    tokens: &[Arc<VisualTokens>],
    skip: usize,
) -> Result<Fitted, vlm::Error> {
    let window = &job.window;
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
        stream,
        n: job.sequence,
        start: first.map_or_else(Default::default, |f| f.pts),
        end: last.map_or_else(Default::default, |f| f.pts),
        wallclock: first.map_or_else(Default::default, |f| f.wallclock),
        last: history.last().map_or("", |turn| turn.assistant.as_str()),
    };
    let system = render(&ask.system_prompt, &variables);
    let text = render(&ask.prompt, &variables);
    let kind = if window.frames.len() == 1 {
        VisualKind::Image
    } else {
        VisualKind::Video
    };
    let prompt = checkpoint.vlm.prompt(&PromptRequest {
        system: (!system.is_empty()).then_some(&system),
        history,
        text: &text,
        kind,
        visuals: &visuals,
    })?;
    Ok(Fitted {
        prompt,
        text,
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
