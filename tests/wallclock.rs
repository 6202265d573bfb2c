// SPDX-License-Identifier: MPL-2.0

//! Whose clock says when a frame was, and what if that goes back.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{PATIENCE, Run, captions, meta, named, pts_list, warnings};
use gst::prelude::*;

const SMALL: &str = "video/x-raw,format=GRAY8,width=64,height=64,framerate=30/1";
/// Seconds from 1900 to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// `wallclock` and `wallclock-source` of the caption of one frame with a reference timestamp.
fn told(reference: &str, seconds: u64) -> (String, String) {
    let run = Run::start(&[("backend", "mock"), ("window", "1")], SMALL);
    let mut buffer = gst::Buffer::with_size(64 * 64).unwrap();
    {
        let buffer = buffer.get_mut().unwrap();
        buffer.set_pts(gst::ClockTime::ZERO);
        let reference = gst::Caps::builder(reference).build();
        let time = gst::ClockTime::from_seconds(seconds);
        gst::ReferenceTimestampMeta::add(buffer, &reference, time, gst::ClockTime::NONE);
    }
    run.src.push_buffer(buffer).unwrap();
    let caption = captions(&run.finish()).remove(0);
    let get = |name: &str| caption.get::<String>(name).unwrap();
    (get("wallclock"), get("wallclock-source"))
}

#[test]
fn ntp_time_counts_from_1900_and_unix_time_from_1970() {
    let moon = ("1999-12-31T23:59:59.000Z".to_owned(), "ntp".to_owned());
    assert_eq!(told("timestamp/x-unix", 946_684_799), moon);
    assert_eq!(told("timestamp/x-ntp", 946_684_799 + NTP_TO_UNIX), moon);
}

#[test]
fn another_clock_is_no_wall_clock() {
    let (wallclock, source) = told("timestamp/x-drone-uptime", 5);
    assert_eq!(source, "system");
    assert!(wallclock.as_str() > "2026", "{wallclock}");
}

#[test]
fn a_camera_s_own_clock_comes_over_rtp() {
    common::init();
    let bin = gst::ElementFactory::make("rtpbin").build().unwrap();
    assert!(
        bin.has_property("add-reference-timestamp-meta"),
        "needs GStreamer 1.22"
    );
    let pipeline = gst::parse::launch(
        "rtpbin name=camera rtpbin name=host add-reference-timestamp-meta=true
         videotestsrc is-live=true ! video/x-raw,width=64,height=64,framerate=15/1 !
         x264enc tune=zerolatency key-int-max=15 ! rtph264pay ! camera.send_rtp_sink_0
         camera.send_rtp_src_0 ! host.recv_rtp_sink_0
         camera.send_rtcp_src_0 ! host.recv_rtcp_sink_0
         host. ! rtph264depay ! avdec_h264 ! vlmcaption backend=mock window=1 !
         fakesink sync=false",
    )
    .unwrap()
    .downcast::<gst::Pipeline>()
    .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    // The first report of the camera's clock comes some seconds after the first frame.
    let wallclock = loop {
        let message = bus
            .timed_pop(PATIENCE)
            .expect("no caption by the camera's clock");
        if !named(&message, "vlmcaption/caption") {
            continue;
        }
        let caption = message.structure().unwrap();
        if caption.get::<&str>("wallclock-source").unwrap() == "ntp" {
            break caption.get::<String>("wallclock").unwrap();
        }
    };
    pipeline.set_state(gst::State::Null).unwrap();
    let time = gst::DateTime::from_iso8601_string(&wallclock).unwrap();
    let time = time.to_g_date_time().unwrap().to_unix();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let off = now.abs_diff(Duration::from_secs(time.try_into().unwrap()));
    assert!(off < Duration::from_secs(60), "{wallclock} is {off:?} off");
}

/// Of the frames at these times in ms: PTS of each caption's frames.
fn captioned(run: &Run, times_ms: &[u64]) -> Vec<Vec<u64>> {
    for ms in times_ms {
        let frame = Duration::from_millis(100);
        run.push(Duration::from_millis(*ms), Some(frame)).unwrap();
    }
    let messages = run.finish();
    let in_ms = |caption| {
        pts_list(caption)
            .iter()
            .map(|pts| pts / 1_000_000)
            .collect()
    };
    captions(&messages).iter().map(|c| in_ms(c)).collect()
}

#[test]
fn a_camera_that_boots_is_captioned_at_once_and_carries_no_caption_of_its_future() {
    let run = Run::start(&[("backend", "mock"), ("window", "2")], SMALL);
    let seconds_from = |first: u64| (0..=30).map(move |n| first + n * 100);
    let times: Vec<u64> = seconds_from(90_000).chain(seconds_from(0)).collect();
    let windows = captioned(&run, &times);
    assert!(windows.contains(&vec![90_000, 91_000]), "{windows:?}");
    assert!(windows.contains(&vec![0, 1000]), "{windows:?}");
    for buffer in run.buffers.lock().unwrap().iter() {
        let (pts, fields) = (buffer.pts().unwrap().nseconds(), meta(buffer).unwrap());
        if let Ok(end) = fields.get::<u64>("end") {
            assert_eq!(
                fields.get::<u64>("age").unwrap(),
                pts.checked_sub(end).unwrap()
            );
        }
    }
}

#[test]
fn one_frame_stamped_far_ahead_ends_no_window() {
    let run = Run::start(&[("backend", "mock"), ("window", "4")], SMALL);
    let mut times: Vec<u64> = (0..40).map(|n| n * 100).collect();
    times.insert(15, 800_000_000);
    assert_eq!(captioned(&run, &times), [[0, 1000, 2000, 3000]]);
}

#[test]
fn an_event_ends_when_the_clock_goes_back_and_the_next_one_begins() {
    let script = common::script(r#"[{"text": "yes"}]"#);
    let model = ("model", script.path().to_str().unwrap());
    let run = Run::new(&[("backend", "mock"), model, ("window", "1")], SMALL);
    let prompts = r#"<"door,kind=yes-no,text=\"Is it open?\",cool-down=60000000000">"#;
    run.element.set_property_from_str("prompts", prompts);
    run.pipeline.set_state(gst::State::Playing).unwrap();
    for second in [900, 901, 0, 1] {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let events: Vec<_> = run
        .finish()
        .iter()
        .filter(|message| named(message, "vlmcaption/event"))
        .map(|message| message.structure().unwrap().to_owned())
        .map(|event| {
            let kind = event.get::<String>("kind").unwrap();
            let start = event.get::<u64>("start").unwrap() / 1_000_000_000;
            (kind, start, event.get::<String>("reason").ok())
        })
        .collect();
    let event =
        |kind: &str, start, reason: Option<&str>| (kind.into(), start, reason.map(Into::into));
    let want = [
        event("begin", 900, None),
        event("end", 900, Some("clock")),
        event("begin", 0, None),
        event("end", 0, Some("eos")),
    ];
    assert_eq!(events, want);
}

#[test]
fn a_stream_that_is_played_backwards_says_that_it_is_not_captioned() {
    let run = Run::start(&[("backend", "mock"), ("window", "1")], SMALL);
    run.push(Duration::ZERO, None).unwrap();
    run.next_caption();
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(-1.0);
    segment.set_stop(gst::ClockTime::from_seconds(10));
    let pad = run.element.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::Segment::new(segment.as_ref())));
    for second in [9, 8, 7] {
        run.push(Duration::from_secs(second), None).unwrap();
    }
    let messages = run.finish();
    assert!(captions(&messages).is_empty());
    let told = warnings(&messages);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("backwards"), "{told:?}");
}
