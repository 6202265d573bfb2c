// SPDX-License-Identifier: MPL-2.0

//! Qwen2.5-VL: a video is one run of visual tokens, and the time of its temporal patches is in their
//! positions.

use super::qwen::{self, Family, SpecialTokens};
use crate::vlm::config::qwen25vl as config;
use crate::vlm::files::ModelFiles;
use crate::vlm::json::Document;
use crate::vlm::mrope::Rows;
use crate::vlm::{Checkpoint, Error, PromptRequest, PromptRun, VisualInput, VisualKind};

/// Seconds that a time may be too small by because its source rounded it: a frame of the second
/// second is stamped 1.999999980.
const ROUNDING: f64 = 0.001;

/// Opens a checkpoint whose `model_type` is `qwen2_5_vl`.
pub(super) fn open(files: ModelFiles, config: &Document) -> Result<Checkpoint, Error> {
    let config = config::read(config)?;
    let family = Qwen25Vl {
        tokens_per_second: config.tokens_per_second,
    };
    qwen::open(files, config.qwen, family)
}

struct Qwen25Vl {
    tokens_per_second: f64,
}

impl Family for Qwen25Vl {
    fn model_type(&self) -> &'static str {
        "qwen2_5_vl"
    }

    /// As `Qwen2_5_VLProcessor`: all visual tokens of a video between one start and one end token.
    fn video(&self, special: &SpecialTokens, request: &PromptRequest<'_>) -> String {
        let placeholders = special.video.text.repeat(request.visuals.len());
        format!(
            "{}{placeholders}{}",
            special.vision_start.text, special.vision_end.text
        )
    }

    /// Times count from the first frame of the video, in steps of `tokens_per_second` rounded down
    /// at the end: the model's training, and transformers 4.49. Later releases cut the seconds of
    /// a temporal patch to a whole number first.
    fn rows(&self, runs: &[PromptRun], request: &PromptRequest<'_>) -> Vec<Rows> {
        let start = request.visuals.first().map_or(0.0, first_second);
        let step = |visual: &VisualInput| match request.kind {
            VisualKind::Image => 0,
            // Saturates, and is 0 for a time before the first.
            VisualKind::Video => {
                ((first_second(visual) - start + ROUNDING) * self.tokens_per_second) as u32
            }
        };
        let mut rows = Vec::with_capacity(runs.len());
        for run in runs {
            match run {
                PromptRun::Tokens(ids) => rows.push(Rows::Text(ids.len())),
                PromptRun::Visual(index) => {
                    let visual = &request.visuals[*index];
                    let patch = (visual.grid, step(visual));
                    match rows.last_mut() {
                        Some(Rows::Clip(patches)) => patches.push(patch),
                        _ => rows.push(Rows::Clip(vec![patch])),
                    }
                }
            }
        }
        rows
    }
}

fn first_second(visual: &VisualInput) -> f64 {
    visual.seconds.first().copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::GridThw;

    fn rows(kind: VisualKind, seconds: &[f64]) -> Vec<u32> {
        let visuals: Vec<VisualInput> = seconds
            .iter()
            .map(|&first| VisualInput {
                grid: GridThw { t: 1, h: 4, w: 6 },
                seconds: vec![first, first + 0.5],
            })
            .collect();
        let request = PromptRequest {
            system: None,
            history: &[],
            text: "",
            kind,
            visuals: &visuals,
        };
        let family = Qwen25Vl {
            tokens_per_second: 2.0,
        };
        let mut runs = vec![PromptRun::Tokens(vec![1, 2])];
        runs.extend((0..visuals.len()).map(PromptRun::Visual));
        match family.rows(&runs, &request).as_slice() {
            [Rows::Text(2), Rows::Clip(patches)] => patches.iter().map(|(_, step)| *step).collect(),
            other => panic!("text and one clip, got {other:?}"),
        }
    }

    #[test]
    fn steps_are_real_times_rounded_down_at_the_end() {
        // 0.75 s a temporal patch: a step of 1.5.
        let got = rows(VisualKind::Video, &[10.0, 10.75, 11.5, 12.25]);
        assert_eq!(got, [0, 1, 3, 4]);
        let got = rows(VisualKind::Video, &[0.0, 1.999_999_98, 4.0]);
        assert_eq!(got, [0, 4, 8]);
    }

    #[test]
    fn an_image_has_no_time() {
        assert_eq!(rows(VisualKind::Image, &[3.0]), [0]);
    }
}
