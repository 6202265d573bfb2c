// SPDX-License-Identifier: MPL-2.0

//! What becomes of a property that is set, at rest or while the element runs.
//!
//! Any thread may set a property, so the order is decided in one place: what must not be overtaken
//! is handed on under the lock of the settings, what cannot be (it may wait or call out) carries
//! the settings' revision.

use std::sync::Arc;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::events::Told;
use super::imp::{CAT, VlmCaption};
use super::properties;
use super::property::{Effect, Property};
use super::settings::Settings;
use crate::caption::captioner::Captioner;
use crate::caption::prompt::Ask;
use crate::caption::rules::Rules;

/// What is left to do once a property is set and no lock is held.
enum Change {
    /// Nothing: it is read when it is needed.
    Noted,
    /// To say that it waits for the next start.
    Later(String),
    /// To go over to another model.
    Model,
    /// To show the model what the rules say, and to tell what ended.
    Live(Arc<Captioner>, Rules, Vec<Told>),
    /// To say why it stays as it was.
    Refused(String),
}

impl VlmCaption {
    pub(super) fn change_property(&self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let change = self.note_change(value, pspec);
        gst::info!(CAT, imp = self, "{} is set to {value:?}", pspec.name());
        self.wake_minder();
        let warning = match change {
            Change::Noted => return,
            Change::Model => return self.model_changed(),
            Change::Live(captioner, rules, over) => {
                captioner.set_rules(rules);
                return self.post_events(over, None);
            }
            Change::Later(warning) | Change::Refused(warning) => warning,
        };
        gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{warning}"));
    }

    /// Changes the settings, and what may not be overtaken by another thread's change.
    fn note_change(&self, value: &glib::Value, pspec: &glib::ParamSpec) -> Change {
        let name = pspec.name();
        let mut settings = self.settings.lock().unwrap();
        let captioner = self.captioner.lock().unwrap().clone();
        let before = settings.clone();
        let Some(row) = properties::find(name) else {
            return Change::Refused(format!("{name} is no property"));
        };
        if let Err(reason) = row.set(&mut settings, value) {
            return Change::Refused(format!("{name} {reason}; it stays as it was"));
        }
        self.text.set_gaps(settings.text_gaps);
        self.heed_detections(&settings);
        let Some(captioner) = captioner else {
            return Change::Noted;
        };
        match row.effect() {
            Effect::NextStart => return self.later(row, &before, &settings),
            Effect::Model => return Change::Model,
            Effect::Now => {}
        }
        match settings.live() {
            Ok((ask, rules)) => {
                let over = self.take_ask(&captioner, ask);
                Change::Live(captioner, rules, over)
            }
            Err(reason) if before.live().is_ok() => {
                let revision = settings.revision;
                *settings = Settings { revision, ..before };
                Change::Refused(format!("{reason}; the one before stays"))
            }
            Err(reason) => Change::Refused(reason),
        }
    }

    /// The next windows are asked this; what ended by it. To be called with the settings locked, so
    /// that the newest settings win.
    pub(super) fn take_ask(&self, captioner: &Captioner, ask: Ask) -> Vec<Told> {
        let over = self.take_questions(&ask);
        captioner.set_ask(ask);
        over
    }

    /// Which detections count. To be called with the settings locked.
    pub(super) fn heed_detections(&self, settings: &Settings) {
        let (labels, min_area) = (&settings.gate_labels, settings.gate_min_area);
        let mut stream = self.stream.lock().unwrap();
        stream.detections.configure(labels, min_area);
    }

    /// What is fixed while the element runs was set: said once for each property.
    fn later(&self, row: &Property, before: &Settings, settings: &Settings) -> Change {
        let name = row.name();
        let written = |settings: &Settings| {
            let value = row.get(settings)?;
            value.serialize().ok().map(|text| text.to_string())
        };
        let (old, new) = (written(before), written(settings));
        if old == new || !self.tally.late.lock().unwrap().insert(name.to_owned()) {
            return Change::Noted;
        }
        Change::Later(format!(
            "{name}={} takes effect at the element's next start; until then {name} is {}. Set the \
             pipeline to READY and back, or set {name} before",
            new.unwrap_or_default(),
            old.unwrap_or_default()
        ))
    }
}
