// SPDX-License-Identifier: MPL-2.0

//! Sessions and tokens: everybody sees and ends his own sessions, an admin everybody's.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::Pass;
use crate::log;
use crate::time::Millis;

use super::asking::Fault;
use super::site::Site;
use super::who::{Admin, Viewer};

fn pass(pass: &Pass) -> Value {
    json!({
        "id": pass.id,
        "name": pass.name,
        "address": pass.address,
        "begun": pass.begun.to_string(),
        "seen": (pass.seen > Millis(0)).then(|| pass.seen.to_string()),
        "metrics": pass.metrics,
    })
}

/// Whose sessions somebody may see and end: an admin everybody's, others their own.
fn whose(viewer: &Viewer) -> Option<&str> {
    (!viewer.user.admin).then_some(viewer.user.name.as_str())
}

pub async fn sessions(State(site): State<Arc<Site>>, viewer: Viewer) -> Result<Json<Value>, Fault> {
    let found = site.sessions(|accounts| accounts.sessions(whose(&viewer), Millis::now()))?;
    Ok(Json(
        json!({"sessions": found.iter().map(pass).collect::<Vec<_>>()}),
    ))
}

pub async fn end_session(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    let ended = site.sessions(|accounts| accounts.end_session(&id, whose(&viewer)))?;
    if ended {
        Ok(Json(json!({})))
    } else {
        Err(Fault::NotFound)
    }
}

pub async fn tokens(State(site): State<Arc<Site>>, _: Admin) -> Result<Json<Value>, Fault> {
    let found = site.sessions(|accounts| accounts.tokens())?;
    Ok(Json(
        json!({"tokens": found.iter().map(pass).collect::<Vec<_>>()}),
    ))
}

#[derive(Deserialize)]
pub struct NewToken {
    name: String,
    #[serde(default)]
    metrics: bool,
    cameras: Option<BTreeSet<String>>,
}

pub async fn add_token(
    State(site): State<Arc<Site>>,
    admin: Admin,
    Json(new): Json<NewToken>,
) -> Result<Json<Value>, Fault> {
    let made = site.sessions(|accounts| {
        accounts.add_token(&new.name, new.cameras.as_ref(), new.metrics, Millis::now())
    });
    let token = made?;
    log::info(format!("{} made the token {}", admin.0.user.name, new.name));
    Ok(Json(json!({"token": token})))
}

pub async fn remove_token(
    State(site): State<Arc<Site>>,
    _: Admin,
    Path(name): Path<String>,
) -> Result<Json<Value>, Fault> {
    let removed = site.sessions(|accounts| accounts.remove_token(&name))?;
    if removed {
        Ok(Json(json!({})))
    } else {
        Err(Fault::NotFound)
    }
}
