// SPDX-License-Identifier: MPL-2.0

//! What is known of a caption beside its words and frames.

use std::time::Instant;

use super::repeats::Repeat;
use crate::caption::frames::ladder::Rung;

/// Begun with the window, ended when its caption is reported.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WindowInfo {
    /// Number of the timeline that its times are on.
    pub timeline: u64,
    /// Number of the scene; raised by a cut.
    pub scene: u64,
    /// Of the first window of a scene that began with a cut.
    pub scene_cut: bool,
    /// How much of what was asked for the model was given.
    pub rung: Rung,
    /// The number of that rung, if the whole window was made on it.
    pub level: Option<usize>,
    /// When the frame came that completed the window.
    pub since: Option<Instant>,
    /// Upper bound that the caption had, tokens.
    pub max_tokens: usize,
    /// Whether it says the same as the captions before.
    pub repeat: Repeat,
}
