// SPDX-License-Identifier: MPL-2.0

//! A caption becomes a structure: the same fields in the meta, the message and the signal.

use std::sync::Arc;
use std::time::Duration;

use gst::prelude::*;

use crate::caption::engine::Engine;
use crate::caption::engine::identity::Identity;
use crate::caption::prompt::iso8601;
use crate::caption::source::Source;
use crate::caption::window::WallClock;
use crate::caption::{Caption, DropReason};
use crate::vlm::generate::StopReason;

/// Name of the custom meta, for `gst_buffer_get_custom_meta`.
pub const META_NAME: &str = "GstVlmCaptionMeta";
/// Version of the fields; raised when one changes its meaning.
const SCHEMA_VERSION: u32 = 1;

/// What every caption of an element has in common.
#[derive(Debug, Clone, Default)]
pub(super) struct Origin {
    /// The element's name.
    pub element: String,
    pub stream_id: String,
    /// Whose name a server may tell late.
    pub model: Arc<Identity>,
    pub backend: &'static str,
    pub device: String,
    /// What the engine was opened of.
    pub source: Option<Arc<Source>>,
}

impl Origin {
    /// An engine, of whatever stream.
    pub fn new(engine: &Engine, source: &Source) -> Self {
        Self {
            element: String::new(),
            stream_id: String::new(),
            model: engine.identity().clone(),
            backend: source.backend(),
            device: source.device(),
            source: Some(Arc::new(source.clone())),
        }
    }
}

/// Whether a caption describes what the buffer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// No later window has ended.
    Fresh,
    /// A later window has ended; its caption is not there yet.
    Held,
    /// Older than `hold`; the text is not repeated.
    Stale,
    /// The last window could not be captioned.
    Error,
    /// There was no caption yet.
    None,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Fresh => "fresh",
            Status::Held => "held",
            Status::Stale => "stale",
            Status::Error => "error",
            Status::None => "none",
        }
    }
}

/// All that is known of a caption, but for the two fields that differ from buffer to buffer:
/// `age` and `status`.
pub(super) fn structure(name: &str, caption: &Caption, origin: &Origin) -> gst::Structure {
    let pts = caption.frames.iter().map(|frame| nanos(frame.pts));
    let wallclock = caption
        .frames
        .first()
        .map_or_else(String::new, |f| iso8601(f.wallclock));
    let truncated = matches!(
        caption.stop_reason,
        StopReason::MaxTokens | StopReason::Context
    );
    let fields = gst::Structure::builder(name)
        .field("text", &caption.text)
        .field("start", nanos(caption.start()))
        .field("end", nanos(caption.end()))
        .field("pts-list", gst::Array::new(pts))
        .field("wallclock", wallclock)
        .field("wallclock-source", wallclock_source(caption))
        .field("sequence", caption.sequence)
        .field("element", &origin.element)
        .field("stream-id", &origin.stream_id)
        .field("prompt-id", &caption.question.id)
        .field("kind", caption.question.kind.name())
        .field("prompt-hash", &caption.prompt_hash)
        .field("model", origin.model.name())
        .field("backend", origin.backend)
        .field("device", &origin.device)
        .field("tokens-in", count(caption.tokens_in))
        .field("reused", count(caption.reused))
        .field("reused-pairs", count(caption.reused_pairs))
        .field("tokens-out", count(caption.tokens_out))
        .field("drafted", count(caption.drafts.drafted))
        .field("accepted", count(caption.drafts.accepted))
        .field("ttft", nanos(caption.ttft))
        .field("total", nanos(caption.total))
        .field("queue-wait", nanos(caption.queue_wait))
        .field("finish-reason", caption.stop_reason.name())
        .field("truncated", truncated)
        .field("confirmed", nanos(caption.end()))
        .field("repeat", caption.window_info.repeat.repeats > 0)
        .field("repeats", caption.window_info.repeat.repeats)
        .field("first-start", nanos(caption.window_info.repeat.first_start))
        .field("scene-cut", caption.window_info.scene_cut)
        .field("overload", caption.window_info.rung.step.as_str())
        .field("max-tokens", count(caption.window_info.max_tokens))
        .field("frames", count(caption.frames.len()))
        .field("schema-version", SCHEMA_VERSION);
    with_probabilities(fields, caption).build()
}

