// SPDX-License-Identifier: MPL-2.0

//! The whole program: its file changes, systemd listens, the disk fills, it is killed, and its secrets stay
//! secret.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use vlmcaption_watch::store::db;
use vlmcaption_watch::store::files::{self, Layout};
use vlmcaption_watch::web::routes::ROUTES;

use crate::live::{CANARY, Running, Site, free_port};
use crate::out::{Listener, Receiver4Hooks, broker, until};
use crate::web::Answer;

/// A client of the page.
struct Client {
    port: u16,
    cookie: String,
}

impl Client {
    /// Makes the first user with the link that the program has printed.
    fn first(running: &mut Running, port: u16) -> Self {
        running.wait_for("#link=");
        let line = running.seen.last().unwrap();
        let link = line
            .split("#link=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        let mut client = Self {
            port,
            cookie: String::new(),
        };
        let body = json!({"link": link, "name": "root", "password": "canary-of-root"}).to_string();
        let (status, head, _) = client.ask("POST", "/api/v1/first", &body);
        assert_eq!(status, 200, "{head}");
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap();
        client.cookie = cookie.split(';').next().unwrap().to_owned();
        client
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, Vec<u8>) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return (0, String::new(), Vec::new());
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(65)))
            .unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nCookie: {}\r\n\r\n{body}",
            self.port,
            body.len(),
            self.cookie
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut part = [0; 8_192];
        // A stream of events does not end by itself.
        let limit = Duration::from_secs(if path.ends_with("/stream") { 2 } else { 70 });
        let begin = Instant::now();
        while begin.elapsed() < limit {
            match stream.read(&mut part) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
        let Answer { status, head, body } = Answer::of(&bytes);
        (status, head, body)
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.ask("GET", path, "").2).unwrap_or(Value::Null)
    }

    fn camera(&self, id: &str) -> Value {
        self.json(&format!("/api/v1/cameras/{id}"))
    }
}

fn server(port: u16) -> String {
    format!("[server]\nlisten = \"127.0.0.1:{port}\"\n")
}

