// SPDX-License-Identifier: MPL-2.0

//! One end of a worker in front of a playing camera: what the video felt, how soon buffers said so, and how
//! soon captions came again.

use std::cell::Cell;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::camera::{Camera, Seen, good};
use crate::common::{self, script, warnings};
use crate::processes::{send, wait_for, worker};
use crate::says;

/// Longer than any round takes on a machine that does something else.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of one end of a worker. That no frame was lost is seen to by `Camera::play`.
pub struct Round {
    pub frames: usize,
    /// The longest time from one frame of the video to the next.
    pub longest_gap: Duration,
    /// From its end to the first buffer that says so.
    pub to_error: Duration,
    /// From there to the next caption.
    pub to_caption: Duration,
}

impl Round {
    #[track_caller]
    pub fn check(&self, to_error: Duration, to_caption: Duration) {
        assert!(self.to_error < to_error, "told after {:?}", self.to_error);
        let later = self.to_caption;
        assert!(later < to_caption, "captions after {later:?}");
        // A camera on a busy machine is late itself.
        let gap = self.longest_gap;
        assert!(gap < Duration::from_secs(1), "no frame for {gap:?}");
    }
}

/// A camera in front of a mock in a process of its own.
pub fn camera(model: &tempfile::NamedTempFile) -> Camera {
    Camera::new(model.path().to_str().unwrap(), &[("isolation", "process")])
}

/// It has a caption, if a late one, and nothing is wrong.
pub fn is_captioned(seen: &Seen) -> bool {
    seen.status == "fresh" || seen.status == "held"
}

/// The first buffer that says `error`, and the first caption after it.
pub fn turning_points(buffers: &[Seen]) -> (Instant, Instant) {
    let bad = buffers.iter().position(|seen| seen.status == "error");
    let bad = bad.expect("a buffer that says error");
    let good = buffers[bad..].iter().find(|seen| is_captioned(seen));
    (buffers[bad].at, good.expect("captions again").at)
}

/// The longest time from one frame to the next.
pub fn longest_gap(buffers: &[Seen]) -> Duration {
    let gaps = buffers.windows(2).map(|pair| pair[1].at - pair[0].at);
    gaps.max().unwrap_or_default()
}

/// When the last worker said that its script crashes it now.
static CRASHED: Mutex<Option<Instant>> = Mutex::new(None);

/// Has that noted, by the log that a worker's lines go to.
fn note_crashes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        common::init();
        gst::log::set_threshold_from_string("vlmcaption:4", false);
        gst::log::remove_default_log_function();
        gst::log::add_log_function(|_, _, _, _, _, _, message| {
            let text = message.get();
            if text.is_some_and(|text| text.contains("the script says to crash")) {
                *CRASHED.lock().unwrap() = Some(Instant::now());
            }
        });
    });
}

/// Plays a script that crashes, after it has worked for some windows; what was told.
pub fn crashes(crash: &str, stage: &str) -> (Round, String) {
    note_crashes();
    *CRASHED.lock().unwrap() = None;
    // What hangs is told by what was measured before.
    let before = if crash == "hang" { 10 } else { 3 };
    let model = script(&format!(
        r#"[{{"text": "before {{n}}", "repeat": {before}}},
            {{"crash": "{crash}", "crash-at": "{stage}", "text": "it is"}},
            {{"text": "after", "repeat": 9999}}]"#
    ));
    let camera = camera(&model);
    let bad = Cell::new(false);
    let buffers = camera.play(good, PATIENCE, |seen| {
        bad.set(bad.get() || seen.status == "error");
        bad.get() && is_captioned(seen) && seen.text == "after"
    });
    let crashed = CRASHED.lock().unwrap().expect("it crashed");
    let (bad, again) = turning_points(&buffers);
    let told = warnings(&camera.messages());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("vlmcaption-worker, pid "), "{told:?}");
    let round = Round {
        frames: buffers.len(),
        longest_gap: longest_gap(&buffers),
        to_error: bad.saturating_duration_since(crashed),
        to_caption: again - bad,
    };
    (round, told[0].clone())
}

/// A signal that comes while a slow device is at one stage; the model, and when to send it.
pub struct Outside {
    pub stage: &'static str,
    model: &'static str,
    moment: fn(&Seen) -> bool,
}

pub const OUTSIDE: [Outside; 4] = [
    Outside {
        stage: "load",
        model: r#"{"load-ms": 1500, "answers": [{"text": "late"}]}"#,
        moment: |_| true,
    },
    Outside {
        stage: "encode",
        model: r#"[{"text": "slow", "encode-ms": 400}]"#,
        moment: is_captioned,
    },
    Outside {
        stage: "prefill",
        model: r#"[{"text": "slow", "prefill-ms": 400}]"#,
        moment: is_captioned,
    },
    Outside {
        stage: "decode",
        model: r#"[{"text": "slow as a device can be", "token-ms": 100}]"#,
        moment: is_captioned,
    },
];

/// Sends a signal at a stage.
pub fn from_outside(signal: Signal, outside: &Outside) -> Round {
    let model = script(outside.model);
    let camera = camera(&model);
    let before = camera.play(good, PATIENCE, outside.moment);
    let pid = worker();
    let sent = Instant::now();
    send(pid, signal);
    let bad = Cell::new(false);
    let buffers = camera.play(good, PATIENCE, |seen| {
        bad.set(bad.get() || seen.status == "error");
        bad.get() && is_captioned(seen)
    });
    let (bad, again) = turning_points(&buffers);
    assert_ne!(worker(), pid);
    Round {
        frames: before.len() + buffers.len(),
        longest_gap: longest_gap(&buffers),
        to_error: bad - sent,
        to_caption: again - bad,
    }
}

/// Sends a signal to one that nobody asks anything: no frame comes.
pub fn idle(signal: Signal) -> Round {
    let model = script(r#"[{"text": "well"}]"#);
    let camera = camera(&model);
    let before = camera.play(good, PATIENCE, |seen| seen.status == "fresh");
    std::thread::sleep(Duration::from_millis(300));
    let pid = worker();
    let sent = Instant::now();
    send(pid, signal);
    let told = wait_for("a warning", || warnings(&camera.messages()).pop());
    let to_error = sent.elapsed();
    says(&told, &["vlmcaption-worker, pid "]);
    let buffers = camera.play(good, PATIENCE, |seen| seen.status == "fresh");
    assert_ne!(worker(), pid);
    Round {
        frames: before.len() + buffers.len(),
        longest_gap: longest_gap(&buffers),
        to_error,
        to_caption: sent.elapsed() - to_error,
    }
}
