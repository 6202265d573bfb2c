// SPDX-License-Identifier: MPL-2.0

//! The client: one for a server, shared by all who ask it.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::http::{Request, Response, header};

use crate::answer::{Answer, Piece, Traffic};
use crate::cancel::Cancel;
use crate::config::{Bounds, Config};
use crate::error::{Asked, ConfigError, Error, Problem};
use crate::key::Secrets;
use crate::meter::Meter;
use crate::request::{ChatRequest, TokenField};
use crate::retry::{self, Clock, Random, Repeat, Retry, SystemClock, SystemRandom};
use crate::shape::{self, Said};
use crate::stream::{self, ReadAnswer, Reading};
use crate::uri::Endpoint;
use crate::wire::attempt::Lookup;
use crate::wire::dial::Dialer;
use crate::wire::link::Link;
use crate::wire::pool::{Lane, Pool};
use crate::wire::{proxy, tls};

/// The longest body of an error and of a list of models.
const SMALL: usize = 1 << 20;

/// No bound is longer than a day.
const DAY: Duration = Duration::from_secs(86_400);

/// A client of one server. Clones share its connections; any number of threads may ask at once,
/// each over a connection of its own.
#[derive(Clone)]
pub struct Client(Arc<Inner>, Arc<Meter>);

struct Inner {
    config: Config,
    /// Host and port of the proxy.
    via: Option<String>,
    pool: Pool,
    secrets: Secrets,
    clock: Box<dyn Clock>,
    random: Box<dyn Random>,
    /// The model that the server listed first.
    listed: Mutex<Option<String>>,
    /// The server wants `max_completion_tokens`.
    completion_tokens: AtomicBool,
}

/// Gives a variable of the environment.
pub type Variable = dyn Fn(&str) -> Option<String>;

/// Reads an answer of status 200; tells whether its body was read to the end.
type Reader<'a, T> = &'a mut dyn FnMut(Response<ureq::Body>, &Link) -> Result<(T, bool), Problem>;

/// What a client takes from outside: time, chance, addresses.
pub struct Surroundings {
    /// Time, for pauses between requests.
    pub clock: Box<dyn Clock>,
    /// Random numbers, for the same.
    pub random: Box<dyn Random>,
    /// How a host becomes addresses; may block.
    pub lookup: Arc<Lookup>,
    /// A variable of the environment, for proxies.
    pub variable: Box<Variable>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Box::new(SystemClock),
            random: Box::new(SystemRandom),
            lookup: Dialer::system(),
            variable: Box::new(|name| std::env::var(name).ok()),
        }
    }
}

/// One call to the server.
pub(crate) struct Call<'a> {
    pub(crate) endpoint: Endpoint,
    /// The body of a POST; `None` for a GET.
    pub(crate) body: Option<Vec<u8>>,
    /// The model that is asked, for messages.
    pub(crate) model: &'a str,
}

/// What one call came to.
struct Outcome<T> {
    result: Result<T, Problem>,
    traffic: Traffic,
    requests: u32,
}

