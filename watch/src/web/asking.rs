// SPDX-License-Identifier: MPL-2.0

//! Who asks, what he asks with, and why he gets no answer.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::accounts::User;
use crate::hub::Seen;
use crate::log;
use crate::store::reader::Scope;
use crate::time::Millis;

use super::site::Site;

/// The name of the cookie with the session.
pub const COOKIE: &str = "vlmcaption-watch";

/// Why there is no answer.
#[derive(Debug)]
pub enum Fault {
    NoSession,
    NotFound,
    ForeignSite,
    AdminOnly,
    Wait(Duration),
    Wrong(String),
    Inside(String),
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::NoSession => (
                StatusCode::UNAUTHORIZED,
                "no-session",
                "log in first".to_owned(),
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not-found",
                "there is no such thing, or you may not see it".into(),
            ),
            Self::ForeignSite => (
                StatusCode::FORBIDDEN,
                "foreign-site",
                "this request came from another site".into(),
            ),
            Self::AdminOnly => (
                StatusCode::FORBIDDEN,
                "admin-only",
                "this is for an admin".into(),
            ),
            Self::Wait(time) => {
                let message = format!("too many failures; try again in {} s", time.as_secs() + 1);
                (StatusCode::TOO_MANY_REQUESTS, "wait", message)
            }
            Self::Wrong(message) => (StatusCode::BAD_REQUEST, "wrong", message),
            Self::Inside(message) => {
                log::error(format!("a request failed: {message}"));
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "inside",
                    "the store does not answer; the log says why".into(),
                )
            }
        };
        let body = json!({"error": {"code": code, "message": message}});
        (status, Json(body)).into_response()
    }
}

impl From<crate::store::Error> for Fault {
    fn from(error: crate::store::Error) -> Self {
        match error {
            crate::store::Error::Refused(message) => Self::Wrong(message),
            other => Self::Inside(other.to_string()),
        }
    }
}

/// Somebody with a session.
pub struct Viewer {
    pub user: User,
    pub token: String,
}

impl FromRequestParts<Arc<Site>> for Viewer {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Fault> {
        let token = cookie(&parts.headers).ok_or(Fault::NoSession)?.to_owned();
        let user = site.user(&token).ok_or(Fault::NoSession)?;
        Ok(Self { user, token })
    }
}

impl Viewer {
    pub fn scope(&self) -> Scope {
        self.user.scope()
    }

    /// The camera, if he may see it.
    pub fn camera(&self, site: &Site, id: &str) -> Result<Seen, Fault> {
        site.hub
            .camera(id)
            .filter(|seen| self.scope().has(&seen.id))
            .ok_or(Fault::NotFound)
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let pairs = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE);
    ours.next().map(|(_, value)| value)
}

/// Whether a request says of itself that this page made it.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && !is_foreign(&Method::POST, headers)
}

/// Whether another site has a browser send something that changes something.
pub fn is_foreign(method: &Method, headers: &HeaderMap) -> bool {
    if matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = value("host").unwrap_or_default();
    let same = |origin: &str| {
        origin
            .split_once("://")
            .is_some_and(|(_, authority)| authority == host)
    };
    value("sec-fetch-site").is_some_and(|site| site != "same-origin")
        || value("origin").is_some_and(|origin| !same(origin))
}

/// An id before which a list begins.
pub fn number(text: Option<&str>) -> Result<Option<i64>, Fault> {
    let number = text.map(str::parse).transpose();
    number.map_err(|_| Fault::Wrong("before is the id of an entry".into()))
}

/// A time of a request.
pub fn time(text: Option<&str>) -> Result<Option<Millis>, Fault> {
    let read = |text: &str| {
        Millis::parse(text)
            .ok_or_else(|| Fault::Wrong(format!("`{text}` is no time; write 2026-11-29T14:00:00Z")))
    };
    text.map(read).transpose()
}
