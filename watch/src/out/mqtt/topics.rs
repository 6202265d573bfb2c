// SPDX-License-Identifier: MPL-2.0

//! What is told to a broker: topics and payloads, as plain functions of what is known.

use serde_json::{Value, json};

use crate::heard::Phase;
use crate::hub::{Alarm, Seen};
use crate::secret;
use crate::store::outbox::{Due, Marked, Moment};
use crate::time::Millis;

/// The longest state of a sensor that Home Assistant takes is 255 characters.
pub const LONGEST_STATE: usize = 250;

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub retained: bool,
    /// Whether the broker has to say that it has it.
    pub certain: bool,
}

impl Message {
    /// One that the broker keeps, and says that it has.
    pub fn state(topic: String, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic,
            payload: payload.into(),
            retained: true,
            certain: true,
        }
    }
}

/// The words that stand for a camera's phase.
pub fn status(phase: Phase) -> &'static str {
    match phase {
        // A blip shorter than `offline-after` is nobody's business.
        Phase::Live | Phase::Stalled => "online",
        Phase::Connecting | Phase::Offline => "offline",
        Phase::Disabled => "disabled",
    }
}

/// The status of a camera.
pub fn camera_status(prefix: &str, seen: &Seen) -> Message {
    Message::state(format!("{prefix}/{}/status", seen.id), status(seen.phase))
}

/// Until when nobody is told of a camera's alarms; Home Assistant takes `None` for nothing.
pub fn snoozed(prefix: &str, seen: &Seen, now: Millis) -> Message {
    let until = seen.snoozed.filter(|_| seen.is_snoozed(now));
    Message::state(
        format!("{prefix}/{}/snoozed", seen.id),
        until.map_or("None".to_owned(), |until| until.to_string()),
    )
}

/// The last caption of a camera.
pub fn caption(prefix: &str, seen: &Seen, now: Millis) -> Option<Message> {
    let said = seen.caption.as_ref()?;
    let text = secret::redact(&said.text);
    let payload = json!({
        "text": text,
        "state": cut(&text, LONGEST_STATE),
        "status": status(seen.phase),
        "age_ms": now.0.saturating_sub(said.end.0).max(0),
        "start": said.start.to_string(),
        "end": said.end.to_string(),
        "camera": seen.name,
        "model": said.model,
        "repeat": said.repeat,
    });
    let message = Message::state(format!("{prefix}/{}/caption", seen.id), payload.to_string());
    // The next one comes soon.
    Some(Message {
        certain: false,
        ..message
    })
}

/// Whether an alarm alarms.
pub fn alarm(prefix: &str, camera: &str, alarm: &Alarm) -> Message {
    let word = if alarm.open.is_some() { "ON" } else { "OFF" };
    Message::state(format!("{prefix}/{camera}/alarm/{}", alarm.id), word)
}

/// What else is known of an alarm, with its last event.
pub fn attributes(prefix: &str, seen: &Seen, alarm: &Alarm, last: Option<&Due>) -> Message {
    let payload = json!({
        "question": alarm.question,
        "probability": alarm.probability,
        "peak": last.and_then(|due| due.peak),
        "event": last.map(|due| due.event.to_string()),
        "start": alarm.open.or(last.map(|due| due.start)).map(|at| at.to_string()),
        "end": last.and_then(|due| due.end).map(|at| at.to_string()),
        "caption": seen.caption.as_ref().map(|said| secret::redact(&said.text)),
    });
    let topic = format!("{prefix}/{}/alarm/{}/attributes", seen.id, alarm.id);
    Message {
        certain: false,
        ..Message::state(topic, payload.to_string())
    }
}

/// The last still.
pub fn still(prefix: &str, seen: &Seen) -> Option<Message> {
    let still = seen.still.as_ref()?;
    let topic = format!("{prefix}/{}/still", seen.id);
    Some(Message {
        certain: false,
        ..Message::state(topic, still.jpeg.to_vec())
    })
}

/// A begin or an end of an event.
pub fn event(prefix: &str, due: &Due) -> Message {
    let kind = match due.moment {
        Moment::Begin => "new",
        Moment::End => "end",
    };
    events(prefix, &of_event(kind, due))
}

/// What people said of an event, and how likely it was at most.
pub fn update(prefix: &str, marked: &Marked) -> Message {
    let mut payload = of_event("update", &marked.due);
    payload["acknowledged"] = json!(marked.acknowledged);
    payload["starred"] = json!(marked.starred);
    payload["false_alarm"] = json!(marked.false_alarm);
    events(prefix, &payload)
}

fn of_event(kind: &str, due: &Due) -> Value {
    json!({
        "type": kind,
        "id": due.event.to_string(),
        "camera": due.camera,
        "alarm": due.alarm,
        "start": due.start.to_string(),
        "end": due.end.map(|end| end.to_string()),
        "probability": due.probability,
        "peak": due.peak,
        "reason": due.reason,
        "caption": secret::redact(&due.caption),
    })
}

fn events(prefix: &str, payload: &Value) -> Message {
    Message {
        topic: format!("{prefix}/events"),
        payload: payload.to_string().into(),
        retained: false,
        certain: true,
    }
}

/// How everything stands, each minute.
pub fn stats(
    prefix: &str,
    cameras: &[Seen],
    store: &crate::store::keeper::Status,
    uptime_s: u64,
) -> Message {
    let live = cameras
        .iter()
        .filter(|seen| seen.phase == Phase::Live)
        .count();
    let payload: Value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": uptime_s,
        "cameras": cameras.len(),
        "cameras_live": live,
        "captions": store.captions,
        "events": store.events,
        "lost": store.lost,
        "trouble": store.trouble.as_deref().map(secret::redact),
    });
    Message {
        topic: format!("{prefix}/stats"),
        payload: payload.to_string().into(),
        retained: false,
        certain: false,
    }
}

/// The beginning of a text, with an ellipsis where it was cut.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let short: String = text.chars().take(most - 1).collect();
    format!("{}…", short.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_never_longer_than_home_assistant_takes() {
        for text in [
            "a".repeat(250),
            "ü".repeat(251),
            "快".repeat(9_000),
            "🦀 ".repeat(300),
        ] {
            let state = cut(&text, LONGEST_STATE);
            assert!(state.chars().count() <= 250, "{}", state.chars().count());
            assert_eq!(state.ends_with('…'), text.chars().count() > 250);
        }
    }
}
