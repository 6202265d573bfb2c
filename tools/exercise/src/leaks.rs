// SPDX-License-Identifier: MPL-2.0

//! What GStreamer's leaks tracer says is still alive.
//!
//! The tracer only writes to the debug log, so a log function collects what it writes. (Its
//! `get-live-objects` signal would be handier, but in GStreamer 1.22 it gives away references that
//! it does not have.)

use std::sync::{Arc, Mutex};

use gst::prelude::*;

/// The tracer, if the program was started with `GST_TRACERS=leaks`.
pub struct Leaks {
    tracer: Option<gst::Tracer>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Leaks {
    /// Finds the tracer and begins to listen.
    pub fn new() -> Self {
        let tracer = gst::active_tracers()
            .into_iter()
            .find(|tracer| tracer.type_().name() == "GstLeaksTracer");
        let lines = Arc::new(Mutex::new(Vec::new()));
        if tracer.is_some() {
            let sink = Arc::clone(&lines);
            gst::log::remove_default_log_function();
            gst::log::add_log_function(move |category, _, _, _, _, _, message| {
                let line = message.get().map(|line| line.to_string());
                if let (Some(line), "GST_TRACER") = (line, category.name()) {
                    sink.lock().unwrap().push(line);
                }
            });
            gst::log::set_threshold_for_name("GST_TRACER", gst::DebugLevel::Trace);
        }
        Self { tracer, lines }
    }

    /// Whether leaks would be found.
    pub fn are_traced(&self) -> bool {
        self.tracer.is_some()
    }

    /// One line for each object that is alive.
    pub fn alive(&self) -> Vec<String> {
        let Some(tracer) = &self.tracer else {
            return Vec::new();
        };
        self.lines.lock().unwrap().clear();
        tracer.emit_by_name::<()>("log-live-objects", &[]);
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        lines
            .into_iter()
            .filter(|line| line.starts_with("object-alive,"))
            .collect()
    }
}
