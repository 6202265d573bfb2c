// SPDX-License-Identifier: MPL-2.0

//! A row of the property table, and how the values of rows are read.

use super::settings::Settings;
use crate::caption::source::Secret;

/// A property.
pub(super) struct Property {
    /// Name, nick, doc, kind, default, range, and up to which state it may be set.
    spec: glib::ParamSpec,
    access: Access,
    effect: Effect,
    is_logged: bool,
}

/// Where the value is.
enum Access {
    /// In the settings.
    Setting { get: Getter, set: Setter },
    /// The element computes it.
    Computed,
}

type Getter = fn(&Settings) -> glib::Value;
type Setter = fn(&mut Settings, &glib::Value) -> Result<(), String>;

/// What becomes of a change while the element runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It holds from now on.
    Now,
    /// Another model is gone over to.
    Model,
    /// It holds from the next start on.
    NextStart,
}

impl Property {
    /// One that is set; a setter that refuses a value has changed nothing.
    pub fn new(spec: glib::ParamSpec, get: Getter, set: Setter) -> Self {
        let at_rest = spec.flags().contains(gst::PARAM_FLAG_MUTABLE_READY);
        Self {
            effect: if at_rest {
                Effect::NextStart
            } else {
                Effect::Now
            },
            spec,
            access: Access::Setting { get, set },
            is_logged: true,
        }
    }

    /// One that is only read.
    pub fn computed(spec: glib::ParamSpec) -> Self {
        Self {
            spec,
            access: Access::Computed,
            effect: Effect::Now,
            is_logged: true,
        }
    }

    pub fn with_effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// One whose value may be secret, and is in no log.
    pub fn unlogged(self) -> Self {
        Self {
            is_logged: false,
            ..self
        }
    }

    /// A value as a log may show it.
    pub fn shown(&self, value: &glib::Value) -> String {
        match self.is_logged {
            true => format!("{value:?}"),
            false => "***".into(),
        }
    }

    pub fn name(&self) -> &str {
        self.spec.name()
    }

    pub fn spec(&self) -> &glib::ParamSpec {
        &self.spec
    }

    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The value; `None` for those that the element computes.
    pub fn get(&self, settings: &Settings) -> Option<glib::Value> {
        match self.access {
            Access::Setting { get, .. } => Some(get(settings)),
            Access::Computed => None,
        }
    }

    /// Changes the value. GObject has brought it into the range of the specification, but for what it
    /// does not look at: numbers that are none, and what is in a list.
    ///
    /// # Errors
    /// A sentence that says what was set; nothing has changed.
    pub fn set(&self, settings: &mut Settings, value: &glib::Value) -> Result<(), String> {
        let Access::Setting { set, .. } = self.access else {
            return Err("is no property that can be set".into());
        };
        if is_nan(value) {
            return Err("is no number".into());
        }
        set(settings, value)?;
        settings.revision += 1;
        Ok(())
    }

    /// Sets the default; lists begin empty, and so does what has no default.
    pub fn reset(&self, settings: &mut Settings) {
        if let Access::Setting { set, .. } = self.access {
            // A default that cannot be read is that of a list.
            let _ = set(settings, self.spec.default_value());
        }
    }
}

/// Sets a field to a value of its own type; `GST_CLOCK_TIME_NONE` is `None`.
pub(super) fn put<'a, T: glib::value::FromValue<'a>>(
    field: &mut T,
    value: &'a glib::Value,
) -> Result<(), String> {
    *field = read(value)?;
    Ok(())
}

/// Sets a text that is never missing.
pub(super) fn text(field: &mut String, value: &glib::Value) -> Result<(), String> {
    *field = read::<Option<String>>(value)?.unwrap_or_default();
    Ok(())
}

/// Sets a text that no log may show.
pub(super) fn secret(field: &mut Secret, value: &glib::Value) -> Result<(), String> {
    text(&mut field.0, value)
}

/// Sets a fraction, as numerator and denominator.
pub(super) fn fraction(field: &mut (i32, i32), value: &glib::Value) -> Result<(), String> {
    let fraction = read::<gst::Fraction>(value)?;
    *field = (fraction.numer(), fraction.denom());
    Ok(())
}

/// Sets a list; what is in it is looked at when it is used.
pub(super) fn list(field: &mut Vec<glib::SendValue>, value: &glib::Value) -> Result<(), String> {
    *field = read::<gst::ArrayRef>(value)?.to_vec();
    Ok(())
}

/// Sets a list of texts; all of them must be.
pub(super) fn texts(field: &mut Vec<String>, value: &glib::Value) -> Result<(), String> {
    let texts = read::<gst::ArrayRef>(value)?;
    let texts = texts.iter().enumerate().map(|(i, text)| {
        let text = text.get::<String>();
        text.map_err(|_| format!("has an entry that is no text, number {}", i + 1))
    });
    *field = texts.collect::<Result<_, _>>()?;
    Ok(())
}

/// A time in nanoseconds.
pub(super) const fn seconds(n: u64) -> u64 {
    n * 1_000_000_000
}

fn read<'a, T: glib::value::FromValue<'a>>(value: &'a glib::Value) -> Result<T, String> {
    value
        .get()
        .map_err(|_| format!("cannot be a {}", value.type_()))
}

fn is_nan(value: &glib::Value) -> bool {
    value.get().is_ok_and(f32::is_nan) || value.get().is_ok_and(f64::is_nan)
}
