// SPDX-License-Identifier: MPL-2.0

//! What a caption was made of, as the engine knows it.

use super::prompts::variables;
use super::turn::Context;
use crate::backend::Arithmetic;
use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{FrameTime, Pair};
use crate::caption::questions::prompt::render;
use crate::caption::reports::evidence::{Evidence, RenderedText, Shown, ShownFrame};
use crate::vlm::generate::{GenerateOptions, Generated};
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::{Prompt, PromptRun};

/// What is known of an answer about `frames`, the last ones of a window; the question's text, what was
/// forgotten and the prompt are left to the caller.
pub(crate) fn evidence(
    context: &Context,
    frames: &[FrameTime],
    options: GenerateOptions,
    answer: &Generated,
) -> Evidence {
    let window = &context.job.window;
    let system = &context.ask.system_prompt;
    let shown = window.pairs.iter().flat_map(|pair| shown(pair));
    let shown = window.frames.iter().zip(shown);
    Evidence {
        frames: shown
            .map(|(time, picture)| ShownFrame {
                time: *time,
                picture,
            })
            .collect(),
        skipped: window.frames.len().saturating_sub(frames.len()),
        stream: context.stream.clone(),
        last: context.last.clone(),
        system_template: system.clone(),
        system: render(system, &variables(context, frames)),
        text: String::new(),
        history: context.history.clone(),
        forgotten: 0,
        prompt: None,
        options,
        answer: answer.clone(),
        weight_bytes: None,
        arithmetic: Arithmetic::default(),
    }
}

/// The frames of a pair, if they were kept.
fn shown(pair: &Pair) -> Vec<Shown> {
    match &*pair.visual.lock().unwrap() {
        Visual::Jpeg(jpeg) => vec![Shown::Jpeg(jpeg.clone())],
        _ => pair.frames.iter().cloned().map(Shown::Rgb).collect(),
    }
}

/// A prompt with its text: special tokens as they are written, and a run of visual tokens as its
/// number in brackets.
pub(crate) fn written(prompt: Prompt, tokenizer: &Tokenizer) -> RenderedText {
    let mut text = String::new();
    for run in &prompt.runs {
        match run {
            PromptRun::Visual(index) => text.push_str(&format!("[{index}]")),
            PromptRun::Tokens(ids) => {
                for same in ids.chunk_by(|a, b| tokenizer.is_added(*a) == tokenizer.is_added(*b)) {
                    text.push_str(&spelled(same, tokenizer));
                }
            }
        }
    }
    RenderedText { prompt, text }
}

/// Tokens that are all special, or none.
fn spelled(ids: &[u32], tokenizer: &Tokenizer) -> String {
    if ids.iter().all(|id| tokenizer.is_added(*id)) {
        let words = ids.iter().filter_map(|id| tokenizer.id_to_token(*id));
        return words.collect();
    }
    tokenizer.decode(ids).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlm::Checkpoint;
    use crate::vlm::files::ModelFiles;

    #[test]
    fn a_prompt_is_written_with_its_special_tokens_and_places_of_pixels() {
        let tokenizer = Checkpoint::open(ModelFiles::demo()).unwrap().tokenizer;
        let tokens = |text: &str| PromptRun::Tokens(tokenizer.encode(text).unwrap());
        let prompt = Prompt {
            runs: vec![
                tokens("<|im_start|>user\n<|vision_start|>"),
                PromptRun::Visual(0),
                tokens("<|vision_end|>What moves?<|im_end|>\n"),
            ],
            positions: Vec::new(),
            next_position: 0,
            placeholder: None,
        };
        let want = "<|im_start|>user\n<|vision_start|>[0]<|vision_end|>What moves?<|im_end|>\n";
        assert_eq!(written(prompt, &tokenizer).text, want);
    }
}
