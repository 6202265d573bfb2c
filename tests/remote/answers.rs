// SPDX-License-Identifier: MPL-2.0

//! What is sent, and what becomes of answers.

use std::time::Duration;

use base64::Engine;
use gst::prelude::*;
use serde_json::Value;

use crate::common::{captions, named, pts_list, warnings};
use crate::server::{FakeServer, Kind, is_about, said, said_with};
use crate::{assert_video_untouched, count, infos, mock, push, run, start, text};

/// The parts of the last message.
fn parts(body: &Value) -> Vec<Value> {
    let messages = body["messages"].as_array().unwrap();
    messages.last().unwrap()["content"]
        .as_array()
        .unwrap()
        .clone()
}

/// The files of a data URL.
fn files(url: &str, mime: &str) -> Vec<Vec<u8>> {
    let data = url.strip_prefix(&format!("data:{mime};base64,")).unwrap();
    let decode = |part| base64::engine::general_purpose::STANDARD.decode(part);
    data.split(',').map(|part| decode(part).unwrap()).collect()
}

/// Width and height in the frame header of a JPEG.
fn size(jpeg: &[u8]) -> (u16, u16) {
    let at = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let number = |i: usize| u16::from_be_bytes([jpeg[at + i], jpeg[at + i + 1]]);
    (number(7), number(5))
}

