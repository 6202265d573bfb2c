// SPDX-License-Identifier: MPL-2.0

//! Questions of the application's, and captions on demand.

mod common;

use std::time::{Duration, Instant};

use common::{Run, captions, named, pts_list, script};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");
const SECOND: u64 = 1_000_000_000;

/// Asks with a deadline in ns.
fn ask(run: &Run, text: &str, deadline: u64) -> u64 {
    run.element.emit_by_name("ask", &[&text, &deadline])
}

/// Pushes one frame a second, each when the one before is prepared.
fn push(run: &Run, seconds: std::ops::Range<u64>) {
    let frames = || {
        let stats = run.element.property::<gst::Structure>("stats");
        stats.get::<u64>("frames").unwrap()
    };
    for second in seconds {
        run.push(Duration::from_secs(second), None).unwrap();
        while frames() < second + 1 {
            std::thread::yield_now();
        }
    }
}

fn answer(run: &Run) -> gst::Structure {
    let messages = run.messages_until(|message| named(message, "vlmcaption/answer"));
    messages.last().unwrap().structure().unwrap().to_owned()
}

/// The error of the next answer, which must be to this question.
fn error(run: &Run, id: u64) -> String {
    let answer = answer(run);
    assert_eq!(answer.get::<u64>("id").unwrap(), id);
    assert!(!answer.has_field("text"));
    answer.get("error").unwrap()
}

#[test]
fn an_answer_is_about_the_frames_at_hand_and_the_window_goes_on() {
    let run = Run::start(&[MOCK, ("window", "4")], SMALL);
    push(&run, 0..3);
    let id = ask(&run, "Is {stream} at the door?", 0);
    let told = answer(&run);
    assert_eq!(told.get::<u64>("id").unwrap(), id);
    assert_eq!(
        told.get::<&str>("question").unwrap(),
        "Is {stream} at the door?"
    );
    assert_eq!(told.get::<&str>("text").unwrap(), "Mock caption 1.");
    assert_eq!(pts_list(&told), [0, SECOND, 2 * SECOND]);
    push(&run, 3..4);
    let caption = run.next_caption();
    assert_eq!(pts_list(&caption).len(), 4);
    assert_eq!(caption.get::<u64>("sequence").unwrap(), 1);
    // Between two windows it is about the last one.
    let next = ask(&run, "And now?", 0);
    assert_eq!(next, id + 1);
    assert_eq!(pts_list(&answer(&run)).len(), 4);
}

