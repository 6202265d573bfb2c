// SPDX-License-Identifier: MPL-2.0

//! A broker and webhooks, as they are there, go, and come back. The broker is mosquitto.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use vlmcaption_watch::camera::pipeline::Still;
use vlmcaption_watch::camera::supervisor::Heard;
use vlmcaption_watch::config::{Config, Process};
use vlmcaption_watch::heard::{Answer, Begin, Caption, End, Phase};
use vlmcaption_watch::hub::Hub;
use vlmcaption_watch::out::{Out, signature};
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::keeper::Keeper;
use vlmcaption_watch::store::state::Mark;
use vlmcaption_watch::store::writer::Writer;
use vlmcaption_watch::time::Millis;

use crate::live::free_port;
use crate::store::common::NO_LIMITS;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with the test.
pub struct Ends(pub Child);

impl Ends {
    /// Starts a server and waits until it listens on a port of loopback; nothing where it is not installed.
    pub fn listening(command: &mut Command, port: u16) -> Option<Self> {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Self(quiet.spawn().ok()?);
        until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(child)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// mosquitto on loopback, with a user and a password; nothing where there is none.
pub fn broker(port: u16, folder: &Path) -> Option<Ends> {
    let passwords = folder.join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b"])
        .arg(&passwords)
        .args(["watch", PASSWORD])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let file = folder.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\npassword_file {}\nallow_anonymous false\nuser root\npersistence false\n",
        passwords.display()
    );
    std::fs::write(&file, text).unwrap();
    Ends::listening(Command::new("mosquitto").arg("-c").arg(&file), port)
}

pub const PASSWORD: &str = "canary-of-the-broker";

/// What the broker hands to another client.
pub struct Listener {
    _child: Ends,
    lines: Receiver<String>,
    pub seen: Vec<(String, String)>,
}

impl Listener {
    pub fn start(port: u16) -> Self {
        let mut child = Command::new("mosquitto_sub")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-u",
                "watch",
                "-P",
                PASSWORD,
            ])
            .args(["-t", "#", "-q", "1", "-F", "%r %t %p"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            _child: Ends(child),
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a message of this topic that fits.
    pub fn wait(&mut self, topic: &str, fits: impl Fn(&str) -> bool) -> String {
        let found = self.wait_for(PATIENCE, topic, fits);
        found.unwrap_or_else(|| panic!("no fitting {topic} in {:#?}", self.seen))
    }

    /// The same, for so long.
    fn wait_for(
        &mut self,
        time: Duration,
        topic: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let begin = Instant::now();
        loop {
            let left = time.saturating_sub(begin.elapsed());
            let line = self.lines.recv_timeout(left).ok()?;
            let mut parts = line.splitn(3, ' ');
            let _retained = parts.next();
            let of = parts.next().unwrap_or_default().to_owned();
            let payload = parts.next().unwrap_or_default().to_owned();
            self.seen.push((of.clone(), payload.clone()));
            if of == topic && fits(&payload) {
                return Some(payload);
            }
        }
    }
}

fn publish(port: u16, topic: &str, payload: &str) {
    let status = Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-u",
            "watch",
            "-P",
            PASSWORD,
        ])
        .args(["-t", topic, "-m", payload])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The retained messages of a broker, by topic.
pub fn retained(port: u16) -> Vec<(String, String)> {
    let output = Command::new("mosquitto_sub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-u",
            "watch",
            "-P",
            PASSWORD,
        ])
        .args(["-t", "#", "--retained-only", "-F", "%t %p", "-W", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text
        .lines()
        .filter_map(|line| line.split_once(' ').or(Some((line, ""))));
    pairs
        .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
        .collect()
}

pub fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !fits() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A store, a hub that no pipeline is behind, and those who are told.
struct Fixture {
    hub: Arc<Hub>,
    writer: Option<Writer>,
    out: Option<Out>,
    folder: Arc<tempfile::TempDir>,
}

impl Fixture {
    fn new(folder: &Arc<tempfile::TempDir>, text: &str) -> Self {
        let text = format!(
            "{text}\n[storage]\npath = \"{}\"\n",
            folder.path().join("store").display()
        );
        let config = Config::parse(&text, &Process).unwrap();
        let layout = Layout::new(&config.storage.path);
        let keeper = Keeper::open(layout, NO_LIMITS, Millis::now()).unwrap();
        let writer = Writer::start(keeper).unwrap();
        let hub = Arc::new(Hub::new(&config, writer.hand()));
        let out = Out::start(&config, &hub, &writer.status()).unwrap();
        hub.health.set_out(out.standings.clone());
        Self {
            hub,
            writer: Some(writer),
            out: Some(out),
            folder: folder.clone(),
        }
    }

    fn say(&self, camera: &str, text: &str) {
        let now = Millis::now();
        let caption = Caption {
            start: now,
            end: now,
            text: text.into(),
            model: "m".into(),
            thumb: None,
        };
        self.hub.heard(camera, Heard::Caption(caption));
    }

    fn begin(&self, number: u64) {
        let begin = Begin {
            number,
            alarm: "lying".into(),
            at: Millis::now(),
            probability: Some(0.9),
        };
        self.hub.heard("front", Heard::Begin(begin));
    }

    fn end(&self, number: u64) {
        self.end_of("front", "lying", number);
    }

    fn end_of(&self, camera: &str, alarm: &str, number: u64) {
        let end = End {
            number,
            alarm: alarm.into(),
            at: Millis::now(),
            peak: Some(0.95),
            reason: "answer".into(),
        };
        self.hub.heard(camera, Heard::End(end));
    }

    fn standing(&self) -> vlmcaption_watch::out::standing::Now {
        self.hub.health.out()[0].now()
    }

    /// Ends it as the program does.
    fn stop(mut self) {
        self.writer.take().unwrap().end();
        self.out.take().unwrap().end();
    }
}

fn mqtt(port: u16, folder: &Path, more: &str) -> String {
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nuser = \"watch\"\npassword-file = \"{}\"\ninstance = \"test\"\n{more}\n",
        password.display()
    )
}

const CAMERAS: &str = "[[camera]]\nid = \"front\"\nname = \"Front door\"\nurl = \"test:ball\"\n\
    [[camera.alarm]]\nid = \"lying\"\nquestion = \"Is a person lying?\"\ndevice-class = \"safety\"\n\
    [[camera]]\nid = \"back\"\nurl = \"test:ball\"\n";

#[test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
fn a_broker_hears_of_cameras_captions_and_alarms_and_a_will_when_the_program_dies() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let port = free_port();
    let Some(_broker) = broker(port, folder.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let mut listener = Listener::start(port);
    let text = mqtt(port, folder.path(), "discovery = true\ncommands = true") + CAMERAS;
    let fixture = Fixture::new(&folder, &text);
    assert_eq!(listener.wait("vlmwatch/available", |_| true), "online");
    fixture
        .hub
        .heard("front", Heard::Phase(Phase::Live, String::new()));
    listener.wait("vlmwatch/front/status", |payload| payload == "online");
    let long = "A man walks. ".repeat(40);
    fixture.say("front", &long);
    let caption = listener.wait("vlmwatch/front/caption", |payload| {
        payload.contains("A man")
    });
    let caption: Value = serde_json::from_str(&caption).unwrap();
    assert_eq!(caption["text"], long);
    assert!(caption["state"].as_str().unwrap().chars().count() <= 250);
    assert_eq!(caption["repeat"], false);
    let jpeg: Arc<[u8]> = b"\xff\xd8 a still".to_vec().into();
    fixture.hub.still(
        "front",
        Still {
            jpeg,
            at: Millis::now(),
        },
    );
    let answer = Answer {
        alarm: "lying".into(),
        at: Millis::now(),
        probability: 0.9,
    };
    fixture.hub.heard("front", Heard::Answer(answer));
    fixture.begin(1);
    listener.wait("vlmwatch/front/alarm/lying", |payload| payload == "ON");
    let event = listener.wait("vlmwatch/events", |_| true);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(
        (&event["type"], &event["camera"], &event["end"]),
        (&json!("new"), &json!("front"), &Value::Null)
    );
    listener.wait("vlmwatch/front/still", |payload| {
        payload.contains("a still")
    });
    listener.wait("vlmwatch/front/alarm/lying/attributes", |payload| {
        payload.contains("\"event\":\"1\"")
    });
    // It becomes more likely, and somebody sees to it: both are told.
    until("its begin is acknowledged", || fixture.standing().told == 1);
    let surer = || {
        let answer = Answer {
            alarm: "lying".into(),
            at: Millis::now(),
            probability: 0.97,
        };
        fixture.hub.heard("front", Heard::Answer(answer));
    };
    let mut update = None;
    until("it is surer", || {
        surer();
        update = listener.wait_for(Duration::from_millis(100), "vlmwatch/events", |_| true);
        update.is_some()
    });
    let event: Value = serde_json::from_str(&update.unwrap()).unwrap();
    assert_eq!(event["peak"], 0.97);
    assert_eq!(
        (&event["type"], &event["id"], &event["acknowledged"]),
        (&json!("update"), &json!("1"), &json!(false))
    );
    let mark = Mark {
        acknowledged: Some(true),
        false_alarm: Some(true),
        ..Mark::default()
    };
    assert!(fixture.hub.hand().mark(1, mark).unwrap());
    fixture.hub.said_of("front", 1);
    let event = listener.wait("vlmwatch/events", |_| true);
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event["type"], "update");
    assert_eq!(event["peak"], 0.97);
    assert_eq!(
        [
            &event["acknowledged"],
            &event["false_alarm"],
            &event["starred"]
        ],
        [&json!(true), &json!(true), &json!(false)]
    );
    fixture.end(1);
    listener.wait("vlmwatch/front/alarm/lying", |payload| payload == "OFF");
    let event = listener.wait("vlmwatch/events", |_| true);
    assert!(
        event.contains("\"type\":\"end\"") && event.contains("0.95"),
        "{event}"
    );
    until("both are acknowledged", || fixture.standing().told == 2);
    // A question; nobody is behind the camera, and the answer says so.
    publish(port, "vlmwatch/front/ask", "Who is there?");
    let answer = listener.wait("vlmwatch/front/answer", |_| true);
    assert!(answer.contains("switched off"), "{answer}");
    // Nobody is to be told of the back for a while; what is not a number of minutes changes nothing.
    let snoozed = || fixture.hub.camera("back").unwrap().snoozed;
    publish(port, "vlmwatch/back/snooze/set", "481");
    publish(port, "vlmwatch/back/snooze/set", "soon");
    publish(port, "vlmwatch/back/snooze/set", "30");
    until("it is snoozed", || snoozed().is_some());
    let left = snoozed().unwrap().0 - Millis::now().0;
    assert!((29 * 60_000..=30 * 60_000).contains(&left), "{left}");
    publish(port, "vlmwatch/back/snooze/set", "0");
    until("it is no longer", || {
        snoozed().is_some_and(|until| until <= Millis::now())
    });
    // Home Assistant begins anew.
    publish(port, "homeassistant/status", "online");
    listener.wait("homeassistant/device/vlmwatch_test_front/config", |_| true);
    let seen = listener
        .seen
        .iter()
        .map(|(_, payload)| payload.as_str())
        .collect::<String>();
    assert!(!seen.contains("canary"));
    fixture.stop();
    listener.wait("vlmwatch/available", |payload| payload == "stopped");
    let kept = retained(port);
    assert!(
        kept.iter()
            .any(|(topic, _)| topic == "vlmwatch/front/caption"),
        "{kept:?}"
    );
    assert!(
        !kept
            .iter()
            .any(|(topic, _)| topic.ends_with("/answer") || topic == "vlmwatch/events")
    );
    // A camera leaves the file: it leaves Home Assistant.
    let text = mqtt(port, folder.path(), "discovery = true")
        + "[[camera]]\nid = \"front\"\nurl = \"test:ball\"\n";
    let fixture = Fixture::new(&folder, &text);
    listener.wait(
        "homeassistant/device/vlmwatch_test_back/config",
        str::is_empty,
    );
    until("it is gone", || {
        let kept = retained(port);
        !kept.iter().any(|(topic, _)| topic.contains("back"))
    });
    fixture.stop();
}