/// What the field `answers` says of one question.
pub(super) fn answer(caption: &Caption, end_running_time: Duration) -> gst::Structure {
    let fields = gst::Structure::builder("answer")
        .field("id", &caption.question.id)
        .field("kind", caption.question.kind.name())
        .field("text", &caption.text)
        .field("start", nanos(caption.start()))
        .field("end", nanos(caption.end()))
        .field("end-running-time", nanos(end_running_time))
        .field("confirmed", nanos(caption.end()))
        .field("sequence", caption.sequence);
    with_probabilities(fields, caption).build()
}

/// Adds how likely an answer is, if that is known: the answer itself, and all there are.
fn with_probabilities(
    fields: gst::structure::Builder,
    caption: &Caption,
) -> gst::structure::Builder {
    let choices = caption.question.kind.choices();
    let fields = fields.field_if_some("probability", caption.probability);
    if caption.probabilities.is_empty() {
        return fields;
    }
    fields
        .field("choices", gst::Array::new(choices.iter()))
        .field(
            "probabilities",
            gst::Array::new(caption.probabilities.iter()),
        )
}

/// Puts the fields of `element` on a buffer. There is one meta, since readers find one only: that of
/// a captioner before this one moves into the field `upstream`, the nearest first.
pub(super) fn attach(buffer: &mut gst::BufferRef, fields: &gst::StructureRef, element: &str) {
    if let Ok(mut meta) = gst::meta::CustomMeta::from_mut_buffer(buffer, META_NAME) {
        let structure = meta.mut_structure();
        let mut before = structure.to_owned();
        structure.remove_all_fields();
        let further = before.get::<gst::Array>("upstream").ok();
        before.remove_field("upstream");
        let mut upstream = vec![before.to_send_value()];
        upstream.extend(further.iter().flat_map(|array| array.iter().cloned()));
        fill(structure, fields, element);
        structure.set("upstream", gst::Array::from_values(upstream));
        return;
    }
    // The name was registered with the plugin, so the meta can be added.
    if let Ok(mut meta) = gst::meta::CustomMeta::add(buffer, META_NAME) {
        fill(meta.mut_structure(), fields, element);
    }
}

fn fill(structure: &mut gst::StructureRef, fields: &gst::StructureRef, element: &str) {
    for (name, value) in fields.iter() {
        structure.set_value(name, value.clone());
    }
    structure.set("element", element);
}

/// Whose clock the first frame's wall clock time is by.
fn wallclock_source(caption: &Caption) -> &'static str {
    match caption.frames.first().map(|frame| frame.clock) {
        Some(WallClock::Ntp) => "ntp",
        Some(WallClock::System) | None => "system",
    }
}

pub(super) fn drop_reason(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Busy => "busy",
        DropReason::Prepare => "prepare",
        DropReason::Overload => "overload",
    }
}

/// Time in the unit of all our fields.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captioners_in_a_row_share_one_meta_the_last_one_first() {
        gst::init().unwrap();
        if !gst::meta::CustomMeta::is_registered(META_NAME) {
            gst::meta::CustomMeta::register(META_NAME, &[]);
        }
        let mut buffer = gst::Buffer::new();
        for element in ["a", "b", "c"] {
            let mut fields = gst::Structure::builder(META_NAME);
            if element == "a" {
                fields = fields.field("error", "gone");
            }
            let fields = fields.field("text", format!("by {element}")).build();
            attach(buffer.get_mut().unwrap(), &fields, element);
        }
        let meta = gst::meta::CustomMeta::from_buffer(&buffer, META_NAME).unwrap();
        let said = |fields: &gst::StructureRef| {
            let (element, text) = (
                fields.get::<String>("element"),
                fields.get::<String>("text"),
            );
            (element.unwrap(), text.unwrap())
        };
        let want = |element: &str| (element.to_owned(), format!("by {element}"));
        assert_eq!(said(meta.structure()), want("c"));
        assert!(!meta.structure().has_field("error"), "that is another's");
        let upstream = meta.structure().get::<gst::Array>("upstream").unwrap();
        let upstream: Vec<_> = upstream
            .iter()
            .map(|fields| fields.get::<gst::Structure>().unwrap())
            .collect();
        let said: Vec<_> = upstream.iter().map(|fields| said(fields)).collect();
        assert_eq!(said, [want("b"), want("a")]);
        assert!(upstream.iter().all(|fields| !fields.has_field("upstream")));
    }
}