impl Client {
    /// A client. Nothing goes over the network yet; files are read.
    ///
    /// # Errors
    /// [`ConfigError`] for files, certificates and proxies that cannot be used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with(config, Surroundings::default())
    }

    /// Host and port of the proxy that stands between, if one does.
    pub fn via(&self) -> Option<&str> {
        self.0.via.as_deref()
    }

    /// A client with surroundings of one's own, as tests want them.
    ///
    /// # Errors
    /// Those of [`new`](Self::new).
    pub fn with(config: Config, around: Surroundings) -> Result<Self, ConfigError> {
        let mut secrets = Secrets::default();
        if let Some(key) = &config.key {
            secrets.add_key(key);
        }
        config.server.add_secrets(&mut secrets);
        let variable = &*around.variable;
        let proxy = proxy::of(&config.proxy, &config.server, variable, &mut secrets)?;
        let wants_tls = |proxy: &ureq::Proxy| proxy.protocol() == ureq::ProxyProtocol::Https;
        let tls = match config.server.is_https() || proxy.as_ref().is_some_and(wants_tls) {
            true => Some(tls::config(&config.tls)?),
            false => None,
        };
        let via = proxy.as_ref();
        let via = via.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let bounds = bounded(config.bounds);
        let pool = Pool::new(bounds, Dialer::new(around.lookup), tls, proxy);
        let inner = Inner {
            config,
            via,
            pool,
            secrets,
            clock: around.clock,
            random: around.random,
            listed: Mutex::default(),
            completion_tokens: AtomicBool::new(false),
        };
        Ok(Self(Arc::new(inner), Arc::default()))
    }

    /// The same client with a meter of its own, for one of several who share it.
    pub fn metered(&self) -> Self {
        Self(self.0.clone(), Arc::default())
    }

    /// What went over the network by this clone and those made of it.
    pub fn meter(&self) -> &Meter {
        &self.1
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Asks a question and waits for the whole answer. `on` hears its pieces as they come; after a
    /// piece was told, nothing is asked again.
    ///
    /// # Errors
    /// The last request's, after as many as `retry` allows.
    pub fn chat(
        &self,
        request: &ChatRequest,
        retry: &Retry,
        cancel: &Cancel,
        on: &mut dyn FnMut(Piece<'_>),
    ) -> Result<Answer, Error> {
        let began = self.0.clock.now();
        let mut traffic = Traffic::default();
        let mut requests = 0;
        let mut answer = self.repeat(retry, cancel, |_| {
            let mut ttft = None;
            let mut hear = |piece: Piece<'_>| {
                ttft.get_or_insert_with(|| self.0.clock.now());
                on(piece);
            };
            let outcome = self.ask(request, cancel, &mut hear);
            traffic.sent += outcome.traffic.sent;
            traffic.received += outcome.traffic.received;
            requests += outcome.requests;
            let repeat = match ttft {
                Some(_) => Repeat::Forbidden,
                None => Repeat::Allowed,
            };
            let answer = outcome.result.map(|mut answer| {
                let first = ttft.map(|first| first.saturating_duration_since(began));
                answer.effort.ttft = first.unwrap_or_default();
                answer
            });
            (answer, repeat)
        })?;
        answer.effort.total = self.0.clock.now().saturating_duration_since(began);
        answer.effort.traffic = traffic;
        answer.effort.requests = requests;
        Ok(answer)
    }

    /// The model that is asked: the one that is set, or the first that the server lists.
    ///
    /// # Errors
    /// [`Problem::NoModel`], and those of the list.
    pub fn model(&self, cancel: &Cancel) -> Result<String, Error> {
        self.model_name(cancel)
            .map_err(|problem| self.error(problem))
    }

    /// Calls the server and repeats it, as far as `retry` allows.
    pub(crate) fn repeat<T>(
        &self,
        retry: &Retry,
        cancel: &Cancel,
        mut attempt: impl FnMut(u32) -> (Result<T, Problem>, Repeat),
    ) -> Result<T, Error> {
        let around = (&*self.0.clock, &*self.0.random);
        retry::run(retry, around, cancel, |number| {
            let (result, repeat) = attempt(number);
            (result.map_err(|problem| self.error(problem)), repeat)
        })
    }

    /// Asks once, and once more where the server wants another name for a field.
    fn ask(
        &self,
        request: &ChatRequest,
        cancel: &Cancel,
        on: &mut dyn FnMut(Piece<'_>),
    ) -> Outcome<Answer> {
        let model = match self.model_name(cancel) {
            Ok(model) => model,
            Err(problem) => return Outcome::failed(problem),
        };
        let outcome = self.ask_once(request, &model, cancel, on);
        match &outcome.result {
            Err(Problem::Refused { said, .. }) if self.wants_completion_tokens(request, said) => {
                self.0.completion_tokens.store(true, Ordering::Relaxed);
                let again = self.ask_once(request, &model, cancel, on);
                again.after(outcome.traffic, outcome.requests)
            }
            Err(Problem::NotFound { .. }) => {
                // The server may have been started with another model.
                *self.listed() = None;
                outcome
            }
            _ => outcome,
        }
    }

    fn wants_completion_tokens(&self, request: &ChatRequest, said: &Said) -> bool {
        let is_named = said.param.as_deref() == Some("max_tokens")
            || said.message.contains("max_completion_tokens");
        is_named
            && request.max_tokens.is_some()
            && !self.0.completion_tokens.load(Ordering::Relaxed)
    }

    fn ask_once(
        &self,
        request: &ChatRequest,
        model: &str,
        cancel: &Cancel,
        on: &mut dyn FnMut(Piece<'_>),
    ) -> Outcome<Answer> {
        let tokens = match self.0.completion_tokens.load(Ordering::Relaxed) {
            true => TokenField::MaxCompletionTokens,
            false => TokenField::MaxTokens,
        };
        let config = &self.0.config;
        let call = Call {
            endpoint: config.server.endpoint("/chat/completions"),
            body: Some(request.body(model, &config.extra_body, tokens)),
            model,
        };
        let outcome = self.exchange(&call, cancel, &mut |response, link| {
            let asked = self.asked(&call, &response);
            let is_stream = header_of(&response, header::CONTENT_TYPE.as_str())
                .is_some_and(|kind| kind.contains("event-stream"));
            let mut reading = Reading {
                link,
                asked: &asked,
                scrub: &|text| self.0.secrets.scrub(text),
                on: &mut *on,
            };
            let mut body = response.into_body().into_reader();
            let ReadAnswer { answer, is_drained } = reading.read(&mut body, is_stream)?;
            Ok((answer, is_drained))
        });
        let length = call.body.as_ref().map_or(0, Vec::len) as u64;
        // Less is the beginning of a question that nobody took.
        if outcome.traffic.sent >= length {
            self.1.count_question();
        }
        outcome
    }

    /// The JSON that a call gives.
    ///
    /// # Errors
    /// Those of the call, and [`Problem::Garbage`] for what is no JSON.
    pub(crate) fn json(&self, call: &Call<'_>, cancel: &Cancel) -> Result<Value, Problem> {
        let outcome = self.exchange(call, cancel, &mut |response, link| {
            let body = stream::whole(&mut response.into_body().into_reader(), link, SMALL)?;
            Ok((body, true))
        });
        let body = outcome.result?;
        serde_json::from_slice(&body).map_err(|_| {
            let said = shape::of_body(&body, &|text| self.0.secrets.scrub(text));
            Problem::Garbage {
                reason: format!("{} says: {}", call.endpoint.uri.path(), said.message),
            }
        })
    }

    /// Makes one call. `read` reads an answer of status 200, and tells whether its body was read to
    /// the end.
    ///
    /// A call over a connection that turns out to be closed is made again at once, over a new one:
    /// the server closed it before it read anything.
    fn exchange<T>(&self, call: &Call<'_>, cancel: &Cancel, read: Reader<'_, T>) -> Outcome<T> {
        let whole_by = Instant::now() + bounded(self.0.config.bounds).whole;
        let mut traffic = Traffic::default();
        let mut lane = self.0.pool.take();
        for requests in 1.. {
            let link = lane.link.clone();
            link.begin(self.head(call), whole_by);
            let Some(attached) = cancel.attach(&link) else {
                return Outcome::failed(Problem::Cancelled).after(traffic, 0);
            };
            let sent = self.send(&lane, call);
            let result = match sent {
                Ok(response) if response.status().as_u16() == 200 => read(response, &link),
                Ok(response) => Err(self.refused(call, response, &link)),
                Err(error) => Err(self.failed(&error, &link)),
            };
            drop(attached);
            let more = link.traffic();
            traffic.sent += more.sent;
            traffic.received += more.received;
            self.1.count_call(more);
            let is_broken = matches!(result, Err(Problem::Broken { .. }));
            if is_broken && requests == 1 && link.may_be_stale() {
                lane = self.0.pool.fresh();
                continue;
            }
            let result = result.map(|(value, is_drained)| {
                if is_drained {
                    self.0.pool.give(lane);
                }
                value
            });
            return Outcome {
                result,
                traffic,
                requests,
            };
        }
        // The loop ends by its second round.
        Outcome::failed(Problem::Cancelled)
    }

    fn send(&self, lane: &Lane, call: &Call<'_>) -> Result<Response<ureq::Body>, ureq::Error> {
        let request = Request::builder().uri(call.endpoint.uri.clone());
        match &call.body {
            Some(body) => {
                let request = request
                    .method("POST")
                    .header(header::CONTENT_TYPE, "application/json");
                lane.agent.run(request.body(body.as_slice())?)
            }
            None => lane.agent.run(request.method("GET").body(())?),
        }
    }

    /// The line and the headers that ureq is not told.
    fn head(&self, call: &Call<'_>) -> String {
        let config = &self.0.config;
        let method = if call.body.is_some() { "POST" } else { "GET" };
        let target = call.endpoint.target();
        let key = config.key.as_ref().map(|key| key.header(config.key_header));
        format!("{method} {target} HTTP/1.1\r\n{}", key.unwrap_or_default())
    }

    /// The problem of a status other than 200.
    fn refused(&self, call: &Call<'_>, response: Response<ureq::Body>, link: &Link) -> Problem {
        let status = response.status().as_u16();
        let asked = self.asked(call, &response);
        if (300..400).contains(&status) {
            let to = header_of(&response, header::LOCATION.as_str()).unwrap_or_default();
            let to = self.0.secrets.scrub(&crate::uri::shown(&to));
            return Problem::Redirected {
                status,
                to: shape::one_line(&to),
            };
        }
        let mut body = response.into_body().into_reader().take(SMALL as u64);
        // The status says enough where the body does not come whole.
        let body = stream::whole(&mut body, link, SMALL).unwrap_or_default();
        if link.is_cancelled() {
            return Problem::Cancelled;
        }
        let said = shape::of_body(&body, &|text| self.0.secrets.scrub(text));
        Problem::of_status(status, said, &asked)
    }

    /// The problem of a call that got no answer.
    fn failed(&self, error: &ureq::Error, link: &Link) -> Problem {
        if let Some(problem) = link.verdict() {
            return match problem {
                // A refused key of TLS is told on the first read.
                Problem::Broken { .. } => tls::problem(error).unwrap_or(problem),
                problem => problem,
            };
        }
        if let Some(problem) = tls::problem(error) {
            return problem;
        }
        match error {
            ureq::Error::Io(error) => Problem::Broken {
                reason: crate::wire::attempt::reason(error),
            },
            ureq::Error::Protocol(error) => Problem::Garbage {
                reason: format!("no HTTP: {}", self.0.secrets.scrub(&error.to_string())),
            },
            other => Problem::Garbage {
                reason: shape::one_line(&self.0.secrets.scrub(&other.to_string())),
            },
        }
    }

    fn asked<'a>(&self, call: &'a Call<'_>, response: &Response<ureq::Body>) -> Asked<'a> {
        let after = header_of(response, header::RETRY_AFTER.as_str());
        Asked {
            call: call.endpoint.uri.path(),
            model: call.model,
            has_key: self.0.config.key.is_some(),
            retry_after: after.and_then(|after| retry::retry_after(&after, SystemTime::now())),
        }
    }

    fn model_name(&self, cancel: &Cancel) -> Result<String, Problem> {
        if let Some(model) = &self.0.config.model {
            return Ok(model.clone());
        }
        let listed = self.listed().clone();
        if let Some(model) = listed {
            return Ok(model);
        }
        let models = self.list(cancel)?;
        let first = models.into_iter().next().ok_or(Problem::NoModel)?;
        *self.listed() = Some(first.id.clone());
        Ok(first.id)
    }

    fn listed(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.0.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn error(&self, problem: Problem) -> Error {
        Error {
            server: self.0.config.server.authority(),
            problem,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

impl<T> Outcome<T> {
    fn failed(problem: Problem) -> Self {
        Self {
            result: Err(problem),
            traffic: Traffic::default(),
            requests: 0,
        }
    }

    /// Adds what an earlier request took.
    fn after(self, traffic: Traffic, requests: u32) -> Self {
        Self {
            traffic: Traffic {
                sent: self.traffic.sent + traffic.sent,
                received: self.traffic.received + traffic.received,
            },
            requests: self.requests + requests,
            ..self
        }
    }
}

fn header_of(response: &Response<ureq::Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn bounded(bounds: Bounds) -> Bounds {
    let bound = |bound: Duration| bound.min(DAY);
    Bounds {
        lookup: bound(bounds.lookup),
        connect: bound(bounds.connect),
        first_byte: bound(bounds.first_byte),
        between: bound(bounds.between),
        whole: bound(bounds.whole),
        ..bounds
    }
}
