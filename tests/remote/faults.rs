// SPDX-License-Identifier: MPL-2.0

//! Servers that are slow, full, broken or gone.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::{Run, captions, meta, warnings};
use crate::server::{FakeServer, Kind, said};
use crate::{Remote, count, infos, mock, push, start, text, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
/// From one frame of the camera to the next.
const FRAME: Duration = Duration::from_millis(33);

/// Status of the last buffer that came out.
fn status(run: &Run) -> String {
    let buffers = run.buffers.lock().unwrap();
    let fields = buffers.last().and_then(|buffer| meta(buffer));
    fields.map_or_else(String::new, |fields| text(&fields, "status"))
}

/// Plays a camera of 30 frames a second until it is so; how long that took.
pub fn play_until(
    run: &Run,
    begin: u64,
    patience: Duration,
    is_so: impl Fn() -> bool,
) -> (Duration, u64) {
    let began = Instant::now();
    for n in begin.. {
        run.push(FRAME * n as u32, Some(FRAME)).unwrap();
        if is_so() {
            return (began.elapsed(), n + 1);
        }
        assert!(began.elapsed() < patience, "not in {patience:?}");
        std::thread::sleep(FRAME);
    }
    unreachable!()
}

#[test]
fn a_slow_server_costs_windows_and_never_the_video() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (at_once, largest) = (now.clone(), most.clone());
    let server = FakeServer::start(Kind::Vllm, move |connection, _, _| {
        largest.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(400));
        at_once.fetch_sub(1, Ordering::SeqCst);
        connection.send(said("A yard."))
    });
    let run = start(&server, &[("drop-policy", "latest")]);
    run.push_frames(601, 30);
    let messages = run.finish();
    assert!(!captions(&messages).is_empty());
    assert!(count(&run, "dropped-windows") + count(&run, "dropped-frames") > 0);
    assert_eq!(most.load(Ordering::SeqCst), 1, "requests at a time");
    assert_eq!(count(&run, "buffers"), 601);
}

#[test]
fn a_server_that_is_full_is_asked_again_when_it_wants() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let asked = times.clone();
    let server = FakeServer::start(Kind::Vllm, move |connection, _, n| {
        asked.lock().unwrap().push(Instant::now());
        connection.send(match n {
            1 => mock::http(
                "429 Too Many Requests",
                "retry-after: 1\r\n",
                r#"{"error":{"message":"slow down"}}"#,
            ),
            2 => mock::http("503 Service Unavailable", "", "No available workers"),
            _ => said("A yard."),
        })
    });
    let run = start(&server, &[]);
    push(&run, 0);
    let messages = run.finish();
    assert_eq!(captions(&messages).len(), 1, "{:?}", warnings(&messages));
    assert!(warnings(&messages).is_empty(), "nothing was lost");
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
    assert_eq!(count(&run, "sent-frames"), 3, "one for each request");
}

#[test]
fn a_server_that_wants_to_be_left_alone_for_long_is() {
    let full = mock::http(
        "429 Too Many Requests",
        "retry-after: 3600\r\n",
        r#"{"error":{"message":"quota"}}"#,
    );
    let server = FakeServer::start(Kind::Vllm, move |connection, _, _| connection.send(&full));
    let run = start(&server, &[]);
    (0..5).for_each(|second| push(&run, second));
    let messages = run.finish();
    let told = warnings(&messages);
    assert!(
        told[0].contains("too many requests (429)") && told[0].contains("3600 s"),
        "{told:?}"
    );
    assert_eq!(told.len(), 1, "{told:?}");
    server.asked();
    assert!(
        server.next().is_none(),
        "it is not asked about the other windows"
    );
}

/// What is no whole answer, however it looks.
fn fragments() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let stream = |events: &[&str]| mock::stream(events);
    let half = [mock::STREAM.as_bytes(), &mock::chunk(mock::text("A wrong"))].concat();
    let inside = r#"{"error":{"message":"the engine died","code":500}}"#;
    let event = format!("data: {inside}\n\n");
    let long = mock::text(&"x".repeat(100_000));
    let long: Vec<&str> = std::iter::repeat_n(long.as_str(), 100).collect();
    let cut = mock::text("A wr\u{f6}ng");
    let cut = &cut.as_bytes()[..cut.find('\u{f6}').unwrap() + 1];
    let cut = [
        mock::STREAM.as_bytes(),
        &mock::chunk(cut),
        mock::END.as_bytes(),
    ]
    .concat();
    vec![
        (
            "10 MB of text",
            stream(&long),
            "is longer than 1048576 bytes",
        ),
        ("half a character", cut, "the answer "),
        (
            "an error in a 200",
            mock::json("200 OK", inside),
            "the engine died",
        ),
        (
            "an error in a stream",
            stream(&[&mock::text("A wrong"), &event]),
            "the engine died",
        ),
        ("a stream that is cut", half, "so it is not whole"),
        (
            "a clean end without a reason",
            stream(&[&mock::text("A wrong"), mock::DONE]),
            "without a finish_reason",
        ),
        (
            "a page",
            mock::http(
                "200 OK",
                "content-type: text/html\r\n",
                "<html>login</html>",
            ),
            "not one of OpenAI's protocol",
        ),
    ]
}

