// SPDX-License-Identifier: MPL-2.0

//! The routes, and who may use them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::User;
use crate::log;
use crate::search;
use crate::store::finding::Reach;
use crate::store::reader::CaptionId;
use crate::time::Millis;

use super::asking::{Fault, number, time};
use super::proof::Proof;
use super::site::Site;
use super::who::{self, Peer, Viewer};
use super::{admin, alarms, health, metrics, stream, timeline, video, view};

/// A body that is larger is not read.
const LARGEST_BODY: usize = 64 << 10;
/// How long a question about the moment may take.
const ASKING: Duration = Duration::from_secs(60);

const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Every route, with whether it needs a session; a test goes through it.
pub const ROUTES: &[(&str, &str, bool)] = &[
    ("GET", "/", false),
    ("GET", "/app.js", false),
    ("GET", "/lib.js", false),
    ("GET", "/words.js", false),
    ("GET", "/de.js", false),
    ("GET", "/zh.js", false),
    ("GET", "/player.js", false),
    ("GET", "/alarms.js", false),
    ("GET", "/search.js", false),
    ("GET", "/timeline.js", false),
    ("GET", "/style.css", false),
    ("GET", "/icon.svg", false),
    ("GET", "/health/live", false),
    ("GET", "/health/ready", false),
    ("GET", "/metrics", false),
    ("GET", "/health.js", false),
    ("POST", "/api/v1/login", false),
    ("POST", "/api/v1/first", false),
    ("POST", "/api/v1/logout", true),
    ("GET", "/api/v1/me", true),
    ("GET", "/api/v1/cameras", true),
    ("GET", "/api/v1/cameras/{camera}", true),
    ("GET", "/api/v1/cameras/{camera}/still.jpg", true),
    ("POST", "/api/v1/cameras/{camera}/ask", true),
    ("GET", "/api/v1/cameras/{camera}/live", true),
    ("POST", "/api/v1/cameras/{camera}/snooze", true),
    ("POST", "/api/v1/cameras/{camera}/enabled", true),
    ("GET", "/api/v1/cameras/{camera}/fires", true),
    ("GET", "/api/v1/captions", true),
    ("GET", "/api/v1/captions/{id}/thumb.jpg", true),
    ("GET", "/api/v1/search", true),
    ("GET", "/api/v1/events", true),
    ("GET", "/api/v1/events/{event}", true),
    ("POST", "/api/v1/events/{event}", true),
    ("GET", "/api/v1/events/{event}/clip.mp4", true),
    ("GET", "/api/v1/events/{event}/trace", true),
    ("GET", "/api/v1/timeline", true),
    ("GET", "/api/v1/moment", true),
    ("GET", "/api/v1/stream", true),
    ("GET", "/api/v1/health", true),
    ("GET", "/api/v1/sessions", true),
    ("DELETE", "/api/v1/sessions/{id}", true),
    ("GET", "/api/v1/tokens", true),
    ("POST", "/api/v1/tokens", true),
    ("DELETE", "/api/v1/tokens/{id}", true),
];

/// All of it.
pub fn router(site: Arc<Site>) -> Router {
    let path = site.hub.config().door.path.clone();
    let mut all = Router::new();
    if let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.is_empty()) {
        let path = path.clone();
        all = all.route(
            bare,
            get(move || async move { who::with_slash(&path).await }),
        );
    }
    all.merge(files())
        .route("/health/live", get(|| async { "ok\n" }))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .nest("/api/v1", api())
        .fallback(|| async { Fault::NotFound })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(same_site))
        .layer(middleware::from_fn_with_state(site.clone(), who::asks))
        .layer(middleware::from_fn(headers))
        .with_state(site)
}

/// What the page and programs ask for.
fn api() -> Router<Arc<Site>> {
    Router::new()
        .route("/login", post(login))
        .route("/first", post(first))
        .route("/logout", post(logout))
        .route("/me", get(me))
        .route("/cameras", get(cameras))
        .route("/cameras/{camera}", get(camera))
        .route("/cameras/{camera}/still.jpg", get(still))
        .route("/cameras/{camera}/ask", post(ask))
        .route("/cameras/{camera}/live", get(video::live))
        .route("/cameras/{camera}/snooze", post(alarms::snooze))
        .route("/cameras/{camera}/enabled", post(alarms::enabled))
        .route("/cameras/{camera}/fires", get(timeline::fires))
        .route("/captions", get(captions))
        .route("/captions/{id}/thumb.jpg", get(thumb))
        .route("/search", get(find))
        .route("/events", get(alarms::list))
        .route("/events/{event}", get(alarms::one))
        .route("/events/{event}", post(alarms::say))
        .route("/events/{event}/clip.mp4", get(video::clip))
        .route("/events/{event}/trace", get(alarms::trace))
        .route("/timeline", get(timeline::timeline))
        .route("/moment", get(timeline::moment))
        .route("/stream", get(follow))
        .route("/health", get(health::health))
        .route("/sessions", get(admin::sessions))
        .route("/sessions/{id}", delete(admin::end_session))
        .route("/tokens", get(admin::tokens))
        .route("/tokens", post(admin::add_token))
        .route("/tokens/{id}", delete(admin::remove_token))
}