#[test]
fn a_broker_that_goes_is_told_of_what_it_missed_once_and_is_called_by_name_meanwhile() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let port = free_port();
    let Some(first) = broker(port, folder.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let text = mqtt(port, folder.path(), "") + CAMERAS;
    let fixture = Fixture::new(&folder, &text);
    until("connected", || fixture.standing().well == Some(true));
    drop(first);
    until("the loss is noticed", || {
        fixture.standing().well == Some(false)
    });
    for number in 1..=3 {
        fixture.begin(number);
        fixture.end(number);
    }
    until("all of it waits", || fixture.standing().waiting == 6);
    let standing = fixture.standing();
    assert!(standing.reason.contains("broker"), "{standing:?}");
    assert!(standing.oldest.is_some());
    // The program ends and begins anew, the broker too.
    fixture.stop();
    let _again = broker(port, folder.path()).unwrap();
    let mut listener = Listener::start(port);
    let fixture = Fixture::new(&folder, &text);
    let mut told = Vec::new();
    while told.len() < 6 {
        let event: Value =
            serde_json::from_str(&listener.wait("vlmwatch/events", |_| true)).unwrap();
        told.push(format!(
            "{}{}",
            event["type"].as_str().unwrap(),
            event["id"].as_str().unwrap()
        ));
    }
    assert_eq!(told, ["new1", "end1", "new2", "end2", "new3", "end3"]);
    until("all is acknowledged", || fixture.standing().waiting == 0);
    fixture.stop();
    let fixture = Fixture::new(&folder, &text);
    until("connected", || fixture.standing().well == Some(true));
    std::thread::sleep(Duration::from_millis(1_500));
    let more = listener
        .lines
        .try_iter()
        .filter(|line| line.contains("vlmwatch/events"))
        .count();
    assert_eq!(more, 0, "nothing is told twice");
    fixture.stop();
}

