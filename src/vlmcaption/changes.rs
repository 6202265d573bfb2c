// SPDX-License-Identifier: MPL-2.0

//! What becomes of a property that is set, at rest or while the element runs.
//!
//! Any thread may set a property, so the order is decided in one place: what must not be overtaken
//! is handed on under the lock of the settings, what cannot be (it may wait or call out) carries
//! the settings' revision.

use std::sync::Arc;
use std::time::Instant;

use gst::prelude::*;

use super::alarms::AlarmEvent;
use super::log::CAT;
use super::post;
use super::property::{Effect, Property};
use super::run::Run;
use super::settings::Settings;
use super::shared::Shared;
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
    Model(Arc<Run>),
    /// To show the model what the rules say, and to tell what ended.
    Live {
        run: Arc<Run>,
        captioner: Arc<Captioner>,
        rules: Rules,
        over: Vec<AlarmEvent>,
    },
    /// To say why it stays as it was.
    Refused(String),
}

/// Sets a property of the element.
pub(super) fn set(element: &gst::Element, shared: &Shared, row: &Property, value: &glib::Value) {
    let change = note(shared, row, value);
    gst::info!(
        CAT,
        obj = element,
        "{} is set to {}",
        row.name(),
        row.shown(value)
    );
    match change {
        Change::Noted => {}
        Change::Model(run) => run.state().swap.ask(Instant::now()),
        Change::Live {
            run,
            captioner,
            rules,
            over,
        } => {
            captioner.set_rules(rules);
            run.post_events(element, over, None);
        }
        Change::Later(warning) | Change::Refused(warning) => {
            post::warning(element, gst::LibraryError::Settings, &warning);
        }
    }
    // It may have to do with what is due by the clock.
    if let Some(run) = shared.run() {
        run.waker.wake();
    }
}

/// Changes the settings, and what may not be overtaken by another thread's change.
fn note(shared: &Shared, row: &Property, value: &glib::Value) -> Change {
    let name = row.name();
    let mut settings = shared.settings();
    let (captioner, run) = (shared.captioner(), shared.run());
    let before = settings.clone();
    if let Err(reason) = row.set(&mut settings, value) {
        return Change::Refused(format!("{name} {reason}; it stays as it was"));
    }
    shared.text.set_gaps(settings.text_gaps);
    let (Some(captioner), Some(run)) = (captioner, run) else {
        return Change::Noted;
    };
    apply_detections(&run, &settings);
    match row.effect() {
        Effect::NextStart => return later(&run, row, &before, &settings),
        Effect::Model => return Change::Model(run),
        Effect::Now => {}
    }
    match settings.live() {
        Ok((ask, rules)) => {
            let over = apply_ask(&run, &captioner, ask);
            Change::Live {
                run,
                captioner,
                rules,
                over,
            }
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
pub(super) fn apply_ask(run: &Run, captioner: &Captioner, ask: Ask) -> Vec<AlarmEvent> {
    let over = run.state().set_questions(&ask);
    captioner.set_ask(ask);
    over
}

/// Which detections count. To be called with the settings locked.
pub(super) fn apply_detections(run: &Run, settings: &Settings) {
    let (labels, min_area) = (&settings.gate_labels, settings.gate_min_area);
    let stream = &mut run.state().stream;
    stream.detections.configure(labels, min_area);
}

/// What is fixed while the element runs was set: said once for each property.
fn later(run: &Run, row: &Property, before: &Settings, settings: &Settings) -> Change {
    let written = |settings: &Settings| {
        let value = row.get(settings)?;
        value.serialize().ok().map(|text| text.to_string())
    };
    let (name, old, new) = (row.name(), written(before), written(settings));
    if old == new || !run.state().first_wait(name) {
        return Change::Noted;
    }
    Change::Later(format!(
        "{name}={} takes effect at the element's next start; until then {name} is {}. Set the \
         pipeline to READY and back, or set {name} before",
        new.unwrap_or_default(),
        old.unwrap_or_default()
    ))
}
