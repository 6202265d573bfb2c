// SPDX-License-Identifier: MPL-2.0

//! The properties that take one of a few words.

use glib::prelude::*;

/// All of them, for GStreamer's documentation.
pub(super) fn types() -> [glib::Type; 10] {
    [
        KeyHeader::static_type(),
        VideoTransport::static_type(),
        Precision::static_type(),
        Isolation::static_type(),
        Drafts::static_type(),
        DropPolicy::static_type(),
        Attach::static_type(),
        TextTiming::static_type(),
        TextGaps::static_type(),
        EvidenceOf::static_type(),
    ]
}

/// The header that carries the API key of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionKeyHeader")]
#[non_exhaustive]
pub enum KeyHeader {
    /// As nearly all servers want it.
    #[default]
    #[enum_value(
        name = "Authorization: Bearer KEY, as nearly all servers want it",
        nick = "authorization"
    )]
    Authorization,
    /// As Azure wants it.
    #[enum_value(name = "Api-key: KEY, as Azure wants it", nick = "api-key")]
    ApiKey,
}

/// In which form frames go to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionVideoTransport")]
#[non_exhaustive]
pub enum VideoTransport {
    /// As it is found to take them.
    #[default]
    #[enum_value(
        name = "Auto: a sequence if the server is found to take one, else images",
        nick = "auto"
    )]
    Auto,
    /// One video.
    #[enum_value(
        name = "Sequence: JPEGs as the frames of one video, without asking",
        nick = "sequence"
    )]
    Sequence,
    /// Stills.
    #[enum_value(
        name = "Images: single JPEGs, what moves is lost, without asking",
        nick = "images"
    )]
    Images,
    /// A file.
    #[enum_value(
        name = "Mp4: JPEGs as the frames of a video file, without asking; the server samples it again",
        nick = "mp4"
    )]
    Mp4,
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

/// Whether the device runs in a process of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionIsolation")]
#[non_exhaustive]
pub enum Isolation {
    /// By the device.
    #[default]
    #[enum_value(
        name = "Auto: process for devices with a vendor's library, if vlmcaption-worker is installed; else none",
        nick = "auto"
    )]
    Auto,
    /// Always.
    #[enum_value(
        name = "Process: in a vlmcaption-worker, which may die and be begun anew",
        nick = "process"
    )]
    Process,
    /// Never.
    #[enum_value(
        name = "None: in this process, which a fault of the device's library ends",
        nick = "none"
    )]
    None,
}

/// Whether the last answer is a draft of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionDrafts")]
#[non_exhaustive]
pub enum Drafts {
    /// Where that saves time.
    #[default]
    #[enum_value(
        name = "Auto: where that is measured to save time; changes no word",
        nick = "auto"
    )]
    Auto,
    /// Never.
    #[enum_value(name = "Off: a token at a time", nick = "off")]
    Off,
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

/// Which captions are kept as evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVlmCaptionEvidenceOf")]
#[non_exhaustive]
pub enum EvidenceOf {
    /// All.
    #[default]
    #[enum_value(name = "All: every caption and every answer", nick = "all")]
    All,
    /// Those of alarms.
    #[enum_value(
        name = "Alarms: answers that may begin an alarm, begin, hold or end one",
        nick = "alarms"
    )]
    Alarms,
}