#[test]
fn a_window_goes_to_the_server_as_one_video_and_comes_back_as_a_caption() {
    let server = FakeServer::saying(Kind::Vllm, "A yellow square moves.");
    let more = [("window", "2"), ("system-prompt", "Be brief.")];
    let run = start(&server, &more);
    push(&run, 0);
    push(&run, 1);
    let messages = run.finish();
    let captions = captions(&messages);
    assert_eq!(captions.len(), 1);
    let caption = &captions[0];
    assert_eq!(text(caption, "text"), "A yellow square moves.");
    assert_eq!(text(caption, "backend"), "openai");
    assert_eq!(text(caption, "device"), server.host());
    assert_eq!(text(caption, "model"), "fake-model");
    assert_eq!(caption.get::<u32>("tokens-in").unwrap(), 400);
    assert_eq!(caption.get::<u32>("reused").unwrap(), 128);
    assert_eq!(pts_list(caption), [0, 1_000_000_000]);
    let request = server.asked();
    assert_eq!(request.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(request.header("authorization"), None);
    let body = request.json();
    assert_eq!(body["model"], "fake-model");
    assert_eq!(body["max_tokens"], 64);
    assert_eq!(body["temperature"], 0.0);
    assert_eq!(body["messages"][0]["content"], "Be brief.");
    // The server is found to take times of frames.
    assert_eq!(
        body["media_io_kwargs"]["video"]["frames_indices"],
        serde_json::json!([0, 1000])
    );
    let parts = parts(&body);
    assert_eq!(parts[1]["text"], "Describe the video.");
    let jpegs = files(parts[0]["video_url"]["url"].as_str().unwrap(), "video/jpeg");
    assert_eq!(jpegs.len(), 2);
    assert!(jpegs.iter().all(|jpeg| size(jpeg) == (64, 64)), "the grid");
    let told = infos(&messages);
    assert!(
        told.iter().any(|told| told.contains(&server.host())
            && told.contains("as one video")
            && told.contains("vLLM 0.32.0 with fake-model")),
        "{told:?}"
    );
    assert_eq!(count(&run, "sent-frames"), 2);
    assert!(count(&run, "sent-bytes") > jpegs.iter().map(Vec::len).sum::<usize>() as u64);
    assert_video_untouched(&run);
}

#[test]
fn a_server_of_stills_is_sent_images_and_the_user_is_told_what_is_lost() {
    let server = FakeServer::saying(Kind::Stills, "A yellow square.");
    let run = start(&server, &[("window", "4"), ("max-images", "2")]);
    (0..4).for_each(|second| push(&run, second));
    let messages = run.finish();
    let body = server.asked().json();
    assert!(!is_about(&body, "video_url"));
    let parts = parts(&body);
    assert_eq!(parts.len(), 3, "two images and the question");
    let url = parts[0]["image_url"]["url"].as_str().unwrap();
    assert_eq!(files(url, "image/jpeg").len(), 1);
    assert_eq!(pts_list(&captions(&messages)[0]), [0, 3_000_000_000]);
    let told = warnings(&messages);
    let motion = |told: &String| told.contains("what moves from frame to frame is lost");
    assert!(told.iter().any(motion), "{told:?}");
    assert!(body.get("media_io_kwargs").is_none() && body.get("top_k").is_none());
}

#[test]
fn the_text_is_told_as_it_grows() {
    let pieces = ["A ", "red ", "car."].map(mock::text);
    let server = FakeServer::start(Kind::Vllm, move |connection, _, _| {
        let sent = connection.send(mock::STREAM);
        for piece in &pieces {
            connection.send(mock::chunk(piece));
            // The element tells of a text twice a second at most.
            std::thread::sleep(Duration::from_millis(600));
        }
        connection.send(mock::chunk(mock::finish("stop"))) && connection.send(mock::END) && sent
    });
    let run = start(&server, &[("emit-partial", "true")]);
    push(&run, 0);
    let messages = run.finish();
    let partials = messages
        .iter()
        .filter(|message| named(message, "vlmcaption/partial"));
    let partials: Vec<String> = partials
        .map(|message| text(message.structure().unwrap(), "text"))
        .collect();
    assert!(partials.contains(&"A red car.".to_owned()), "{partials:?}");
    assert!(partials.len() >= 2 && "A red car.".starts_with(&partials[0]));
    assert_eq!(text(&captions(&messages)[0], "text"), "A red car.");
}

#[test]
fn questions_of_a_window_follow_the_same_picture_and_alarms_know_how_likely_they_are() {
    let server = FakeServer::start(Kind::Vllm, |connection, request, _| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let likely = [("yes", 0.6), ("no", 0.2), ("maybe", 0.1)];
        connection.send(match body {
            body if body.contains("A car?") => said_with("yes", &likely),
            body if body.contains("How many?") => said_with("3", &[("3", 0.9), ("4", 0.1)]),
            body if body.contains("What is seen?") => said(r#"{"color": "red"}"#),
            _ => said("A street."),
        })
    });
    let schema = r#"{\\\"type\\\":\\\"object\\\",\\\"properties\\\":{\\\"color\\\":{\\\"enum\\\":[\\\"red\\\",\\\"blue\\\"]}},\\\"required\\\":[\\\"color\\\"]}"#;
    let prompts = format!(
        r#"<"all,text=\"Describe the video.\"","car,kind=yes-no,text=\"A car?\",on=0.7",
            "n,kind=count,text=\"How many?\"","seen,kind=json,text=\"What is seen?\",schema=\"{schema}\"">"#
    );
    let run = start(&server, &[("window", "2"), ("prompts", &prompts)]);
    push(&run, 0);
    push(&run, 1);
    let messages = run.finish();
    let told = captions(&messages);
    let said = |id: &str| told.iter().find(|c| text(c, "prompt-id") == id).unwrap();
    assert_eq!(told.len(), 4, "{:?}", warnings(&messages));
    assert_eq!(text(said("car"), "text"), "yes");
    let probability = said("car").get::<f64>("probability").unwrap();
    assert!((probability - 0.75).abs() < 1e-6, "{probability}");
    assert_eq!(text(said("n"), "text"), "3");
    assert_eq!(text(said("seen"), "text"), r#"{"color": "red"}"#);
    let alarm = messages
        .iter()
        .find(|message| named(message, "vlmcaption/event"));
    assert!(alarm.is_some(), "0.75 is above 0.7");
    let requests: Vec<_> = std::iter::from_fn(|| server.next()).collect();
    assert_eq!(requests.len(), 4);
    let first = parts(&requests[0].json())[0].clone();
    for request in &requests {
        assert_eq!(request.connection, requests[0].connection);
        assert_eq!(parts(&request.json())[0], first);
    }
    let of = |words: &str| {
        let all = requests.iter().map(|request| request.json());
        let found = all
            .into_iter()
            .find(|body| body["messages"].to_string().contains(words));
        found.unwrap()
    };
    let car = of("A car?");
    assert_eq!(car["top_logprobs"], 20);
    assert_eq!(
        car["structured_outputs"]["choice"],
        serde_json::json!(["yes", "no"])
    );
    assert_eq!(
        of("What is seen?")["response_format"]["type"],
        "json_schema"
    );
    assert_eq!(count(&run, "sent-frames"), 8, "each question has both");
}

#[test]
fn json_that_does_not_follow_the_schema_is_no_answer() {
    let server = FakeServer::saying(Kind::Vllm, r#"{"color": "green"}"#);
    let schema = r#"{\\\"type\\\":\\\"object\\\",\\\"properties\\\":{\\\"color\\\":{\\\"enum\\\":[\\\"red\\\"]}},\\\"required\\\":[\\\"color\\\"]}"#;
    let prompts = format!(r#"<"seen,kind=json,text=\"What?\",schema=\"{schema}\"">"#);
    let run = start(&server, &[("prompts", &prompts)]);
    push(&run, 0);
    let messages = run.finish();
    assert!(captions(&messages).is_empty());
    let told = warnings(&messages);
    assert!(told[0].contains("does not follow the schema"), "{told:?}");
}

#[test]
fn elements_that_name_the_same_server_share_its_client_and_probe_it_once() {
    let server = FakeServer::saying(Kind::Vllm, "A yard.");
    let runs = [(); 3].map(|()| start(&server, &[]));
    for run in &runs {
        push(run, 0);
        run.next_caption();
    }
    let lists = server.requests();
    let lists = lists.iter().filter(|r| r.line.contains("/models"));
    assert!(lists.count() <= 2, "one for the probe, one for the name");
}

#[test]
fn a_prompt_of_another_language_comes_back_whole() {
    let server = FakeServer::saying(Kind::Vllm, "Ein gelbes Quadrat fährt „rechts“ 🟨.");
    let run = run(&server, &[("prompt", "Beschreibe, was „passiert“ 🎥.")]);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    push(&run, 0);
    let said = run.next_caption();
    assert_eq!(text(&said, "text"), "Ein gelbes Quadrat fährt „rechts“ 🟨.");
    let body = server.asked().json();
    assert_eq!(parts(&body)[1]["text"], "Beschreibe, was „passiert“ 🎥.");
}