#[test]
fn a_wrong_password_is_said_in_words() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let port = free_port();
    let Some(_broker) = broker(port, folder.path()) else {
        println!("NOT RUN: there is no mosquitto");
        return;
    };
    let text = mqtt(port, folder.path(), "") + CAMERAS;
    std::fs::write(folder.path().join("password"), "canary-wrong").unwrap();
    let fixture = Fixture::new(&folder, &text);
    until("it is refused", || fixture.standing().well == Some(false));
    assert_eq!(
        fixture.standing().reason,
        "the broker refuses user or password"
    );
    fixture.stop();
}

/// Somebody who is told over HTTP: what came, and the status with which he answers.
pub struct Receiver4Hooks {
    pub port: u16,
    pub status: Arc<Mutex<u16>>,
    pub came: Receiver<(String, String)>,
}

impl Receiver4Hooks {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(Mutex::new(200));
        let answer = status.clone();
        let (sender, came) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let code = *answer.lock().unwrap();
                let head_out = format!(
                    "HTTP/1.1 {code} x\r\nContent-Length: 0\r\nLocation: /elsewhere\r\nConnection: close\r\n\r\n"
                );
                let _ = reader.get_mut().write_all(head_out.as_bytes());
                if sender
                    .send((head, String::from_utf8(body).unwrap()))
                    .is_err()
                {
                    return;
                }
            }
        });
        Self { port, status, came }
    }

    fn next(&self) -> (String, String) {
        self.came.recv_timeout(PATIENCE).unwrap()
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn hook(port: u16, folder: &Path) -> String {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    format!(
        "[[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:{port}/hook?token=canary-in-url\"\nsecret-file = \"{}\"\n{CAMERAS}",
        secret.display()
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story, in its order")]
fn a_webhook_gets_signed_cloud_events_and_what_it_missed_after_a_restart() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let receiver = Receiver4Hooks::start();
    let text = hook(receiver.port, folder.path());
    let fixture = Fixture::new(&folder, &text);
    fixture.say("front", "A man lies.");
    fixture.begin(1);
    let (head, body) = receiver.next();
    assert!(
        head.starts_with("POST /hook?token=canary-in-url "),
        "{head}"
    );
    let event: Value = serde_json::from_str(&body).unwrap();
    for (key, value) in [
        ("specversion", "1.0"),
        ("type", "org.vlmcaption.event.begin"),
        ("id", "1-begin"),
        ("source", "/vlmcaption-watch/watch/cameras/front"),
        ("subject", "lying"),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(event[key], value, "{body}");
    }
    assert_eq!(event["data"]["caption"], "A man lies.");
    assert!(Millis::parse(event["time"].as_str().unwrap()).is_some());
    assert!(!body.contains("canary"));
    let header = |name: &str| {
        let line = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.unwrap().split_once(':').unwrap().1.trim().to_owned()
    };
    assert!(header("content-type").starts_with("application/cloudevents+json"));
    let key = signature::key(SECRET).unwrap();
    let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
    assert!((Millis::now().0 / 1_000 - timestamp).abs() < 60);
    let right = signature::signature(&key, &header("webhook-id"), timestamp, &body);
    assert_eq!(header("webhook-signature"), right);
    if let Ok(path) = std::env::var("WATCH_HOOK_SAMPLE") {
        // For whoever checks it with another program.
        std::fs::write(
            path,
            json!({"head": head, "body": body, "secret": SECRET}).to_string(),
        )
        .unwrap();
    }
    // It fails, and is not followed elsewhere; what it missed comes after a restart, in order.
    until("told", || fixture.standing().told == 1);
    *receiver.status.lock().unwrap() = 503;
    fixture.end(1);
    receiver.next();
    until("the failure is known", || {
        fixture.standing().reason.contains("status 503")
    });
    assert!(!fixture.standing().reason.contains("canary"));
    *receiver.status.lock().unwrap() = 302;
    receiver.next();
    until("the failure is known", || {
        fixture.standing().reason.contains("status 302")
    });
    fixture.begin(2);
    fixture.stop();
    // The program was killed here; alarm 2 ends with the next start.
    receiver.came.try_iter().for_each(drop);
    *receiver.status.lock().unwrap() = 204;
    let fixture = Fixture::new(&folder, &text);
    let ids: Vec<Value> = (0..3)
        .map(|_| serde_json::from_str::<Value>(&receiver.next().1).unwrap())
        .map(|event| json!([event["id"], event["data"]["reason"]]))
        .collect();
    assert_eq!(
        json!(ids),
        json!([["1-end", "answer"], ["2-begin", null], ["2-end", "crash"]])
    );
    until("all is told", || fixture.standing().waiting == 0);
    fixture.stop();
    let _ = &folder;
}

#[test]
fn an_alarm_is_told_to_whom_it_names_alone() {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let receiver = Receiver4Hooks::start();
    let text = hook(receiver.port, folder.path())
        .replace("device-class = \"safety\"", "notify = []")
        + "[[camera.alarm]]\nid = \"dog\"\nquestion = \"A dog?\"\nnotify = [\"webhook:ops\"]\n";
    let fixture = Fixture::new(&folder, &text);
    fixture.begin(1);
    let dog = Begin {
        number: 2,
        alarm: "dog".into(),
        at: Millis::now(),
        probability: None,
    };
    fixture.hub.heard("back", Heard::Begin(dog));
    let event: Value = serde_json::from_str(&receiver.next().1).unwrap();
    assert_eq!(event["subject"], "dog");
    until("nothing waits", || fixture.standing().waiting == 0);
    assert!(
        receiver
            .came
            .recv_timeout(Duration::from_millis(300))
            .is_err()
    );
    // A camera that is snoozed: of what begins then neither begin nor end is told, not even later.
    fixture
        .hub
        .snooze("back", Millis::now().plus(Duration::from_secs(600)));
    let dog = Begin {
        number: 3,
        alarm: "dog".into(),
        at: Millis::now(),
        probability: None,
    };
    fixture.hub.heard("back", Heard::Begin(dog));
    std::thread::sleep(Duration::from_millis(1_500));
    fixture.hub.snooze("back", Millis::now());
    fixture.end_of("back", "dog", 3);
    fixture.end_of("back", "dog", 2);
    let event: Value = serde_json::from_str(&receiver.next().1).unwrap();
    assert_eq!(event["id"], "2-end");
    until("nothing waits", || fixture.standing().waiting == 0);
    assert!(
        receiver
            .came
            .recv_timeout(Duration::from_millis(300))
            .is_err()
    );
    let _ = fixture.folder.path();
    fixture.stop();
}
