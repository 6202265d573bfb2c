// SPDX-License-Identifier: MPL-2.0

//! The property table: all that there is to know of a property is in its row.
//!
//! A new property is a field of [`Settings`] and a row here; `cargo xtask docs` writes its line of the
//! documentation. Glib's derive `Properties` has rows too, as attributes of fields, but its setters cannot
//! refuse a value, nor look at the other settings under the same lock.

mod evidence;
mod outlets;
mod questions;
mod remote;
mod windows;

use std::sync::LazyLock;

use super::property::Property;
use super::settings::Settings;

/// All properties, in the order of the documentation.
pub(super) static PROPERTIES: LazyLock<Vec<Property>> = LazyLock::new(|| {
    let parts = [
        questions::model(),
        questions::backends(),
        questions::devices(),
        remote::server(),
        remote::sent(),
        remote::reached(),
        remote::network(),
        questions::questions(),
        windows::windows(),
        questions::lengths(),
        questions::likelihoods(),
        outlets::queues(),
        outlets::text(),
        outlets::watch(),
        evidence::evidence(),
        windows::gates(),
        windows::limits(),
        outlets::computed(),
    ];
    parts.into_iter().flatten().collect()
});

/// The same as GObject takes them.
pub(super) static SPECS: LazyLock<Vec<glib::ParamSpec>> =
    LazyLock::new(|| PROPERTIES.iter().map(|row| row.spec().clone()).collect());

/// The property with this name.
pub(super) fn find(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|row| row.name() == name)
}

/// The properties in which two settings differ.
pub(super) fn differing(one: &Settings, other: &Settings) -> Vec<&'static str> {
    let written = |row: &Property, settings| row.get(settings).map(|value| format!("{value:?}"));
    let rows = PROPERTIES.iter();
    let rows = rows.filter(|row| written(row, one) != written(row, other));
    rows.map(Property::name).collect()
}

/// The settings of a new element: every property at its default.
pub(super) fn defaults() -> Settings {
    let mut settings = Settings::default();
    for row in PROPERTIES.iter() {
        row.reset(&mut settings);
    }
    settings
}

#[cfg(test)]
mod tests {
    use gst::prelude::*;

    use super::*;

    #[test]
    fn every_property_can_be_read_and_starts_at_its_default() {
        gst::init().unwrap();
        let settings = defaults();
        for row in PROPERTIES.iter() {
            let (name, spec) = (row.name(), row.spec());
            let Some(value) = row.get(&settings) else {
                assert!(!spec.flags().contains(glib::ParamFlags::WRITABLE), "{name}");
                continue;
            };
            if !spec.flags().contains(glib::ParamFlags::READABLE) {
                assert!(value.get::<Option<String>>().unwrap().is_none(), "{name}");
                continue;
            }
            let (is, default) = (format!("{value:?}"), format!("{:?}", spec.default_value()));
            let unset = matches!(
                name,
                "stop" | "system-prompt" | "prompts" | "privacy-masks" | "gate-labels" | "backends"
            );
            assert!(is == default || unset, "{name}: {is} and not {default}");
            let mut copy = settings.clone();
            row.set(&mut copy, &value).unwrap();
        }
    }

    #[test]
    fn every_row_reads_what_it_wrote_and_writes_nothing_else() {
        gst::init().unwrap();
        let start = defaults();
        let written = |row: &Property, settings: &Settings| {
            row.get(settings).map(|value| format!("{value:?}"))
        };
        for row in PROPERTIES.iter() {
            let Some(other) = another(row.spec()) else {
                continue;
            };
            let mut settings = start.clone();
            row.set(&mut settings, &other).unwrap();
            let readable = row.spec().flags().contains(glib::ParamFlags::READABLE);
            let other = if readable {
                other
            } else {
                None::<String>.to_value()
            };
            assert_eq!(
                written(row, &settings),
                Some(format!("{other:?}")),
                "{}",
                row.name()
            );
            for still in PROPERTIES.iter().filter(|still| still.name() != row.name()) {
                let (before, after) = (written(still, &start), written(still, &settings));
                assert_eq!(before, after, "{} by {}", still.name(), row.name());
            }
        }
    }

    /// A value that is not the default; none for what is only computed.
    fn another(spec: &glib::ParamSpec) -> Option<glib::Value> {
        if !spec.flags().contains(glib::ParamFlags::WRITABLE) {
            return None;
        }
        if let Some(list) = spec.downcast_ref::<gst::ParamSpecArray>() {
            let of = list.element_spec()?.value_type();
            let entry = match of == glib::Type::STRING {
                true => "a".to_send_value(),
                false => gst::Structure::new_empty("a").to_send_value(),
            };
            return Some(gst::Array::from_values([entry]).to_value());
        }
        let class = glib::EnumClass::with_type(spec.value_type());
        if let Some(value) = class.and_then(|class| class.to_value(1)) {
            return Some(value);
        }
        Some(match spec.value_type() {
            glib::Type::STRING => "another".to_value(),
            glib::Type::BOOL => (!spec.default_value().get::<bool>().ok()?).to_value(),
            glib::Type::U32 => 7u32.to_value(),
            glib::Type::U64 => 7u64.to_value(),
            glib::Type::F32 => 0.5f32.to_value(),
            glib::Type::F64 => 0.5f64.to_value(),
            of if of == gst::Fraction::static_type() => gst::Fraction::new(7, 3).to_value(),
            of => panic!("no value of type {of} for {}", spec.name()),
        })
    }
}