/// The page itself.
fn files() -> Router<Arc<Site>> {
    Router::new()
        .route(
            "/",
            get(|| {
                page(
                    "text/html; charset=utf-8",
                    include_bytes!("../page/index.html"),
                )
            }),
        )
        .route("/app.js", get(|| script(include_bytes!("../page/app.js"))))
        .route("/lib.js", get(|| script(include_bytes!("../page/lib.js"))))
        .route(
            "/words.js",
            get(|| script(include_bytes!("../page/words.js"))),
        )
        .route("/de.js", get(|| script(include_bytes!("../page/de.js"))))
        .route("/zh.js", get(|| script(include_bytes!("../page/zh.js"))))
        .route(
            "/health.js",
            get(|| script(include_bytes!("../page/health.js"))),
        )
        .route(
            "/player.js",
            get(|| script(include_bytes!("../page/player.js"))),
        )
        .route(
            "/alarms.js",
            get(|| script(include_bytes!("../page/alarms.js"))),
        )
        .route(
            "/search.js",
            get(|| script(include_bytes!("../page/search.js"))),
        )
        .route(
            "/timeline.js",
            get(|| script(include_bytes!("../page/timeline.js"))),
        )
        .route(
            "/style.css",
            get(|| {
                page(
                    "text/css; charset=utf-8",
                    include_bytes!("../page/style.css"),
                )
            }),
        )
        .route(
            "/icon.svg",
            get(|| page("image/svg+xml", include_bytes!("../page/icon.svg"))),
        )
}

/// Refuses what another site has a browser send: whatever changes something says where it comes from.
async fn same_site(request: Request, next: Next) -> Result<Response, Fault> {
    if who::is_foreign(&request) {
        return Err(Fault::ForeignSite);
    }
    Ok(next.run(request).await)
}

/// What every answer says to the browser.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn script(bytes: &'static [u8]) -> Response {
    page("text/javascript; charset=utf-8", bytes).await
}

async fn page(kind: &'static str, bytes: &'static [u8]) -> Response {
    (
        [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-cache"),
        ],
        bytes,
    )
        .into_response()
}

fn jpeg(bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "image/jpeg")], bytes).into_response()
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Json(login): Json<Login>,
) -> Result<Response, Fault> {
    let address = format!("address {}", peer.address);
    let name = format!("name {}", login.name);
    let keys = [address.as_str(), name.as_str()];
    let now = Millis::now();
    if let Some(wait) = site.limiter.lock().unwrap().wait(&keys, now) {
        return Err(Fault::Wait(wait));
    }
    // Counted before it is known: tries side by side must not be more than the limit.
    site.limiter.lock().unwrap().failed(&keys, now);
    let Some(user) = site.passwords(|accounts| accounts.verify(&login.name, &login.password))?
    else {
        log::warning(format!(
            "a log-in as {:?} from {} failed",
            login.name, peer.address
        ));
        return Err(Fault::Wrong("name or password is wrong".into()));
    };
    site.limiter.lock().unwrap().succeeded(&keys);
    begin(&site, &user, &peer)
}

#[derive(Deserialize)]
struct First {
    link: String,
    name: String,
    password: String,
}

async fn first(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    Json(first): Json<First>,
) -> Result<Response, Fault> {
    let address = format!("address {}", peer.address);
    let keys = [address.as_str()];
    if let Some(wait) = site.limiter.lock().unwrap().wait(&keys, Millis::now()) {
        return Err(Fault::Wait(wait));
    }
    let made = site.passwords(|accounts| {
        accounts.first(&first.link, &first.name, &first.password, Millis::now())
    });
    if made.is_err() {
        site.limiter.lock().unwrap().failed(&keys, Millis::now());
    }
    begin(&site, &made?, &peer)
}

fn begin(site: &Site, user: &User, peer: &Peer) -> Result<Response, Fault> {
    let token =
        site.sessions(|accounts| accounts.begin(user, &peer.address.to_string(), Millis::now()))?;
    log::info(format!("{} logged in from {}", user.name, peer.address));
    Ok((peer.set_cookie(&token, 30 * 86_400), Json(me_of(user))).into_response())
}

