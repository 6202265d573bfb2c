// SPDX-License-Identifier: MPL-2.0

//! A pipeline under test: every wait has an end, every state change is timed.

use std::time::{Duration, Instant};

use gst::prelude::*;

/// A state change that takes longer has hung, as far as an application can tell.
const STATE_CHANGE_LIMIT: Duration = Duration::from_secs(5);

/// A caption, as its message says.
#[derive(Debug, Clone)]
pub struct Caption {
    pub text: String,
    pub start: gst::ClockTime,
}

/// A pipeline that is taken to NULL when it is dropped.
pub struct Stage {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    slowest: Duration,
}

impl Stage {
    /// Builds a pipeline from a `gst-launch-1.0` line.
    ///
    /// # Errors
    /// What the parser says.
    pub fn new(line: &str) -> Result<Self, String> {
        let pipeline = gst::parse::launch(line)
            .map_err(|error| format!("{error}: {line}"))?
            .downcast::<gst::Pipeline>()
            .map_err(|_| format!("not a pipeline: {line}"))?;
        let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
        Ok(Self {
            pipeline,
            bus,
            slowest: Duration::ZERO,
        })
    }

    /// The element with this name.
    ///
    /// # Errors
    /// A sentence if there is none.
    pub fn element(&self, name: &str) -> Result<gst::Element, String> {
        let found = self.pipeline.by_name(name);
        found.ok_or_else(|| format!("the pipeline has no {name}"))
    }

    /// The pipeline itself.
    pub fn pipeline(&self) -> &gst::Pipeline {
        &self.pipeline
    }

    /// The longest that a state change took so far.
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Asks for PLAYING and does not wait: a pipeline that is fed by hand gets there with its data.
    ///
    /// # Errors
    /// What the bus says.
    pub fn begin(&self) -> Result<(), String> {
        match self.pipeline.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error().unwrap_or_else(|| error.to_string())),
        }
    }

    /// Changes the state and waits until that is done.
    ///
    /// # Errors
    /// What the bus says, or that it took too long.
    pub fn go(&mut self, state: gst::State) -> Result<(), String> {
        let begin = Instant::now();
        let asked = self.pipeline.set_state(state);
        let (done, ..) = self.pipeline.state(gst::ClockTime::from_seconds(20));
        let took = begin.elapsed();
        self.slowest = self.slowest.max(took);
        if asked.is_err() || done.is_err() {
            let reason = self.error().unwrap_or_else(|| "no reason given".into());
            return Err(format!("no way to {state:?}: {reason}"));
        }
        if took > STATE_CHANGE_LIMIT {
            return Err(format!("going to {state:?} took {took:?}"));
        }
        Ok(())
    }

    /// Waits for this many captions and returns them.
    ///
    /// # Errors
    /// An error on the bus, the end of the stream, or that they did not come within `limit`.
    pub fn captions(&self, count: usize, limit: Duration) -> Result<Vec<Caption>, String> {
        let deadline = Instant::now() + limit;
        let mut captions = Vec::new();
        while captions.len() < count {
            match self.next(deadline) {
                Some(Heard::Caption(caption)) => captions.push(caption),
                Some(Heard::End) => {
                    return Err(format!(
                        "the stream ended after {} captions",
                        captions.len()
                    ));
                }
                Some(Heard::Error(reason)) => return Err(reason),
                None => {
                    return Err(format!(
                        "{} of {count} captions within {limit:?}",
                        captions.len()
                    ));
                }
            }
        }
        Ok(captions)
    }

    /// Waits for the end of the stream and returns the captions before it.
    ///
    /// # Errors
    /// An error on the bus, or that it did not come within `limit`.
    pub fn end(&self, limit: Duration) -> Result<Vec<Caption>, String> {
        let deadline = Instant::now() + limit;
        let mut captions = Vec::new();
        loop {
            match self.next(deadline) {
                Some(Heard::Caption(caption)) => captions.push(caption),
                Some(Heard::End) => return Ok(captions),
                Some(Heard::Error(reason)) => return Err(reason),
                None => return Err(format!("the stream did not end within {limit:?}")),
            }
        }
    }

    /// Waits until the stream breaks off, by an error or by its end.
    ///
    /// # Errors
    /// That it did not within `limit`.
    pub fn breaks_off(&self, limit: Duration) -> Result<String, String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Some(Heard::Caption(_)) => {}
                Some(Heard::End) => return Ok("end of stream".into()),
                Some(Heard::Error(reason)) => return Ok(reason),
                None => return Err(format!("nothing on the bus within {limit:?}")),
            }
        }
    }

    /// Forgets what is on the bus.
    pub fn forget(&self) {
        self.bus.set_flushing(true);
        self.bus.set_flushing(false);
    }

    fn next(&self, deadline: Instant) -> Option<Heard> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.bus.timed_pop(gst::ClockTime::try_from(left).ok())?;
            match message.view() {
                gst::MessageView::Eos(_) => return Some(Heard::End),
                gst::MessageView::Error(error) => {
                    return Some(Heard::Error(error.error().to_string()));
                }
                gst::MessageView::Element(element) => {
                    let caption = element.structure().and_then(caption_in);
                    if let Some(caption) = caption {
                        return Some(Heard::Caption(caption));
                    }
                }
                _ => {}
            }
        }
    }

    fn error(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The scenario is over; if this fails it has failed before, and was reported.
        let _ = self.pipeline.set_state(gst::State::Null);
        self.bus.set_flushing(true);
    }
}

enum Heard {
    Caption(Caption),
    End,
    Error(String),
}

fn caption_in(structure: &gst::StructureRef) -> Option<Caption> {
    if structure.name() != "vlmcaption/caption" {
        return None;
    }
    Some(Caption {
        text: structure.get("text").ok()?,
        start: structure.get("start").ok()?,
    })
}
