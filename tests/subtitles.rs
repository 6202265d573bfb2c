// SPDX-License-Identifier: MPL-2.0

//! What others make of the text pad: muxers and overlays that wait for nothing, subtitle files that say
//! what the model said.

mod common;

use std::sync::{Arc, Mutex};

use common::{captions, play, script};
use gst::prelude::*;

const HANGS: &str = r#"[{"text": "a", "prefill-ms": 600000}]"#;
const NEVER: &str = "drop-policy=latest eos-timeout=0";
const ANSWERS: &str = r#"[{"text": "Cue {n}.", "prefill-ms": 20}]"#;
const FIVE_SECONDS: &str = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=5000000000";

#[test]
fn textoverlay_that_waits_for_text_shows_video_without_a_caption() {
    let hang = script(HANGS);
    let description = format!(
        "videotestsrc num-buffers=300 ! video/x-raw,width=64,height=48,framerate=30/1 !
         vlmcaption name=c backend=mock model={} {NEVER} !
         textoverlay name=o ! fakesink sync=false name=s c.text_src ! o.text_sink",
        hang.path().display()
    );
    play(&description, |_| {});
}

/// Muxes video and text to the end, with a mock that never answers or one that does.
fn mux(source: &str, muxer: &str, mock: &str, properties: &str, queue: &str) {
    let script = script(mock);
    let description = format!(
        "videotestsrc {source} ! video/x-raw,format=I420,width=64,height=48,framerate=30/1 !
         vlmcaption name=c backend=mock model={} window=1 {properties} !
         x264enc tune=zerolatency speed-preset=ultrafast ! h264parse ! {queue} ! m. c.text_src ! queue ! m. {muxer} name=m ! fakesink sync=false",
        script.path().display()
    );
    play(&description, |_| {});
}

#[test]
fn matroskamux_never_waits_for_a_caption() {
    for (mock, properties) in [(HANGS, NEVER), (ANSWERS, "")] {
        mux("num-buffers=300", "matroskamux", mock, properties, "queue");
    }
}

#[test]
fn mp4mux_never_waits_for_a_caption_if_gaps_are_buffers() {
    let live = "is-live=true num-buffers=75";
    for muxer in ["mp4mux", "mp4mux fragment-duration=1000"] {
        for (mock, properties) in [(HANGS, NEVER), (ANSWERS, "")] {
            let properties = format!("text-gaps=buffer {properties}");
            mux(live, muxer, mock, &properties, FIVE_SECONDS);
        }
    }
}

/// Words of what is read back: GStreamer's parser gives Pango markup.
fn plain(markup: &str) -> String {
    let references = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    let text = markup.to_owned();
    references
        .iter()
        .fold(text, |text, (name, c)| text.replace(name, c))
}

/// Letters and digits.
fn words(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// What a mock says with these answers, one a second, and what `subparse` reads of the cues that
/// `encoder` wrote of it.
fn read_back(answers: &[String], encoder: &str) -> (Vec<String>, Vec<String>) {
    let entries = answers
        .iter()
        .map(|text| serde_json::json!({ "text": text }));
    let script = script(&serde_json::Value::from_iter(entries).to_string());
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display();
    let messages = play(
        &format!(
            "videotestsrc num-buffers={} ! video/x-raw,width=64,height=48,framerate=1/1 !
             vlmcaption name=c backend=mock model={} window=1 scene-cuts=false !
             fakesink sync=false c.text_src ! {encoder} ! filesink location={path}",
            answers.len(),
            script.path().display(),
        ),
        |_| {},
    );
    let said = captions(&messages);
    let said = said.iter().map(|caption| caption.get("text").unwrap());
    let cues = Arc::new(Mutex::new(Vec::new()));
    play(
        &format!("filesrc location={path} ! subparse ! fakesink sync=false name=s"),
        |pipeline| {
            let cues = cues.clone();
            let sink = pipeline.by_name("s").unwrap().static_pad("sink").unwrap();
            sink.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let text = info.buffer().unwrap().map_readable().unwrap().to_vec();
                let text = String::from_utf8(text).unwrap();
                cues.lock()
                    .unwrap()
                    .push(plain(text.trim_end_matches('\0')));
                gst::PadProbeReturn::Ok
            });
        },
    );
    let cues = cues.lock().unwrap().clone();
    (said.collect(), cues)
}

#[test]
fn whatever_a_model_says_a_subtitle_file_has_it_as_one_cue() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let text = prop_oneof![
        "[a-z<>&;# \\-]{1,30}",
        "([a-c]|-->|--->|<b>|</i>|&lt;| |[.]|1|00:00:01){1,12}",
        any::<String>(),
    ];
    let mut text = || text.new_tree(&mut runner).unwrap().current();
    for encoder in ["webvttenc", "srtenc"] {
        let mut answers: Vec<String> = ["A ---> B", "a<b c", "R&amp;D < 5", "1\r2\r\r3"]
            .map(String::from)
            .to_vec();
        // The mock's own placeholder.
        let plain = |text: &String| !text.contains('{');
        answers.extend(std::iter::from_fn(|| Some(text())).filter(plain).take(150));
        let (said, read) = read_back(&answers, encoder);
        assert_eq!(said.len(), answers.len());
        let of = |texts: &[String]| {
            let all = texts.iter().map(|text| words(text));
            all.filter(|words| !words.is_empty()).collect::<Vec<_>>()
        };
        let (said, read) = (of(&said), of(&read));
        for (n, (read, said)) in read.iter().zip(&said).enumerate() {
            assert_eq!(read, said, "{encoder}, cue {n}");
        }
        assert_eq!(read.len(), said.len(), "{encoder}");
    }
}
