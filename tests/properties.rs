// SPDX-License-Identifier: MPL-2.0

//! Every property at both ends of its range, at values that applications really set, and at random
//! ones: at rest and while the video plays.

mod common;

use std::time::Duration;

use common::{Run, clock, meta, script};
use gst::glib;
use gst::prelude::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const SMALL: &str = "video/x-raw,format=I420,width=64,height=48,framerate=30/1";
const MOCK: (&str, &str) = ("backend", "mock");

/// All that can be set, but for what every `GstObject` has.
fn specs(element: &gst::Element) -> Vec<glib::ParamSpec> {
    let all = element.list_properties();
    let own = all.iter().filter(|spec| {
        // What cannot be read back is tested for itself.
        spec.owner_type() == element.type_() && spec.flags().contains(glib::ParamFlags::READWRITE)
    });
    own.cloned().collect()
}

/// Sets a property as C and Python do: GObject brings the value into its range, where Rust's bindings
/// refuse to try.
#[expect(
    unsafe_code,
    reason = "the bindings have no safe way past their own checks"
)]
fn set(element: &gst::Element, spec: &glib::ParamSpec, value: &glib::Value) {
    use glib::translate::ToGlibPtr;
    let name = std::ffi::CString::new(spec.name()).unwrap();
    // SAFETY: an object that lives, a name that ends in NUL, and an initialised value.
    unsafe {
        glib::gobject_ffi::g_object_set_property(
            element.as_ptr().cast(),
            name.as_ptr(),
            value.to_glib_none().0,
        );
    }
}

