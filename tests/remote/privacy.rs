// SPDX-License-Identifier: MPL-2.0

//! What leaves the machine and when, and what nobody may read.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use crate::common::warnings;
use crate::server::{FakeServer, Kind};
use crate::{Remote, mock, push, run, start, text, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn nothing_goes_over_the_network_before_ready_or_for_another_backend() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let uri = format!("http://{}/v1", listener.local_addr().unwrap());
    let is_asked = || listener.accept().is_ok();
    let properties = [
        ("backend", "mock"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
    ];
    let other = Remote::start(&properties);
    push(&other, 0);
    other.finish();
    assert!(!is_asked(), "another backend answers");
    drop(other);
    let remote = Remote::new(&[("backend", "openai"), properties[1], properties[2]]);
    remote.element.set_property("api-key", "k-1234");
    assert!(!is_asked(), "in NULL");
    remote.element.set_state(gst::State::Ready).unwrap();
    wait_for("nobody asks", PATIENCE, is_asked);
}

#[test]
fn a_key_goes_into_its_header_and_a_wrong_one_is_told() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let remote = run(&server, &[]);
    remote.element.set_property("api-key", "k-1234");
    remote.pipeline.set_state(gst::State::Playing).unwrap();
    push(&remote, 0);
    remote.next_caption();
    assert_eq!(
        server.asked().header("authorization"),
        Some("Bearer k-1234")
    );
    let azure = run(&server, &[("api-key-header", "api-key")]);
    azure.element.set_property("api-key", "k-5678");
    azure.pipeline.set_state(gst::State::Playing).unwrap();
    push(&azure, 0);
    azure.next_caption();
    assert_eq!(server.asked().header("api-key"), Some("k-5678"));
    let picky = FakeServer::start(Kind::Vllm, |connection, _, _| {
        connection.send(mock::json(
            "401 Unauthorized",
            r#"{"error":"Unauthorized"}"#,
        ))
    });
    let refused = start(&picky, &[]);
    push(&refused, 0);
    let messages = refused.messages_until(|m| m.type_() == gst::MessageType::Warning);
    assert!(warnings(&messages)[0].contains("wants an API key (401)"));
}

#[test]
fn a_key_in_a_file_is_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "k-from-file\n").unwrap();
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let path = file.path().to_str().unwrap();
    let run = start(&server, &[("api-key-file", path)]);
    push(&run, 0);
    run.next_caption();
    assert_eq!(
        server.asked().header("authorization"),
        Some("Bearer k-from-file")
    );
}

/// Names the server to the test that is run in a process of its own.
const SERVER: &str = "VLMCAPTION_TEST_SERVER";

#[test]
fn a_key_in_the_environment_is_found() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    let child = child
        .args([
            "--ignored",
            "--exact",
            "privacy::asks_with_the_key_of_the_environment",
        ])
        .env("VLMCAPTION_API_KEY", "k-from-environment")
        .env(SERVER, server.uri());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        server.asked().header("authorization"),
        Some("Bearer k-from-environment")
    );
}

#[test]
#[ignore = "run by a_key_in_the_environment_is_found, which sets its environment"]
fn asks_with_the_key_of_the_environment() {
    let Ok(uri) = std::env::var(SERVER) else {
        return;
    };
    let properties = [
        ("backend", "openai"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
    ];
    let run = Remote::start(&properties);
    push(&run, 0);
    assert_eq!(text(&run.next_caption(), "text"), "A yard.");
}

const CANARY: &str = "canary-0f1e2d3c4b5a";
/// In properties that an application may read back.
const OTHER: &str = "linnet-6a7b8c9d0e1f";

/// Everything that GStreamer's log is given, of every category and level.
fn log_everything() -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let written = log.clone();
    gst::log::set_active(true);
    gst::log::set_default_threshold(gst::DebugLevel::Memdump);
    gst::log::remove_default_log_function();
    gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        // Writing an object out may log again.
        let message = message.get();
        let mut log = written.lock().unwrap();
        log.push_str(category.name());
        log.push_str(message.as_deref().unwrap_or_default());
        log.push('\n');
    });
    log
}

/// All that there is of a message.
fn written(message: &gst::Message) -> String {
    let text = match message.view() {
        gst::MessageView::Warning(warning) => warning.error().to_string(),
        gst::MessageView::Info(info) => format!("{} {:?}", info.error(), info.debug()),
        _ => String::new(),
    };
    format!("{text} {message:?} {:?}", message.structure())
}

