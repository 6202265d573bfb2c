// SPDX-License-Identifier: MPL-2.0

//! What the model is shown, and which windows it sees.

use gst::prelude::*;

use crate::vlmcaption::property::seconds;
use crate::vlmcaption::property::{Property, fraction, put, texts};

/// 768 x 768: what the compiled models of the boards spend on an image.
const DEFAULT_MAX_PIXELS: u32 = 768 * 768;

/// What the model is shown.
pub(super) fn windows() -> Vec<Property> {
    vec![
        Property::new(
            gst::ParamSpecFraction::builder("sample-rate")
                .nick("Sample rate")
                .blurb("Frames looked at per second of stream time")
                .minimum(gst::Fraction::new(1, 3600))
                .maximum(gst::Fraction::new(240, 1))
                .default_value(gst::Fraction::new(1, 1))
                .mutable_ready()
                .build(),
            |s| gst::Fraction::new(s.sample_rate.0, s.sample_rate.1).to_value(),
            |s, to| fraction(&mut s.sample_rate, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("window")
                .nick("Window")
                .blurb("Frames that one caption is about; 1 captions still images")
                .minimum(1)
                .maximum(768)
                .default_value(4)
                .mutable_ready()
                .build(),
            |s| s.window.to_value(),
            |s, to| put(&mut s.window, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("stride")
                .nick("Stride")
                .blurb("Frames from the start of one window to the start of the next; 0 = window")
                .maximum(86_400)
                .default_value(0)
                .mutable_ready()
                .build(),
            |s| s.stride.to_value(),
            |s, to| put(&mut s.stride, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("max-pixels")
                .nick("Max pixels")
                .blurb(
                    "Upper bound of an image's area in pixels, before video-ratio; the checkpoint's \
                     own bound holds too; 0 = the checkpoint's alone",
                )
                .default_value(DEFAULT_MAX_PIXELS)
                .mutable_ready()
                .build(),
            |s| s.max_pixels.to_value(),
            |s, to| put(&mut s.max_pixels, to),
        ),
        Property::new(
            glib::ParamSpecDouble::builder("video-ratio")
                .nick("Video ratio")
                .blurb(
                    "Part of the image's area that a video frame gets; 0 = the checkpoint's, which \
                     is 0.25 unless it says otherwise",
                )
                .minimum(0.0)
                .maximum(1.0)
                .default_value(0.0)
                .mutable_ready()
                .build(),
            |s| s.video_ratio.to_value(),
            |s, to| put(&mut s.video_ratio, to),
        ),
    ]
}

/// Which windows the model sees.
pub(super) fn gates() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecBoolean::builder("scene-cuts")
                .nick("Scene cuts")
                .blurb("A cut between two scenes ends a window, and what was said before it is forgotten")
                .default_value(true)
                .mutable_playing()
                .build(),
            |s| s.scene_cuts.to_value(),
            |s, to| put(&mut s.scene_cuts, to),
        ),
        Property::new(
            glib::ParamSpecDouble::builder("motion-threshold")
                .nick("Motion threshold")
                .blurb(
                    "Share of the picture that must change for a window to be captioned; 0 captions \
                     every window. 0.005 suits most cameras, 0.02 very noisy ones",
                )
                .minimum(0.0)
                .maximum(1.0)
                .default_value(0.0)
                .mutable_playing()
                .build(),
            |s| s.motion_threshold.to_value(),
            |s, to| put(&mut s.motion_threshold, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("heartbeat")
                .nick("Heartbeat")
                .blurb(
                    "The longest time between two captions while motion-threshold or gate-labels keep \
                     windows back, ns; 0 or -1 = no limit",
                )
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.heartbeat.to_value(),
            |s, to| put(&mut s.heartbeat, to),
        ),
        Property::new(
            gst::ParamSpecArray::builder("gate-labels")
                .nick("Gate labels")
                .blurb(
                    "Caption only windows in which a detector upstream found one of these \
                     (GstVideoRegionOfInterestMeta, GstAnalyticsODMtd; * = anything); empty \
                     captions every window",
                )
                .element_spec(
                    &glib::ParamSpecString::builder("label")
                        .nick("Label")
                        .blurb("A label of the detector's")
                        .build(),
                )
                .mutable_playing()
                .build(),
            |s| gst::Array::new(s.gate_labels.iter()).to_value(),
            |s, to| texts(&mut s.gate_labels, to),
        ),
    ]
}

/// More of that, and how late captions may be.
pub(super) fn limits() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecDouble::builder("gate-min-area")
                .nick("Gate min area")
                .blurb("Share of the frame that a detected region must take to count for gate-labels")
                .minimum(0.0)
                .maximum(1.0)
                .default_value(0.0)
                .mutable_playing()
                .build(),
            |s| s.gate_min_area.to_value(),
            |s, to| put(&mut s.gate_min_area, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("gate-linger")
                .nick("Gate linger")
                .blurb("How long after the last detection windows are still captioned, ns; -1 = for ever")
                .default_value(seconds(5))
                .mutable_playing()
                .build(),
            |s| s.gate_linger.to_value(),
            |s, to| put(&mut s.gate_linger, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("latency-budget")
                .nick("Latency budget")
                .blurb(
                    "How long after its window's last frame a caption may come before less is asked \
                     of the model (tokens, then frames, pixels, windows), ns; 0 or -1 = no limit",
                )
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.latency_budget.to_value(),
            |s, to| put(&mut s.latency_budget, to),
        ),
    ]
}