/// Both ends of a property's range, what lies just within, and what is not to be found in it.
fn ends(spec: &glib::ParamSpec) -> Vec<glib::Value> {
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
        return [spec.minimum(), spec.maximum(), spec.default_value()]
            .map(|n| n.to_value())
            .into();
    }
    if spec.is::<glib::ParamSpecUInt64>() {
        let none = u64::MAX;
        return [0, 1, none - 1, none, i64::MAX as u64]
            .map(|n| n.to_value())
            .into();
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecFloat>() {
        let tiny = f32::MIN_POSITIVE;
        return [spec.minimum(), spec.maximum(), tiny, f32::NAN]
            .map(|n| n.to_value())
            .into();
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecDouble>() {
        let tiny = f64::MIN_POSITIVE;
        return [spec.minimum(), spec.maximum(), tiny, f64::NAN]
            .map(|n| n.to_value())
            .into();
    }
    if spec.is::<glib::ParamSpecBoolean>() {
        return [true, false].map(|yes| yes.to_value()).into();
    }
    if let Some(spec) = spec.downcast_ref::<glib::ParamSpecEnum>() {
        let class = spec.enum_class();
        let values = class.values().iter();
        return values.map(|value| value.to_value(&class)).collect();
    }
    if let Some(spec) = spec.downcast_ref::<gst::ParamSpecFraction>() {
        return [spec.minimum(), spec.maximum(), gst::Fraction::new(29, 7)]
            .map(|fraction| fraction.to_value())
            .into();
    }
    if spec.is::<glib::ParamSpecString>() {
        return texts();
    }
    if spec.is::<gst::ParamSpecArray>() {
        return arrays();
    }
    panic!("{} is of a type without values here", spec.name());
}

fn texts() -> Vec<glib::Value> {
    let long = "{last}".repeat(10_000);
    let mut texts: Vec<glib::Value> = ["", " ", "{", "}{n}", "\u{feff}ä\u{1F4A9}\n\t", "0", &long]
        .iter()
        .map(|text| text.to_value())
        .collect();
    texts.push(None::<String>.to_value());
    texts
}

/// Lists of what belongs there, and of all that does not.
fn arrays() -> Vec<glib::Value> {
    let odd = gst::Structure::builder("odd")
        .field("text", gst::Array::new([1, 2]))
        .field("kind", 3.5)
        .field("x", None::<String>)
        .field("on", u64::MAX)
        .field("period", u64::MAX)
        .field("options", gst::Caps::new_any())
        .build();
    let empty = gst::Structure::new_empty("empty");
    let never = gst::Structure::builder("never")
        .field("text", "Is it night?")
        .field("kind", "yes-no")
        .field("on", 0.5)
        .field("period", u64::MAX)
        .field("cool-down", u64::MAX)
        .field("min-duration", u64::MAX)
        .build();
    let values: Vec<glib::SendValue> = vec![
        "text".to_send_value(),
        None::<String>.to_send_value(),
        7.to_send_value(),
        f64::NAN.to_send_value(),
        odd.to_send_value(),
        empty.to_send_value(),
        never.to_send_value(),
        None::<gst::Structure>.to_send_value(),
        gst::Array::new([gst::Array::new([1])]).to_send_value(),
        gst::Caps::new_empty().to_send_value(),
    ];
    let mut arrays: Vec<glib::Value> = values
        .iter()
        .map(|value| gst::Array::from_values([value.clone()]).to_value())
        .collect();
    arrays.push(gst::Array::from_values(vec!["a".to_send_value(); 1000]).to_value());
    // As GObject makes it: a list that was never filled.
    arrays.push(glib::Value::from_type(gst::Array::static_type()));
    arrays
}

/// Any value of the property's type.
fn random(spec: &glib::ParamSpec, runner: &mut TestRunner) -> glib::Value {
    fn any_of<T: std::fmt::Debug>(
        strategy: impl Strategy<Value = T>,
        runner: &mut TestRunner,
    ) -> T {
        strategy.new_tree(runner).unwrap().current()
    }
    if spec.is::<glib::ParamSpecUInt>() {
        return any_of(any::<u32>(), runner).to_value();
    }
    if spec.is::<glib::ParamSpecUInt64>() {
        return any_of(any::<u64>(), runner).to_value();
    }
    if spec.is::<glib::ParamSpecFloat>() {
        return any_of(proptest::num::f32::ANY, runner).to_value();
    }
    if spec.is::<glib::ParamSpecDouble>() {
        return any_of(proptest::num::f64::ANY, runner).to_value();
    }
    if spec.is::<gst::ParamSpecFraction>() {
        let parts = (-1_000_000..1_000_000i32, 1..1_000_000i32);
        let (numer, denom) = any_of(parts, runner);
        return gst::Fraction::new(numer, denom).to_value();
    }
    if spec.is::<glib::ParamSpecString>() {
        return any_of("\\PC{0,60}", runner).to_value();
    }
    let all = ends(spec);
    let index = any_of(0..all.len(), runner);
    all[index].clone()
}

/// Plays a few frames if the element takes its properties, and ends the stream.
fn play(run: &Run) {
    let bus = run.pipeline.bus().unwrap();
    if run.pipeline.set_state(gst::State::Playing).is_ok() {
        for second in 0..2 {
            let _ = run.push(Duration::from_secs(second), Some(Duration::from_millis(33)));
        }
        let _ = run.src.end_of_stream();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(common::PATIENCE, &ends);
        assert!(end.is_some(), "the stream does not end");
    }
    run.pipeline.set_state(gst::State::Null).unwrap();
}

fn is_nan(value: &glib::Value) -> bool {
    value.get().is_ok_and(f32::is_nan) || value.get().is_ok_and(f64::is_nan)
}

/// Whether a property is what it was set to.
fn is_set(value: &glib::Value, is: &glib::Value) -> bool {
    if let Ok(text) = value.get::<Option<String>>() {
        let is = is.get::<Option<String>>().unwrap();
        return text.unwrap_or_default() == is.unwrap_or_default();
    }
    format!("{value:?}") == format!("{is:?}")
}

#[test]
fn every_value_of_every_property_can_be_set_and_played_with() {
    let run = Run::new(&[MOCK], SMALL);
    for spec in specs(&run.element) {
        for value in ends(&spec) {
            let before = run.element.property_value(spec.name());
            set(&run.element, &spec, &value);
            let is = run.element.property_value(spec.name());
            let refused = spec.is::<gst::ParamSpecArray>() || is_nan(&value);
            assert!(
                refused || is_set(&value, &is),
                "{}: {value:?}, {is:?}",
                spec.name()
            );
            // Other models than the script are other tests' business; a folder is made, and what names
            // no hosts is refused.
            if !matches!(spec.name(), "backend" | "model" | "evidence" | "network") {
                play(&run);
            }
            set(&run.element, &spec, &before);
        }
    }
    play(&run);
}

#[test]
fn every_value_of_every_property_can_be_set_while_the_video_plays() {
    let run = Run::start(&[MOCK, ("attach", "latest")], SMALL);
    let mut runner = TestRunner::deterministic();
    let mut second = 0;
    let mut next = || {
        second += 1;
        run.push(Duration::from_secs(second), None).unwrap();
    };
    for spec in specs(&run.element) {
        let before = run.element.property_value(spec.name());
        let mut values = ends(&spec);
        values.extend((0..20).map(|_| random(&spec, &mut runner)));
        for value in values {
            set(&run.element, &spec, &value);
            let _ = run.element.property_value(spec.name());
            next();
        }
        set(&run.element, &spec, &before);
    }
    run.element.emit_by_name::<()>("caption-now", &[]);
    while run.pipeline.bus().unwrap().pop().is_some() {}
    for _ in 0..4 {
        next();
    }
    run.next_caption();
}

#[test]
fn for_ever_is_for_ever() {
    let names = [
        "eos-timeout",
        "hold",
        "heartbeat",
        "gate-linger",
        "latency-budget",
        "stats-interval",
        "model-timeout",
    ];
    let script = script(r#"[{"text": "A yard.", "prefill-ms": 300}]"#);
    let run = Run::new(&[MOCK], SMALL);
    run.element.set_property("model", script.path().to_str());
    for name in names {
        run.element.set_property(name, gst::ClockTime::NONE);
        let is = run.element.property::<Option<gst::ClockTime>>(name);
        assert_eq!(is, None, "{name}");
    }
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in 0..4 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    run.next_caption();
    let day = Duration::from_secs(86_400);
    let last_pts = day + Duration::from_secs(1);
    // Two, since one frame alone that is stamped far ahead is no sample.
    for pts in [day, last_pts] {
        run.push(pts, None).unwrap();
    }
    let messages = run.finish();
    assert_eq!(common::captions(&messages).len(), 1, "the end waits");
    let buffers = run.buffers.lock().unwrap();
    let last = buffers.last().unwrap();
    assert_eq!(last.pts(), Some(clock(last_pts)));
    let fields = meta(last).unwrap();
    assert_eq!(fields.get::<&str>("status").unwrap(), "held");
    assert_eq!(fields.get::<&str>("text").unwrap(), "A yard.");
}

/// As `prompt-hash` is made for a prompt without a system prompt.
fn hash(prompt: &str) -> String {
    let bytes = [0].into_iter().chain(prompt.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[test]
fn of_two_threads_that_set_a_prompt_the_later_is_asked() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    for round in 0..300 {
        let start = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (element, start) = (&run.element, &start);
                scope.spawn(move || {
                    start.wait();
                    for n in 0..4 {
                        element.set_property("prompt", format!("{round}: {thread}.{n}"));
                    }
                });
            }
        });
        run.push(Duration::from_secs(round), None).unwrap();
        let asked = run.next_caption().get::<String>("prompt-hash").unwrap();
        let is = run.element.property::<String>("prompt");
        assert_eq!(asked, hash(&is), "in round {round} the property is {is:?}");
    }
}

