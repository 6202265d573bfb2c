// SPDX-License-Identifier: MPL-2.0

//! Spans of windows as records of a GStreamer tracer, and as a file for Perfetto.

mod file;
mod tracer;

use gst::prelude::*;

/// The variable that names a file for Perfetto.
const VARIABLE: &str = "VLMCAPTION_TRACE";
/// The tracer's name. Features of a plugin have names of their own, so it is not the element's.
const TRACER: &str = "vlmcaption-trace";

/// Registers the tracer, and begins a file if the environment names one.
pub(super) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    // Made by the first span, since the scanner of plugins comes along here, too.
    if let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        file::begin(path.into());
    }
    gst::Tracer::register(Some(plugin), TRACER, tracer::SpanTracer::static_type())
}
