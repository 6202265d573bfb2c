// SPDX-License-Identifier: MPL-2.0

//! What is known of a caption beside its words and frames.

use super::repeats::Repeat;

/// Begun with the window, ended when its caption is reported.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Note {
    /// Number of the scene; raised by a cut.
    pub scene: u64,
    /// Of the first window of a scene that began with a cut.
    pub scene_cut: bool,
    /// Whether it says the same as the captions before.
    pub repeat: Repeat,
}
