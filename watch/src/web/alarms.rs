// SPDX-License-Identifier: MPL-2.0

//! Alarms: which there were, how likely they were, and what people say of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::log;
use crate::store::reader::{Event, Wanted};
use crate::store::state::Mark;

use super::asking::{Fault, number, time};
use super::site::Site;
use super::view;
use super::who::Viewer;

/// The longest note.
const NOTE: usize = 1_000;

/// What is asked for.
#[derive(Deserialize)]
pub struct Asked {
    camera: Option<String>,
    alarm: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    open: u8,
    #[serde(default)]
    to_do: u8,
    #[serde(default)]
    false_alarm: u8,
}

pub async fn list(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Fault> {
    let wanted = Wanted {
        before: number(asked.before.as_deref())?,
        camera: asked.camera,
        alarm: asked.alarm,
        open: asked.open != 0,
        to_do: asked.to_do != 0,
        false_alarms: asked.false_alarm != 0,
        from: time(asked.from.as_deref())?,
        to: time(asked.to.as_deref())?,
    };
    let scope = viewer.scope();
    let limit = asked.limit.unwrap_or(50).clamp(1, 200);
    let found = site.read(|reader| reader.events(&scope, &wanted, limit))?;
    Ok(Json(
        json!({"events": found.iter().map(view::event).collect::<Vec<_>>()}),
    ))
}

/// The event, if its camera may be seen.
fn event(site: &Site, viewer: &Viewer, id: i64) -> Result<Event, Fault> {
    let scope = viewer.scope();
    let found = site.read(|reader| reader.event(&scope, id))?;
    found.ok_or(Fault::NotFound)
}

pub async fn one(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(view::event(&event(&site, &viewer, id)?)))
}

/// What somebody says of an event; what is not there stays as it is.
#[derive(Deserialize)]
pub struct Said {
    acknowledged: Option<bool>,
    starred: Option<bool>,
    false_alarm: Option<bool>,
    note: Option<String>,
}

pub async fn say(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<i64>,
    Json(said): Json<Said>,
) -> Result<Json<Value>, Fault> {
    let camera = event(&site, &viewer, id)?.camera;
    if said
        .note
        .as_ref()
        .is_some_and(|note| note.chars().count() > NOTE)
    {
        return Err(Fault::Wrong(format!(
            "a note has {NOTE} characters at most"
        )));
    }
    let mark = Mark {
        acknowledged: said.acknowledged,
        starred: said.starred,
        false_alarm: said.false_alarm,
        note: said.note,
    };
    let hand = site.hub.hand().clone();
    let done = tokio::task::spawn_blocking(move || hand.mark(id, mark)).await;
    if !done.map_err(|error| Fault::Inside(error.to_string()))?? {
        return Err(Fault::NotFound);
    }
    site.hub.said_of(&camera, id);
    one(State(site), viewer, Path(id)).await
}

pub async fn trace(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<i64>,
) -> Result<Json<Value>, Fault> {
    let event = event(&site, &viewer, id)?;
    let points = site.read(|reader| reader.trace(id))?;
    let seen = site.hub.camera(&event.camera);
    let alarm = seen.and_then(|seen| {
        seen.alarms
            .into_iter()
            .find(|alarm| alarm.id == event.alarm)
    });
    let points = points
        .iter()
        .map(|(at, probability)| json!({"at": at.to_string(), "probability": probability}));
    Ok(Json(json!({
        "points": points.collect::<Vec<_>>(),
        "on": alarm.as_ref().map(|alarm| alarm.on),
        "off": alarm.as_ref().map(|alarm| alarm.off),
        "question": alarm.map(|alarm| alarm.question),
    })))
}

/// For how long; 0 ends it.
#[derive(Deserialize)]
pub struct Snooze {
    minutes: Option<u32>,
}

pub async fn snooze(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(snooze): Json<Snooze>,
) -> Result<Json<Value>, Fault> {
    viewer.camera(&site, &id)?;
    let minutes = snooze.minutes.unwrap_or(u32::MAX);
    site.hub.rest(&id, minutes).map_err(Fault::Wrong)?;
    log::info(format!(
        "{} snoozed camera {id} for {minutes} minutes",
        viewer.user.name
    ));
    Ok(Json(view::camera(&viewer.camera(&site, &id)?)))
}

/// Whether a camera is watched, until the next start.
#[derive(Deserialize)]
pub struct Switch {
    on: Option<bool>,
}

pub async fn enabled(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(switch): Json<Switch>,
) -> Result<Json<Value>, Fault> {
    viewer.camera(&site, &id)?;
    if !viewer.user.admin {
        return Err(Fault::AdminOnly);
    }
    // Only now: what is wrong with a request is told to whoever may make it.
    let wrong = || Fault::Wrong("`on` is to be true or false".into());
    let on = switch.on.ok_or_else(wrong)?;
    site.hub.switch(&id, on).map_err(Fault::Wrong)?;
    log::info(format!(
        "{} switched camera {id} {}",
        viewer.user.name,
        if on { "on" } else { "off" }
    ));
    Ok(Json(json!({"id": id, "on": on})))
}
