// SPDX-License-Identifier: MPL-2.0

//! Debug categories: `vlmcaption`, and `vlmcaption-text` for the text pad.
//!
//! ERROR is the end of the stream, WARNING something lost, INFO a change of state, LOG each buffer; TRACE
//! is how things came about, timelines and questions' numbers with it.

use std::sync::LazyLock;

/// The element.
pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vlmcaption",
        gst::DebugColorFlags::empty(),
        Some("captions by a vision-language model"),
    )
});

/// Its text pad.
pub(super) static TEXT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vlmcaption-text",
        gst::DebugColorFlags::empty(),
        Some("the text pad of vlmcaption"),
    )
});
