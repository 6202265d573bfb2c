// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-plugin-cache`: prints `docs/plugins/gst_plugins_cache.json`, what GStreamer's
//! documentation knows of a plugin, in the form of its own generator.

use std::process::ExitCode;

use gst::glib;
use gst::prelude::*;
use serde_json::{Map, Value, json};

const ELEMENT: &str = "vlmcaption";
/// Its signals and actions.
const SIGNALS: [&str; 5] = ["ask", "cancel", "caption", "caption-now", "reset"];

fn main() -> ExitCode {
    match cache() {
        Ok(cache) => {
            println!("{}", indented(&cache));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("vlmcaption-plugin-cache: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn cache() -> Result<Value, glib::BoolError> {
    gst::init().map_err(|error| glib::bool_error!("{error}"))?;
    let missing = || glib::bool_error!("GST_PLUGIN_PATH does not hold the plugin");
    let factory = gst::ElementFactory::find(ELEMENT).ok_or_else(missing)?;
    let plugin = factory.plugin().ok_or_else(missing)?;
    let object = factory.create().build()?;
    let filename = plugin.filename().unwrap_or_default();
    let filename = filename.file_stem().unwrap_or_default().to_string_lossy();
    Ok(json!({
        plugin.plugin_name().as_str(): {
            "description": plugin.description().as_str(),
            "elements": { ELEMENT: element(&factory, &object) },
            "filename": filename.trim_start_matches("lib"),
            "license": plugin.license().as_str(),
            "other-types": other_types(&object),
            "package": plugin.package().as_str(),
            "source": plugin.source().as_str(),
            "tracers": {},
            "url": plugin.origin().as_str(),
        }
    }))
}

fn element(factory: &gst::ElementFactory, object: &gst::Element) -> Value {
    let metadata = |key| factory.metadata(key).unwrap_or_default().to_owned();
    json!({
        "author": metadata("author"),
        "description": metadata("description"),
        "hierarchy": hierarchy(object.type_()),
        "klass": metadata("klass"),
        "long-name": metadata("long-name"),
        "pad-templates": pad_templates(factory),
        "properties": properties(object),
        "rank": "none",
        "signals": signals(object.type_()),
    })
}

fn hierarchy(type_: glib::Type) -> Vec<String> {
    let parents = std::iter::successors(Some(type_), |type_| type_.parent());
    parents.map(|type_| type_.name().to_owned()).collect()
}

fn pad_templates(factory: &gst::ElementFactory) -> Value {
    let templates = factory.static_pad_templates().into_iter();
    sorted(templates.map(|pad| {
        let direction = match pad.direction() {
            gst::PadDirection::Sink => "sink",
            _ => "src",
        };
        let presence = match pad.presence() {
            gst::PadPresence::Always => "always",
            gst::PadPresence::Request => "request",
            _ => "sometimes",
        };
        let fields = json!({
            "caps": caps(&pad.caps()),
            "direction": direction,
            "presence": presence,
        });
        (pad.name_template().to_owned(), fields)
    }))
}

/// One block a structure: its name with its features, and its fields in a column.
fn caps(caps: &gst::Caps) -> String {
    let block = |(structure, features): (&gst::StructureRef, &gst::CapsFeaturesRef)| {
        let mut text = structure.name().to_string();
        if features.is_any() || !features.is_equal(&gst::CAPS_FEATURES_MEMORY_SYSTEM_MEMORY) {
            text += &format!("({features})");
        }
        text += ":\n";
        for (name, value) in structure.iter() {
            text += &format!("{:>15}: {}\n", name.as_str(), serialized(value));
        }
        text
    };
    caps.iter_with_features().map(block).collect()
}

/// The properties that are the element's own.
fn own(object: &gst::Element) -> impl Iterator<Item = glib::ParamSpec> {
    let type_ = object.type_();
    let all = object.list_properties();
    let specs: Vec<_> = all.iter().cloned().collect();
    specs
        .into_iter()
        .filter(move |spec| spec.owner_type() == type_)
}

fn properties(object: &gst::Element) -> Value {
    sorted(own(object).map(|spec| (spec.name().to_owned(), property(&spec))))
}

fn property(spec: &glib::ParamSpec) -> Value {
    let flags = spec.flags();
    let has = |flag| flags.contains(flag);
    let mutable = if has(gst::PARAM_FLAG_MUTABLE_PLAYING) {
        "playing"
    } else if has(gst::PARAM_FLAG_MUTABLE_PAUSED) {
        "paused"
    } else if has(gst::PARAM_FLAG_MUTABLE_READY) {
        "ready"
    } else {
        "null"
    };
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    set("blurb", spec.blurb().unwrap_or_default().into());
    let conditionally = has(gst::PARAM_FLAG_CONDITIONALLY_AVAILABLE);
    set("conditionally-available", conditionally.into());
    set("construct", has(glib::ParamFlags::CONSTRUCT).into());
    set(
        "construct-only",
        has(glib::ParamFlags::CONSTRUCT_ONLY).into(),
    );
    set("controllable", has(gst::PARAM_FLAG_CONTROLLABLE).into());
    set("default", default(spec).into());
    if let Some((min, max)) = range(spec) {
        set("max", max.into());
        set("min", min.into());
    }
    set("mutable", mutable.into());
    set("readable", has(glib::ParamFlags::READABLE).into());
    set("type", spec.value_type().name().into());
    set("writable", has(glib::ParamFlags::WRITABLE).into());
    Value::Object(fields)
}

fn default(spec: &glib::ParamSpec) -> String {
    let value = spec.default_value();
    if let Some((_, choice)) = glib::EnumValue::from_value(value) {
        return format!("{} ({})", choice.nick(), choice.value());
    }
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_else(|| "NULL".to_owned());
    }
    if let Ok(number) = value.get::<f32>() {
        return number.to_string();
    }
    if let Ok(number) = value.get::<f64>() {
        return number.to_string();
    }
    serialized(value)
}

/// The lowest and the highest value; the generator takes the largest of 32 bits for -1.
fn range(spec: &glib::ParamSpec) -> Option<(String, String)> {
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        let signed = |n: u32| n.cast_signed().to_string();
        return Some((signed(spec.minimum()), signed(spec.maximum())));
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
        return Some((spec.minimum().to_string(), spec.maximum().to_string()));
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecFloat>() {
        return Some((spec.minimum().to_string(), spec.maximum().to_string()));
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecDouble>() {
        return Some((spec.minimum().to_string(), spec.maximum().to_string()));
    }
    let spec = spec.downcast_ref::<gst::ParamSpecFraction>()?;
    let written = |f: gst::Fraction| format!("{}/{}", f.numer(), f.denom());
    Some((written(spec.minimum()), written(spec.maximum())))
}

fn signals(type_: glib::Type) -> Value {
    let ids = SIGNALS
        .iter()
        .filter_map(|name| glib::subclass::SignalId::lookup(name, type_));
    sorted(ids.map(|id| {
        let query = id.query();
        let types = query.param_types().iter().enumerate();
        let args: Vec<Value> = types
            .map(|(i, of)| json!({ "name": format!("arg{i}"), "type": of.type_().name() }))
            .collect();
        let returns = match query.return_type().type_() {
            glib::Type::UNIT => "void",
            of => of.name(),
        };
        let mut fields = Map::new();
        if query.flags().contains(glib::SignalFlags::ACTION) {
            fields.insert("action".to_owned(), true.into());
        }
        fields.insert("args".to_owned(), args.into());
        fields.insert("return-type".to_owned(), returns.into());
        fields.insert("when".to_owned(), when(query.flags()).into());
        (query.signal_name().to_owned(), Value::Object(fields))
    }))
}

fn when(flags: glib::SignalFlags) -> &'static str {
    if flags.contains(glib::SignalFlags::RUN_FIRST) {
        "first"
    } else if flags.contains(glib::SignalFlags::RUN_CLEANUP) {
        "cleanup"
    } else {
        "last"
    }
}

/// The types of properties that are marked as part of the plugin's interface.
fn other_types(object: &gst::Element) -> Value {
    let types = own(object).map(|spec| spec.value_type());
    let marked = types.filter(|type_| type_.plugin_api_flags().is_some());
    let enums = marked.filter_map(|type_| {
        let class = glib::EnumClass::with_type(type_)?;
        let value = |value: &glib::EnumValue| {
            json!({
                "desc": value.name(),
                "name": value.nick(),
                "value": value.value().to_string(),
            })
        };
        let values: Vec<Value> = class.values().iter().map(value).collect();
        let fields = json!({ "kind": "enum", "values": values });
        Some((type_.name().to_owned(), fields))
    });
    sorted(enums)
}

fn sorted(entries: impl Iterator<Item = (String, Value)>) -> Value {
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    Value::Object(entries.into_iter().collect())
}

fn serialized(value: &glib::Value) -> String {
    if matches!(value.get::<Option<gst::Structure>>(), Ok(None)) {
        return "NULL".to_owned();
    }
    match value.serialize() {
        Ok(text) => text.to_string(),
        Err(_) => "NULL".to_owned(),
    }
}

/// By four blanks.
fn indented(value: &Value) -> String {
    let text = format!("{value:#}");
    let lines = text.lines().map(|line| {
        let start = line.len() - line.trim_start().len();
        format!("{}{line}", " ".repeat(start))
    });
    lines.collect::<Vec<_>>().join("\n")
}