#[test]
fn no_secret_is_in_a_log_a_message_a_property_or_an_error() {
    crate::common::init();
    let log = log_everything();
    // It sends back what it was sent, as some do.
    let server = FakeServer::start(Kind::Vllm, |connection, request, _| {
        let key = request
            .header("authorization")
            .unwrap_or_default()
            .to_owned();
        let body = serde_json::json!({"error": {"message": format!("bad key {key}")}});
        connection.send(mock::json("401 Unauthorized", &body.to_string()))
    });
    let uri = format!("{}?token={OTHER}", server.uri());
    let run = run(&server, &[]);
    let element = &run.element;
    element.set_property("api-key", CANARY);
    element.set_property("server-uri", &uri);
    element.set_property("extra-body", format!(r#"{{"user": "{OTHER}"}}"#));
    run.pipeline.set_state(gst::State::Playing).unwrap();
    push(&run, 0);
    let messages = run.messages_until(|message| message.type_() == gst::MessageType::Warning);
    let mut said: Vec<String> = messages.iter().map(written).collect();
    assert!(said.iter().any(|said| said.contains("bad key")), "{said:?}");
    assert_eq!(
        server.asked().header("authorization").unwrap(),
        format!("Bearer {CANARY}")
    );
    // Another key while it plays, and one that cannot be one.
    element.set_property("api-key", format!("{CANARY}-2"));
    element.set_property("api-key", format!("{CANARY} with a blank"));
    let messages = run.messages_until(|message| written(message).contains("has a space"));
    said.extend(messages.iter().map(written));
    let dot = run
        .pipeline
        .debug_to_dot_data(gst::DebugGraphDetails::all());
    assert!(!dot.contains(CANARY));
    said.push(format!("{:?}", element.property::<gst::Structure>("stats")));
    for spec in element.list_properties() {
        let name = spec.name();
        // What an application set and may read back, it reads back.
        if !["server-uri", "extra-body"].contains(&name)
            && spec.flags().contains(glib::ParamFlags::READABLE)
        {
            said.push(format!("{name} {:?}", element.property_value(name)));
        }
    }
    let spec = element.find_property("api-key").unwrap();
    assert!(!spec.flags().contains(glib::ParamFlags::READABLE));
    run.pipeline.set_state(gst::State::Null).unwrap();
    let log = log.lock().unwrap().clone();
    assert!(log.contains("api-key is set to ***"), "the log is heard");
    said.push(log);
    for said in said {
        let at = said.find(CANARY).or_else(|| said.find(OTHER));
        let around = at.map(|at| &said[at.saturating_sub(200)..(at + 20).min(said.len())]);
        assert_eq!(around, None, "the secret is told");
    }
}

#[test]
fn what_is_masked_is_masked_before_it_is_sent() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let masks = r#"<"mask,x=0.0,y=0.0,width=1.0,height=1.0">"#;
    let masked = start(&server, &[("privacy-masks", masks)]);
    let plain = start(&server, &[]);
    let mut bodies = Vec::new();
    for run in [&masked, &plain] {
        // White, since masks are grey as the other tests' frames are.
        let mut buffer = gst::Buffer::from_slice(vec![235u8; 64 * 48 * 3 / 2]);
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
        run.src.push_buffer(buffer).unwrap();
        assert_eq!(text(&run.next_caption(), "text"), "A yard.");
        bodies.push(server.asked().json()["messages"].to_string());
    }
    assert_ne!(bodies[0], bodies[1]);
}

#[test]
fn what_is_set_wrongly_is_told_at_the_start_with_what_to_do() {
    crate::common::init();
    for (properties, want) in [
        (vec![("backend", "openai")], "server-uri"),
        (
            vec![("backend", "gpu")],
            "none of auto, cpu, axera, sophgo, openai, mock",
        ),
        (
            vec![
                ("backend", "openai"),
                ("server-uri", "http://h/v1"),
                ("model", "/m"),
            ],
            "set model-name",
        ),
        (
            vec![
                ("backend", "openai"),
                ("server-uri", "http://h/v1"),
                ("extra-body", "[1]"),
            ],
            "must be a JSON object",
        ),
        (
            vec![
                ("backend", "openai"),
                ("server-uri", "http://h/v1"),
                ("api-key-file", "/no/such"),
            ],
            "/no/such",
        ),
        (
            vec![
                ("backend", "openai"),
                ("server-uri", "https://h/v1"),
                ("server-ca-file", "/no/authority"),
            ],
            "/no/authority",
        ),
        (
            vec![
                ("backend", "openai"),
                ("server-uri", "https://h/v1"),
                ("client-certificate-file", "/no/certificate"),
            ],
            "/no/certificate",
        ),
    ] {
        let element = gst::ElementFactory::make("vlmcaption").build().unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        for (name, value) in properties {
            element.set_property_from_str(name, value);
        }
        assert!(element.set_state(gst::State::Ready).is_err(), "{want}");
        let error = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = error.view() else {
            unreachable!("filtered");
        };
        let error = error.error().to_string();
        assert!(error.contains(want), "{error}");
    }
}
