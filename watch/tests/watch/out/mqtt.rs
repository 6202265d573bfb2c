// SPDX-License-Identifier: MPL-2.0

//! A broker as it is there, goes, and comes back; and what is told to it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use vlmcaption_watch::camera::pipeline::Still;
use vlmcaption_watch::camera::supervisor::Heard;
use vlmcaption_watch::heard::{Answer, Phase};
use vlmcaption_watch::store::state::Mark;
use vlmcaption_watch::time::Millis;

use crate::site::free_port;

use super::broker::{Listener, broker, publish, retained, until};
use super::fixture::{CAMERAS, Fixture, mqtt};

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
    let until_then = snoozed().unwrap().to_string();
    listener.wait("vlmwatch/back/snoozed", |payload| payload == until_then);
    let left = snoozed().unwrap().0 - Millis::now().0;
    assert!((29 * 60_000..=30 * 60_000).contains(&left), "{left}");
    publish(port, "vlmwatch/back/snooze/set", "0");
    until("it is no longer", || {
        snoozed().is_some_and(|until| until <= Millis::now())
    });
    listener.wait("vlmwatch/back/snoozed", |payload| payload == "None");
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
