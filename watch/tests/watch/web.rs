// SPDX-License-Identifier: MPL-2.0

//! The page's server over real connections: who may ask for what, and what other sites may not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use vlmcaption_watch::accounts::{Accounts, User};
use vlmcaption_watch::camera::pipeline::Still;
use vlmcaption_watch::camera::supervisor::Heard;
use vlmcaption_watch::config::{Config, Process};
use vlmcaption_watch::heard::{Begin, Caption, Phase};
use vlmcaption_watch::hub::{Hub, Wish};
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::keeper::Keeper;
use vlmcaption_watch::store::reader::{Reader, Scope};
use vlmcaption_watch::store::retention::Limits;
use vlmcaption_watch::store::writer::Writer;
use vlmcaption_watch::time::Millis;
use vlmcaption_watch::web::Server;
use vlmcaption_watch::web::routes::ROUTES;
use vlmcaption_watch::web::site::Site;

pub const PASSWORD: &str = "canary-long-enough";

/// A server with two cameras that no pipeline is behind, and two users: ann sees all, bob the front.
pub struct Fixture {
    pub hub: Arc<Hub>,
    pub server: Server,
    pub folder: tempfile::TempDir,
    /// The writer, while there is one.
    writer: Option<Writer>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// What a server has said until it closed.
    pub fn of(bytes: &[u8]) -> Self {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0);
        Self {
            status,
            head,
            body: bytes.get(end + 4..).unwrap_or_default().to_vec(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Fixture {
    /// All that was handed over is written, and nothing that comes is.
    pub fn new() -> Self {
        Self::with("")
    }

    /// One with more in its file.
    pub fn with(more: &str) -> Self {
        let mut fixture = Self::keeping_with(more);
        fixture.writer.take().unwrap().end();
        fixture
    }

    /// What comes is kept.
    pub fn keeping() -> Self {
        Self::keeping_with("")
    }

    fn keeping_with(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let limits = Limits {
            max_size: u64::MAX,
            keep_free: 0,
            captions: Duration::MAX,
            thumbnails: Duration::MAX,
            clips: Duration::MAX,
        };
        let keeper = Keeper::open(layout.clone(), limits, Millis::now()).unwrap();
        let writer = Writer::start(keeper).unwrap();
        let text = "[[camera]]\nid = \"front\"\nurl = \"rtsp://127.0.0.1:9/a\"\n[[camera]]\nid = \"back\"\nurl = \"rtsp://127.0.0.1:9/b\"\n\
                    [[camera.alarm]]\nid = \"dog\"\nquestion = \"A dog?\"\n";
        let config = Config::parse(&format!("{more}{text}"), &Process).unwrap();
        let hub = Arc::new(Hub::new(&config, writer.hand()));
        for camera in ["front", "back"] {
            let now = Millis::now();
            let jpeg: Arc<[u8]> = vec![0xff, 0xd8, 7].into();
            hub.still(
                camera,
                Still {
                    jpeg: jpeg.clone(),
                    at: now,
                },
            );
            hub.heard(camera, Heard::Phase(Phase::Live, String::new()));
            let text = format!("A dog in {camera}.");
            let caption = Caption {
                start: now,
                end: now,
                text,
                model: "m".into(),
                thumb: Some(jpeg),
            };
            hub.heard(camera, Heard::Caption(caption));
        }
        let begin = Begin {
            number: 1,
            alarm: "dog".into(),
            at: Millis::now(),
            probability: Some(0.9),
        };
        hub.heard("back", Heard::Begin(begin));
        let status = writer.status();
        let clip = layout.clip("back", 1);
        std::fs::create_dir_all(clip.parent().unwrap()).unwrap();
        std::fs::write(&clip, b"0123456789").unwrap();
        let accounts = Accounts::open(&layout).unwrap();
        let user = |name: &str, cameras: Option<&str>| User {
            name: name.into(),
            admin: false,
            cameras: cameras.map(|id| [id.to_owned()].into()),
        };
        accounts.add(&user("ann", None), PASSWORD).unwrap();
        accounts.add(&user("bob", Some("front")), PASSWORD).unwrap();
        let admin = User {
            admin: true,
            ..user("root", None)
        };
        accounts.add(&admin, PASSWORD).unwrap();
        let site = Site::new(hub.clone(), status, &layout).unwrap();
        let server = Server::start("127.0.0.1:0".parse().unwrap(), site).unwrap();
        Self {
            hub,
            server,
            folder,
            writer: Some(writer),
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
    }

    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            self.server.address,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // Who sends too much may be cut off while he does.
        let _ = stream.write_all(body.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        Answer::of(&bytes)
    }

    pub fn get(&self, path: &str, session: &str) -> Answer {
        self.send("GET", path, session, "")
    }

    /// The header that a browser sends once somebody is logged in.
    pub fn log_in(&self, name: &str) -> String {
        let body = json!({"name": name, "password": PASSWORD}).to_string();
        let answer = self.send("POST", "/api/v1/login", "", &body);
        assert_eq!(answer.status, 200, "{}", answer.head);
        let cookie = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap();
        for word in ["HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(word), "{cookie}");
        }
        format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
    }
}

fn of_camera(path: &str, camera: &str) -> String {
    path.replace("{camera}", camera)
        .replace("{id}", "1")
        .replace("{event}", "1")
}

#[test]
fn all_but_the_page_and_the_log_in_need_a_session() {
    let fixture = Fixture::new();
    for (method, path, needs) in ROUTES {
        let path = of_camera(path, "front");
        for cookie in [
            "",
            "Cookie: vlmcaption-watch=0123456789abcdef\r\n",
            "Cookie: vlmcaption-watch=\r\n",
        ] {
            let answer = fixture.send(method, &path, cookie, "{}");
            assert_eq!(
                answer.status == 401,
                *needs,
                "{method} {path}: {}",
                answer.head
            );
            if *needs {
                assert_eq!(answer.json()["error"]["code"], "no-session");
            }
        }
    }
}

#[test]
fn the_table_of_routes_has_every_route() {
    let source = include_str!("../../src/web/routes.rs");
    // One more: the path of the page without its slash.
    assert_eq!(source.matches(".route(").count(), ROUTES.len() + 1);
}

#[test]
fn somebody_with_one_camera_sees_nothing_of_another() {
    let fixture = Fixture::new();
    let (ann, bob) = (fixture.log_in("ann"), fixture.log_in("bob"));
    let mut reader = Reader::new(Layout::new(fixture.folder.path()));
    let kept = reader.latest(&Scope::All, Some("back"), None, 1).unwrap();
    let id = kept[0].id.number().to_string();
    let of_cameras = |path: &str| {
        path.contains('{') && !path.contains("/sessions/") && !path.contains("/tokens/")
    };
    for (method, path, _) in ROUTES.iter().filter(|(_, path, _)| of_cameras(path)) {
        let missing = path
            .replace("{camera}", "nowhere")
            .replace("{id}", "77")
            .replace("{event}", "77");
        let path = path
            .replace("{camera}", "back")
            .replace("{id}", &id)
            .replace("{event}", "1");
        let body = json!({"text": ""}).to_string();
        let (of_ann, of_bob) = (
            fixture.send(method, &path, &ann, &body),
            fixture.send(method, &path, &bob, &body),
        );
        assert_ne!(of_ann.status, 404, "{path}");
        assert_eq!(of_bob.status, 404, "{path}");
        // Not a word that tells it from a camera that is not there.
        let nowhere = fixture.send(method, &missing, &bob, &body);
        assert_eq!(of_bob.body, nowhere.body, "{path}");
    }
    for path in [
        "cameras",
        "captions",
        "captions?from=2020-01-01T00:00:00Z",
        "search?q=dog",
        "search?q=alarm:dog",
        "events",
        "timeline",
        "moment",
    ] {
        let path = format!("/api/v1/{path}");
        let text = |session: &str| String::from_utf8(fixture.get(&path, session).body).unwrap();
        assert!(text(&ann).contains("back"), "{path}: {}", text(&ann));
        assert!(!text(&bob).contains("back"), "{path}: {}", text(&bob));
    }
    assert_eq!(
        fixture.get("/api/v1/captions?camera=back", &bob).status,
        404
    );
    assert_eq!(
        fixture
            .get("/api/v1/search?q=camera:back%20dog", &bob)
            .json()["visits"],
        json!([])
    );
}

#[test]
fn another_site_changes_nothing() {
    let fixture = Fixture::new();
    let ann = fixture.log_in("ann");
    let body = json!({"text": "who?"}).to_string();
    let ours = format!(
        "{ann}Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n",
        fixture.server.address
    );
    for foreign in [
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for path in [
            "/api/v1/cameras/front/ask",
            "/api/v1/logout",
            "/api/v1/login",
        ] {
            let answer = fixture.send("POST", path, &format!("{ann}{foreign}"), &body);
            assert_eq!(answer.status, 403, "{path} {foreign}");
        }
    }
    assert_eq!(
        fixture.send("POST", "/api/v1/logout", &ours, "{}").status,
        200
    );
    assert_eq!(fixture.get("/api/v1/me", &ann).status, 401);
}

#[test]
fn every_answer_tells_the_browser_to_run_nothing_foreign() {
    let fixture = Fixture::new();
    let ann = fixture.log_in("ann");
    for path in [
        "/",
        "/app.js",
        "/api/v1/cameras",
        "/api/v1/cameras/front/still.jpg",
        "/nowhere",
        "/api/v1/cameras/x",
    ] {
        let answer = fixture.get(path, &ann);
        for line in [
            "script-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
        ] {
            assert!(answer.head.contains(line), "{path}: {}", answer.head);
        }
    }
}

#[test]
fn guessing_is_slowed_down_and_no_password_comes_back() {
    let fixture = Fixture::new();
    let guess = |name: &str| {
        let body = json!({"name": name, "password": "canary-guess"}).to_string();
        fixture.send("POST", "/api/v1/login", "", &body)
    };
    for _ in 0..5 {
        let answer = guess("ann");
        assert_eq!(answer.status, 400);
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
    }
    assert_eq!(guess("ann").status, 429);
    assert_eq!(guess("bob").status, 429);
    let right = json!({"name": "ann", "password": PASSWORD}).to_string();
    assert_eq!(
        fixture.send("POST", "/api/v1/login", "", &right).status,
        429
    );
}

#[test]
fn no_path_leads_to_a_file_and_a_large_body_is_not_read() {
    let fixture = Fixture::new();
    let ann = fixture.log_in("ann");
    for path in [
        "/../state.db",
        "/..%2fstate.db",
        "/api/v1/cameras/..%2f..%2fusers.db/still.jpg",
        "/api/v1/captions/..%2f1/thumb.jpg",
        "//etc/passwd",
        "/api/v1/captions/-1/thumb.jpg",
        "/api/v1/captions/99999999999999999999/thumb.jpg",
        "/api/v1/cameras/%00/still.jpg",
    ] {
        let status = fixture.get(path, &ann).status;
        assert!((400..=404).contains(&status), "{path}: {status}");
    }
    let large = json!({"text": "x".repeat(70_000)}).to_string();
    let status = fixture
        .send("POST", "/api/v1/cameras/front/ask", &ann, &large)
        .status;
    // 0: the connection was cut before the answer could be read.
    assert!([0, 413].contains(&status), "{status}");
}

#[test]
fn a_found_caption_comes_with_its_marks_and_picture() {
    let fixture = Fixture::new();
    let ann = fixture.log_in("ann");
    let found = fixture
        .get("/api/v1/search?q=dog%20camera:front", &ann)
        .json();
    let visit = &found["visits"][0];
    assert_eq!(
        (visit["caption"].as_str(), &visit["marks"]),
        (Some("A dog in front."), &json!([[2, 5]]))
    );
    let path = format!(
        "/api/v1/captions/{}/thumb.jpg",
        visit["id"].as_str().unwrap()
    );
    assert_eq!(fixture.get(&path, &ann).body, [0xff, 0xd8, 7]);
    assert_eq!(fixture.get("/api/v1/search?q=-dog", &ann).status, 400);
    let events = fixture.get("/api/v1/events", &ann).json();
    assert_eq!(events["events"][0]["alarm"], "dog");
}

#[test]
fn a_stream_tells_of_every_camera_and_then_of_each_change_and_of_nobody_else_s() {
    let fixture = Fixture::new();
    let bob = fixture.log_in("bob");
    let mut stream = fixture.connect();
    let head = format!(
        "GET /api/v1/stream HTTP/1.1\r\nHost: {}\r\n{bob}\r\n",
        fixture.server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut next = || loop {
        if let Some(data) = lines.next().unwrap().strip_prefix("data: ") {
            return serde_json::from_str::<Value>(data).unwrap();
        }
    };
    assert_eq!(next()["id"], "front");
    let now = Millis::now();
    let caption = |text: &str| Caption {
        start: now,
        end: now,
        text: text.into(),
        model: "m".into(),
        thumb: None,
    };
    fixture
        .hub
        .heard("back", Heard::Caption(caption("A secret.")));
    fixture.hub.heard(
        "front",
        Heard::Caption(caption("<script>alert(1)</script>\n\nevent: x")),
    );
    let told = next();
    assert_eq!(told["id"], "front");
    assert_eq!(
        told["caption"]["text"],
        "<script>alert(1)</script>\n\nevent: x"
    );
}

#[test]
fn one_address_holds_64_connections_at_most() {
    let fixture = Fixture::new();
    let held: Vec<TcpStream> = (0..64).map(|_| fixture.connect()).collect();
    let mut more = fixture.connect();
    let mut byte = [0];
    // Closed by the server, in one way or the other.
    let _ = more.write_all(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(more.read(&mut byte), Ok(0) | Err(_)));
    drop(held);
    let begin = std::time::Instant::now();
    let served = || {
        let mut stream = fixture.connect();
        let _ =
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let mut text = String::new();
        stream.read_to_string(&mut text).is_ok() && text.contains("200 OK")
    };
    while !served() {
        assert!(begin.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_viewer_neither_tries_thresholds_nor_switches_a_camera_and_an_admin_does() {
    let fixture = Fixture::new();
    let (ann, bob, root) = (
        fixture.log_in("ann"),
        fixture.log_in("bob"),
        fixture.log_in("root"),
    );
    let fires = "/api/v1/cameras/back/fires?alarm=dog&on=0.9&off=0.2";
    let enabled = "/api/v1/cameras/back/enabled";
    let ours = |who: &str| format!("{who}Sec-Fetch-Site: same-origin\r\n");
    for (who, status) in [(&ann, 403), (&bob, 404), (&root, 200)] {
        assert_eq!(fixture.get(fires, who).status, status);
    }
    let ann_s = fixture.send("POST", enabled, &ours(&ann), "{\"on\":false}");
    assert_eq!(ann_s.status, 403);
    assert_eq!(ann_s.json()["error"]["code"], "admin-only");
    let bob_s = fixture.send("POST", enabled, &ours(&bob), "{\"on\":false}");
    assert_eq!(bob_s.status, 404);
    // Whoever watches the cameras hears of the admin's wish, and of no other.
    let wishes = fixture.hub.wishes();
    let root_s = fixture.send("POST", enabled, &ours(&root), "{\"on\":false}");
    assert_eq!((root_s.status, &root_s.json()["on"]), (200, &json!(false)));
    let heard: Vec<Wish> = wishes.try_iter().collect();
    assert_eq!(heard, [Wish::Switch("back".into(), false)]);
    let wrong = fixture.send("POST", enabled, &ours(&root), "{\"on\":1}");
    assert!((400..500).contains(&wrong.status), "{}", wrong.status);
}
