// SPDX-License-Identifier: MPL-2.0

//! A fake of a server as the element meets it: it is probed, and asked about windows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::mock::{self, Connection, Mock, Received};

/// Nothing on loopback takes this long.
const LONG: Duration = Duration::from_secs(60);

/// Answers a question about a window; `n` counts them from 1. Whether the connection stays.
pub type Answer = dyn Fn(&mut Connection, &Received, usize) -> bool + Send + Sync;

/// What a fake takes, as a probe finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// vLLM: frames as a video, probabilities, schemas and choices.
    Vllm,
    /// Single images, and nothing else.
    Stills,
}

/// A fake of a server.
pub struct FakeServer {
    mock: Mock,
    asked: Mutex<Receiver<Received>>,
    connections: Arc<AtomicUsize>,
}

impl FakeServer {
    pub fn start(
        kind: Kind,
        answer: impl Fn(&mut Connection, &Received, usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), kind, answer)
    }

    /// At an address, which was another's before.
    pub fn start_at(
        address: SocketAddr,
        kind: Kind,
        answer: impl Fn(&mut Connection, &Received, usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(address, kind, |_| true, answer)
    }

    /// One that hears each request, those of the probe included, only if `hears` says so.
    pub fn start_with(
        address: SocketAddr,
        kind: Kind,
        hears: impl Fn(&mut Connection) -> bool + Send + Sync + 'static,
        answer: impl Fn(&mut Connection, &Received, usize) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (sender, asked) = channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counted, n) = (connections.clone(), AtomicUsize::new(0));
        let script = move |connection: &mut Connection| {
            counted.fetch_add(1, Ordering::SeqCst);
            serve(connection, kind, &sender, (&hears, &answer), &n);
        };
        Self {
            mock: Mock::start_at(address, |stream| Some(Box::new(stream)), script),
            asked: Mutex::new(asked),
            connections,
        }
    }

    /// One that says the same about every window.
    pub fn saying(kind: Kind, text: &str) -> Self {
        let answer = said(text);
        Self::start(kind, move |connection, _, _| connection.send(&answer))
    }

    pub fn uri(&self) -> String {
        format!("http://{}/v1", self.mock.address)
    }

    pub fn host(&self) -> String {
        self.mock.address.to_string()
    }

    /// The next question about a window.
    pub fn asked(&self) -> Received {
        let asked = self.asked.lock().unwrap();
        asked.recv_timeout(LONG).expect("a question")
    }

    /// A question that was asked already.
    pub fn next(&self) -> Option<Received> {
        self.asked.lock().unwrap().try_recv().ok()
    }

    /// Connections so far.
    pub fn n_connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// All requests so far, those of the probe included.
    pub fn requests(&self) -> Vec<Received> {
        std::iter::from_fn(|| self.mock.next()).collect()
    }
}

fn serve(
    connection: &mut Connection,
    kind: Kind,
    sender: &Sender<Received>,
    (hears, answer): (&dyn Fn(&mut Connection) -> bool, &Answer),
    n: &AtomicUsize,
) {
    while let Some(request) = connection.request() {
        if !hears(connection) {
            break;
        }
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        let keeps = match probed(kind, &request.line, &body) {
            Some(bytes) => connection.send(bytes),
            None => {
                let n = n.fetch_add(1, Ordering::SeqCst) + 1;
                let _ = sender.send(request.clone());
                answer(connection, &request, n)
            }
        };
        if !keeps {
            break;
        }
    }
}

/// The answer to a request of a probe; `None` for a question about a window.
fn probed(kind: Kind, line: &str, body: &Value) -> Option<Vec<u8>> {
    let refused = || mock::json("400 Bad Request", r#"{"error":{"message":"not taken"}}"#);
    let missing = || mock::json("404 Not Found", r#"{"detail":"Not Found"}"#);
    let owner = match kind {
        Kind::Vllm => "vllm",
        Kind::Stills => "stills",
    };
    if line.contains("/models") {
        let list =
            json!({"data": [{"id": "fake-model", "owned_by": owner, "max_model_len": 4096}]});
        return Some(mock::json("200 OK", &list.to_string()));
    }
    if line.contains("/version") && kind == Kind::Vllm {
        return Some(mock::json("200 OK", r#"{"version":"0.32.0"}"#));
    }
    if line.contains("/tokenize") && kind == Kind::Vllm {
        let times = body.get("media_io_kwargs").is_some();
        let count = if is_about(body, "video_url") { 215 } else { 10 } + u64::from(times);
        return Some(mock::json("200 OK", &json!({"count": count}).to_string()));
    }
    if !line.contains("/chat/completions") {
        return Some(missing());
    }
    if !is_probe(body) {
        return None;
    }
    let guide = body.get("response_format").is_some();
    let choice = body.get("structured_outputs").is_some();
    Some(match kind {
        Kind::Stills if guide || choice || is_about(body, "video_url") => refused(),
        Kind::Vllm if guide => said(r#"{"seen": "purple"}"#),
        Kind::Vllm if choice => said("purple"),
        _ => {
            let logprobs = body.get("logprobs").is_some() && kind == Kind::Vllm;
            let more = if is_about(body, "image_url") { 196 } else { 0 };
            let token = json!([{"token": "Hello", "logprob": -0.1, "top_logprobs": []}]);
            whole("Hello", logprobs.then_some(token), 10 + more)
        }
    })
}

fn is_probe(body: &Value) -> bool {
    body["messages"].to_string().contains("Say hello.")
}

/// Whether a request has a part of this type.
pub fn is_about(body: &Value, part: &str) -> bool {
    body["messages"]
        .to_string()
        .contains(&format!(r#""type":"{part}""#))
}

/// The stream of an answer with its costs.
pub fn said(text: &str) -> Vec<u8> {
    whole(text, None, 400)
}

/// The same with the probabilities of its only token.
pub fn said_with(text: &str, likely: &[(&str, f64)]) -> Vec<u8> {
    let top = likely
        .iter()
        .map(|(text, p)| json!({"token": text, "logprob": p.ln()}));
    let top: Vec<Value> = top.collect();
    let own = likely.iter().find(|(known, _)| *known == text).unwrap().1;
    let token = json!([{"token": text, "logprob": own.ln(), "top_logprobs": top}]);
    whole(text, Some(token), 400)
}

fn whole(text: &str, logprobs: Option<Value>, prompt: u64) -> Vec<u8> {
    let mut choice = json!({"index": 0, "delta": {"content": text}});
    if let Some(content) = logprobs {
        choice["logprobs"] = json!({"content": content});
    }
    let piece = json!({"model": "fake-model", "choices": [choice]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 128}}});
    let event = |value: Value| format!("data: {value}\n\n");
    mock::stream(&[
        &event(piece),
        &mock::finish("stop"),
        &event(usage),
        mock::DONE,
    ])
}
