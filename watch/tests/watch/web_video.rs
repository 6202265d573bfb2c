// SPDX-License-Identifier: MPL-2.0

//! Video, clips and alarms over real connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};

use vlmcaption_watch::time::Millis;
use vlmcaption_watch::video::boxes;
use vlmcaption_watch::video::format::{Codec, Format};
use vlmcaption_watch::video::ring::Coming;

use crate::web::Fixture;

/// Hands a picture to a camera's ring.
fn picture(fixture: &Fixture, camera: &str, n: i64, key: bool) {
    large_picture(fixture, camera, (n, key), 0);
}

/// One with so many bytes after its name.
fn large_picture(fixture: &Fixture, camera: &str, (n, key): (i64, bool), more: usize) {
    let format = Format {
        codec: Codec::H264,
        config: vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe0, 0],
        width: 640,
        height: 360,
    };
    let coming = Coming {
        key,
        pts: 40_000_000 * n,
        at: Millis::now(),
        data: Arc::from(format!("picture {n}{}", "\n".repeat(more)).into_bytes()),
    };
    fixture.hub.rings()[camera].push(format, coming);
}

/// Asks for a socket; the status, and the connection after the head of the answer.
fn open(fixture: &Fixture, camera: &str, headers: &str) -> (u16, TcpStream) {
    let mut stream = fixture.connect();
    let head = format!(
        "GET /api/v1/cameras/{camera}/live HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n",
        fixture.server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let status = String::from_utf8_lossy(&answer);
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    (status, stream)
}

/// The next message: its kind, and what is in it (RFC 6455, 5.2; a server masks nothing).
fn message(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let length = match head[1] {
        126 => {
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes).unwrap();
            usize::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes).unwrap();
            usize::try_from(u64::from_be_bytes(bytes)).unwrap()
        }
        length => usize::from(length),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    (head[0] & 0x0f, body)
}

fn ours(fixture: &Fixture, session: &str) -> String {
    format!("{session}Origin: http://{}\r\n", fixture.server.address)
}

#[test]
fn video_is_a_type_a_head_and_fragments_from_a_keyframe_on() {
    let fixture = Fixture::new();
    let ann = ours(&fixture, &fixture.log_in("ann"));
    assert_eq!(open(&fixture, "front", &ann).0, 400, "nothing has come yet");
    for n in 0..8 {
        picture(&fixture, "front", n, n % 5 == 0);
    }
    let seen = fixture.get("/api/v1/cameras/front", &ann).json();
    assert_eq!(seen["live"], "h264");
    let (status, mut stream) = open(&fixture, "front", &ann);
    assert_eq!(status, 101);
    picture(&fixture, "front", 8, false);
    let (kind, text) = message(&mut stream);
    let told: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(kind, 1);
    assert_eq!(told["mime"], "video/mp4; codecs=\"avc1.42c01e\"");
    let (kind, head) = message(&mut stream);
    assert_eq!(kind, 2);
    assert!(boxes::find(&head, b"moov").is_some());
    let mut pictures = Vec::new();
    while pictures.len() < 4 {
        let (kind, fragment) = message(&mut stream);
        assert_eq!(kind, 2);
        let data = boxes::find(&fragment, b"mdat").unwrap();
        let text = String::from_utf8_lossy(data).into_owned();
        pictures.extend(text.split("picture ").skip(1).map(str::to_owned));
    }
    assert_eq!(pictures, ["5", "6", "7", "8"]);
    // Another connection of the camera: its times begin anew, and so does who looks.
    fixture.hub.rings()["front"].begin();
    picture(&fixture, "front", 0, true);
    let (kind, why) = message(&mut stream);
    assert_eq!(kind, 8);
    assert!(String::from_utf8_lossy(&why).contains("begins anew"));
}

/// The numbers of the pictures in a message.
fn numbers(fragment: &[u8]) -> Vec<i64> {
    let data = boxes::find(fragment, b"mdat").unwrap_or_default();
    let text = String::from_utf8_lossy(data).into_owned();
    let names = text.split("picture ").skip(1);
    names.map(|name| name.trim().parse().unwrap()).collect()
}

