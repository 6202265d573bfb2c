// SPDX-License-Identifier: MPL-2.0

//! What is sent, and what becomes of answers.

use std::time::Duration;

use base64::Engine;
use gst::prelude::*;
use serde_json::Value;

use crate::common::{captions, named, pts_list, warnings};
use crate::server::{FakeServer, Kind, is_about, said, said_with};
use crate::{count, infos, mock, push, run, start, text};

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

/// What GStreamer's own demuxer and decoder make of a video file: the time of each frame, its size, and
/// how bright its middle is.
fn decoded(file: &[u8]) -> Vec<(u64, i32, i32, u8)> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={} ! qtdemux ! jpegdec ! videoconvert ! video/x-raw,format=GRAY8 ! \
         appsink name=out sync=false",
        path.path().display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let out = pipeline.by_name("out").unwrap();
    let out = out.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut frames = Vec::new();
    while let Ok(sample) = out.pull_sample() {
        let caps = sample.caps().unwrap().structure(0).unwrap().to_owned();
        let (width, height) = (caps.get("width").unwrap(), caps.get("height").unwrap());
        let buffer = sample.buffer().unwrap();
        let bytes = buffer.map_readable().unwrap();
        let middle = bytes[bytes.len() / 2];
        frames.push((buffer.pts().unwrap().mseconds(), width, height, middle));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    frames
}

#[test]
fn as_a_file_the_frames_of_a_window_are_a_video_with_their_times() {
    let server = FakeServer::saying(Kind::Stills, "A yard.");
    let more = [
        ("window", "3"),
        ("sample-rate", "2/1"),
        ("video-transport", "mp4"),
    ];
    let run = start(&server, &more);
    for (ms, luma) in [(0, 40u8), (500, 120), (1300, 200)] {
        let mut buffer =
            gst::Buffer::from_slice([vec![luma; 64 * 48], vec![128; 64 * 24]].concat());
        buffer
            .get_mut()
            .unwrap()
            .set_pts(gst::ClockTime::from_mseconds(ms));
        run.src.push_buffer(buffer).unwrap();
    }
    let messages = run.finish();
    assert_eq!(captions(&messages).len(), 1, "{:?}", warnings(&messages));
    let body = server.asked().json();
    let parts = parts(&body);
    assert_eq!(parts.len(), 2);
    let file = files(parts[0]["video_url"]["url"].as_str().unwrap(), "video/mp4");
    let frames = decoded(&file[0]);
    let times: Vec<u64> = frames.iter().map(|(time, ..)| *time).collect();
    assert_eq!(times, [0, 500, 1300]);
    assert!(
        frames
            .iter()
            .all(|(_, width, height, _)| (*width, *height) == (64, 64))
    );
    let bright: Vec<u8> = frames.iter().map(|(.., bright)| *bright).collect();
    assert!(bright[0] < bright[1] && bright[1] < bright[2], "{bright:?}");
    assert!(body.get("media_io_kwargs").is_none());
    let told = infos(&messages);
    assert!(
        told.iter().any(|told| told.contains("as a video file")),
        "{told:?}"
    );
}

#[test]
fn a_text_that_comes_byte_by_byte_is_whole() {
    let words = "Ein Käfig, 猫, 🟨.";
    let stream = said(words);
    let server = FakeServer::start(Kind::Vllm, move |connection, _, _| {
        stream.iter().all(|byte| connection.send([*byte]))
    });
    let run = start(&server, &[]);
    push(&run, 0);
    assert_eq!(text(&run.next_caption(), "text"), words);
}

#[test]
fn a_connection_that_is_closed_after_each_answer_or_while_it_is_idle_costs_no_window() {
    let server = FakeServer::start(Kind::Vllm, |connection, _, n| {
        connection.send(said("A yard."));
        if n % 2 == 0 {
            // As servers do after 5 s, and here when it is used next.
            std::thread::sleep(Duration::from_millis(300));
        }
        false
    });
    let run = start(&server, &[]);
    for second in 0..4 {
        push(&run, second);
        run.next_caption();
        std::thread::sleep(Duration::from_millis(200));
    }
    let messages = run.finish();
    assert!(warnings(&messages).is_empty(), "{:?}", warnings(&messages));
    assert!(server.n_connections() >= 4);
}

#[test]
fn a_server_is_reached_by_ipv6_and_through_a_proxy() {
    let Ok(free) = std::net::TcpListener::bind("[::1]:0") else {
        // Containers without IPv6 cannot show it.
        return;
    };
    let address = free.local_addr().unwrap();
    drop(free);
    let server = FakeServer::start_at(address, Kind::Vllm, |connection, _, _| {
        connection.send(said("A yard."))
    });
    let direct = start(&server, &[]);
    push(&direct, 0);
    let caption = direct.next_caption();
    assert_eq!(text(&caption, "device"), address.to_string());
    let proxy = mock::Mock::start(move |connection| {
        connection.request();
        let upstream = std::net::TcpStream::connect(address).unwrap();
        connection.send("HTTP/1.1 200 Connection established\r\n\r\n");
        connection.tunnel(&upstream);
    });
    let uri = format!("http://{}", proxy.address);
    let through = run(&server, &[("server-proxy", &uri)]);
    // A host that only the proxy can look up.
    let element = &through.element;
    element.set_property("server-uri", "http://gpu.example:8000/v1");
    through.pipeline.set_state(gst::State::Playing).unwrap();
    push(&through, 0);
    assert_eq!(text(&through.next_caption(), "text"), "A yard.");
    let connect = proxy.received();
    assert_eq!(connect.line, "CONNECT gpu.example:8000 HTTP/1.1");
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

#[test]
fn frames_are_jpegs_of_the_quality_that_is_set_and_extra_fields_are_merged() {
    let server = FakeServer::saying(Kind::Stills, "A yard.");
    let mut sizes = Vec::new();
    for quality in ["10", "95"] {
        let extra = r#"{"reasoning_effort": "low", "temperature": null}"#;
        let run = start(
            &server,
            &[("image-quality", quality), ("extra-body", extra)],
        );
        let noise = (0..64 * 48 * 3 / 2u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        let mut buffer = gst::Buffer::from_slice(noise.collect::<Vec<u8>>());
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
        run.src.push_buffer(buffer).unwrap();
        run.next_caption();
        let body = server.asked().json();
        assert_eq!(body["reasoning_effort"], "low");
        assert!(body.get("temperature").is_none());
        let url = &parts(&body)[0]["image_url"]["url"];
        sizes.push(files(url.as_str().unwrap(), "image/jpeg")[0].len());
    }
    assert!(sizes[0] * 2 < sizes[1], "{sizes:?}");
}

#[test]
fn reasoning_is_no_part_of_a_caption_and_alone_it_is_none() {
    let thought = r#"data: {"choices":[{"index":0,"delta":{"reasoning_content":"Hm, a yard?"}}]}"#;
    let thought = format!("{thought}\n\n");
    let server = FakeServer::start(Kind::Vllm, move |connection, _, n| {
        connection.send(match n {
            1 => mock::stream(&[
                &thought,
                &mock::text("A yard."),
                &mock::finish("stop"),
                mock::DONE,
            ]),
            _ => mock::stream(&[&thought, &mock::finish("length"), mock::DONE]),
        })
    });
    let run = start(&server, &[]);
    push(&run, 0);
    assert_eq!(text(&run.next_caption(), "text"), "A yard.");
    push(&run, 1);
    let messages = run.finish();
    let told = warnings(&messages);
    assert!(told[0].contains("reasoned until max-tokens"), "{told:?}");
}
