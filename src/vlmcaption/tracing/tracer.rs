// SPDX-License-Identifier: MPL-2.0

//! The tracer `vlmcaption-trace`: with `GST_TRACERS=vlmcaption-trace GST_DEBUG=GST_TRACER:7` each span is
//! a line of the log, as other tracers' records are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::subclass::prelude::*;

use crate::caption::trace::{self, Span};

/// The category that tracers' records are logged in.
const CATEGORY: &str = "GST_TRACER";
const RECORD: &str = "vlmcaption-span";

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct SpanTracer;

    #[glib::object_subclass]
    impl ObjectSubclass for SpanTracer {
        const NAME: &'static str = "GstVlmCaptionTracer";
        type Type = super::SpanTracer;
        type ParentType = gst::Tracer;
    }

    impl ObjectImpl for SpanTracer {
        fn constructed(&self) {
            self.parent_constructed();
            super::begin();
        }
    }

    impl GstObjectImpl for SpanTracer {}
    impl TracerImpl for SpanTracer {}
}

glib::wrapper! {
    /// Writes spans as records; it hooks into nothing.
    pub struct SpanTracer(ObjectSubclass<imp::SpanTracer>)
        @extends gst::Tracer, gst::Object;
}

/// Begins to log spans, once in a process.
fn begin() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let Some(category) = gst::DebugCategory::get(CATEGORY) else {
            return;
        };
        gst::trace!(category, "{}", class());
        let began = Instant::now();
        trace::listen(Arc::new(move |span| {
            gst::trace!(category, "{}", record(span, began));
        }));
    });
}

/// What a record has, as tracers say it at first.
fn class() -> gst::Structure {
    let field = |of: glib::Type, description: &str| {
        gst::Structure::builder("value")
            .field("type", of)
            .field("description", description)
            .build()
    };
    let (text, number) = (glib::Type::STRING, glib::Type::U64);
    gst::Structure::builder(format!("{RECORD}.class"))
        .field("element", field(text, "name of the element"))
        .field(
            "stage",
            field(text, "window, queue, encode, prefill or decode"),
        )
        .field(
            "window",
            field(number, "number of the window; 0 while it fills"),
        )
        .field("question", field(text, "id of the question"))
        .field(
            "tokens",
            field(number, "of the pair, the prompt or the answer"),
        )
        .field(
            "ts",
            field(number, "when it began, ns since the tracer did"),
        )
        .field("duration", field(number, "ns"))
        .build()
}

fn record(span: &Span<'_>, since: Instant) -> gst::Structure {
    gst::Structure::builder(RECORD)
        .field("element", span.element)
        .field("stage", span.stage.name())
        .field("window", span.window)
        .field("question", span.question)
        .field("tokens", span.tokens as u64)
        .field("ts", nanos(span.began.saturating_duration_since(since)))
        .field(
            "duration",
            nanos(span.ended.saturating_duration_since(span.began)),
        )
        .build()
}

/// Time in the unit of all our fields.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