/// The kinds of the PROGRESS messages up to the first that does not go on.
fn progress(run: &Run) -> Vec<gst::ProgressType> {
    let bus = run.pipeline.bus().unwrap();
    let mut kinds = Vec::new();
    while kinds
        .last()
        .is_none_or(|kind| [gst::ProgressType::Start, gst::ProgressType::Continue].contains(kind))
    {
        let kind = [gst::MessageType::Progress];
        let message = bus.timed_pop_filtered(common::PATIENCE, &kind);
        let message = message.expect("progress does not end");
        let gst::MessageView::Progress(progress) = message.view() else {
            unreachable!("filtered");
        };
        kinds.push(progress.get().0);
    }
    kinds
}

#[test]
fn a_stop_while_the_model_loads_ends_the_progress_messages() {
    let slow = script(r#"{"load-ms": 600000, "answers": [{"text": "never"}]}"#);
    let run = Run::new(&[MOCK], SMALL);
    run.element.set_property("model", slow.path().to_str());
    for _ in 0..2 {
        run.pipeline.set_state(gst::State::Playing).unwrap();
        run.messages_until(|message| message.type_() == gst::MessageType::Progress);
        run.pipeline.set_state(gst::State::Ready).unwrap();
        assert_eq!(progress(&run).last(), Some(&gst::ProgressType::Canceled));
    }
}

#[test]
fn a_model_that_is_not_wanted_any_more_ends_its_progress_messages() {
    let slow = script(r#"{"load-ms": 600000, "answers": [{"text": "never"}]}"#);
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let before = run.element.property::<String>("model");
    run.element.set_property("model", slow.path().to_str());
    run.messages_until(|message| message.type_() == gst::MessageType::Progress);
    run.element.set_property("model", before);
    assert_eq!(progress(&run).last(), Some(&gst::ProgressType::Canceled));
}

#[test]
#[expect(unsafe_code, reason = "a pad's functions are replaced to have it fail")]
fn a_start_that_fails_leaves_nothing_running() {
    let run = Run::new(&[MOCK], SMALL);
    let pad = run.element.static_pad("sink").unwrap();
    // SAFETY: the element is in NULL, so no other thread uses the pad.
    unsafe {
        pad.set_activate_function(|_, _| Err(gst::loggable_error!(gst::CAT_RUST, "broken")));
    }
    run.element.set_state(gst::State::Ready).unwrap();
    assert!(run.element.set_state(gst::State::Paused).is_err());
    let stats = run.element.property::<gst::Structure>("stats");
    assert!(
        !stats.has_field("frames"),
        "its captioner is there: {stats}"
    );
}

#[test]
fn what_takes_effect_with_the_next_start_says_so_once() {
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    run.element.set_property("window", 1u32);
    for window in [2u32, 3, 2] {
        run.element.set_property("window", window);
    }
    run.push(Duration::from_secs(1), None).unwrap();
    let messages = run.messages_until(|message| common::named(message, "vlmcaption/caption"));
    let warnings = common::warnings(&messages);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("window=2 takes effect at the element's next start"),
        "{warnings:?}"
    );
    run.pipeline.set_state(gst::State::Ready).unwrap();
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in 0..2 {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    assert_eq!(common::pts_list(&run.next_caption()).len(), 2);
}

#[test]
fn a_model_that_is_refused_is_notified_when_its_property_goes_back() {
    let run = Run::start(&[MOCK], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    let before = run.element.property::<String>("model");
    let (tell, told) = std::sync::mpsc::channel();
    run.element
        .connect_notify(Some("model"), move |element, _| {
            let _ = tell.send(element.property::<String>("model"));
        });
    run.element.set_property("model", "/no/such/script.json");
    let patience = Duration::from_secs(60);
    assert_eq!(told.recv_timeout(patience).unwrap(), "/no/such/script.json");
    assert_eq!(told.recv_timeout(patience).unwrap(), before);
}

#[test]
fn what_is_said_of_a_model_is_printable_whatever_its_name_is() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("model\u{1b}[31m\u{7f}\r\u{85}x");
    std::fs::create_dir(&odd).unwrap();
    let controls = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    let run = Run::start(&[MOCK, ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    run.element.set_property("backend", "cpu");
    run.element.set_property("model", odd.to_str());
    let told = run.messages_until(|message| message.type_() == gst::MessageType::Warning);
    let warning = common::warnings(&told).remove(0);
    assert!(
        warning.contains("config.json") && !controls(&warning),
        "{warning:?}"
    );
    let bus = run.pipeline.bus().unwrap();
    // The pipeline itself stays: in NULL its bus throws messages away.
    run.element.set_state(gst::State::Null).unwrap();
    run.element.set_property("backend", "cpu");
    run.element.set_property("model", odd.to_str());
    assert!(run.element.set_state(gst::State::Ready).is_err());
    let error = bus.timed_pop_filtered(common::PATIENCE, &[gst::MessageType::Error]);
    let error = error.expect("the element says why");
    let gst::MessageView::Error(error) = error.view() else {
        panic!("{error:?}");
    };
    let error = error.error().to_string();
    assert!(
        error.contains("config.json") && !controls(&error),
        "{error:?}"
    );
}
