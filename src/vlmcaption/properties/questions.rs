// SPDX-License-Identifier: MPL-2.0

//! What is asked of which model, and how it answers.

use gst::prelude::*;

use crate::vlmcaption::backends::{BackendFields, read, written};
use crate::vlmcaption::enums::{Drafts, Isolation, Precision};
use crate::vlmcaption::property::{Effect, Property, list, put, text, texts};

/// Which model it is.
pub(super) fn model() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("model")
                .nick("Model")
                .blurb(
                    "Folder of a Hugging Face checkpoint (Qwen3-VL, Qwen2.5-VL, InternVL3), a .bmodel \
                     file, or a folder of .axmodel files; empty runs the small built-in demo model. With \
                     backend=mock: a script of answers",
                )
                .mutable_playing()
                .build(),
            |s| s.choice.model.to_value(),
            |s, to| put(&mut s.choice.model, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecString::builder("config")
                .nick("Config")
                .blurb(
                    "Folder with config.json and tokenizer of a compiled model; empty = the folder \
                     config beside it, or its own; of .axmodel files also one in or beside theirs. With \
                     backend=openai: folder of the checkpoint that the server runs, for the size of frames",
                )
                .mutable_playing()
                .build(),
            |s| s.choice.config.to_value(),
            |s, to| put(&mut s.choice.config, to),
        )
        .with_effect(Effect::Model),
    ]
}

/// What runs it.
pub(super) fn backends() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("backend")
                .nick("Backend")
                .blurb(
                    "What runs the model: cpu (the embedded engine), sophgo (TPUs, .bmodel files), axera \
                     (NPUs, .axmodel files), openai (a server, see server-uri), mock (scripted answers), \
                     or auto: by the model's file. Several with commas between them: the first that works",
                )
                .default_value("auto")
                .mutable_playing()
                .build(),
            |s| s.choice.backend.to_value(),
            |s, to| text(&mut s.choice.backend, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            gst::ParamSpecArray::builder("backends")
                .nick("Backends")
                .blurb(
                    "What single backends of several are set to in place of the element's own: structures \
                     named after a backend, with properties that choose a model or a server as fields",
                )
                .element_spec(
                    &glib::ParamSpecBoxed::builder::<gst::Structure>("backend")
                        .nick("Backend")
                        .blurb("A backend's properties; an api-key is not read back")
                        .build(),
                )
                .mutable_playing()
                .build(),
            |s| written(&s.choice.backends).to_value(),
            |s, to| fields_of(&mut s.choice.backends, to),
        )
        .with_effect(Effect::Model)
        .unlogged(),
    ]
}

/// How it is run.
pub(super) fn devices() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("device")
                .nick("Device")
                .blurb(
                    "Where the backend runs. sophgo and axera: number of the device, from 0, as bm-smi \
                     counts or in the order of the cards' PCIe buses (empty = 0). cpu: threads=N \
                     (empty = all cores but one), cache=off (int8 weights are not kept)",
                )
                .mutable_playing()
                .build(),
            |s| s.choice.device.to_value(),
            |s, to| put(&mut s.choice.device, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("precision", Precision::Auto)
                .nick("Precision")
                .blurb("Number type of the large matrices on the cpu")
                .mutable_playing()
                .build(),
            |s| s.choice.precision.to_value(),
            |s, to| put(&mut s.choice.precision, to),
        )
        .with_effect(Effect::Model),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("isolation", Isolation::Auto)
                .nick("Isolation")
                .blurb(
                    "Whether the device runs in a process of its own, so that a crash of its library \
                     costs seconds of captions and no frame",
                )
                .mutable_playing()
                .build(),
            |s| s.choice.isolation.to_value(),
            |s, to| put(&mut s.choice.isolation, to),
        )
        .with_effect(Effect::Model),
    ]
}

/// Sets what backends are set to.
fn fields_of(field: &mut Vec<BackendFields>, value: &glib::Value) -> Result<(), String> {
    let list = value.get::<gst::ArrayRef>();
    *field = read(&list.map_err(|_| "is no list".to_owned())?)?;
    Ok(())
}

