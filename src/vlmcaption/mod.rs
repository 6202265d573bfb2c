// SPDX-License-Identifier: MPL-2.0

//! The element `vlmcaption`.
//!
//! It passes video through untouched, looks at one frame a second, shows pairs of frames to a
//! vision-language model on other threads, and hands the text on in four ways: as a
//! `GstVlmCaptionMeta` on every buffer, as `vlmcaption/caption` messages on the bus, by the signal
//! `caption`, and on the request pad `text_src`.
//!
//! ## Example
//!
//! ```text
//! gst-launch-1.0 -m videotestsrc is-live=true ! vlmcaption ! fakesink sync=true
//! ```

mod alarms;
mod allocation;
mod analytics;
mod ask;
mod backends;
mod board;
mod change_model;
mod changes;
mod detections;
mod drops;
mod enums;
mod failover;
mod faults;
mod flow;
mod histogram;
mod imp;
mod inquiries;
mod keeper;
mod layout;
mod lifecycle;
mod log;
mod masks;
mod model;
mod output;
mod partial;
mod pixels;
mod post;
mod prompts;
mod properties;
mod property;
mod report;
mod round;
mod run;
mod settings;
mod shared;
mod signals;
mod sources;
mod stream;
mod swap;
mod take_over;
mod tally;
mod text;
mod timer;
mod tracing;
mod view;
mod words;

use gst::prelude::*;
// By its own name: `crate::backend` is what lib.rs calls it, which mounts this file.
use vlmcaption_backend::isolation;

pub use enums::{
    Attach, Drafts, DropPolicy, EvidenceOf, Isolation, KeyHeader, Precision, TextGaps, TextTiming,
    VideoTransport,
};
pub use imp::VlmCaption;
pub use output::META_NAME;
pub use sources::source;

/// Registers the element and its meta with GStreamer.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for type_ in enums::types() {
        type_.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    isolation::on_output(|pid, line| {
        gst::info!(log::CAT, "vlmcaption-worker {pid}: {line}");
    });
    if !gst::meta::CustomMeta::is_registered(META_NAME) {
        gst::meta::CustomMeta::register(META_NAME, &[]);
    }
    tracing::register(plugin)?;
    gst::Element::register(
        Some(plugin),
        "vlmcaption",
        gst::Rank::NONE,
        VlmCaption::static_type(),
    )
}
