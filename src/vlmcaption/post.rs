// SPDX-License-Identifier: MPL-2.0

//! The one way from the element to the application's bus. Texts may quote a file or a device, so all of
//! them are made printable here.

use gst::prelude::*;

use super::words::printable;

/// Posts a message with this structure.
pub(super) fn structure(element: &gst::Element, structure: gst::Structure) {
    let message = gst::message::Element::builder(structure).src(element);
    post(element, message.build());
}

/// The same for each of them, in order.
pub(super) fn structures(element: &gst::Element, all: impl IntoIterator<Item = gst::Structure>) {
    for fields in all {
        structure(element, fields);
    }
}

/// A step of reading the model's weights; `part` of them, 0 to 1, are there.
pub(super) fn loading(element: &gst::Element, kind: gst::ProgressType, part: f32) {
    let text = format!("reading the model's weights: {:.0} %", part * 100.0);
    let progress = gst::message::Progress::builder(kind, "loading", &text);
    post(element, progress.src(element).build());
    let fields = gst::Structure::builder("vlmcaption/loading").field("progress", f64::from(part));
    structure(element, fields.build());
}

/// The stream cannot go on.
pub(super) fn error(element: &gst::Element, domain: impl gst::MessageErrorDomain, text: &str) {
    let text = printable(text);
    gst::element_error!(element, domain, ("{text}"));
}

/// Something is lost, and the video flows on.
pub(super) fn warning(element: &gst::Element, domain: impl gst::MessageErrorDomain, text: &str) {
    let text = printable(text);
    gst::element_warning!(element, domain, ("{text}"));
}

/// Something that the user should know.
pub(super) fn info(element: &gst::Element, domain: impl gst::MessageErrorDomain, text: &str) {
    let text = printable(text);
    // Twice, since gst-launch-1.0 shows the debug part of an INFO message alone.
    gst::element_info!(element, domain, ("{text}"), ["{text}"]);
}

fn post(element: &gst::Element, message: gst::Message) {
    // Fails if there is no bus, which is no error: the application wants no messages.
    let _ = element.post_message(message);
}
