// SPDX-License-Identifier: MPL-2.0

//! Numbers for Prometheus, in its text format: for who has a token, or asks from this machine.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use crate::heard::Phase;
use crate::hub::Seen;
use crate::store::files;
use crate::store::reader::Scope;
use crate::time::Millis;

use super::asking::Fault;
use super::site::Site;
use super::who::{self, Peer};

/// All numbers, if he may have them.
pub async fn metrics(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let scope = match who::bearer(&headers) {
        Some(token) => {
            let found = site.sessions(|accounts| accounts.token(token, Millis::now()))?;
            found.ok_or(Fault::NoSession)?.0.scope()
        }
        None if peer.local => Scope::All,
        None => return Err(Fault::NoSession),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text(&site, &scope)).into_response())
}

/// Families of numbers, each with its help and its type once.
struct Families(String);

impl Families {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP vlmwatch_{name} {help}\n# TYPE vlmwatch_{name} {kind}"
        );
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| {
                let value = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                format!("{label}=\"{value}\"")
            })
            .collect();
        let braces = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        let _ = writeln!(self.0, "vlmwatch_{name}{braces} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.begin(name, kind, help);
        self.value(name, &[], value);
    }
}

fn text(site: &Site, scope: &Scope) -> String {
    let mut out = Families(String::new());
    let store = site.store.lock().unwrap().clone();
    let health = &site.hub.health;
    out.begin("build_info", "gauge", "Which program this is.");
    out.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    out.one(
        "start_time_seconds",
        "gauge",
        "When it was started, in seconds since 1970.",
        health.started.0 as f64 / 1e3,
    );
    out.one(
        "captions_stored_total",
        "counter",
        "Captions that were stored since the start.",
        store.captions as f64,
    );
    out.one(
        "events_stored_total",
        "counter",
        "Events that were stored since the start.",
        store.events as f64,
    );
    out.one(
        "captions_lost_total",
        "counter",
        "Captions that could not be stored.",
        store.lost as f64,
    );
    out.one(
        "store_healthy",
        "gauge",
        "Whether the store takes what it is given.",
        f64::from(u8::from(store.trouble.is_none())),
    );
    if let Ok(free) = files::free(&site.layout().root) {
        out.one(
            "disk_free_bytes",
            "gauge",
            "Room on the disk of the store.",
            free as f64,
        );
    }
    out.one(
        "parts_hanging",
        "gauge",
        "Parts of the program that do not move.",
        health.hanging().len() as f64,
    );
    let config_used = f64::from(u8::from(health.file().is_none()));
    out.one(
        "config_used",
        "gauge",
        "Whether the file as it is now is used.",
        config_used,
    );
    cameras(&mut out, site, scope);
    targets(&mut out, site);
    out.0
}

fn cameras(out: &mut Families, site: &Site, scope: &Scope) {
    let now = Millis::now();
    let cameras: Vec<Seen> = site
        .hub
        .cameras()
        .into_iter()
        .filter(|seen| scope.has(&seen.id))
        .collect();
    let age = |at: Millis| now.0.saturating_sub(at.0).max(0) as f64 / 1e3;
    out.begin("camera_live", "gauge", "Whether pictures come of a camera.");
    for seen in &cameras {
        let live = f64::from(u8::from(seen.phase == Phase::Live));
        out.value("camera_live", &[("camera", &seen.id)], live);
    }
    out.begin(
        "camera_captions_total",
        "counter",
        "Captions of a camera since the start.",
    );
    for seen in &cameras {
        out.value(
            "camera_captions_total",
            &[("camera", &seen.id)],
            seen.said as f64,
        );
    }
    out.begin(
        "camera_lost_total",
        "counter",
        "How often a camera was lost since the start.",
    );
    for seen in &cameras {
        out.value(
            "camera_lost_total",
            &[("camera", &seen.id)],
            seen.times_lost as f64,
        );
    }
    out.begin(
        "camera_caption_age_seconds",
        "gauge",
        "How long ago what a camera's last caption tells of was.",
    );
    for seen in &cameras {
        if let Some(said) = &seen.caption {
            out.value(
                "camera_caption_age_seconds",
                &[("camera", &seen.id)],
                age(said.end),
            );
        }
    }
    alarms(out, &cameras);
}

fn alarms(out: &mut Families, cameras: &[Seen]) {
    out.begin("alarm_open", "gauge", "Whether an alarm alarms.");
    for seen in cameras {
        for alarm in &seen.alarms {
            let open = f64::from(u8::from(alarm.open.is_some()));
            out.value(
                "alarm_open",
                &[("camera", &seen.id), ("alarm", &alarm.id)],
                open,
            );
        }
    }
    out.begin(
        "alarm_probability",
        "gauge",
        "How likely the answer to an alarm's question was yes, the last time.",
    );
    for seen in cameras {
        for alarm in &seen.alarms {
            if let Some(probability) = alarm.probability {
                let labels = [("camera", seen.id.as_str()), ("alarm", alarm.id.as_str())];
                out.value("alarm_probability", &labels, probability);
            }
        }
    }
}

fn targets(out: &mut Families, site: &Site) {
    let standings: Vec<_> = site
        .hub
        .health
        .out()
        .iter()
        .map(|one| (one.name.clone(), one.now()))
        .collect();
    out.begin(
        "target_healthy",
        "gauge",
        "Whether one who is told of alarms takes it; not there before the first time.",
    );
    for (name, now) in &standings {
        if let Some(well) = now.well {
            out.value(
                "target_healthy",
                &[("target", name)],
                f64::from(u8::from(well)),
            );
        }
    }
    out.begin("target_waiting", "gauge", "Alarms that wait to be told.");
    for (name, now) in &standings {
        out.value("target_waiting", &[("target", name)], now.waiting as f64);
    }
    out.begin("target_told_total", "counter", "Alarms that were told.");
    for (name, now) in &standings {
        out.value("target_told_total", &[("target", name)], now.told as f64);
    }
    out.begin(
        "target_given_up_total",
        "counter",
        "Alarms that were not told within a day.",
    );
    for (name, now) in &standings {
        out.value(
            "target_given_up_total",
            &[("target", name)],
            now.given_up as f64,
        );
    }
}