fn rewrite(site: &Site, change: impl Fn(&str) -> String) {
    let file = site.folder.path().join("watch.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // As editors do: the new file takes the old one's place at once.
    let fresh = site.folder.path().join("watch.toml.new");
    std::fs::write(&fresh, change(&text)).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
}

#[test]
fn a_changed_file_changes_what_changed_and_a_bad_one_nothing() {
    let port = free_port();
    let cameras = "[[camera]]\nid = \"bars\"\nurl = \"test:smpte\"\n[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n";
    let site = Site::new(&(server(port) + cameras));
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("both are live", || {
        ["bars", "ball"]
            .iter()
            .all(|id| client.camera(id)["state"] == "live")
    });
    let since = client.camera("bars")["since"].clone();
    // Another prompt, an alarm and a mask: while it plays. The other camera goes, a third comes.
    rewrite(&site, |text| {
        text.replace(
            "id = \"bars\"\n",
            "id = \"bars\"\nname = \"Bars\"\nmasks = [{ x = 0.0, y = 0.0, width = 0.5, height = 0.5 }]\n",
        )
        .replace(
            "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n",
            "[[camera.alarm]]\nid = \"bars\"\nquestion = \"Are there color bars?\"\n[[camera]]\nid = \"snow\"\nurl = \"test:snow\"\n",
        )
    });
    running.wait_for("is read anew");
    until("the third is live", || {
        client.camera("snow")["state"] == "live"
    });
    assert_eq!(client.ask("GET", "/api/v1/cameras/ball", "").0, 404);
    until("the new question is answered", || {
        client.camera("bars")["alarms"][0]["probability"].is_number()
    });
    let bars = client.camera("bars");
    assert_eq!(
        (&bars["since"], &bars["name"], &bars["masked"]),
        (&since, &json!("Bars"), &json!(true))
    );
    // A mistake: the page says which, and the cameras go on. SIGHUP reads it too.
    rewrite(&site, |text| text.replace("window = 2", "windw = 2"));
    let words = |client: &Client| client.json("/api/v1/health")["words"].to_string();
    until("the page says so", || {
        words(&client).contains("did you mean `window`")
    });
    assert_eq!(client.camera("bars")["state"], "live");
    rewrite(&site, |text| text.replace("windw = 2", "window = 2"));
    let pid = running.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    until("all is well again", || words(&client) == "[]");
    running.terminate();
}

#[test]
fn systemd_hears_that_it_is_ready_lives_reloads_and_ends() {
    let site = Site::new("[[camera]]\nid = \"bars\"\nurl = \"test:smpte\"\n");
    let socket = site.folder.path().join("notify");
    let listener = UnixDatagram::bind(&socket).unwrap();
    listener
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut command = site.command(&["run"]);
    command
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "4000000");
    let mut running = Running::start(command);
    let hear = |wanted: &str| {
        let mut buffer = [0; 256];
        loop {
            let n = listener
                .recv(&mut buffer)
                .unwrap_or_else(|_| panic!("no {wanted}"));
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.contains(wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    (0..3).for_each(|_| hear("WATCHDOG=1"));
    let pid = running.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-HUP", &pid])
            .status()
            .unwrap()
            .success()
    );
    hear("RELOADING=1\nMONOTONIC_USEC=");
    hear("READY=1");
    running.terminate();
    hear("STOPPING=1");
}

/// All files below a folder.
fn walk(folder: &Path, each: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            walk(&entry.path(), each);
        } else {
            each(&entry.path());
        }
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes
        .windows(word.len())
        .any(|part| part == word.as_bytes())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
fn no_secret_is_in_an_answer_a_log_a_message_a_number_or_a_file() {
    let (port, mqtt) = (free_port(), free_port());
    let elsewhere = tempfile::tempdir().unwrap();
    let Some(_broker) = broker(mqtt, elsewhere.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let mut listener = Listener::start(mqtt);
    let hook = Receiver4Hooks::start();
    let secrets = elsewhere.path();
    std::fs::write(secrets.join("mqtt"), crate::out::PASSWORD).unwrap();
    std::fs::write(secrets.join("hook"), "canary-of-the-hook-1234").unwrap();
    std::fs::write(secrets.join("proxy"), "canary-of-the-proxy-1234").unwrap();
    let at = secrets.display();
    let text = format!(
        "{}trusted-proxies = [\"127.0.0.9\"]\nauth = {{ proxy-header = \"X-User\", secret-file = \"{at}/proxy\" }}\n\
         [mqtt]\nurl = \"mqtt://127.0.0.1:{mqtt}\"\nuser = \"watch\"\npassword-file = \"{at}/mqtt\"\ndiscovery = true\ncommands = true\n\
         [[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:{}/?token=canary-in-the-url\"\nsecret-file = \"{at}/hook\"\n\
         [[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"ball\"\nquestion = \"Is there a white circle?\"\n\
         [[camera]]\nid = \"far\"\nurl = \"rtsp://u:canary-typed@127.0.0.1:1/s?password=canary-in-query\"\n\
         [[camera]]\nid = \"near\"\nurl = \"rtsp://127.0.0.1:1/s\"\nuser = \"u\"\npassword-env = \"WATCH_CANARY\"\n",
        server(port),
        hook.port
    );
    let site = Site::new(&text);
    let mut command = site.command(&["run", "--verbose"]);
    command.arg("--print");
    let mut running = Running::start(command);
    let client = Client::first(&mut running, port);
    let words = ["canary", CANARY];
    let (head, body) = hook.came.recv_timeout(Duration::from_secs(60)).unwrap();
    // The receiver's own address is his to know.
    let head = head.replace("canary-in-the-url", "");
    assert!(
        words
            .iter()
            .all(|word| !head.contains(word) && !body.contains(word)),
        "{head}{body}"
    );
    listener.wait("vlmwatch/events", |_| true);
    until("a caption is kept", || {
        client.json("/api/v1/captions")["captions"][0].is_object()
    });
    let id = client.json("/api/v1/captions")["captions"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for camera in ["ball", "far", "near"] {
        for (method, path, _) in ROUTES
            .iter()
            .filter(|(_, path, _)| !path.ends_with("/logout"))
        {
            let path = path.replace("{camera}", camera).replace("{id}", &id);
            // A stream is the same whatever is sent.
            let bodies = if path.ends_with("/stream") { 1 } else { 3 };
            for body in ["{}", "{\"text\": \"who?\"}", "nonsense"]
                .into_iter()
                .take(bodies)
            {
                let (status, head, body) = client.ask(method, &path, body);
                assert_ne!(status, 500, "{method} {path}");
                assert!(
                    words
                        .iter()
                        .all(|word| !has(head.as_bytes(), word) && !has(&body, word)),
                    "{method} {path}"
                );
            }
        }
    }
    running.terminate();
    listener.wait("vlmwatch/available", |payload| payload == "stopped");
    let said = listener
        .seen
        .iter()
        .map(|(topic, payload)| format!("{topic} {payload}\n"))
        .collect::<String>();
    let log = running.seen.join("\n");
    for (what, text) in [("mqtt", &said), ("log", &log)] {
        assert!(
            words.iter().all(|word| !text.contains(word)),
            "{what}: {text}"
        );
    }
    assert!(log.contains("camera far") && said.contains("alarm/ball"));
    let mut n_files = 0;
    walk(&site.store(), &mut |path| {
        n_files += 1;
        let bytes = std::fs::read(path).unwrap();
        assert!(
            words.iter().all(|word| !has(&bytes, word)),
            "{}",
            path.display()
        );
    });
    assert!(n_files >= 5, "{n_files}");
    let doctor = site.command(&["doctor"]).output().unwrap();
    assert!(
        words
            .iter()
            .all(|word| !has(&doctor.stdout, word) && !has(&doctor.stderr, word))
    );
}

#[test]
fn a_full_disk_is_said_on_the_page_and_is_over_once_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    let mut mounting = Command::new("mount");
    mounting
        .args(["-t", "tmpfs", "-o", "size=8m", "none"])
        .arg(&mount)
        .stderr(Stdio::null());
    if !mounting.status().is_ok_and(|status| status.success()) {
        println!("NOT RUN: mounting a small disk needs root");
        return;
    }
    let outcome = std::panic::catch_unwind(|| full_disk(&mount));
    assert!(
        Command::new("umount")
            .arg(&mount)
            .status()
            .unwrap()
            .success()
    );
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn full_disk(mount: &Path) {
    let port = free_port();
    let site = Site::new(&(server(port) + "[[camera]]\nid = \"ball\"\nurl = \"test:ball\"\n"));
    let store = mount.join("store");
    rewrite(&site, |text| {
        text.replace(
            &site.store().display().to_string(),
            &store.display().to_string(),
        )
    });
    let mut running = Running::start(site.command(&["run"]));
    let client = Client::first(&mut running, port);
    until("captions are kept", || {
        client.json("/api/v1/health")["captions"].as_u64() > Some(0)
    });
    let ballast = mount.join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    drop(file);
    assert!(files::free(mount).unwrap() < 65_536);
    let full = || {
        let health = client.json("/api/v1/health");
        health["words"].to_string().contains("disk is full")
    };
    until("the page says so", full);
    assert_eq!(client.ask("GET", "/health/ready", "").0, 503);
    assert_eq!(client.camera("ball")["state"], "live");
    std::fs::remove_file(&ballast).unwrap();
    until("it is over", || {
        client.ask("GET", "/health/ready", "").0 == 200
    });
    assert_eq!(client.json("/api/v1/health")["lost"], 0);
    running.terminate();
}

/// 3 times by default; `WATCH_KILLS=50` for more.
#[test]
fn the_program_killed_while_alarms_come_leaves_a_sound_store_and_no_open_alarm() {
    let rounds = std::env::var("WATCH_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3);
    let cameras: String = (0..4)
        .map(|n| {
            format!(
                "[[camera]]\nid = \"ball{n}\"\nurl = \"test:ball\"\n[[camera.alarm]]\nid = \"ball\"\nquestion = \"Is there a white circle?\"\n"
            )
        })
        .collect();
    let site = Site::new(&cameras);
    let layout = Layout::new(&site.store());
    let open = |layout: &Layout| -> i64 {
        let state = db::open_to_read(&layout.state()).unwrap();
        state
            .query_row("SELECT count(*) FROM event WHERE end IS NULL", [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    let mut were_open = 0;
    for round in 0..rounds {
        let mut running = Running::start(site.command(&["run"]));
        running.wait_for("alarm ball begins");
        std::thread::sleep(Duration::from_millis(37 * (round % 11)));
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        for path in std::iter::once(layout.state())
            .chain(layout.weeks().iter().map(|week| layout.week(*week)))
        {
            assert_eq!(db::damage(&path), None, "round {round}: {}", path.display());
        }
        were_open += open(&layout);
    }
    assert!(were_open > 0, "it was never killed during an alarm");
    let begin = Instant::now();
    let mut running = Running::start(site.command(&["run", "--seconds", "1"]));
    running.wait_for("they end now, reason=crash");
    running.wait_for("ending");
    running.child.wait().unwrap();
    assert_eq!(open(&layout), 0);
    println!(
        "{rounds} kills, {were_open} alarms were open, the last start took {:?}",
        begin.elapsed()
    );
}