#[test]
fn questions_go_before_captions_and_starve_none() {
    let slow = script(r#"[{"text": "{n}", "prefill-ms": 200}]"#);
    let run = Run::start(
        &[
            MOCK,
            ("model", slow.path().to_str().unwrap()),
            ("window", "1"),
            ("drop-policy", "oldest"),
            ("max-queued", "16"),
        ],
        SMALL,
    );
    push(&run, 0..6);
    for n in 0..3 {
        assert_eq!(ask(&run, "Who is there?", 0), n + 1);
    }
    let messages = run.finish();
    let order: String = messages
        .iter()
        .filter_map(|message| match message {
            m if named(m, "vlmcaption/caption") => Some('c'),
            m if named(m, "vlmcaption/answer") => Some('a'),
            _ => None,
        })
        .collect();
    // One or two captions were made or begun before the questions came.
    let questions = order.trim_start_matches('c');
    assert!(order.len() - questions.len() <= 3, "{order}");
    assert!(questions.starts_with("acaca"), "{order}");
    assert_eq!(order.matches('c').count(), 6, "{order}");
    assert_eq!(order.matches('a').count(), 3, "{order}");
}

#[test]
fn a_question_of_one_element_goes_before_captions_of_another_on_the_same_model() {
    // One engine for both, which numbers its answers.
    let slow = script(r#"[{"text": "{n}", "prefill-ms": 200}]"#);
    let path = slow.path().to_str().unwrap();
    let many = [("drop-policy", "oldest"), ("max-queued", "16")];
    let rest = [("window", "1"), many[0], many[1]];
    let busy = Run::start(&[MOCK, ("model", path), rest[0], rest[1], rest[2]], SMALL);
    let calm = Run::start(&[MOCK, ("model", path), ("window", "4")], SMALL);
    push(&calm, 0..1);
    push(&busy, 0..8);
    let stats = busy.element.property::<gst::Structure>("stats");
    let n_done = stats.get::<u64>("captions").unwrap();
    ask(&calm, "Who is there?", 0);
    let told = answer(&calm);
    let n: u64 = told.get::<&str>("text").unwrap().parse().unwrap();
    // The caption being made is finished first; another may have been made or begun meanwhile.
    assert!(n <= n_done + 3, "answer {n} after {n_done} captions");
    let messages = busy.finish();
    let captions = captions(&messages);
    let last = captions.last().unwrap().get::<&str>("text").unwrap();
    assert_eq!(last, "9", "all eight captions, and the answer among them");
}

#[test]
fn every_question_comes_to_one_answer() {
    let stuck = script(r#"[{"hang": true}]"#);
    let path = stuck.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "4")], SMALL);
    // A frame that was not yet sampled is no frame.
    let id = ask(&run, "Anybody?", 0);
    assert!(error(&run, id).contains("no frame"));
    push(&run, 0..2);
    let (began, id) = (Instant::now(), ask(&run, "Anybody?", SECOND / 5));
    assert!(error(&run, id).contains("deadline"));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let id = ask(&run, "Anybody?", 0);
    let cancel = |id: u64| run.element.emit_by_name::<bool>("cancel", &[&id]);
    assert!(cancel(id));
    assert_eq!(error(&run, id), "cancelled");
    assert!(!cancel(id), "it is not open any more");
    let running = ask(&run, "Anybody?", 0);
    let waiting = ask(&run, "Nobody?", 0);
    let pad = run.element.static_pad("sink").unwrap();
    pad.send_event(gst::event::FlushStart::new());
    pad.send_event(gst::event::FlushStop::new(true));
    // In whatever order: one is told by the thread that flushes, the other by the model's.
    let mut flushed = Vec::new();
    for _ in 0..2 {
        let told = answer(&run);
        assert!(told.get::<&str>("error").unwrap().contains("flushed"));
        flushed.push(told.get::<u64>("id").unwrap());
    }
    flushed.sort_unstable();
    assert_eq!(flushed, [running, waiting]);
    assert_eq!(ask(&run, " ", 0), 0, "no question");
}

#[test]
fn an_element_that_stops_answers_nothing_and_says_so() {
    let stuck = script(r#"[{"hang": true}]"#);
    let path = stuck.path().to_str().unwrap();
    let run = Run::start(&[MOCK, ("model", path), ("window", "4")], SMALL);
    push(&run, 0..1);
    let id = ask(&run, "Anybody?", 0);
    // The pipeline, which may be on its way to PLAYING and would take the element along.
    run.pipeline.set_state(gst::State::Ready).unwrap();
    let why = error(&run, id);
    assert!(why.contains("stopped") || why.contains("flushed"), "{why}");
    assert_eq!(ask(&run, "Anybody?", 0), 0);
}

#[test]
fn a_caption_can_be_had_at_once() {
    let run = Run::start(&[MOCK, ("window", "4")], SMALL);
    push(&run, 0..2);
    run.element.emit_by_name::<()>("caption-now", &[]);
    let caption = run.next_caption();
    assert_eq!(pts_list(&caption), [0, SECOND]);
    push(&run, 2..6);
    assert_eq!(pts_list(&run.next_caption()).len(), 4);
}

#[test]
fn partial_texts_are_few_and_the_last_is_the_caption() {
    let long = "one two three four five six seven eight nine ten eleven twelve thirteen";
    let slow = script(&format!(r#"[{{"text": "{long}", "token-ms": 10}}]"#));
    let path = slow.path().to_str().unwrap();
    let run = Run::start(
        &[
            MOCK,
            ("model", path),
            ("window", "1"),
            ("max-tokens", "512"),
            ("emit-partial", "true"),
        ],
        SMALL,
    );
    let began = Instant::now();
    run.push(Duration::ZERO, None).unwrap();
    let messages = run.finish();
    let most = began.elapsed().as_millis() / 200 + 2;
    let texts: Vec<String> = messages
        .iter()
        .filter(|m| named(m, "vlmcaption/partial"))
        .map(|m| m.structure().unwrap().get("text").unwrap())
        .collect();
    assert!((2..=most).contains(&(texts.len() as u128)), "{texts:?}");
    assert!(texts.iter().all(|text| long.starts_with(text.as_str())));
    assert_eq!(texts.last().unwrap(), long);
    assert_eq!(captions(&messages)[0].get::<&str>("text").unwrap(), long);
}
