// SPDX-License-Identifier: MPL-2.0

//! What changes, as it changes: server-sent events. A browser that comes, or that has missed something,
//! is told of every camera; then of each that changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::hub::{Notice, What};
use crate::store::reader::Scope;

use super::proof::Proof;
use super::site::Site;
use super::view;

/// How often a quiet stream says that it is there, and whether its session still holds is looked at.
const QUIET: Duration = Duration::from_secs(15);

struct Listening {
    site: Arc<Site>,
    proof: Proof,
    scope: Scope,
    notices: Receiver<Notice>,
    /// Cameras that are to be told of.
    waiting: Vec<String>,
}

/// The events of a session.
pub fn events(
    site: Arc<Site>,
    proof: Proof,
    scope: Scope,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let notices = site.notices.subscribe();
    let mut listening = Listening {
        site,
        proof,
        scope,
        notices,
        waiting: Vec::new(),
    };
    listening.all();
    stream::unfold(listening, |mut listening| async move {
        let event = listening.next().await?;
        Some((Ok(event), listening))
    })
}

impl Listening {
    /// Every camera is to be told of.
    fn all(&mut self) {
        let cameras = self.site.hub.cameras().into_iter().map(|seen| seen.id);
        self.waiting = cameras.filter(|id| self.scope.has(id)).rev().collect();
    }

    /// The next event; nothing once the session has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(id) = self.waiting.pop() {
                if let Some(seen) = self.site.hub.camera(&id) {
                    return Some(
                        Event::default()
                            .event("camera")
                            .data(view::camera(&seen).to_string()),
                    );
                }
                continue;
            }
            match tokio::time::timeout(QUIET, self.notices.recv()).await {
                Err(_) => {
                    self.site.user(&self.proof)?;
                    return Some(Event::default().comment("quiet"));
                }
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(_))) => {
                    self.site.user(&self.proof)?;
                    self.all();
                }
                Ok(Ok(Notice {
                    what: What::Cameras,
                    ..
                })) => {
                    self.all();
                    let ids: Vec<&String> = self.waiting.iter().rev().collect();
                    let data = serde_json::json!({"ids": ids}).to_string();
                    return Some(Event::default().event("cameras").data(data));
                }
                Ok(Ok(notice)) if !self.scope.has(&notice.camera) => {}
                Ok(Ok(Notice {
                    camera,
                    what: What::Still,
                })) => {
                    let seen = self.site.hub.camera(&camera)?;
                    let at = seen.still.map(|still| still.at.to_string());
                    let data = serde_json::json!({"camera": camera, "at": at}).to_string();
                    return Some(Event::default().event("still").data(data));
                }
                Ok(Ok(notice)) => self.waiting.push(notice.camera),
            }
        }
    }
}