#[test]
fn who_is_too_slow_goes_on_at_a_keyframe_and_gets_the_latest() {
    let fixture = Fixture::new();
    let ann = ours(&fixture, &fixture.log_in("ann"));
    picture(&fixture, "front", 0, true);
    let (status, mut stream) = open(&fixture, "front", &ann);
    assert_eq!(status, 101);
    // 80 MB, eighty seconds at 25 pictures a second, of which nobody reads anything.
    for n in 1..2_000 {
        large_picture(&fixture, "front", (n, n % 25 == 0), 40_000);
        if n % 25 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    let mut seen: Vec<i64> = Vec::new();
    while seen.last() != Some(&1_999) {
        let (kind, fragment) = message(&mut stream);
        assert!(kind <= 2, "{kind}");
        seen.extend(numbers(&fragment));
    }
    let leaps = seen.windows(2).filter(|pair| pair[1] != pair[0] + 1);
    let leaps: Vec<i64> = leaps.map(|pair| pair[1]).collect();
    assert!(
        !leaps.is_empty() && seen.len() < 1_500,
        "{} pictures",
        seen.len()
    );
    assert!(leaps.iter().all(|n| n % 25 == 0), "{leaps:?}");
}

#[test]
fn another_site_cannot_open_a_socket_with_this_session() {
    let fixture = Fixture::new();
    picture(&fixture, "front", 0, true);
    let ann = fixture.log_in("ann");
    for foreign in [
        "",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:1\r\n",
    ] {
        let (status, _) = open(&fixture, "front", &format!("{ann}{foreign}"));
        assert_eq!(status, 403, "{foreign}");
    }
    let nobody = format!("Origin: http://{}\r\n", fixture.server.address);
    assert_eq!(open(&fixture, "front", &nobody).0, 401);
    picture(&fixture, "back", 0, true);
    let bob = ours(&fixture, &fixture.log_in("bob"));
    assert_eq!(open(&fixture, "back", &bob).0, 404);
    assert_eq!(open(&fixture, "front", &bob).0, 101);
}

#[test]
fn eight_look_at_video_and_a_place_is_free_again_when_one_goes() {
    let fixture = Fixture::new();
    picture(&fixture, "front", 0, true);
    let ann = ours(&fixture, &fixture.log_in("ann"));
    let mut held: Vec<TcpStream> = (0..8)
        .map(|_| {
            let (status, stream) = open(&fixture, "front", &ann);
            assert_eq!(status, 101);
            stream
        })
        .collect();
    let first = || message(&mut open(&fixture, "front", &ann).1);
    let (kind, why) = first();
    assert_eq!(kind, 8);
    assert!(String::from_utf8_lossy(&why).contains("8 look at video"));
    held.pop();
    let begin = std::time::Instant::now();
    while first().0 != 1 {
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }
}

#[test]
fn a_session_that_ends_ends_its_video() {
    let fixture = Fixture::new();
    picture(&fixture, "front", 0, true);
    let session = fixture.log_in("ann");
    let ann = ours(&fixture, &session);
    let (_, mut stream) = open(&fixture, "front", &ann);
    fixture.send("POST", "/api/v1/logout", &session, "{}");
    loop {
        let (kind, why) = message(&mut stream);
        if kind == 8 {
            assert!(String::from_utf8_lossy(&why).contains("session"));
            break;
        }
    }
}

#[test]
fn a_clip_is_given_whole_or_in_part() {
    let fixture = Fixture::new();
    let ann = fixture.log_in("ann");
    let path = "/api/v1/events/1/clip.mp4";
    let whole = fixture.get(path, &ann);
    assert_eq!((whole.status, &whole.body[..]), (200, &b"0123456789"[..]));
    assert!(
        whole.head.contains("accept-ranges: bytes"),
        "{}",
        whole.head
    );
    let part = |range: &str| fixture.get(path, &format!("{ann}Range: {range}\r\n"));
    let middle = part("bytes=2-4");
    assert_eq!((middle.status, &middle.body[..]), (206, &b"234"[..]));
    assert!(
        middle.head.contains("content-range: bytes 2-4/10"),
        "{}",
        middle.head
    );
    assert_eq!(part("bytes=-3").body, b"789");
    assert_eq!(part("bytes=10-").status, 416);
    assert_eq!(fixture.get("/api/v1/events/2/clip.mp4", &ann).status, 404);
}

#[test]
fn what_people_say_of_an_alarm_is_kept() {
    let fixture = Fixture::keeping();
    let ann = fixture.log_in("ann");
    let to_do = || {
        let found = fixture.get("/api/v1/events?to_do=1", &ann).json();
        found["events"].as_array().unwrap().len()
    };
    assert_eq!(to_do(), 1);
    let said = json!({"acknowledged": true, "starred": true, "note": "<b>the postman</b>"});
    let answer = fixture.send("POST", "/api/v1/events/1", &ann, &said.to_string());
    assert_eq!(answer.status, 200, "{}", answer.head);
    let event = fixture.get("/api/v1/events/1", &ann).json();
    for (key, value) in [
        ("acknowledged", json!(true)),
        ("starred", json!(true)),
        ("false_alarm", json!(false)),
        ("note", json!("<b>the postman</b>")),
    ] {
        assert_eq!(event[key], value, "{key}");
    }
    assert_eq!(to_do(), 0);
    let long = json!({"note": "x".repeat(1_001)}).to_string();
    assert_eq!(
        fixture.send("POST", "/api/v1/events/1", &ann, &long).status,
        400
    );
    let snoozed = fixture.send(
        "POST",
        "/api/v1/cameras/front/snooze",
        &ann,
        "{\"minutes\": 30}",
    );
    let until = snoozed.json()["snoozed"].as_str().unwrap().to_owned();
    let left = Millis::parse(&until).unwrap().0 - Millis::now().0;
    assert!((29 * 60_000..=30 * 60_000).contains(&left), "{left}");
    for minutes in ["481", "-1", "1.5", "null"] {
        let body = format!("{{\"minutes\": {minutes}}}");
        let answer = fixture.send("POST", "/api/v1/cameras/front/snooze", &ann, &body);
        assert!((400..=422).contains(&answer.status), "{minutes}");
    }
    let answer = fixture.send(
        "POST",
        "/api/v1/cameras/front/snooze",
        &ann,
        "{\"minutes\": 0}",
    );
    assert_eq!(answer.json()["snoozed"], Value::Null);
}
