// SPDX-License-Identifier: MPL-2.0

//! How everything stands, in words: for the page, and to copy for whoever helps. No secret is in it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::camera::supervisor::Model;
use crate::heard::Phase;
use crate::hub::Seen;
use crate::out::standing::Standing;
use crate::secret;
use crate::store::db;
use crate::store::files;
use crate::store::retention;
use crate::time::Millis;

use super::site::Site;
use super::who::Viewer;

/// Whether it does what it is for; nothing but that.
pub async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.store.lock().unwrap().trouble.is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "the store has trouble\n")
    } else if !site.hub.health.hanging().is_empty() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "a part of the program hangs\n",
        )
    } else {
        (StatusCode::OK, "ok\n")
    }
}

/// What else is asked for.
#[derive(Deserialize)]
pub struct Asked {
    /// How much room there is, which takes a look at every file.
    #[serde(default)]
    disk: bool,
}

/// How everything stands that he may know of.
pub async fn health(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Json<Value> {
    let status = site.store.lock().unwrap().clone();
    let scope = viewer.scope();
    let cameras: Vec<Seen> = site
        .hub
        .cameras()
        .into_iter()
        .filter(|seen| scope.has(&seen.id))
        .collect();
    let health = &site.hub.health;
    let out: Vec<Value> = health
        .out()
        .iter()
        .map(|standing| target(standing))
        .collect();
    let words = words(&site, &cameras);
    // What is said about files and addresses is for who looks after them.
    let admin = viewer.user.admin;
    let disk = if admin && asked.disk {
        disk(&site)
    } else {
        Value::Null
    };
    Json(json!({
        "well": words.is_empty(),
        "words": words.iter().filter(|word| admin || !word.admin).map(|word| &word.text).collect::<Vec<_>>(),
        "captions": status.captions,
        "events": status.events,
        "lost": status.lost,
        "trouble": if admin { json!(status.trouble) } else { json!(status.trouble.is_some().then_some("the store has trouble")) },
        "notes": if admin { json!(status.notes) } else { json!([]) },
        "no_room_for_pictures": status.at_the_floor,
        "cameras": cameras.iter().map(camera).collect::<Vec<_>>(),
        "out": if admin { json!(out) } else { json!([]) },
        "disk": disk,
        "model": model(&site),
        "started": health.started.to_string(),
        "uptime_s": health.uptime().as_secs(),
        "versions": {
            "vlmcaption-watch": env!("CARGO_PKG_VERSION"),
            "sqlite": db::sqlite_version(),
            "plugin": health.plugin(),
        },
        "now": Millis::now().to_string(),
    }))
}

fn camera(seen: &Seen) -> Value {
    json!({
        "id": seen.id,
        "name": seen.name,
        "state": seen.phase.word(),
        "since": seen.since.to_string(),
        "reason": secret::redact(&seen.reason),
        "times_lost": seen.times_lost,
        "still": seen.still.as_ref().map(|still| still.at.to_string()),
        "caption": seen.caption.as_ref().map(|said| said.end.to_string()),
        "model": match &seen.model {
            Model::Well => "well".to_owned(),
            Model::Loading(part) => format!("loading {:.0} %", 100.0 * part),
            Model::Failing(reason) => format!("failing: {}", secret::redact(reason)),
        },
    })
}

fn target(standing: &Standing) -> Value {
    let now = standing.now();
    json!({
        "name": standing.name,
        "address": standing.shown,
        "well": now.well,
        "since": now.since.to_string(),
        "reason": secret::redact(&now.reason),
        "waiting": now.waiting,
        "oldest": now.oldest.map(|at| at.to_string()),
        "told": now.told,
        "given_up": now.given_up,
    })
}

fn model(site: &Site) -> Value {
    let config = site.hub.config();
    let model = &config.model;
    let name = model.path.as_ref().and_then(|path| path.file_name());
    json!({
        "name": name.map_or_else(|| "the built-in demo model".into(), |name| name.to_string_lossy().into_owned()),
        "backend": model.backend,
        "device": model.device,
    })
}

/// What the store takes, and how much room there is.
fn disk(site: &Site) -> Value {
    let config = site.hub.config();
    let layout = site.layout();
    tokio::task::block_in_place(|| {
        let kept = retention::look(layout, &HashMap::new(), Millis::now());
        let size: u64 = kept.iter().map(|kept| kept.size).sum();
        let oldest = layout.weeks().first().map(|week| week.name());
        json!({
            "path": layout.root.display().to_string(),
            "used": size,
            "max_size": config.storage.max_size,
            "free": files::free(&layout.root).ok(),
            "keep_free": config.storage.keep_free,
            "oldest_week": oldest,
        })
    })
}

/// Something that is wrong.
struct Word {
    text: String,
    /// For an admin alone: it may name files and addresses.
    admin: bool,
}

/// All that is wrong, in sentences.
fn words(site: &Site, cameras: &[Seen]) -> Vec<Word> {
    let mut words = Vec::new();
    let mut say = |admin: bool, text: String| {
        words.push(Word {
            text: secret::redact(&text),
            admin,
        })
    };
    let status = site.store.lock().unwrap().clone();
    if let Some(trouble) = &status.trouble {
        say(true, format!("The store has trouble: {trouble}"));
    }
    if status.at_the_floor {
        say(false, "The disk has no room for more pictures: captions go on without. Raise max-size, lower keep-free or make room.".into());
    }
    if status.lost > 0 {
        say(
            false,
            format!("{} captions could not be kept.", status.lost),
        );
    }
    for note in &status.notes {
        say(true, note.clone());
    }
    let health = &site.hub.health;
    if let Some(reason) = health.file() {
        say(
            true,
            format!("The file was changed and is not used, the one before it still is: {reason}"),
        );
    }
    if let Some(clock) = health.clock() {
        say(false, clock);
    }
    for part in health.hanging() {
        say(false, format!("The part `{part}` does not move."));
    }
    for standing in health.out() {
        let now = standing.now();
        if now.well == Some(false) {
            let waiting = match now.waiting {
                0 => String::new(),
                n => format!(" {n} alarms wait to be told."),
            };
            say(
                true,
                format!(
                    "{} does not take what it is told: {}.{waiting}",
                    standing.name, now.reason
                ),
            );
        }
        if now.given_up > 0 {
            say(
                true,
                format!(
                    "{} alarms were not told to {} within a day and are given up.",
                    now.given_up, standing.name
                ),
            );
        }
    }
    words.extend(of_cameras(cameras));
    words
}

/// What is wrong with cameras; those with the same reason are one sentence.
fn of_cameras(cameras: &[Seen]) -> Vec<Word> {
    let mut found: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    let mut add = |what: &'static str, why, name| match found
        .iter_mut()
        .find(|(of, reason, _)| (*of, *reason) == (what, why))
    {
        Some((_, _, names)) => names.push(name),
        None => found.push((what, why, vec![name])),
    };
    for seen in cameras {
        match seen.phase {
            Phase::Offline => add("offline", seen.reason.as_str(), seen.name.as_str()),
            Phase::Stalled => add("stalled", &seen.reason, &seen.name),
            Phase::Connecting | Phase::Live | Phase::Disabled => {}
        }
        if let Model::Failing(reason) = &seen.model {
            add("without a model that works", reason, &seen.name);
        }
    }
    let word = |(what, why, names): (&str, &str, Vec<&str>)| {
        let colon = if why.is_empty() { "" } else { ": " };
        let text = match names.as_slice() {
            [name] => format!("The camera {name} is {what}{colon}{why}."),
            names => format!(
                "{} cameras are {what}{colon}{why}. They are {}.",
                names.len(),
                names.join(", ")
            ),
        };
        Word {
            text: secret::redact(&text),
            admin: false,
        }
    };
    found.into_iter().map(word).collect()
}
