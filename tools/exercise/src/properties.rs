// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-properties`: prints `docs/properties.md`, from what the element says about itself.

use std::fmt::Write;
use std::process::ExitCode;

use gst::glib;
use gst::prelude::*;

const ELEMENT: &str = "vlmcaption";

const HEAD: &str = "\
# Pads and properties of `vlmcaption`

Written by `cargo xtask docs` from the element itself; change the element, not this file.
`gst-inspect-1.0 vlmcaption` says the same.
";

fn main() -> ExitCode {
    match page() {
        Ok(page) => {
            print!("{page}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("vlmcaption-properties: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn page() -> Result<String, glib::BoolError> {
    gst::init().map_err(|error| glib::bool_error!("{error}"))?;
    let factory = gst::ElementFactory::find(ELEMENT)
        .ok_or_else(|| glib::bool_error!("GST_PLUGIN_PATH does not hold the plugin"))?;
    let element = factory.create().build()?;
    let mut page = HEAD.to_owned();
    for part in [pads(&factory), properties(&element), signals(&element)] {
        page.push('\n');
        page.push_str(&part);
    }
    Ok(page)
}

fn pads(factory: &gst::ElementFactory) -> String {
    let mut text = "## Pads\n\n| pad | direction | there | caps |\n|---|---|---|---|\n".to_owned();
    let mut pads: Vec<_> = factory.static_pad_templates().into_iter().collect();
    pads.sort_by_key(|pad| pad.name_template().to_string());
    for pad in pads {
        let direction = match pad.direction() {
            gst::PadDirection::Sink => "sink",
            _ => "source",
        };
        let presence = match pad.presence() {
            gst::PadPresence::Always => "always",
            gst::PadPresence::Request => "on request",
            _ => "sometimes",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {direction} | {presence} | `{}` |",
            pad.name_template(),
            pad.caps()
        );
    }
    text
}

fn properties(element: &gst::Element) -> String {
    let mut text = "## Properties\n\n\
        Settable: up to which state a change takes effect; `once` means before the element leaves\n\
        NULL.\n\n\
        | property | type | default | settable | what it is |\n|---|---|---|---|---|\n"
        .to_owned();
    let own = element
        .list_properties()
        .iter()
        .filter(|spec| spec.owner_type() == element.type_())
        .cloned()
        .collect::<Vec<_>>();
    for spec in &own {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} |",
            spec.name(),
            kind(spec),
            default(spec),
            settable(spec),
            spec.blurb().unwrap_or_default().replace('|', "\\|")
        );
    }
    text.push_str(&choices(&own));
    text
}

/// The type in words, with its range where it has one.
fn kind(spec: &glib::ParamSpec) -> String {
    let range = |low: String, high: String, all: String| {
        if high == all {
            format!("integer from {low}")
        } else {
            format!("integer {low}..{high}")
        }
    };
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        return range(
            spec.minimum().to_string(),
            spec.maximum().to_string(),
            u32::MAX.to_string(),
        );
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        return range(
            spec.minimum().to_string(),
            spec.maximum().to_string(),
            u64::MAX.to_string(),
        );
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecInt>() {
        return range(
            spec.minimum().to_string(),
            spec.maximum().to_string(),
            i32::MAX.to_string(),
        );
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecDouble>() {
        return format!("number {}..{}", spec.minimum(), spec.maximum());
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecFloat>() {
        return format!("number {}..{}", spec.minimum(), spec.maximum());
    }
    if let Some(spec) = spec.downcast_ref::<gst::ParamSpecArray>() {
        let of = spec.element_spec().map(|of| of.value_type());
        return match of == Some(gst::Structure::static_type()) {
            true => "list of structures".to_owned(),
            false => "list of texts".to_owned(),
        };
    }
    match spec.value_type() {
        glib::Type::STRING => "text".to_owned(),
        glib::Type::BOOL => "yes or no".to_owned(),
        of if of == gst::Fraction::static_type() => "fraction".to_owned(),
        of if of == gst::Structure::static_type() => "structure".to_owned(),
        of if of.is_a(glib::Type::ENUM) => "choice".to_owned(),
        of => format!("`{of}`"),
    }
}

fn default(spec: &glib::ParamSpec) -> String {
    if !spec.flags().contains(glib::ParamFlags::WRITABLE) {
        return String::new();
    }
    let value = spec.default_value();
    if let Some((_, choice)) = glib::EnumValue::from_value(value) {
        return format!("`{}`", choice.nick());
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return match text.as_deref() {
            None | Some("") => "empty".to_owned(),
            Some(text) => format!("`{}`", text.replace('\n', "\\n")),
        };
    }
    if value
        .get::<gst::ArrayRef>()
        .is_ok_and(|list| list.is_empty())
    {
        return "empty".to_owned();
    }
    if let Ok(number) = value.get::<f32>() {
        return format!("`{number}`");
    }
    match value.serialize() {
        Ok(text) => format!("`{text}`"),
        Err(_) => "none".to_owned(),
    }
}

fn settable(spec: &glib::ParamSpec) -> &'static str {
    let flags = spec.flags();
    if !flags.contains(glib::ParamFlags::WRITABLE) {
        "read only"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        "PLAYING"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_PAUSED) {
        "PAUSED"
    } else if flags.contains(gst::PARAM_FLAG_MUTABLE_READY) {
        "READY"
    } else {
        "once"
    }
}

/// One list for each property that takes one of a few words.
fn choices(specs: &[glib::ParamSpec]) -> String {
    let mut text = String::new();
    for spec in specs {
        let Some(class) = glib::EnumClass::with_type(spec.value_type()) else {
            continue;
        };
        let _ = writeln!(text, "\n`{}` is one of\n", spec.name());
        for choice in class.values() {
            // Names are `Word: what it is` for gst-inspect-1.0, which shows no nick.
            let name = choice.name();
            let what = name.split_once(": ").map_or(name, |(_, what)| what);
            let _ = writeln!(text, "- `{}`: {what}", choice.nick());
        }
    }
    text
}

fn signals(element: &gst::Element) -> String {
    let mut text = "## Signals and actions\n\n".to_owned();
    for name in ["caption", "reset", "ask", "cancel", "caption-now"] {
        let Some(id) = glib::subclass::SignalId::lookup(name, element.type_()) else {
            continue;
        };
        let query = id.query();
        let arguments: Vec<String> = query
            .param_types()
            .iter()
            .map(|argument| format!("`{}`", argument.type_()))
            .collect();
        let is_action = query.flags().contains(glib::SignalFlags::ACTION);
        let kind = if is_action { "action" } else { "signal" };
        let _ = write!(text, "- {kind} `{name}` ({})", arguments.join(", "));
        if query.return_type() != glib::Type::UNIT {
            let _ = write!(text, ", gives `{}`", query.return_type().type_());
        }
        text.push('\n');
    }
    text
}
