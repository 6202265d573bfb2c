// SPDX-License-Identifier: MPL-2.0

//! The property table.

use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::settings::Settings;

/// All properties, in the order of the documentation.
pub(super) static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let d = Settings::default();
    vec![
        glib::ParamSpecString::builder("model")
            .nick("Model")
            .blurb(
                "Folder of a Hugging Face checkpoint (Qwen3-VL, Qwen2.5-VL, InternVL3), a .bmodel \
                 file, or a folder of .axmodel files; empty runs the small built-in demo model. With \
                 backend=mock: a script of answers",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("config")
            .nick("Config")
            .blurb(
                "Folder with config.json and tokenizer of a compiled model; empty = the folder \
                 config beside it, or its own; of .axmodel files also one in or beside theirs",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("backend", d.backend)
            .nick("Backend")
            .blurb("What runs the model; auto goes by the model's file")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("device")
            .nick("Device")
            .blurb(
                "Where the backend runs. sophgo and axera: number of the device, from 0, as bm-smi \
                 counts or in the order of the cards' PCIe buses (empty = 0). cpu: threads=N (empty = all cores but one), cache=off (int8 weights are not kept)",
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("precision", d.precision)
            .nick("Precision")
            .blurb("Number type of the large matrices on the cpu")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("prompt")
            .nick("Prompt")
            .blurb(
                "What is asked about each window. {stream} {n} {start} {end} {wallclock} {last} \
                 (the last caption) are replaced",
            )
            .default_value(d.prompt.as_str())
            .mutable_playing()
            .build(),
        gst::ParamSpecArray::builder("prompts")
            .nick("Prompts")
            .blurb(
                "Questions about each window, in place of prompt: structures with text and id, kind \
                 (caption, yes-no, choice, count, json), options, schema, on, off, alarm-on, at-least, max-tokens, \
                 and min-duration, cool-down and period in ns; see the documentation",
            )
            .element_spec(
                &glib::ParamSpecBoxed::builder::<gst::Structure>("question")
                    .nick("Question")
                    .blurb("A question; its name is its id unless it has one")
                    .build(),
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("system-prompt")
            .nick("System prompt")
            .blurb("System prompt, same variables; empty leaves it to the model's chat template")
            .default_value(d.system_prompt.as_str())
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("history")
            .nick("History")
            .blurb("Earlier captions given to the model as context; forgotten at a flush")
            .maximum(64)
            .default_value(d.history)
            .mutable_playing()
            .build(),
        gst::ParamSpecFraction::builder("sample-rate")
            .nick("Sample rate")
            .blurb("Frames looked at per second of stream time")
            .minimum(gst::Fraction::new(1, 3600))
            .maximum(gst::Fraction::new(240, 1))
            .default_value(d.sample_rate)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("window")
            .nick("Window")
            .blurb("Frames that one caption is about; 1 captions still images")
            .minimum(1)
            .maximum(768)
            .default_value(d.window)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("stride")
            .nick("Stride")
            .blurb("Frames from the start of one window to the start of the next; 0 = window")
            .maximum(86_400)
            .default_value(d.stride)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-pixels")
            .nick("Max pixels")
            .blurb(
                "Upper bound of an image's area in pixels, before video-ratio; the checkpoint's \
                 own bound holds too; 0 = the checkpoint's alone",
            )
            .default_value(d.max_pixels)
            .mutable_ready()
            .build(),
        glib::ParamSpecDouble::builder("video-ratio")
            .nick("Video ratio")
            .blurb(
                "Part of the image's area that a video frame gets; 0 = the checkpoint's, which \
                 is 0.25 unless it says otherwise",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.video_ratio)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-tokens")
            .nick("Max tokens")
            .blurb("Upper bound of a caption's length in tokens")
            .minimum(1)
            .maximum(8192)
            .default_value(d.max_tokens)
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("temperature")
            .nick("Temperature")
            .blurb("0 always takes the likeliest token; above, tokens are drawn at random")
            .minimum(0.0)
            .maximum(10.0)
            .default_value(d.temperature)
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("top-p")
            .nick("Top p")
            .blurb("Draws among the likeliest tokens up to this sum of probabilities; 1 = all")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.top_p)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("top-k")
            .nick("Top k")
            .blurb("Draws among this many of the likeliest tokens; 0 = all")
            .default_value(d.top_k)
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("min-p")
            .nick("Min p")
            .blurb("Draws among tokens at least this part as likely as the likeliest; 0 = all")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.min_p)
            .mutable_playing()
            .build(),
        glib::ParamSpecFloat::builder("repetition-penalty")
            .nick("Repetition penalty")
            .blurb("Above 1 makes repeated tokens unlikelier; 0 = the checkpoint's, 1 = none")
            .minimum(0.0)
            .maximum(10.0)
            .default_value(d.repetition_penalty)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("seed")
            .nick("Seed")
            .blurb("Start of the random numbers of every caption")
            .default_value(d.seed)
            .mutable_playing()
            .build(),
        gst::ParamSpecArray::builder("stop")
            .nick("Stop")
            .blurb("Texts that end a caption and are not part of it")
            .element_spec(
                &glib::ParamSpecString::builder("text")
                    .nick("Text")
                    .blurb("A text that ends a caption")
                    .build(),
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("drop-policy", d.drop_policy)
            .nick("Drop policy")
            .blurb("Which window gives way when the model is busy")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-queued")
            .nick("Max queued")
            .blurb("Complete windows that may wait for the model")
            .minimum(1)
            .maximum(1024)
            .default_value(d.max_queued)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("hold")
            .nick("Hold")
            .blurb("How long after its last frame a caption stays on buffers, ns; -1 = for ever")
            .default_value(nanos(d.hold))
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("attach", d.attach)
            .nick("Attach")
            .blurb("Which buffers carry a GstVlmCaptionMeta")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("text-timing", d.text_timing)
            .nick("Text timing")
            .blurb("Timestamps of the buffers on text_src")
            .mutable_playing()
            .build(),
        glib::ParamSpecEnum::builder_with_default("text-gaps", d.text_gaps)
            .nick("Text gaps")
            .blurb("How text_src says that there is nothing to say")
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("eos-timeout")
            .nick("EOS timeout")
            .blurb("How long the end of the stream waits for the last captions, ns; -1 = for ever")
            .default_value(nanos(d.eos_timeout))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt::builder("priority")
            .nick("Priority")
            .blurb("Share of a model's time against other elements that run the same model")
            .minimum(1)
            .maximum(1_000_000)
            .default_value(d.priority)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("emit-partial")
            .nick("Emit partial")
            .blurb("Post vlmcaption/partial messages while a caption is being made")
            .default_value(d.emit_partial)
            .mutable_playing()
            .build(),
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
        glib::ParamSpecUInt64::builder("stats-interval")
            .nick("Statistics interval")
            .blurb("How often a vlmcaption/stats message is posted, ns; 0 or -1 = never")
            .default_value(nanos(d.stats_interval))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("model-timeout")
            .nick("Model timeout")
            .blurb(
                "How long nothing may be heard of a device at work, ns; then buffers have \
                 status=error until it is heard of again; 0 or -1 = for ever",
            )
            .default_value(nanos(d.model_timeout))
            .mutable_playing()
            .build(),
        glib::ParamSpecBoolean::builder("scene-cuts")
            .nick("Scene cuts")
            .blurb("A cut between two scenes ends a window, and what was said before it is forgotten")
            .default_value(d.scene_cuts)
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("motion-threshold")
            .nick("Motion threshold")
            .blurb(
                "Share of the picture that must change for a window to be captioned; 0 captions \
                 every window. 0.005 suits most cameras, 0.02 very noisy ones",
            )
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.motion_threshold)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("heartbeat")
            .nick("Heartbeat")
            .blurb(
                "The longest time between two captions while motion-threshold or gate-labels keep \
                 windows back, ns; 0 or -1 = no limit",
            )
            .default_value(nanos(d.heartbeat))
            .mutable_playing()
            .build(),
        gst::ParamSpecArray::builder("gate-labels")
            .nick("Gate labels")
            .blurb(
                "Caption only windows in which a detector upstream found one of these \
                 (GstVideoRegionOfInterestMeta; * = anything); empty captions every window",
            )
            .element_spec(
                &glib::ParamSpecString::builder("label")
                    .nick("Label")
                    .blurb("A label of the detector's")
                    .build(),
            )
            .mutable_playing()
            .build(),
        glib::ParamSpecDouble::builder("gate-min-area")
            .nick("Gate min area")
            .blurb("Share of the frame that a detected region must take to count for gate-labels")
            .minimum(0.0)
            .maximum(1.0)
            .default_value(d.gate_min_area)
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("gate-linger")
            .nick("Gate linger")
            .blurb("How long after the last detection windows are still captioned, ns; -1 = for ever")
            .default_value(nanos(d.gate_linger))
            .mutable_playing()
            .build(),
        glib::ParamSpecUInt64::builder("latency-budget")
            .nick("Latency budget")
            .blurb(
                "How long after its window's last frame a caption may come before less is asked \
                 of the model (tokens, then frames, pixels, windows), ns; 0 or -1 = no limit",
            )
            .default_value(nanos(d.latency_budget))
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("caption")
            .nick("Caption")
            .blurb("The last caption's text")
            .read_only()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Numbers since the element went to PAUSED; see the documentation")
            .read_only()
            .build(),
    ]
});

/// A time as GObject knows it.
fn nanos(time: Option<gst::ClockTime>) -> u64 {
    time.map_or(u64::MAX, gst::ClockTime::nseconds)
}
