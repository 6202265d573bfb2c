// SPDX-License-Identifier: MPL-2.0

//! Whose clock says when a frame was.

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{PATIENCE, Run, captions, named};
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
