// SPDX-License-Identifier: MPL-2.0

//! What somebody asks with, and why he gets no answer.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::log;
use crate::time::Millis;

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