#[test]
fn what_is_no_whole_answer_is_no_caption_and_the_next_window_gets_one() {
    for (name, bytes, want) in fragments() {
        let healed = Arc::new(AtomicUsize::new(0));
        let is_healed = healed.clone();
        let server = FakeServer::start(Kind::Vllm, move |connection, _, _| {
            match is_healed.load(Ordering::SeqCst) {
                0 => {
                    connection.send(&bytes);
                    false
                }
                _ => connection.send(said("A yard.")),
            }
        });
        let run = start(&server, &[]);
        push(&run, 0);
        let messages = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
        let told = warnings(&messages);
        assert!(told[0].contains(want), "{name}: {told:?}");
        assert!(captions(&messages).is_empty(), "{name}");
        run.push(Duration::from_millis(100), None).unwrap();
        wait_for(name, PATIENCE, || status(&run) == "error");
        healed.store(1, Ordering::SeqCst);
        push(&run, 2);
        assert_eq!(text(&run.next_caption(), "text"), "A yard.", "{name}");
    }
}

#[test]
fn a_server_that_is_down_is_told_within_a_second_and_asked_once_it_is_up() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let uri = format!("http://{address}/v1");
    let properties = [
        ("backend", "openai"),
        ("server-uri", uri.as_str()),
        ("server-proxy", "none"),
        ("window", "1"),
        ("sample-rate", "5/1"),
        ("drop-policy", "latest"),
    ];
    let run = Remote::start(&properties);
    let (took, n) = play_until(&run, 0, PATIENCE, || status(&run) == "error");
    assert!(took < Duration::from_secs(1), "{took:?}");
    let (_, n) = play_until(&run, n, PATIENCE, {
        let began = Instant::now();
        move || began.elapsed() > Duration::from_secs(4)
    });
    let answer = said("A yard.");
    let server = FakeServer::start_at(address, Kind::Vllm, move |connection, _, _| {
        connection.send(&answer)
    });
    let (took, _) = play_until(&run, n, PATIENCE, || status(&run) == "fresh");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(server.n_connections() > 0);
    let messages = run.finish();
    let told = warnings(&messages);
    assert!(
        told[0].contains("cannot connect") && told[0].contains("server-uri"),
        "{told:?}"
    );
    assert!(
        infos(&messages)
            .iter()
            .any(|told| told.contains("captions again"))
    );
}

#[test]
fn a_flush_and_a_stop_close_the_connection_at_once() {
    for stop in [false, true] {
        let (told, closed) = channel();
        let server = FakeServer::start(Kind::Vllm, move |connection, _, _| {
            connection.send(mock::STREAM);
            connection.send(mock::chunk(mock::text("A ")));
            // The answer never ends.
            connection.wait_for_close();
            let _ = told.send(Instant::now());
            false
        });
        let run = start(&server, &[]);
        push(&run, 0);
        server.asked();
        let began = Instant::now();
        if stop {
            run.pipeline.set_state(gst::State::Ready).unwrap();
        } else {
            let pad = run.element.static_pad("sink").unwrap();
            pad.send_event(gst::event::FlushStart::new());
            pad.send_event(gst::event::FlushStop::new(true));
        }
        let took = closed.recv_timeout(PATIENCE).unwrap() - began;
        assert!(took < Duration::from_millis(200), "{took:?}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_server_that_hangs_is_given_up_after_its_timeout_and_the_video_flows() {
    let server = FakeServer::start(Kind::Vllm, |connection, _, _| {
        connection.wait_for_close();
        false
    });
    let timeout = ("server-timeout", "300000000");
    let run = start(&server, &[timeout, ("drop-policy", "latest")]);
    push(&run, 0);
    let messages = run.messages_until(|m| m.type_() == gst::MessageType::Warning);
    let told = warnings(&messages);
    assert!(told[0].contains("no answer began within 0.3 s"), "{told:?}");
}
