// SPDX-License-Identifier: MPL-2.0

//! A camera's video as it comes, over a WebSocket: first a text with the MIME type, then the head, then
//! fragments. And the clips of alarms, whole or in part.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

use crate::time::Millis;
use crate::video::fmp4;
use crate::video::packer::Packer;
use crate::video::ring::{Ring, Unit};

use super::asking::Fault;
use super::site::{MOST_VIEWERS, Site};
use super::who::Peer;
use super::who::Viewer;

/// A browser that takes nothing for this long has gone.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is said to one more than [`MOST_VIEWERS`].
const TOO_MANY: &str = "8 look at video already";
const _: () = assert!(MOST_VIEWERS == 8);
/// How often it is looked at whether the session still holds.
const LOOK: Duration = Duration::from_secs(15);
/// Bytes of a clip that are read at once.
const CHUNK: usize = 64 << 10;

pub async fn live(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    viewer: Viewer,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Fault> {
    let seen = viewer.camera(&site, &id)?;
    // A browser sends the session of this page along with a socket that another page opens.
    if !peer.is_same_origin(&headers) {
        return Err(Fault::ForeignSite);
    }
    let why = |why: &str| Fault::Wrong(format!("there is no video of this camera: {why}"));
    let ring = site.hub.rings().get(&id).cloned();
    let ring = match (ring, seen.video) {
        (Some(ring), Ok(_)) => ring,
        (_, Err(reason)) => return Err(why(reason)),
        (None, Ok(_)) => return Err(Fault::NotFound),
    };
    let upgrade = upgrade.map_err(|_| Fault::Wrong("this address is for a WebSocket".into()))?;
    let place = site.viewers.clone().try_acquire_owned().ok();
    let upgrade = upgrade.max_message_size(4 << 10);
    Ok(upgrade.on_upgrade(move |socket| async move {
        match place {
            Some(_place) => show(socket, &ring, &site, &viewer).await,
            // A browser tells its page nothing of a socket that is refused, but why one is closed.
            None => close(socket, TOO_MANY).await,
        }
    }))
}

/// Sends what comes until either side has enough.
async fn show(mut socket: WebSocket, ring: &Ring, site: &Site, viewer: &Viewer) {
    let mut changes = ring.changes();
    let mut packer: Option<(Packer, Arc<Unit>)> = None;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            _ = look.tick() => {
                if site.user(&viewer.proof).is_none() {
                    return close(socket, "the session has ended").await;
                }
            }
            said = socket.recv() => match said {
                // Nothing is to be said here.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                _ => return,
            },
        }
        let units = ring.follow(packer.as_ref().map(|(_, last)| last.n));
        let (Some(first), Some(last)) = (units.first(), units.last()) else {
            continue;
        };
        let begun = packer.as_ref().map(|(_, before)| &before.format);
        if begun.is_some_and(|format| !Arc::ptr_eq(format, &first.format)) {
            return close(socket, "the camera begins anew").await;
        }
        let mut messages = Vec::new();
        let fragment = match &mut packer {
            Some((packer, before)) => {
                *before = last.clone();
                packer.pack(&units)
            }
            none => {
                let Some(mime) = first.format.mime() else {
                    return close(socket, "what the camera sends has no name").await;
                };
                let epoch = first.at.to_string();
                messages.push(Message::text(
                    json!({"mime": mime, "epoch": epoch}).to_string(),
                ));
                messages.push(Message::binary(fmp4::init(&first.format)));
                let (packer, _) = none.insert((Packer::new(first, 0), last.clone()));
                packer.pack(&units)
            }
        };
        messages.push(Message::binary(fragment));
        for message in messages {
            match tokio::time::timeout(PATIENCE, socket.send(message)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

async fn close(mut socket: WebSocket, why: &'static str) {
    let frame = CloseFrame {
        code: axum::extract::ws::close_code::NORMAL,
        reason: why.into(),
    };
    let _ = tokio::time::timeout(PATIENCE, socket.send(Message::Close(Some(frame)))).await;
}

pub async fn clip(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let scope = viewer.scope();
    let event = site.read(|reader| reader.event(&scope, id))?;
    let event = event.ok_or(Fault::NotFound)?;
    let path = site.read(|reader| Ok(reader.layout().clip(&event.camera, event.id)))?;
    let inside = |error: std::io::Error| Fault::Inside(format!("{}: {error}", path.display()));
    let mut file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Fault::NotFound),
        Err(error) => return Err(inside(error)),
    };
    let size = file.metadata().map_err(inside)?.len();
    let asked = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok());
    let (status, from, to) = match asked.map_or(Asked::All, |text| range(text, size)) {
        Asked::All => (StatusCode::OK, 0, size),
        Asked::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to),
        Asked::Nothing => {
            let told = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, told).into_response());
        }
    };
    file.seek(SeekFrom::Start(from)).map_err(inside)?;
    let chunks = stream::unfold((file, to - from), |(mut file, left)| async move {
        if left == 0 {
            return None;
        }
        let n = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut bytes = vec![0; n];
        let read = tokio::task::block_in_place(|| file.read_exact(&mut bytes));
        let chunk = read.map(|()| bytes);
        let left = if chunk.is_ok() { left - n as u64 } else { 0 };
        Some((chunk, (file, left)))
    });
    let name = format!(
        "inline; filename=\"{}-{}-{}.mp4\"",
        event.camera,
        event.alarm,
        stamp(event.start)
    );
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "video/mp4")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, to - from)
        .header(header::CONTENT_DISPOSITION, name);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{size}", to - 1),
        );
    }
    response
        .body(Body::from_stream(chunks))
        .map_err(|error| Fault::Inside(error.to_string()))
}

/// A time within a file's name.
fn stamp(time: Millis) -> String {
    let text = time.to_string();
    text.get(..19).unwrap_or(&text).replace(':', "")
}

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    All,
    /// From here to there, which is not in it any more.
    Part(u64, u64),
    /// What the file does not have.
    Nothing,
}

/// Reads a `Range` header (RFC 9110, 14.2). What is no range of bytes, or several, means all.
fn range(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::All;
    };
    let (from, to) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(from), Ok(last)) if from <= last => (from, size.min(last.saturating_add(1))),
        (Ok(from), Err(_)) if last.is_empty() => (from, size),
        (Err(_), Ok(n)) if first.is_empty() => (size.saturating_sub(n), size),
        _ => return Asked::All,
    };
    if from < to {
        Asked::Part(from, to)
    } else {
        Asked::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (text, asked) in [
            ("bytes=0-", Asked::Part(0, 100)),
            ("bytes=0-0", Asked::Part(0, 1)),
            ("bytes=10-19", Asked::Part(10, 20)),
            ("bytes=90-1000", Asked::Part(90, 100)),
            ("bytes=-5", Asked::Part(95, 100)),
            ("bytes=-500", Asked::Part(0, 100)),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-2", Asked::All),
            ("bytes=0-1,5-6", Asked::All),
            ("items=0-1", Asked::All),
            ("bytes=-", Asked::All),
            (
                "bytes=18446744073709551615-18446744073709551615",
                Asked::Nothing,
            ),
        ] {
            assert_eq!(range(text, 100), asked, "{text}");
        }
    }
}
