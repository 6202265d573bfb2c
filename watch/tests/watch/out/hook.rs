// SPDX-License-Identifier: MPL-2.0

//! Webhooks: what they are told, and whether anybody else could have said it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use vlmcaption_watch::camera::supervisor::Heard;
use vlmcaption_watch::heard::Begin;
use vlmcaption_watch::out::signature;
use vlmcaption_watch::time::Millis;

use super::broker::until;
use super::fixture::{Fixture, SECRET, hook};
use super::receiver::Receiver4Hooks;

/// The camera at the back sees a dog.
fn dog_begins(fixture: &Fixture, number: u64) {
    let dog = Begin {
        number,
        alarm: "dog".into(),
        at: Millis::now(),
        probability: None,
    };
    fixture.hub.heard("back", Heard::Begin(dog));
}

fn nothing_comes(receiver: &Receiver4Hooks) {
    let more = receiver.came.recv_timeout(Duration::from_millis(300));
    assert!(more.is_err());
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
    dog_begins(&fixture, 2);
    let event: Value = serde_json::from_str(&receiver.next().1).unwrap();
    assert_eq!(event["subject"], "dog");
    until("nothing waits", || fixture.standing().waiting == 0);
    nothing_comes(&receiver);
    // A camera that is snoozed: of what begins then neither begin nor end is told, not even later.
    fixture
        .hub
        .snooze("back", Millis::now().plus(Duration::from_secs(600)));
    dog_begins(&fixture, 3);
    std::thread::sleep(Duration::from_millis(1_500));
    fixture.hub.snooze("back", Millis::now());
    fixture.end_of("back", "dog", 3);
    fixture.end_of("back", "dog", 2);
    let event: Value = serde_json::from_str(&receiver.next().1).unwrap();
    assert_eq!(event["id"], "2-end");
    until("nothing waits", || fixture.standing().waiting == 0);
    nothing_comes(&receiver);
    let _ = fixture.folder.path();
    fixture.stop();
}
