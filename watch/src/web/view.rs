// SPDX-License-Identifier: MPL-2.0

//! What is known, as JSON. Fields are added, never changed. Captions go out as they are: it is the page
//! that must not take them for anything but text.

use serde_json::{Value, json};

use crate::camera::supervisor::Model;
use crate::hub::{Alarm, Seen};
use crate::search::Query;
use crate::store::finding::Visit;
use crate::store::reader::{Event, Kept};
use crate::time::Millis;
use crate::video::format::Codec;

/// A camera right now.
pub fn camera(seen: &Seen) -> Value {
    let caption = seen.caption.as_ref().map(|said| {
        json!({
            "text": said.text,
            "start": said.start.to_string(),
            "end": said.end.to_string(),
            "model": said.model,
        })
    });
    let now = Millis::now();
    json!({
        "id": seen.id,
        "name": seen.name,
        "state": seen.phase.word(),
        "since": seen.since.to_string(),
        "reason": seen.reason,
        "masked": seen.masked,
        "caption": caption,
        "partial": seen.partial,
        "alarms": seen.alarms.iter().map(alarm).collect::<Vec<_>>(),
        "model": model(&seen.model),
        "quiet": seen.lulls.now().map(|lull| json!({"why": lull.why.word(), "since": lull.start.to_string()})),
        "still": seen.still.as_ref().map(|still| still.at.to_string()),
        "live": seen.video.map_or("stills", Codec::word),
        "no_video": seen.video.err(),
        "snoozed": seen.snoozed.filter(|_| seen.is_snoozed(now)).map(|until| until.to_string()),
        "now": now.to_string(),
    })
}

fn alarm(alarm: &Alarm) -> Value {
    json!({
        "id": alarm.id,
        "question": alarm.question,
        "on": alarm.on,
        "off": alarm.off,
        "probability": alarm.probability,
        "open": alarm.open.map(|at| at.to_string()),
    })
}

fn model(model: &Model) -> Value {
    match model {
        Model::Well => json!({"state": "well"}),
        Model::Loading(part) => json!({"state": "loading", "progress": part}),
        Model::Failing(reason) => json!({"state": "failing", "reason": reason}),
    }
}

/// A caption that is kept.
pub fn caption(kept: &Kept) -> Value {
    json!({
        "id": kept.id.number().to_string(),
        "camera": kept.camera,
        "start": kept.start.to_string(),
        "end": kept.end.to_string(),
        "until": kept.until.to_string(),
        "count": kept.count,
        "text": kept.text,
        "model": kept.model,
        "thumb": kept.spot.is_some(),
    })
}

/// What a search found, with the marked parts of the caption in UTF-16 units, as browsers count.
pub fn visit(visit: &Visit, query: &Query) -> Value {
    let text = &visit.caption.text;
    let units = |byte: usize| text[..byte].encode_utf16().count();
    let marks = query
        .marks(text)
        .into_iter()
        .map(|mark| [units(mark.start), units(mark.end)]);
    json!({
        "camera": visit.camera,
        "from": visit.from.to_string(),
        "to": visit.to.to_string(),
        "count": visit.count,
        "caption": text,
        "id": visit.caption.id.number().to_string(),
        "thumb": visit.caption.spot.is_some(),
        "marks": marks.collect::<Vec<_>>(),
    })
}

/// An event.
pub fn event(event: &Event) -> Value {
    json!({
        "id": event.id.to_string(),
        "camera": event.camera,
        "alarm": event.alarm,
        "start": event.start.to_string(),
        "end": event.end.map(|end| end.to_string()),
        "peak": event.peak,
        "reason": event.reason,
        "caption": event.caption,
        "acknowledged": event.acknowledged,
        "starred": event.starred,
        "false_alarm": event.false_alarm,
        "note": event.note,
        "clip": event.clip.map(|clip| json!({
            "from": clip.from.to_string(),
            "to": clip.to.to_string(),
            "size": clip.size,
        })),
        "no_clip": event.clip_why,
    })
}
