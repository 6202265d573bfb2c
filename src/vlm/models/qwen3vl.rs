// SPDX-License-Identifier: MPL-2.0

//! Qwen3-VL: a timestamp before each temporal patch, positions that go on between them.

use std::sync::Arc;

use crate::backend::{GridThw, Patches};
use crate::vlm::chat::{ChatTemplate, Message, Part};
use crate::vlm::config::{Qwen3VlConfig, generation_defaults};
use crate::vlm::files::ModelFiles;
use crate::vlm::image::{RgbImage, patch_rows, smart_resize};
use crate::vlm::json::Document;
use crate::vlm::mrope::{Rows, positions};
use crate::vlm::preprocessor::Preprocessor;
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::{
    Checkpoint, Error, PixelBudget, Prompt, PromptRequest, PromptRun, VisualInput, VisualKind, Vlm,
};

/// Opens a checkpoint whose `model_type` is `qwen3_vl`.
pub(super) fn open(files: ModelFiles, config: &Document) -> Result<Checkpoint, Error> {
    let config = Qwen3VlConfig::read(config)?;
    let preprocessor = Preprocessor::read(&files, &config.spec.vision)?;
    let vocab_size = config.spec.text.vocab_size;
    let defaults = generation_defaults(&files, &config.eos, vocab_size)?;
    let tokenizer = Arc::new(Tokenizer::from_bytes(&files.require("tokenizer.json")?)?);
    if tokenizer.n_ids() > vocab_size {
        return Err(Error::Tokenizer(format!(
            "{} has ids up to {}, but text_config.vocab_size of config.json is {vocab_size}",
            files.label("tokenizer.json"),
            tokenizer.n_ids() - 1
        )));
    }
    let template = ChatTemplate::open(&files)?;
    let vlm = Qwen3Vl {
        special: SpecialTokens::find(&config, &tokenizer)?,
        preprocessor,
        template,
        tokenizer: Arc::clone(&tokenizer),
    };
    Ok(Checkpoint {
        name: files.name(),
        model_type: "qwen3_vl".to_owned(),
        max_pixels: None,
        vlm: Arc::new(vlm),
        tokenizer,
        defaults,
        cpu: config.spec,
        files,
    })
}

/// The family with one checkpoint's numbers.
struct Qwen3Vl {
    preprocessor: Preprocessor,
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    special: SpecialTokens,
}

/// A token as it is written in a prompt, and its id.
struct SpecialToken {
    id: u32,
    text: String,
}

/// The tokens around pixels, written as the checkpoint's tokenizer writes them.
struct SpecialTokens {
    image: SpecialToken,
    video: SpecialToken,
    vision_start: SpecialToken,
    vision_end: SpecialToken,
}

impl SpecialTokens {
    fn find(config: &Qwen3VlConfig, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let find = |key: &str, id: u32| {
            let text = tokenizer.id_to_token(id).ok_or_else(|| {
                Error::Tokenizer(format!(
                    "tokenizer.json has no token {id}, which config.json names as {key}; do the \
                     two files belong together?"
                ))
            })?;
            if !tokenizer.is_added(id) {
                return Err(Error::Tokenizer(format!(
                    "token {id} of tokenizer.json is {text:?}, not one of its added_tokens, but \
                     config.json names it as {key}; do the two files belong together?"
                )));
            }
            Ok(SpecialToken { id, text })
        };
        Ok(Self {
            image: find("image_token_id", config.image_token_id)?,
            video: find("video_token_id", config.video_token_id)?,
            vision_start: find("vision_start_token_id", config.vision_start_token_id)?,
            vision_end: find("vision_end_token_id", config.vision_end_token_id)?,
        })
    }

    fn placeholder(&self, kind: VisualKind) -> &SpecialToken {
        match kind {
            VisualKind::Image => &self.image,
            VisualKind::Video => &self.video,
        }
    }
}

impl Vlm for Qwen3Vl {
    fn temporal_patch_size(&self) -> usize {
        self.preprocessor.geometry.temporal_patch_size
    }

    fn target_size(
        &self,
        width: usize,
        height: usize,
        kind: VisualKind,
        budget: PixelBudget,
    ) -> Result<(usize, usize), Error> {
        let own = &self.preprocessor;
        let max = budget
            .max_pixels
            .map_or(own.max_pixels, |max| max.min(own.max_pixels));
        let ratio = match kind {
            VisualKind::Image => 1.0,
            VisualKind::Video => budget.video_ratio.unwrap_or(own.video_ratio),
        };
        let part = |pixels: usize| (pixels as f64 * ratio) as usize;
        // A small budget goes before the checkpoint's least size.
        let (min, max) = (part(own.min_pixels.min(max)), part(max));
        smart_resize(width, height, own.geometry.factor(), min, max)
    }

    fn patches(&self, frames: &[RgbImage]) -> Result<Patches, Error> {
        let (grid, pixels) = patch_rows(frames, self.preprocessor.geometry)?;
        Ok(Patches {
            grid,
            pixels,
            mean: self.preprocessor.image_mean,
            std: self.preprocessor.image_std,
        })
    }

    fn n_visual_tokens(&self, grid: GridThw) -> usize {
        grid.n_tokens(self.preprocessor.geometry.merge_size)
    }

