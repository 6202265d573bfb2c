// SPDX-License-Identifier: MPL-2.0

//! The signal `caption` and the actions.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;

use super::ask;
use super::lifecycle::Lifecycle;
use super::shared::Shared;
use crate::caption::captioner::Captioner;

/// Finds the element that a signal was emitted by, and what its threads share.
type Emitter = fn(&[glib::Value]) -> Option<(gst::Element, Arc<Shared>)>;

/// All of them.
pub(super) fn all(emitter: Emitter) -> Vec<glib::subclass::Signal> {
    vec![
        caption(),
        reset(emitter),
        ask(emitter),
        cancel(emitter),
        caption_now(emitter),
    ]
}

/// `caption(caption: GstStructure)`: emitted from the element's reporting thread with each caption, as
/// it is posted on the bus, of which the property `caption` is the text alone. A handler that is slow
/// delays this element's reports, and no other's.
fn caption() -> glib::subclass::Signal {
    glib::subclass::Signal::builder("caption")
        .param_types([gst::Structure::static_type()])
        .build()
}

/// `reset()`: forgets what was said (history, repeats, what the gates compare with) and what is in
/// flight; the video flows on.
fn reset(emitter: Emitter) -> glib::subclass::Signal {
    glib::subclass::Signal::builder("reset")
        .action()
        .class_handler(move |values| {
            let (element, shared) = emitter(values)?;
            let lifecycle = Lifecycle {
                element: &element,
                shared: &shared,
            };
            lifecycle.reset();
            None
        })
        .build()
}

/// `ask(text: string, deadline: uint64) -> uint64`: asks about the frames at hand, ahead of captions
/// that wait. Takes the question (a template, like `prompt`) and ns until it is of no use (0 = a
/// minute); returns the number that the `vlmcaption/answer` message will have, 0 if the element does not
/// run.
fn ask(emitter: Emitter) -> glib::subclass::Signal {
    glib::subclass::Signal::builder("ask")
        .param_types([String::static_type(), u64::static_type()])
        .return_type::<u64>()
        .action()
        .class_handler(move |values| {
            let (element, shared) = emitter(values)?;
            let text = values.get(1)?.get::<Option<String>>().ok()?;
            let patience = Duration::from_nanos(values.get(2)?.get().ok()?);
            let id = ask::ask(&element, &shared, &text.unwrap_or_default(), patience);
            Some(id.to_value())
        })
        .build()
}

/// `cancel(number: uint64) -> boolean`: takes a question back; whether it was still open.
fn cancel(emitter: Emitter) -> glib::subclass::Signal {
    glib::subclass::Signal::builder("cancel")
        .param_types([u64::static_type()])
        .return_type::<bool>()
        .action()
        .class_handler(move |values| {
            let (element, shared) = emitter(values)?;
            let id = values.get(1)?.get().ok()?;
            Some(ask::cancel(&element, &shared, id).to_value())
        })
        .build()
}

/// `caption-now()`: ends the window being filled and captions it as it is.
fn caption_now(emitter: Emitter) -> glib::subclass::Signal {
    glib::subclass::Signal::builder("caption-now")
        .action()
        .class_handler(move |values| {
            let (_, shared) = emitter(values)?;
            shared.captioner().as_deref().map(Captioner::close_window);
            None
        })
        .build()
}
