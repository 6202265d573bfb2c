// SPDX-License-Identifier: MPL-2.0

//! Qwen3-VL: a timestamp before each temporal patch, positions that go on between them.

use super::qwen::{self, Family, SpecialTokens};
use crate::vlm::config::qwen3vl as config;
use crate::vlm::files::ModelFiles;
use crate::vlm::json::Document;
use crate::vlm::mrope::Rows;
use crate::vlm::{Checkpoint, Error, PromptRequest, PromptRun, VisualInput};

/// Opens a checkpoint whose `model_type` is `qwen3_vl`.
pub(super) fn open(files: ModelFiles, config: &Document) -> Result<Checkpoint, Error> {
    qwen::open(files, config::read(config)?, Qwen3Vl)
}

struct Qwen3Vl;

impl Family for Qwen3Vl {
    fn model_type(&self) -> &'static str {
        "qwen3_vl"
    }

    /// As `Qwen3VLProcessor`: each temporal patch between a start and an end token of its own,
    /// after its time.
    fn video(&self, special: &SpecialTokens, request: &PromptRequest<'_>) -> String {
        let SpecialTokens {
            vision_start: start,
            vision_end: end,
            video,
            ..
        } = special;
        let pairs = request.visuals.iter().map(|visual| {
            format!(
                "<{:.1} seconds>{}{}{}",
                timestamp(visual),
                start.text,
                video.text,
                end.text
            )
        });
        pairs.collect()
    }

    fn rows(&self, runs: &[PromptRun], request: &PromptRequest<'_>) -> Vec<Rows> {
        let rows = runs.iter().map(|run| match run {
            PromptRun::Tokens(ids) => Rows::Text(ids.len()),
            PromptRun::Visual(index) => Rows::Visual(request.visuals[*index].grid),
        });
        rows.collect()
    }
}

/// The time that the model is told for a temporal patch: the mean of its first and last frame's.
fn timestamp(visual: &VisualInput) -> f64 {
    match (visual.seconds.first(), visual.seconds.last()) {
        (Some(first), Some(last)) => (first + last) / 2.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::GridThw;
    use crate::vlm::{PixelBudget, Prompt, Turn, VisualKind};

    fn demo() -> Checkpoint {
        Checkpoint::open(ModelFiles::demo()).unwrap()
    }

    fn pair(seconds: [f64; 2]) -> VisualInput {
        VisualInput {
            grid: GridThw { t: 1, h: 6, w: 8 },
            seconds: seconds.to_vec(),
        }
    }

    fn request<'a>(kind: VisualKind, visuals: &'a [VisualInput]) -> PromptRequest<'a> {
        PromptRequest {
            system: None,
            history: &[],
            text: "Describe the video.",
            kind,
            visuals,
        }
    }

    /// The prompt as text, special tokens and all.
    fn written(checkpoint: &Checkpoint, prompt: &Prompt) -> String {
        let mut text = String::new();
        for run in &prompt.runs {
            match run {
                PromptRun::Visual(index) => text.push_str(&format!("[{index}]")),
                PromptRun::Tokens(ids) => ids.iter().for_each(|&id| {
                    let token = checkpoint.tokenizer.id_to_token(id).unwrap();
                    text.push_str(&token.replace('Ġ', " ").replace('Ċ', "\n"));
                }),
            }
        }
        text
    }

    #[test]
    fn a_video_has_a_timestamp_before_each_pair() {
        let checkpoint = demo();
        let visuals = [pair([0.0, 0.5]), pair([2.0, 3.0]), pair([4.0, 4.0])];
        let prompt = checkpoint
            .vlm
            .prompt(&request(VisualKind::Video, &visuals))
            .unwrap();
        assert_eq!(
            written(&checkpoint, &prompt),
            "<|im_start|>user\n<0.2 seconds><|vision_start|>[0]<|vision_end|><2.5 seconds>\
             <|vision_start|>[1]<|vision_end|><4.0 seconds><|vision_start|>[2]<|vision_end|>\
             Describe the video.<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(checkpoint.vlm.n_visual_tokens(visuals[0].grid), 12);
        let n_text: usize = prompt
            .runs
            .iter()
            .map(|run| match run {
                PromptRun::Tokens(ids) => ids.len(),
                PromptRun::Visual(_) => 0,
            })
            .sum();
        assert_eq!(prompt.n_rows(), n_text + 3 * 12);
        assert_eq!(prompt.next_position as usize, n_text + 3 * 4);
    }

    #[test]
    fn images_and_text_have_no_timestamp_and_history_goes_first() {
        let checkpoint = demo();
        let history = [Turn {
            user: "Hi.".to_owned(),
            assistant: "Ho.".to_owned(),
        }];
        let visuals = [pair([0.0, 0.0])];
        let asked = PromptRequest {
            system: Some("Be brief."),
            history: &history,
            ..request(VisualKind::Image, &visuals)
        };
        let prompt = checkpoint.vlm.prompt(&asked).unwrap();
        let before = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n\
                      <|im_start|>assistant\nHo.<|im_end|>\n<|im_start|>user\n";
        let after = "Describe the video.<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(
            written(&checkpoint, &prompt),
            format!("{before}<|vision_start|>[0]<|vision_end|>{after}")
        );
        let asked = PromptRequest {
            visuals: &[],
            ..asked
        };
        let prompt = checkpoint.vlm.prompt(&asked).unwrap();
        assert_eq!(written(&checkpoint, &prompt), format!("{before}{after}"));
        assert_eq!(prompt.placeholder, None);
        assert_eq!(prompt.next_position as usize, prompt.n_rows());
    }

    #[test]
    fn two_images_are_refused() {
        let visuals = [pair([0.0, 1.0]), pair([0.0, 1.0])];
        let vlm = demo().vlm;
        assert!(vlm.prompt(&request(VisualKind::Image, &visuals)).is_err());
        assert!(vlm.prompt(&request(VisualKind::Video, &visuals)).is_ok());
    }

    #[test]
    fn the_demo_spends_its_whole_budget_on_a_video_frame() {
        let vlm = demo().vlm;
        let budget = PixelBudget {
            max_pixels: Some(589_824),
            video_ratio: None,
            exact: None,
        };
        for kind in [VisualKind::Image, VisualKind::Video] {
            assert_eq!(vlm.target_size(320, 240, kind, budget).unwrap(), (128, 96));
            assert_eq!(
                vlm.target_size(1920, 1080, kind, budget).unwrap(),
                (160, 96)
            );
        }
        let budget = PixelBudget {
            max_pixels: Some(4096),
            video_ratio: Some(0.5),
            exact: None,
        };
        let video = vlm.target_size(320, 320, VisualKind::Video, budget);
        assert_eq!(video.unwrap(), (32, 32));
    }
}