    fn prompt(&self, request: &PromptRequest<'_>) -> Result<Prompt, Error> {
        self.check(request)?;
        let rendered = self.template.render(&messages(request))?;
        let text = self.expand(&rendered, request)?;
        let runs = self.runs(&self.tokenizer.encode(&text)?, request)?;
        let rows = runs.iter().map(|run| match run {
            PromptRun::Tokens(ids) => Rows::Text(ids.len()),
            PromptRun::Visual(index) => Rows::Visual(request.visuals[*index].grid),
        });
        let (positions, next_position) = positions(rows, self.preprocessor.geometry.merge_size);
        Ok(Prompt {
            runs,
            positions,
            next_position,
            placeholder: (!request.visuals.is_empty())
                .then(|| self.special.placeholder(request.kind).id),
        })
    }
}

impl Qwen3Vl {
    /// That pixels and words of a request can stand in a prompt.
    fn check(&self, request: &PromptRequest<'_>) -> Result<(), Error> {
        for visual in request.visuals {
            self.preprocessor.geometry.check(visual.grid)?;
        }
        if request.kind == VisualKind::Image && request.visuals.len() > 1 {
            return Err(Error::Grid(format!(
                "an image prompt takes one image, got {}",
                request.visuals.len()
            )));
        }
        let turns = request.history.iter();
        let texts = turns
            .flat_map(|turn| [turn.user.as_str(), turn.assistant.as_str()])
            .chain(request.system)
            .chain([request.text]);
        for text in texts {
            for token in [&self.special.image, &self.special.video] {
                if text.contains(&token.text) {
                    return Err(Error::Template(format!(
                        "the text contains {}, which stands for pixels; leave it out",
                        token.text
                    )));
                }
            }
        }
        Ok(())
    }

    /// Replaces the template's one placeholder by what `Qwen3VLProcessor` puts there, with one
    /// placeholder token for all visual tokens of a temporal patch.
    fn expand(&self, rendered: &str, request: &PromptRequest<'_>) -> Result<String, Error> {
        let SpecialTokens {
            vision_start: start,
            vision_end: end,
            ..
        } = &self.special;
        let placeholder = &self.special.placeholder(request.kind).text;
        let want = usize::from(!request.visuals.is_empty());
        let got = rendered.matches(placeholder.as_str()).count();
        if got != want {
            return Err(Error::Template(format!(
                "it put {got} of {placeholder} into the prompt, want {want}; does \
                 chat_template.jinja belong to this checkpoint?"
            )));
        }
        if request.kind == VisualKind::Image || want == 0 {
            return Ok(rendered.to_owned());
        }
        let pairs: String = request
            .visuals
            .iter()
            .map(|visual| {
                let seconds = timestamp(visual);
                format!(
                    "<{seconds:.1} seconds>{}{placeholder}{}",
                    start.text, end.text
                )
            })
            .collect();
        let whole = format!("{}{placeholder}{}", start.text, end.text);
        Ok(if rendered.contains(&whole) {
            rendered.replacen(&whole, &pairs, 1)
        } else {
            rendered.replacen(placeholder.as_str(), &pairs, 1)
        })
    }

    /// Splits the prompt's tokens at the placeholders.
    fn runs(&self, ids: &[u32], request: &PromptRequest<'_>) -> Result<Vec<PromptRun>, Error> {
        let placeholder = self.special.placeholder(request.kind).id;
        let n_placeholders = ids.iter().filter(|&&id| id == placeholder).count();
        if n_placeholders != request.visuals.len() {
            return Err(Error::Template(format!(
                "the prompt has {n_placeholders} placeholders for {} temporal patches",
                request.visuals.len()
            )));
        }
        let mut runs = Vec::with_capacity(2 * n_placeholders + 1);
        for (index, text) in ids.split(|&id| id == placeholder).enumerate() {
            if index > 0 {
                runs.push(PromptRun::Visual(index - 1));
            }
            if !text.is_empty() {
                runs.push(PromptRun::Tokens(text.to_vec()));
            }
        }
        Ok(runs)
    }
}

/// System prompt if given, earlier exchanges, then pixels and question.
fn messages<'a>(request: &PromptRequest<'a>) -> Vec<Message<'a>> {
    let text = |role, text| Message {
        role,
        parts: vec![Part::Text(text)],
    };
    let mut messages = Vec::with_capacity(2 + 2 * request.history.len());
    messages.extend(request.system.map(|system| text("system", system)));
    for turn in request.history {
        messages.push(text("user", &turn.user));
        messages.push(text("assistant", &turn.assistant));
    }
    let pixels = match request.kind {
        _ if request.visuals.is_empty() => None,
        VisualKind::Image => Some(Part::Image),
        VisualKind::Video => Some(Part::Video),
    };
    messages.push(Message {
        role: "user",
        parts: pixels
            .into_iter()
            .chain([Part::Text(request.text)])
            .collect(),
    });
    messages
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
    use crate::vlm::Turn;

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
    fn words_that_stand_for_pixels_are_refused() {
        let visuals = [pair([0.0, 1.0])];
        let asked = PromptRequest {
            text: "What is <|video_pad|>?",
            ..request(VisualKind::Video, &visuals)
        };
        let error = demo().vlm.prompt(&asked).unwrap_err();
        assert!(error.to_string().contains("<|video_pad|>"), "{error}");
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
        };
        let video = vlm.target_size(320, 320, VisualKind::Video, budget);
        assert_eq!(video.unwrap(), (32, 32));
    }
}