async fn logout(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<Peer>,
    viewer: Viewer,
) -> Result<Response, Fault> {
    if let Proof::Session(token) = &viewer.proof {
        site.sessions(|accounts| accounts.end(token))?;
    }
    Ok((peer.set_cookie("", 0), Json(json!({}))).into_response())
}

async fn me(viewer: Viewer) -> Json<Value> {
    Json(me_of(&viewer.user))
}

fn me_of(user: &User) -> Value {
    json!({"name": user.name, "role": if user.admin { "admin" } else { "viewer" }})
}

async fn cameras(State(site): State<Arc<Site>>, viewer: Viewer) -> Json<Value> {
    let scope = viewer.scope();
    let seen = site
        .hub
        .cameras()
        .into_iter()
        .filter(|seen| scope.has(&seen.id));
    Json(json!({"cameras": seen.map(|seen| view::camera(&seen)).collect::<Vec<_>>()}))
}

async fn camera(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(view::camera(&viewer.camera(&site, &id)?)))
}

async fn still(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, Fault> {
    let still = viewer.camera(&site, &id)?.still.ok_or(Fault::NotFound)?;
    Ok(jpeg(still.jpeg.to_vec()))
}

#[derive(Deserialize)]
struct Ask {
    text: String,
}

async fn ask(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<String>,
    Json(ask): Json<Ask>,
) -> Result<Json<Value>, Fault> {
    let seen = viewer.camera(&site, &id)?;
    let text = ask.text.trim().to_owned();
    if !(1..=500).contains(&text.chars().count()) {
        return Err(Fault::Wrong("a question has 1 to 500 characters".into()));
    }
    let answer = tokio::task::spawn_blocking(move || site.hub.ask(&seen.id, &text, ASKING)).await;
    match answer {
        Ok(Ok(text)) => Ok(Json(json!({"answer": text}))),
        Ok(Err(reason)) => Err(Fault::Wrong(reason)),
        Err(error) => Err(Fault::Inside(error.to_string())),
    }
}

/// How long a search goes on before it says how far back it has looked.
const PATIENCE: Duration = Duration::from_millis(50);

/// What a list is asked for.
#[derive(Deserialize)]
struct List {
    camera: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    q: String,
}

impl List {
    /// The number before which the list begins.
    fn before(&self) -> Result<Option<i64>, Fault> {
        number(self.before.as_deref())
    }

    fn limit(&self) -> usize {
        self.limit.unwrap_or(50).clamp(1, 200)
    }
}

async fn captions(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(list): Query<List>,
) -> Result<Json<Value>, Fault> {
    if let Some(id) = &list.camera {
        viewer.camera(&site, id)?;
    }
    let before = list.before()?.and_then(CaptionId::of);
    let scope = viewer.scope();
    if let (Some(from), to) = (time(list.from.as_deref())?, time(list.to.as_deref())?) {
        let span = (from, to.unwrap_or(Millis::now()));
        let kept =
            site.read(|reader| reader.between(&scope, list.camera.as_deref(), span, list.limit()))?;
        return Ok(Json(
            json!({"captions": kept.iter().map(view::caption).collect::<Vec<_>>()}),
        ));
    }
    let kept =
        site.read(|reader| reader.latest(&scope, list.camera.as_deref(), before, list.limit()))?;
    Ok(Json(
        json!({"captions": kept.iter().map(view::caption).collect::<Vec<_>>()}),
    ))
}

async fn thumb(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Path(id): Path<i64>,
) -> Result<Response, Fault> {
    let id = CaptionId::of(id).ok_or(Fault::NotFound)?;
    let scope = viewer.scope();
    let found = site.read(|reader| reader.thumb(&scope, id))?;
    found.map(jpeg).ok_or(Fault::NotFound)
}

async fn find(
    State(site): State<Arc<Site>>,
    viewer: Viewer,
    Query(list): Query<List>,
) -> Result<Json<Value>, Fault> {
    let query = search::Query::parse(&list.q, Millis::now()).map_err(Fault::Wrong)?;
    let query = query.widened(&site.hub.synonyms());
    let scope = viewer.scope();
    let reach = Reach {
        before: list.before()?.and_then(CaptionId::of),
        limit: list.limit(),
        patience: PATIENCE,
    };
    let found = site.read(|reader| reader.search(&scope, &query, &reach))?;
    let visits = found.visits.iter().map(|visit| view::visit(visit, &query));
    Ok(Json(json!({
        "visits": visits.collect::<Vec<_>>(),
        "next": found.next.map(|id| id.number().to_string()),
        "looked_to": found.looked_to.map(|at| at.to_string()),
    })))
}

async fn follow(State(site): State<Arc<Site>>, viewer: Viewer) -> Response {
    let scope = viewer.scope();
    let mut response = Sse::new(stream::events(site, viewer.proof, scope)).into_response();
    // Proxies that collect answers would hold events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
