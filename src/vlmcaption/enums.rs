// SPDX-License-Identifier: MPL-2.0

//! The properties that take one of a few words.

use glib::prelude::*;

/// All of them, for GStreamer's documentation.
pub(super) fn types() -> [glib::Type; 6] {
    [
        Backend::static_type(),
        Precision::static_type(),
        DropPolicy::static_type(),
        Attach::static_type(),
        TextTiming::static_type(),
        TextGaps::static_type(),
    ]
}

/// What runs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionBackend")]
#[non_exhaustive]
pub enum Backend {
    /// By the file.
    #[default]
    #[enum_value(
        name = "Auto: sophgo for a .bmodel, axera for a folder of .axmodel, else the cpu",
        nick = "auto"
    )]
    Auto,
    /// The embedded engine on the host's cores.
    #[enum_value(name = "CPU: the embedded engine on the host's cores", nick = "cpu")]
    Cpu,
    /// Axera NPUs.
    #[enum_value(
        name = "Axera: AX650N boards and AX650 cards, folders of .axmodel files",
        nick = "axera"
    )]
    Axera,
    /// Sophgo TPUs.
    #[enum_value(
        name = "Sophgo: BM1684X and BM1688 TPUs, .bmodel files",
        nick = "sophgo"
    )]
    Sophgo,
    /// Scripted answers.
    #[enum_value(name = "Mock: scripted answers, no model", nick = "mock")]
    Mock,
}

/// Number type of the large matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionPrecision")]
#[non_exhaustive]
pub enum Precision {
    /// By size.
    #[default]
    #[enum_value(name = "Auto: f32 below 100 M parameters, int8 above", nick = "auto")]
    Auto,
    /// The reference.
    #[enum_value(name = "F32: the reference", nick = "f32")]
    F32,
    /// As most checkpoints are published.
    #[enum_value(name = "Bf16: half the memory of f32", nick = "bf16")]
    Bf16,
    /// Smaller and faster.
    #[enum_value(name = "Int8: a quarter of the memory, faster", nick = "int8")]
    Int8,
}

/// Which window gives way when the model is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionDropPolicy")]
#[non_exhaustive]
pub enum DropPolicy {
    /// By the stream.
    #[default]
    #[enum_value(name = "Auto: latest if upstream is live, block if not", nick = "auto")]
    Auto,
    /// The oldest waiting one.
    #[enum_value(
        name = "Latest: keep the newest window, drop the oldest waiting",
        nick = "latest"
    )]
    Latest,
    /// The arriving one.
    #[enum_value(
        name = "Oldest: keep the waiting windows, drop the arriving",
        nick = "oldest"
    )]
    Oldest,
    /// None.
    #[enum_value(name = "Block: drop nothing, hold the stream back", nick = "block")]
    Block,
}

/// Which buffers carry a meta.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionAttach")]
#[non_exhaustive]
pub enum Attach {
    /// Every buffer.
    #[default]
    #[enum_value(
        name = "Latest: every buffer carries the latest caption",
        nick = "latest"
    )]
    Latest,
    /// One buffer a caption.
    #[enum_value(name = "Window: one buffer carries each caption", nick = "window")]
    Window,
    /// No buffer.
    #[enum_value(name = "None: no buffer carries a caption", nick = "none")]
    None,
}

/// Timestamps of the text buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionTextTiming")]
#[non_exhaustive]
pub enum TextTiming {
    /// By the stream.
    #[default]
    #[enum_value(
        name = "Auto: arrival if upstream is live, window if not",
        nick = "auto"
    )]
    Auto,
    /// When the frames were.
    #[enum_value(
        name = "Window: when the frames were; for subtitle files",
        nick = "window"
    )]
    Window,
    /// When the caption came.
    #[enum_value(
        name = "Arrival: when the caption came; for overlays and muxers",
        nick = "arrival"
    )]
    Arrival,
}

/// How the text stream says that there is nothing to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionTextGaps")]
#[non_exhaustive]
pub enum TextGaps {
    /// By GAP events, as is usual.
    #[default]
    #[enum_value(name = "Event: GAP events that follow the video", nick = "event")]
    Event,
    /// By buffers.
    #[enum_value(
        name = "Buffer: an empty buffer every half second; for mp4mux and qtmux",
        nick = "buffer"
    )]
    Buffer,
}
