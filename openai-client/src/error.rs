// SPDX-License-Identifier: MPL-2.0

//! Why a question was not answered, and what to do about it.

use std::time::Duration;

use crate::shape::Said;

/// Why a question was not answered: which server, and what the problem was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {problem}")]
pub struct Error {
    /// `host:port`.
    pub server: String,
    /// What went wrong.
    pub problem: Problem,
}

/// Which of the [`Bounds`](crate::Bounds) was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The look-up of the host's address.
    Lookup,
    /// Connecting.
    Connect,
    /// The server did not take the request.
    Send,
    /// The server did not begin to answer.
    FirstByte,
    /// The server stopped in the middle.
    Between,
    /// All of it.
    Whole,
}

/// Whom a problem tells something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The server or the way to it: another server may do better.
    Server,
    /// What was asked or how it is set up: this server will refuse it again.
    Request,
    /// Whoever cancelled.
    Caller,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The host has no address.
    #[error(
        "{host} cannot be looked up ({reason}); is server-uri right, and does this machine's DNS work?"
    )]
    Lookup {
        /// The host.
        host: String,
        /// The system's reason.
        reason: String,
    },
    /// Nothing listens there, or the network does not lead there.
    #[error(
        "cannot connect ({reason}); is the server running, and is the port in server-uri right?"
    )]
    Connect {
        /// The system's reason.
        reason: String,
    },
    /// The proxy did not let us through.
    #[error(
        "the proxy {proxy} does not lead there ({reason}); check the proxy, or name the host in no_proxy"
    )]
    Proxy {
        /// The proxy, `host:port`.
        proxy: String,
        /// Why.
        reason: String,
    },
    /// The server is not who it should be, or does not speak TLS.
    #[error("no secure connection: {reason}")]
    Tls {
        /// Why, and what to do.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection broke before the answer was whole ({reason}); did the server restart?")]
    Broken {
        /// The system's reason.
        reason: String,
    },
    /// Something took too long.
    #[error("{}", timeout(.bound, .after))]
    Timeout {
        /// What.
        bound: Bound,
        /// The bound that was set.
        after: Duration,
    },
    /// 401: the key.
    #[error("{}", unauthorized(.has_key, .said))]
    Unauthorized {
        /// Whether a key was sent.
        has_key: bool,
        /// What the server says.
        said: Box<Said>,
    },
    /// 403: the key is known and may not do this.
    #[error(
        "the server forbids this (403){}; may this API key use this model?",
        words(.said)
    )]
    Forbidden {
        /// What the server says.
        said: Box<Said>,
    },
    /// 404: no such model or no such call.
    #[error("{}", not_found(.call, .model, .said))]
    NotFound {
        /// The path of the call, without its query.
        call: String,
        /// The model that was asked for.
        model: String,
        /// What the server says.
        said: Box<Said>,
    },
    /// 413: the request is too large.
    #[error(
        "the request is too large for the server (413){}; lower image-quality, max-images or the size of frames, or raise the limit of what stands in front of it",
        words(.said)
    )]
    TooLarge {
        /// What the server says.
        said: Box<Said>,
    },
    /// 400, 413 or 422: the question has more tokens than the model holds.
    #[error(
        "the question has more tokens than the server's model holds ({status}){}; lower window, max-pixels, video-ratio, max-images or max-tokens, or give the server a longer context (--max-model-len of vLLM, --ctx-size of llama-server)",
        words(.said)
    )]
    ContextLength {
        /// The status.
        status: u16,
        /// What the server says.
        said: Box<Said>,
    },
    /// 400 or 422: the server does not take what was asked.
    #[error("the server refuses the request ({status}){}", words(.said))]
    Refused {
        /// The status.
        status: u16,
        /// What the server says.
        said: Box<Said>,
    },
    /// 429: too many requests.
    #[error("too many requests (429){}{}", words(.said), wait(.retry_after))]
    RateLimited {
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
        /// What the server says.
        said: Box<Said>,
    },
    /// 502, 503, 504 or 529: nobody can answer now.
    #[error("the server cannot answer now ({status}){}{}", words(.said), wait(.retry_after))]
    Overloaded {
        /// The status.
        status: u16,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
        /// What the server says.
        said: Box<Said>,
    },
    /// Another status from 500 on: the server has a fault.
    #[error("the server failed ({status}){}; its own log says why", words(.said))]
    ServerFault {
        /// The status.
        status: u16,
        /// What the server says.
        said: Box<Said>,
    },
    /// The server sends us elsewhere; the key is not carried there.
    #[error(
        "the server sends us elsewhere ({status}, to {to}); set server-uri to where it really is"
    )]
    Redirected {
        /// The status.
        status: u16,
        /// Where to, without its query.
        to: String,
    },
    /// A status that has no meaning here.
    #[error("the server answers with status {status}{}", words(.said))]
    Status {
        /// The status.
        status: u16,
        /// What the server says.
        said: Box<Said>,
    },
    /// An error without a status inside an answer that began well.
    #[error("the server failed while it answered{}", words(.said))]
    Said {
        /// What the server says.
        said: Box<Said>,
    },
    /// The answer ended without a word why: what came is not all.
    #[error(
        "the answer ended after {n_bytes} bytes of text without a finish_reason, so it is not whole; was the server or a replica stopped?"
    )]
    Truncated {
        /// Bytes of text that came.
        n_bytes: usize,
    },
    /// The answer is not what the protocol wants.
    #[error(
        "the answer is not one of OpenAI's protocol ({reason}); does server-uri lead to a chat server, and does it end in /v1?"
    )]
    Garbage {
        /// What was wrong.
        reason: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer is longer than {bound} bytes; lower max-tokens, or set a stop text")]
    TooLong {
        /// The bound.
        bound: usize,
    },
    /// The server lists no model.
    #[error("the server lists no model; load one into it, or set model-name")]
    NoModel,
    /// Somebody cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server's address.
    #[error("server-uri {shown:?} {reason}")]
    ServerUri {
        /// What can be shown of it.
        shown: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A key that cannot be one.
    #[error("{name} {reason}")]
    Key {
        /// Which.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The proxy's address.
    #[error("proxy {shown:?} {reason}")]
    Proxy {
        /// What can be shown of it.
        shown: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file that cannot be read.
    #[error("{what} in {file} cannot be read: {source}")]
    File {
        /// What it holds.
        what: &'static str,
        /// Its name.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{file}: {reason}")]
    Certificate {
        /// Its name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// No authority is known to the system.
    #[error(
        "the system knows no certificate authority ({0}); install the package ca-certificates, or \
         name a file by server-ca-file or SSL_CERT_FILE"
    )]
    NoAuthorities(String),
    /// JSON to be merged that cannot be.
    #[error("extra-body {0}")]
    ExtraBody(String),
}

impl Error {
    /// Whether the same request may be answered if it is asked again later.
    pub fn is_retryable(&self) -> bool {
        match &self.problem {
            Problem::Lookup { .. }
            | Problem::Connect { .. }
            | Problem::Proxy { .. }
            | Problem::Broken { .. }
            | Problem::RateLimited { .. }
            | Problem::Overloaded { .. }
            | Problem::ServerFault { .. }
            | Problem::Said { .. }
            | Problem::Truncated { .. } => true,
            // What took all the time there was, [`Problem::Timeout`], will not have more of it.
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.problem {
            Problem::RateLimited { retry_after, .. } | Problem::Overloaded { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Whom it tells something about: what a circuit breaker counts.
    pub fn blame(&self) -> Blame {
        match &self.problem {
            Problem::Cancelled => Blame::Caller,
            Problem::TooLarge { .. }
            | Problem::ContextLength { .. }
            | Problem::Refused { .. }
            | Problem::TooLong { .. } => Blame::Request,
            _ => Blame::Server,
        }
    }

    /// Whether the server is there and has answered: that it does not do this, or has too much to do.
    pub fn says_no(&self) -> bool {
        matches!(
            self.problem,
            Problem::NotFound { .. }
                | Problem::Refused { .. }
                | Problem::RateLimited { .. }
                | Problem::Garbage { .. }
        )
    }

    /// Whether somebody cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.problem == Problem::Cancelled
    }
}

impl Problem {
    /// The problem that a status other than success stands for.
    pub(crate) fn of_status(status: u16, said: Said, asked: &Asked<'_>) -> Self {
        let retry_after = asked.retry_after;
        let said = Box::new(said);
        match status {
            401 => Self::Unauthorized {
                has_key: asked.has_key,
                said,
            },
            403 => Self::Forbidden { said },
            404 => Self::NotFound {
                call: asked.call.to_owned(),
                model: asked.model.to_owned(),
                said,
            },
            400 | 413 | 422 if is_of_context(&said) => Self::ContextLength { status, said },
            413 => Self::TooLarge { said },
            400 | 422 => Self::Refused { status, said },
            429 => Self::RateLimited { retry_after, said },
            502..=504 | 529 => Self::Overloaded {
                status,
                retry_after,
                said,
            },
            500..=599 => Self::ServerFault { status, said },
            _ => Self::Status { status, said },
        }
    }

    /// The problem that an error inside an answer stands for.
    pub(crate) fn of_answer(said: Said, asked: &Asked<'_>) -> Self {
        let kind = said.kind.to_ascii_lowercase();
        let status = said.code.or_else(|| {
            let is = |word: &str| kind.contains(word);
            if is("rate_limit") || is("insufficient_quota") || is("exhausted") {
                Some(429)
            } else if is("overloaded") || is("unavailable") {
                Some(503)
            } else if is("authentication") {
                Some(401)
            } else if is("invalid_request") || is("badrequest") {
                Some(400)
            } else {
                None
            }
        });
        match status {
            Some(status) => Self::of_status(status, said, asked),
            None => Self::Said {
                said: Box::new(said),
            },
        }
    }
}

/// Whether a server means that a prompt is too long for its model. None has a status for that, and few
/// a code.
fn is_of_context(said: &Said) -> bool {
    let (message, kind) = (said.message.to_ascii_lowercase(), &said.kind);
    let words = [
        "context length",
        "context size",
        "context window",
        "maximum model length",
        "max_model_len",
        "maximum number of tokens",
    ];
    words.iter().any(|words| message.contains(words))
        || ["context_length", "context_size"]
            .iter()
            .any(|code| kind.contains(code))
}

/// What a problem's words are made of, beside what the server says.
pub(crate) struct Asked<'a> {
    /// The path of the call.
    pub(crate) call: &'a str,
    /// The model that was asked.
    pub(crate) model: &'a str,
    /// Whether a key was sent.
    pub(crate) has_key: bool,
    /// What the header `Retry-After` says.
    pub(crate) retry_after: Option<Duration>,
}

fn words(said: &Said) -> String {
    match said.message.as_str() {
        "" => String::new(),
        message => format!(": {message}"),
    }
}

fn wait(retry_after: &Option<Duration>) -> String {
    match retry_after {
        Some(after) => format!("; it asks to wait {} s", after.as_secs().max(1)),
        None => String::new(),
    }
}

fn seconds(after: Duration) -> String {
    format!("{} s", (after.as_millis() as f64 / 1000.0))
}

fn timeout(bound: &Bound, after: &Duration) -> String {
    let after = seconds(*after);
    match bound {
        Bound::Lookup => format!(
            "the look-up of the host took longer than {after}; does this machine's DNS answer?"
        ),
        Bound::Connect => format!(
            "no connection within {after}; is the host up, and does a firewall let the port through?"
        ),
        Bound::Send => {
            format!("the server did not take the request for {after}; is it overloaded?")
        }
        Bound::FirstByte => format!(
            "no answer began within {after}; is the server overloaded, or still loading its model?"
        ),
        Bound::Between => {
            format!("the answer stopped for longer than {after}; is the server stuck?")
        }
        Bound::Whole => format!(
            "the answer was not whole within {after}; lower max-tokens, or ask a faster server"
        ),
    }
}

fn unauthorized(has_key: &bool, said: &Said) -> String {
    let words = words(said);
    if *has_key {
        format!(
            "the server does not know the API key (401){words}; check api-key, api-key-file or \
             VLMCAPTION_API_KEY"
        )
    } else {
        format!(
            "the server wants an API key (401){words}; set api-key, api-key-file or \
             VLMCAPTION_API_KEY"
        )
    }
}

fn not_found(call: &str, model: &str, said: &Said) -> String {
    let words = words(said);
    if said.message.to_ascii_lowercase().contains("model") {
        format!(
            "the server has no model {model:?} (404){words}; leave model-name empty for its first"
        )
    } else {
        format!(
            "the server has no {call} (404){words}; does server-uri have the right path, such as /v1?"
        )
    }
}
