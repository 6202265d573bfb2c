// SPDX-License-Identifier: MPL-2.0

//! The prompts of a window: rendered, and cut to what the model can hold.

use std::sync::Arc;

use super::turn::Context;
use crate::backend::{Limits, VisualTokens};
use crate::caption::frames::window::{FrameTime, Pair};
use crate::caption::questions::prompt::{Variables, render};
use crate::caption::questions::question::Question;
use crate::vlm::{self, Checkpoint, Prompt, PromptRequest, VisualInput, VisualKind};

/// Prompts that the program can hold, about the same frames.
pub(crate) struct Fitted {
    /// One for each question.
    pub(crate) prompts: Vec<Result<RenderedPrompt, vlm::Error>>,
    /// Earlier exchanges that were left out, the oldest.
    pub(crate) forget: usize,
    /// Pairs at the beginning of the window that were left out.
    pub(crate) skip: usize,
    /// The frames of the others.
    pub(crate) frames: Vec<FrameTime>,
}

/// A question as it is asked.
pub(crate) struct RenderedPrompt {
    pub(crate) prompt: Prompt,
    /// Its text, the variables replaced.
    pub(crate) text: String,
}

/// Renders the prompts of a window. What does not fit is left out before anything is computed, for
/// all questions alike: the oldest exchanges first, then the oldest pairs, until one pair is left.
pub(crate) fn fit(
    checkpoint: &Checkpoint,
    context: &Context,
    limits: &Limits,
    questions: &[Arc<Question>],
    tokens: &[Arc<VisualTokens>],
) -> Result<Fitted, vlm::Error> {
    let n_history = context.history.len();
    let attempt =
        |forget: usize, skip: usize| rendered(checkpoint, context, questions, tokens, forget, skip);
    let fits = |fitted: &Fitted| {
        let fits = |(question, rendered): (&Arc<Question>, &Result<RenderedPrompt, _>)| {
            let Ok(rendered) = rendered else { return true };
            let rows = rendered.prompt.n_rows();
            rows <= limits.prompt && rows + context.max_tokens(question) <= limits.context
        };
        questions.iter().zip(&fitted.prompts).all(fits)
    };
    let mut fitted = attempt(0, 0)?;
    for forget in 1..=n_history {
        if fits(&fitted) {
            return Ok(fitted);
        }
        fitted = attempt(forget, 0)?;
    }
    let most = context.job.window.pairs.len().saturating_sub(1);
    if fits(&fitted) || most == 0 {
        return Ok(fitted);
    }
    // Fewer pairs never take more rows. Whether the last one fits, the program says.
    let (mut low, mut high) = (1, most);
    while low < high {
        let middle = low.midpoint(high);
        match fits(&attempt(n_history, middle)?) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    attempt(n_history, low)
}

/// The prompts of a window less its `forget` oldest exchanges and its first `skip` pairs.
pub(crate) fn rendered(
    checkpoint: &Checkpoint,
    context: &Context,
    questions: &[Arc<Question>],
    tokens: &[Arc<VisualTokens>],
    forget: usize,
    skip: usize,
) -> Result<Fitted, vlm::Error> {
    let window = &context.job.window;
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
    let variables = variables(context, &frames);
    let system = render(&context.ask.system_prompt, &variables);
    let kind = match window.frames.len() {
        1 => VisualKind::Image,
        _ => VisualKind::Video,
    };
    let rendered = |question: &Arc<Question>| {
        let text = render(&question.text, &variables);
        let prompt = checkpoint.vlm.prompt(&PromptRequest {
            system: (!system.is_empty()).then_some(&system),
            history: &context.history[forget..],
            text: &text,
            kind,
            visuals: &visuals,
        })?;
        Ok(RenderedPrompt { prompt, text })
    };
    Ok(Fitted {
        prompts: questions.iter().map(rendered).collect(),
        forget,
        skip,
        frames,
    })
}

/// What a template about these frames may name.
pub(crate) fn variables<'a>(context: &'a Context, frames: &[FrameTime]) -> Variables<'a> {
    let (first, last) = (frames.first(), frames.last());
    Variables {
        stream: &context.stream,
        n: context.job.sequence,
        start: first.map_or_else(Default::default, |f| f.pts),
        end: last.map_or_else(Default::default, |f| f.pts),
        wallclock: first.map_or_else(Default::default, |f| f.wallclock),
        last: &context.last,
    }
}

/// Times of a pair's frames since the first frame.
fn seconds(frames: &[FrameTime], pair: &Pair) -> Vec<f64> {
    let first = frames.first().map_or_else(Default::default, |f| f.pts);
    pair.pts
        .iter()
        .map(|pts| pts.saturating_sub(first).as_secs_f64())
        .collect()
}
