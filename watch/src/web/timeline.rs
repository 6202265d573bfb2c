// SPDX-License-Identifier: MPL-2.0

//! What was when: the timeline, one moment of all cameras, and how often an alarm would have begun.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fires;
use crate::store::reader::{Scope, Wanted};
use crate::time::Millis;

use super::asking::{Fault, time};
use super::site::Site;
use super::view;
use super::who::Viewer;

/// The longest time that a timeline shows: 31 days and a little, so that a month fits.
const LONGEST: Duration = Duration::from_secs(32 * 86_400);
/// Stretches that are told of at most.
const MOST_BUCKETS: usize = 2_000;
/// Alarms that are told of at most; the newest are.
const MOST_EVENTS: usize = 2_000;
/// How far back it is looked for how often an alarm would have begun, if nothing else is said.
const LOOKED_BACK: Duration = Duration::from_secs(7 * 86_400);
/// Beginnings that are told of one by one.
const MOST_FIRES: usize = 200;

/// What is asked for.
#[derive(Deserialize)]
pub struct Asked {
    from: Option<String>,
    to: Option<String>,
    buckets: Option<usize>,
}

pub async fn timeline(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Fault> {
    let now = Millis::now();
    let to = time(asked.to.as_deref())?.unwrap_or(now);
    let from = time(asked.from.as_deref())?.unwrap_or(to.minus(Duration::from_secs(86_400)));
    if from >= to || from.plus(LONGEST) < to {
        return Err(Fault::Wrong("from is before to, by 32 days at most".into()));
    }
    let n = asked.buckets.unwrap_or(600).clamp(1, MOST_BUCKETS);
    let scope = viewer.scope();
    let wanted = Wanted {
        from: Some(from),
        to: Some(to),
        ..Wanted::default()
    };
    let (ticks, events, phases, lulls) = site.read(|reader| {
        let ticks = reader.ticks(&scope, (from, to), n)?;
        let events = reader.events(&scope, &wanted, MOST_EVENTS)?;
        let phases = reader.phases(&scope, from)?;
        Ok((ticks, events, phases, reader.lulls(&scope, from)?))
    })?;
    let cameras = site.hub.cameras();
    let rows = cameras
        .iter()
        .filter(|seen| scope.has(&seen.id))
        .map(|seen| {
            let events = events.iter().filter(|event| event.camera == seen.id);
            let phases = phases.iter().filter(|span| span.phase != "live");
            let spans = phases
                .chain(&lulls)
                .filter(|span| span.camera == seen.id && span.start <= to);
            json!({
                "id": seen.id,
                "name": seen.name,
                "ticks": ticks.cameras.get(&seen.id),
                "events": events.map(view::event).collect::<Vec<_>>(),
                "spans": spans.map(|span| json!({
                    "state": span.phase,
                    "reason": span.reason,
                    "start": span.start.to_string(),
                    "end": span.end.map(|end| end.to_string()),
                })).collect::<Vec<_>>(),
            })
        });
    Ok(Json(json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "buckets": ticks.n,
        "cameras": rows.collect::<Vec<_>>(),
    })))
}

/// A moment.
#[derive(Deserialize)]
pub struct At {
    at: Option<String>,
}

pub async fn moment(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(at): Query<At>,
) -> Result<Json<Value>, Fault> {
    let at = time(at.at.as_deref())?.unwrap_or(Millis::now());
    let cameras = site.hub.cameras().into_iter().map(|seen| seen.id).collect();
    let scope = viewer.scope();
    let found = site.read(|reader| reader.moment(&scope, &cameras, at))?;
    let each = found.into_iter().map(|(camera, moment)| {
        json!({
            "camera": camera,
            "caption": view::caption(&moment.caption),
            "thumb": moment.thumb.map(|id| id.number().to_string()),
        })
    });
    Ok(Json(
        json!({"at": at.to_string(), "cameras": each.collect::<Vec<_>>()}),
    ))
}

/// The alarm, and other thresholds than it has.
#[derive(Deserialize)]
pub struct Tried {
    alarm: Option<String>,
    on: Option<f64>,
    off: Option<f64>,
    from: Option<String>,
    to: Option<String>,
}

pub async fn fires(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
    Query(tried): Query<Tried>,
) -> Result<Json<Value>, Fault> {
    let seen = viewer.camera(&site, &id)?;
    if !viewer.user.admin {
        return Err(Fault::AdminOnly);
    }
    let alarm = seen
        .alarms
        .iter()
        .find(|alarm| Some(&alarm.id) == tried.alarm.as_ref());
    let alarm = alarm.ok_or_else(|| Fault::Wrong("alarm names none of this camera".into()))?;
    let (on, off) = (tried.on.unwrap_or(alarm.on), tried.off.unwrap_or(alarm.off));
    if !(0.0..=1.0).contains(&on) || !(0.0..=on).contains(&off) {
        return Err(Fault::Wrong(
            "on is from 0 to 1, and off from 0 to on".into(),
        ));
    }
    let to = time(tried.to.as_deref())?.unwrap_or(Millis::now());
    let from = time(tried.from.as_deref())?.unwrap_or(to.minus(LOOKED_BACK));
    let minutes = site.read(|reader| reader.answered(&id, &alarm.id, (from, to)))?;
    let found = fires::fires(&minutes, on, off);
    // How often it did begin, beside how often it would have.
    let wanted = Wanted {
        camera: Some(id),
        alarm: Some(alarm.id.clone()),
        from: Some(from),
        to: Some(to),
        ..Wanted::default()
    };
    let scope: Scope = viewer.scope();
    let began = site.read(|reader| reader.events(&scope, &wanted, usize::MAX))?;
    let time = |minute: i64| Millis(60_000 * minute).to_string();
    let fires = found.iter().rev().take(MOST_FIRES);
    Ok(Json(json!({
        "from": from.to_string(),
        "to": to.to_string(),
        "on": on,
        "off": off,
        "minutes": minutes.len(),
        "answers": minutes.iter().map(|minute| u64::from(minute.n)).sum::<u64>(),
        "count": found.len(),
        "began": began.len(),
        "fires": fires.map(|fire| json!([time(fire.from), time(fire.to + 1)])).collect::<Vec<_>>(),
    })))
}
