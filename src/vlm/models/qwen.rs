// SPDX-License-Identifier: MPL-2.0

//! What Qwen2.5-VL and Qwen3-VL share: pixels, special tokens, the way a prompt is made.

use std::sync::Arc;

use super::prompt::{self, Quoted, SpecialToken};
use crate::backend::{GridThw, Patches};
use crate::vlm::chat::ChatTemplate;
use crate::vlm::config::{QwenConfig, generation_defaults};
use crate::vlm::files::ModelFiles;
use crate::vlm::grid::Geometry;
use crate::vlm::image::{RgbImage, patch_rows, smart_resize};
use crate::vlm::mrope::{Rows, positions};
use crate::vlm::preprocessor::Preprocessor;
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::{
    Checkpoint, Error, FrameBounds, PixelBudget, Prompt, PromptRequest, PromptRun, VisualKind, Vlm,
};

/// What tells the families apart.
pub(super) trait Family: Send + Sync + 'static {
    /// As `config.json` names it.
    fn model_type(&self) -> &'static str;

    /// What stands in a prompt for a video: a run of placeholders between start and end tokens,
    /// with one placeholder for all visual tokens of a temporal patch.
    fn video(&self, special: &SpecialTokens, request: &PromptRequest<'_>) -> String;

    /// The runs of a prompt, as far as positions are concerned.
    fn rows(&self, runs: &[PromptRun], request: &PromptRequest<'_>) -> Vec<Rows>;
}

/// Opens a checkpoint whose `config.json` was read.
pub(super) fn open(
    files: ModelFiles,
    config: QwenConfig,
    family: impl Family,
) -> Result<Checkpoint, Error> {
    let vision = &config.spec.vision;
    let tower = Geometry {
        patch_size: vision.patch_size,
        temporal_patch_size: vision.temporal_patch_size,
        merge_size: vision.spatial_merge_size,
    };
    let preprocessor = Preprocessor::read(&files, tower)?;
    let vocab_size = config.spec.text.vocab_size;
    let defaults = generation_defaults(&files, &config.eos, vocab_size)?;
    let tokenizer = Arc::new(Tokenizer::open(&files, vocab_size)?);
    let template = ChatTemplate::open(&files)?;
    template.check_answers(&files.name())?;
    let model_type = family.model_type().to_owned();
    let vlm = Qwen {
        special: SpecialTokens::find(&config, &tokenizer)?,
        preprocessor,
        template,
        tokenizer: Arc::clone(&tokenizer),
        family,
    };
    Ok(Checkpoint {
        name: files.name(),
        model_type,
        bounds: FrameBounds::default(),
        vlm: Arc::new(vlm),
        tokenizer,
        defaults,
        cpu: config.spec,
        files,
    })
}

/// A family with one checkpoint's numbers.
struct Qwen<F> {
    preprocessor: Preprocessor,
    template: ChatTemplate,
    tokenizer: Arc<Tokenizer>,
    special: SpecialTokens,
    family: F,
}

/// The tokens around pixels, written as the checkpoint's tokenizer writes them.
pub(super) struct SpecialTokens {
    image: SpecialToken,
    pub(super) video: SpecialToken,
    pub(super) vision_start: SpecialToken,
    pub(super) vision_end: SpecialToken,
}

impl SpecialTokens {
    fn find(config: &QwenConfig, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let find = |key, id| SpecialToken::find(tokenizer, key, id);
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

impl<F: Family> Vlm for Qwen<F> {
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
        if let Some(exact) = budget.exact {
            return Ok(exact);
        }
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
            pixels: pixels.into(),
            mean: self.preprocessor.image_mean,
            std: self.preprocessor.image_std,
        })
    }

    fn n_visual_tokens(&self, grid: GridThw) -> usize {
        grid.n_tokens(self.preprocessor.geometry.merge_size)
    }

    fn prompt(&self, request: &PromptRequest<'_>) -> Result<Prompt, Error> {
        self.check(request)?;
        let quoted = Quoted::new(request, &self.tokenizer, &[]);
        let rendered = self
            .template
            .render(&prompt::messages(&quoted.request(request)))?;
        let text = self.expand(&rendered, request)?;
        let placeholder = self.special.placeholder(request.kind).id;
        let ids = quoted.encode(&self.tokenizer, &text)?;
        let runs = prompt::split(&ids, placeholder, request)?;
        let rows = self.family.rows(&runs, request);
        let (positions, next_position) = positions(&rows, self.preprocessor.geometry.merge_size);
        Ok(Prompt {
            runs,
            positions,
            next_position,
            placeholder: (!request.visuals.is_empty()).then_some(placeholder),
        })
    }
}

impl<F: Family> Qwen<F> {
    /// That the pixels of a request can stand in a prompt.
    fn check(&self, request: &PromptRequest<'_>) -> Result<(), Error> {
        for visual in request.visuals {
            self.preprocessor.geometry.check(visual.grid)?;
        }
        prompt::check_image(request)
    }

    /// Replaces the template's one placeholder by what the processor puts there, with one
    /// placeholder token for all visual tokens of a temporal patch.
    fn expand(&self, rendered: &str, request: &PromptRequest<'_>) -> Result<String, Error> {
        let SpecialTokens {
            vision_start: start,
            vision_end: end,
            ..
        } = &self.special;
        let placeholder = &self.special.placeholder(request.kind).text;
        let want = usize::from(!request.visuals.is_empty());
        prompt::count(rendered, placeholder, want)?;
        if request.kind == VisualKind::Image || want == 0 {
            return Ok(rendered.to_owned());
        }
        let video = self.family.video(&self.special, request);
        let whole = format!("{}{placeholder}{}", start.text, end.text);
        Ok(if rendered.contains(&whole) {
            rendered.replacen(&whole, &video, 1)
        } else {
            rendered.replacen(placeholder.as_str(), &video, 1)
        })
    }
}
