// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption`: a GStreamer element that tells what a camera sees.
//!
//! The element is [`vlmcaption`]; below it, and without GStreamer, [`caption`] makes windows of
//! frames and captions of windows, [`vlm`] knows the model families, and [`backend`] does the
//! arithmetic. Dependencies run one way, in this order.

pub mod caption;
pub mod vlm;
pub mod vlmcaption;

pub use vlmcaption_backend as backend;

pub use plugin::plugin_register_static;

mod plugin {
    #![allow(missing_docs, reason = "the macro's items carry none")]

    fn init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
        super::vlmcaption::register(plugin)
    }

    gst::plugin_define!(
        vlmcaption,
        env!("CARGO_PKG_DESCRIPTION"),
        init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MPL",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}
