// SPDX-License-Identifier: MPL-2.0

//! Between a model's thread and the element: each caption is compared with those before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::engine::Listener;
use super::repeats::Repeats;
use super::{Caption, Report};

/// Hears the reports of one session and completes the captions among them.
pub(super) struct Reporter {
    element: Listener,
    said: Mutex<Said>,
    lost: AtomicU64,
}

/// What was said last.
#[derive(Default)]
struct Said {
    repeats: Repeats,
    /// Scene of the last caption.
    scene: Option<u64>,
    /// The window that began it, if with a cut.
    cut: Option<u64>,
}

impl Reporter {
    pub(super) fn new(element: Listener) -> Arc<Self> {
        Arc::new(Self {
            element,
            said: Mutex::default(),
            lost: AtomicU64::new(0),
        })
    }

    /// What a session reports to.
    pub(super) fn listener(self: &Arc<Self>) -> Listener {
        self.listener_of(self.element.clone())
    }

    /// What a session of another model reports to; `element` hears of it.
    pub(super) fn listener_of(self: &Arc<Self>, element: Listener) -> Listener {
        let reporter = self.clone();
        Arc::new(move |report| element(reporter.completed(report)))
    }

    /// Passes a report on to the element; no lock is held then.
    pub(super) fn report(&self, report: Report) {
        (self.element)(self.completed(report));
    }

    fn completed(&self, mut report: Report) -> Report {
        match &mut report {
            Report::Caption(caption) => self.complete(caption),
            Report::Failed { .. } | Report::Unasked | Report::ChangedOver => self.lose(),
            _ => {}
        }
        report
    }

    /// Forgets what was said.
    pub(super) fn reset(&self) {
        *self.said.lock().unwrap() = Said::default();
        self.lose();
    }

    /// The last window that the model was given is no measure for the next: it failed, or another
    /// question is asked.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Raised by every [`lose`](Self::lose).
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn complete(&self, caption: &mut Caption) {
        let start = caption.start();
        let mut said = self.said.lock().unwrap();
        let note = &mut caption.note;
        if said.scene.is_some_and(|scene| scene != note.scene) {
            said.cut = Some(caption.sequence);
            said.repeats.reset();
        }
        said.scene = Some(note.scene);
        note.scene_cut = said.cut == Some(caption.sequence);
        note.repeat = said.repeats.say(&caption.prompt_hash, &caption.text, start);
    }
}
