// SPDX-License-Identifier: MPL-2.0

//! Who waits for whom, where captions go, and what is told.

use gst::prelude::*;

use crate::vlmcaption::enums::{Attach, DropPolicy, TextGaps, TextTiming};
use crate::vlmcaption::property::seconds;
use crate::vlmcaption::property::{Property, list, put};

/// Who waits, and how long a caption is shown.
pub(super) fn queues() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecEnum::builder_with_default("drop-policy", DropPolicy::Auto)
                .nick("Drop policy")
                .blurb("Which window gives way when the model is busy")
                .mutable_ready()
                .build(),
            |s| s.drop_policy.to_value(),
            |s, to| put(&mut s.drop_policy, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("max-queued")
                .nick("Max queued")
                .blurb("Complete windows that may wait for the model")
                .minimum(1)
                .maximum(1024)
                .default_value(1)
                .mutable_ready()
                .build(),
            |s| s.max_queued.to_value(),
            |s, to| put(&mut s.max_queued, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("hold")
                .nick("Hold")
                .blurb(
                    "How long after its last frame a caption stays on buffers, ns; -1 = for ever",
                )
                .default_value(seconds(30))
                .mutable_playing()
                .build(),
            |s| s.hold.to_value(),
            |s, to| put(&mut s.hold, to),
        ),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("attach", Attach::Latest)
                .nick("Attach")
                .blurb("Which buffers carry a GstVlmCaptionMeta")
                .mutable_playing()
                .build(),
            |s| s.attach.to_value(),
            |s, to| put(&mut s.attach, to),
        ),
    ]
}

/// The text pad, and the end of the stream.
pub(super) fn text() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecEnum::builder_with_default("text-timing", TextTiming::Auto)
                .nick("Text timing")
                .blurb("Timestamps of the buffers on text_src")
                .mutable_playing()
                .build(),
            |s| s.text_timing.to_value(),
            |s, to| put(&mut s.text_timing, to),
        ),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("text-gaps", TextGaps::Event)
                .nick("Text gaps")
                .blurb("How text_src says that there is nothing to say")
                .mutable_playing()
                .build(),
            |s| s.text_gaps.to_value(),
            |s, to| put(&mut s.text_gaps, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("eos-timeout")
                .nick("EOS timeout")
                .blurb(
                    "How long the end of the stream waits for the last captions, ns; -1 = for ever",
                )
                .default_value(seconds(30))
                .mutable_playing()
                .build(),
            |s| s.eos_timeout.to_value(),
            |s, to| put(&mut s.eos_timeout, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("priority")
                .nick("Priority")
                .blurb("Share of a model's time against other elements that run the same model")
                .minimum(1)
                .maximum(1_000_000)
                .default_value(100)
                .mutable_ready()
                .build(),
            |s| s.priority.to_value(),
            |s, to| put(&mut s.priority, to),
        ),
        Property::new(
            glib::ParamSpecBoolean::builder("emit-partial")
                .nick("Emit partial")
                .blurb("Post vlmcaption/partial messages while a caption is being made")
                .default_value(false)
                .mutable_playing()
                .build(),
            |s| s.emit_partial.to_value(),
            |s, to| put(&mut s.emit_partial, to),
        ),
    ]
}

/// What is hidden, told and watched.
pub(super) fn watch() -> Vec<Property> {
    vec![
        Property::new(
            gst::ParamSpecArray::builder("privacy-masks")
                .nick("Privacy masks")
                .blurb(
                    "Parts of the frame that the model does not see: structures with x, y, width and \
                     height, fractions 0..1 of the frame",
                )
                .element_spec(
                    &glib::ParamSpecBoxed::builder::<gst::Structure>("mask")
                        .nick("Mask")
                        .blurb("A rectangle that is painted grey")
                        .build(),
                )
                .mutable_playing()
                .build(),
            |s| gst::Array::from_values(s.privacy_masks.clone()).to_value(),
            |s, to| list(&mut s.privacy_masks, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("stats-interval")
                .nick("Statistics interval")
                .blurb("How often a vlmcaption/stats message is posted, ns; 0 or -1 = never")
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.stats_interval.to_value(),
            |s, to| put(&mut s.stats_interval, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("model-timeout")
                .nick("Model timeout")
                .blurb(
                    "How long nothing may be heard of a device at work, ns; then buffers have \
                     status=error until it is heard of again; 0 or -1 = for ever",
                )
                .default_value(seconds(10))
                .mutable_playing()
                .build(),
            |s| s.model_timeout.to_value(),
            |s, to| put(&mut s.model_timeout, to),
        ),
    ]
}

/// What the element computes.
pub(super) fn computed() -> Vec<Property> {
    vec![
        Property::computed(
            glib::ParamSpecString::builder("caption")
                .nick("Caption")
                .blurb("The last caption's text")
                .read_only()
                .build(),
        ),
        Property::computed(
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Numbers since the element went to PAUSED; see the documentation")
                .read_only()
                .build(),
        ),
    ]
}
