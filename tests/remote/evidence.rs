// SPDX-License-Identifier: MPL-2.0

//! What is kept of captions by a server, how they are made again, and which servers may be asked.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gst::prelude::*;
use gstvlmcaption::caption::engine::examiner::Examiner;
use gstvlmcaption::caption::evidence::again::{Change, again};
use gstvlmcaption::caption::reports::evidence::Shown;

use crate::common::records::read;
use crate::common::warnings;
use crate::server::{FakeServer, Kind};
use crate::{Remote, count, push, run, start, stats, text};

const CANARY: &str = "canary-0f1e2d3c4b5a";

/// All that is written below a folder, names included.
fn written(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        all.push_str(&path.display().to_string());
        match path.is_dir() {
            true => all.push_str(&written(&path)),
            false => all.push_str(&String::from_utf8_lossy(&fs::read(&path).unwrap())),
        }
    }
    all
}

#[test]
fn a_record_has_the_pictures_that_were_sent_and_no_secret() {
    let place = tempfile::tempdir().unwrap();
    let evidence = place.path().join("evidence");
    let server = FakeServer::saying(Kind::Stills, "A yard.");
    let remote = run(&server, &[("evidence", evidence.to_str().unwrap())]);
    let element = &remote.element;
    element.set_property("api-key", CANARY);
    element.set_property("server-uri", format!("{}?token={CANARY}", server.uri()));
    element.set_property("extra-body", format!(r#"{{"user": "{CANARY}"}}"#));
    remote.pipeline.set_state(gst::State::Playing).unwrap();
    push(&remote, 0);
    assert_eq!(text(&remote.next_caption(), "text"), "A yard.");
    let asked = server.asked();
    assert!(format!("{asked:?}").contains(CANARY), "it was sent");
    let body = asked.json().to_string();
    remote.element.set_state(gst::State::Null).unwrap();
    let whole = read(&evidence).remove(0);
    let Shown::Jpeg(jpeg) = &whole.frames[0].picture else {
        panic!("it is no JPEG");
    };
    assert!(
        body.contains(&STANDARD.encode(&jpeg.bytes)),
        "it is another picture"
    );
    assert_eq!(whole.record.model.device, server.host());
    assert_eq!(whole.record.answer.text, "A yard.");
    let written = written(&evidence);
    assert!(written.contains("A yard.") && !written.contains(CANARY));
}

#[test]
fn a_server_is_asked_again_with_the_same_pictures_or_others_are_compared() {
    let place = tempfile::tempdir().unwrap();
    let evidence = place.path().join("evidence");
    let server = FakeServer::saying(Kind::Stills, "A yard.");
    let remote = start(&server, &[("evidence", evidence.to_str().unwrap())]);
    push(&remote, 0);
    remote.next_caption();
    let first = server.asked().json()["messages"].clone();
    remote.element.set_state(gst::State::Null).unwrap();
    let whole = read(&evidence).remove(0);
    for (says, is_same) in [("A yard.", true), ("A street.", false)] {
        let server = FakeServer::saying(Kind::Stills, says);
        let property = |name: &str, value: String| (name.to_owned(), value);
        let properties = [
            property("backend", "openai".into()),
            property("server-uri", server.uri()),
            property("server-proxy", "none".into()),
        ];
        let source = gstvlmcaption::vlmcaption::source(&properties).unwrap();
        let mut examiner = Examiner::open(&source, &mut |_| ()).unwrap();
        let again = again(&mut examiner, &whole, &Change::default()).unwrap();
        assert_eq!(again.compared(&whole.record).is_same(), is_same);
        assert_eq!(server.asked().json()["messages"], first);
    }
}

/// What the element says when it is to go to READY with this server.
fn refused(network: &str) -> String {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let remote = run(&server, &[("network", network)]);
    let bus = remote.pipeline.bus().unwrap();
    assert!(
        remote.pipeline.set_state(gst::State::Ready).is_err(),
        "{network}"
    );
    let message = bus.timed_pop_filtered(crate::common::PATIENCE, &[gst::MessageType::Error]);
    let message = message.unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!("filtered");
    };
    assert_eq!(server.n_connections(), 0, "it was reached");
    error.error().to_string()
}

#[test]
fn a_server_that_may_not_be_reached_is_refused_with_the_fix() {
    let text = refused("none");
    assert!(text.contains("set network=allow=127.0.0.1"), "{text}");
    let text = refused("allow=camera.example,127.0.0.2");
    assert!(text.contains("add ,127.0.0.1"), "{text}");
    let text = refused("some");
    assert!(text.contains("none of any, none and allow="), "{text}");
}

#[test]
fn a_server_that_may_be_reached_is_and_what_went_there_is_counted_by_host() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let remote = start(&server, &[("network", "allow=127.0.0.1")]);
    push(&remote, 0);
    assert_eq!(text(&remote.next_caption(), "text"), "A yard.");
    let sent = stats(&remote).get::<gst::Array>("sent-to").unwrap();
    let [to] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    let to = to.get::<gst::Structure>().unwrap();
    assert_eq!(text(&to, "host"), server.host());
    for name in ["sent-bytes", "received-bytes", "sent-frames", "requests"] {
        let number = to.get::<u64>(name).unwrap();
        assert!(number > 0 && number == count(&remote, name), "{name}");
    }
}

#[test]
fn of_several_backends_one_that_may_not_be_reached_is_passed_over() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let (uri, script) = (
        server.uri(),
        crate::common::script(r#"[{"text": "Here."}]"#),
    );
    let properties = [
        ("backend", "openai,mock"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("model", script.path().to_str().unwrap()),
        ("window", "1"),
        ("network", "none"),
    ];
    let remote = Remote::start(&properties);
    push(&remote, 0);
    let messages = remote.messages_until(|m| crate::common::named(m, "vlmcaption/caption"));
    let told = warnings(&messages);
    assert!(
        told.iter().any(|told| told.contains("network=none")),
        "{told:?}"
    );
    let caption = messages.last().unwrap().structure().unwrap();
    assert_eq!(text(caption, "text"), "Here.");
    assert_eq!(server.n_connections(), 0);
}
