// SPDX-License-Identifier: MPL-2.0

//! The routes, and who may use them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, response::AppendHeaders};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::accounts::User;
use crate::log;
use crate::search;
use crate::store::reader::CaptionId;
use crate::time::Millis;

use super::asking::{COOKIE, Fault, Viewer, is_foreign, number, time};
use super::site::Site;
use super::{alarms, stream, timeline, video, view};

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
    ("GET", "/player.js", false),
    ("GET", "/alarms.js", false),
    ("GET", "/search.js", false),
    ("GET", "/timeline.js", false),
    ("GET", "/style.css", false),
    ("GET", "/icon.svg", false),
    ("GET", "/health/live", false),
    ("GET", "/health/ready", false),
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
];

/// All of it.
pub fn router(site: Arc<Site>) -> Router {
    let api = Router::new()
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
        .route("/health", get(health));
    files()
        .route("/health/live", get(|| async { "ok\n" }))
        .route("/health/ready", get(ready))
        .nest("/api/v1", api)
        .fallback(|| async { Fault::NotFound })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(same_site))
        .layer(middleware::from_fn(headers))
        .with_state(site)
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

fn set_cookie(token: &str, seconds: u32) -> AppendHeaders<[(header::HeaderName, String); 1]> {
    let value = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}");
    AppendHeaders([(header::SET_COOKIE, value)])
}

/// Refuses what another site has a browser send: whatever changes something says where it comes from.
async fn same_site(request: Request, next: Next) -> Result<Response, Fault> {
    if is_foreign(request.method(), request.headers()) {
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

async fn ready(State(site): State<Arc<Site>>) -> (StatusCode, &'static str) {
    if site.store.lock().unwrap().trouble.is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "the store has trouble\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

#[derive(Deserialize)]
struct Login {
    name: String,
    password: String,
}

async fn login(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<SocketAddr>,
    Json(login): Json<Login>,
) -> Result<Response, Fault> {
    let address = format!("address {}", peer.ip());
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
            login.name,
            peer.ip()
        ));
        return Err(Fault::Wrong("name or password is wrong".into()));
    };
    site.limiter.lock().unwrap().succeeded(&keys);
    begin(&site, &user, peer)
}

#[derive(Deserialize)]
struct First {
    link: String,
    name: String,
    password: String,
}

async fn first(
    State(site): State<Arc<Site>>,
    Extension(peer): Extension<SocketAddr>,
    Json(first): Json<First>,
) -> Result<Response, Fault> {
    let address = format!("address {}", peer.ip());
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
    begin(&site, &made?, peer)
}

fn begin(site: &Site, user: &User, peer: SocketAddr) -> Result<Response, Fault> {
    let token = site.sessions(|accounts| accounts.begin(user, Millis::now()))?;
    log::info(format!("{} logged in from {}", user.name, peer.ip()));
    Ok((set_cookie(&token, 30 * 86_400), Json(who(user))).into_response())
}

async fn logout(State(site): State<Arc<Site>>, viewer: Viewer) -> Result<Response, Fault> {
    site.sessions(|accounts| accounts.end(&viewer.token))?;
    Ok((set_cookie("", 0), Json(json!({}))).into_response())
}

async fn me(viewer: Viewer) -> Json<Value> {
    Json(who(&viewer.user))
}

fn who(user: &User) -> Value {
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
    let query = query.widened(site.hub.synonyms());
    let scope = viewer.scope();
    let found = site.read(|reader| reader.search(&scope, &query, list.limit()))?;
    Ok(Json(
        json!({"visits": found.iter().map(|visit| view::visit(visit, &query)).collect::<Vec<_>>()}),
    ))
}

async fn follow(State(site): State<Arc<Site>>, viewer: Viewer) -> Response {
    let scope = viewer.scope();
    let mut response = Sse::new(stream::events(site, viewer.token, scope)).into_response();
    // Proxies that collect answers would hold events back.
    response
        .headers_mut()
        .insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn health(State(site): State<Arc<Site>>, _viewer: Viewer) -> Json<Value> {
    let status = site.store.lock().unwrap().clone();
    Json(json!({
        "captions": status.captions,
        "lost": status.lost,
        "trouble": status.trouble,
        "notes": status.notes,
        "no_room_for_pictures": status.at_the_floor,
    }))
}
