// SPDX-License-Identifier: MPL-2.0

//! What the configurations of all Qwen families with eyes have in common.

use super::checks::{check_token, eos};
use crate::backend::spec::Spec;
use crate::vlm::error::Error;
use crate::vlm::json::Section;

/// `config.json` of a Qwen with eyes, checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QwenConfig {
    /// Sizes of tower and decoder.
    pub spec: Spec,
    /// Placeholder of an image's visual tokens.
    pub image_token_id: u32,
    /// Placeholder of a video's visual tokens.
    pub video_token_id: u32,
    /// Stands before each image, video or temporal patch.
    pub vision_start_token_id: u32,
    /// Stands after each image, video or temporal patch.
    pub vision_end_token_id: u32,
    /// `eos_token_id`, for checkpoints without `generation_config.json`.
    pub eos: Vec<u32>,
}

impl QwenConfig {
    /// Reads the special tokens beside the sizes; `text` is the section of the decoder.
    pub(super) fn read(root: &Section<'_>, text: &Section<'_>, spec: Spec) -> Result<Self, Error> {
        let token = |key| check_token(root, key, root.token(key)?, spec.text.vocab_size);
        let config = Self {
            image_token_id: token("image_token_id")?,
            video_token_id: token("video_token_id")?,
            vision_start_token_id: token("vision_start_token_id")?,
            vision_end_token_id: token("vision_end_token_id")?,
            eos: eos(root, text)?,
            spec,
        };
        if config.image_token_id == config.video_token_id {
            return Err(root.complain(
                "video_token_id",
                "is also image_token_id; placeholders must differ",
            ));
        }
        Ok(config)
    }
}