/// What is asked.
pub(super) fn questions() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecString::builder("prompt")
                .nick("Prompt")
                .blurb(
                    "What is asked about each window. {stream} {n} {start} {end} {wallclock} {last} \
                     (the last caption) are replaced",
                )
                .default_value("Describe the video.")
                .mutable_playing()
                .build(),
            |s| s.prompt.to_value(),
            |s, to| text(&mut s.prompt, to),
        ),
        Property::new(
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
            |s| gst::Array::from_values(s.prompts.clone()).to_value(),
            |s, to| list(&mut s.prompts, to),
        ),
        Property::new(
            glib::ParamSpecString::builder("system-prompt")
                .nick("System prompt")
                .blurb("System prompt, same variables; empty leaves it to the model's chat template")
                .default_value("")
                .mutable_playing()
                .build(),
            |s| s.system_prompt.to_value(),
            |s, to| text(&mut s.system_prompt, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("history")
                .nick("History")
                .blurb("Earlier captions given to the model as context; forgotten at a flush")
                .maximum(64)
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.history.to_value(),
            |s, to| put(&mut s.history, to),
        ),
    ]
}

/// How long answers are, and how they are drawn.
pub(super) fn lengths() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecUInt::builder("max-tokens")
                .nick("Max tokens")
                .blurb("Upper bound of a caption's length in tokens")
                .minimum(1)
                .maximum(8192)
                .default_value(64)
                .mutable_playing()
                .build(),
            |s| s.max_tokens.to_value(),
            |s, to| put(&mut s.max_tokens, to),
        ),
        Property::new(
            glib::ParamSpecFloat::builder("temperature")
                .nick("Temperature")
                .blurb("0 always takes the likeliest token; above, tokens are drawn at random")
                .minimum(0.0)
                .maximum(10.0)
                .default_value(0.0)
                .mutable_playing()
                .build(),
            |s| s.temperature.to_value(),
            |s, to| put(&mut s.temperature, to),
        ),
        Property::new(
            glib::ParamSpecFloat::builder("top-p")
                .nick("Top p")
                .blurb("Draws among the likeliest tokens up to this sum of probabilities; 1 = all")
                .minimum(0.0)
                .maximum(1.0)
                .default_value(1.0)
                .mutable_playing()
                .build(),
            |s| s.top_p.to_value(),
            |s, to| put(&mut s.top_p, to),
        ),
        Property::new(
            glib::ParamSpecUInt::builder("top-k")
                .nick("Top k")
                .blurb("Draws among this many of the likeliest tokens; 0 = all")
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.top_k.to_value(),
            |s, to| put(&mut s.top_k, to),
        ),
    ]
}

/// More of how they are drawn, and what ends them.
pub(super) fn likelihoods() -> Vec<Property> {
    vec![
        Property::new(
            glib::ParamSpecFloat::builder("min-p")
                .nick("Min p")
                .blurb("Draws among tokens at least this part as likely as the likeliest; 0 = all")
                .minimum(0.0)
                .maximum(1.0)
                .default_value(0.0)
                .mutable_playing()
                .build(),
            |s| s.min_p.to_value(),
            |s, to| put(&mut s.min_p, to),
        ),
        Property::new(
            glib::ParamSpecFloat::builder("repetition-penalty")
                .nick("Repetition penalty")
                .blurb("Above 1 makes repeated tokens unlikelier; 0 = the checkpoint's, 1 = none")
                .minimum(0.0)
                .maximum(10.0)
                .default_value(0.0)
                .mutable_playing()
                .build(),
            |s| s.repetition_penalty.to_value(),
            |s, to| put(&mut s.repetition_penalty, to),
        ),
        Property::new(
            glib::ParamSpecUInt64::builder("seed")
                .nick("Seed")
                .blurb("Start of the random numbers of every caption")
                .default_value(0)
                .mutable_playing()
                .build(),
            |s| s.seed.to_value(),
            |s, to| put(&mut s.seed, to),
        ),
        Property::new(
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
            |s| gst::Array::new(s.stop.iter()).to_value(),
            |s, to| texts(&mut s.stop, to),
        ),
        Property::new(
            glib::ParamSpecEnum::builder_with_default("drafts", Drafts::Auto)
                .nick("Drafts")
                .blurb("Whether the last answer is a draft of the next, which the model verifies")
                .mutable_playing()
                .build(),
            |s| s.drafts.to_value(),
            |s, to| put(&mut s.drafts, to),
        ),
    ]
}
