// SPDX-License-Identifier: MPL-2.0

//! Which captions are kept as evidence, and what the user is told of that.

use std::io;
use std::time::Duration;

use super::log::CAT;
use super::output::Origin;
use super::post;
use crate::caption::Caption;
use crate::caption::evidence::entry::Entry;
use crate::caption::evidence::record::Alarm;
use crate::caption::evidence::recorder::{
    Counts, EvidenceOptions, OnWriting, Recorder, Which, Writing,
};

/// A stop waits so long for records to be written.
const PATIENCE: Duration = Duration::from_secs(2);

/// Has captions of one run kept.
pub(super) struct Keeper {
    recorder: Recorder,
    which: Which,
}

/// Tells the user how writing stands.
pub(super) fn tell(element: &gst::Element, writing: &Writing) {
    match writing {
        Writing::Fails(reason) => post::warning(element, gst::ResourceError::Write, reason),
        Writing::Works => gst::info!(CAT, obj = element, "records are written again"),
    }
}

impl Keeper {
    /// Begins.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(options: &EvidenceOptions, on_writing: OnWriting) -> io::Result<Self> {
        Ok(Self {
            recorder: Recorder::start(options, on_writing)?,
            which: options.which,
        })
    }

    /// Keeps a caption, if it is one of those that are kept.
    pub fn keep(&self, caption: &Caption, origin: &Origin, alarm: Option<Alarm>) {
        if self.which == Which::All || alarm.is_some() {
            self.put(caption, origin, alarm, false);
        }
    }

    /// Keeps the answer to a question of the application's.
    pub fn keep_inquiry(&self, caption: &Caption, origin: &Origin) {
        if self.which == Which::All {
            self.put(caption, origin, None, true);
        }
    }

    fn put(&self, caption: &Caption, origin: &Origin, alarm: Option<Alarm>, inquiry: bool) {
        let Some(source) = origin.source.clone() else {
            return;
        };
        self.recorder.put(Entry {
            caption: caption.clone(),
            element: origin.element.clone(),
            model: origin.model.name(),
            source,
            alarm,
            inquiry,
        });
    }

    /// What was written.
    pub fn counts(&self) -> Counts {
        self.recorder.counts()
    }

    /// Waits for what is being written, for a time, and ends.
    pub fn end(&self) {
        self.recorder.end(PATIENCE);
    }
}
