// SPDX-License-Identifier: MPL-2.0

//! Many pipelines at once, each in a thread of its own that plays, pauses, seeks, flushes, stops
//! and starts again as chance has it; a watchdog ends the program if one of them hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::leaks::Leaks;
use crate::slope::resident_kib;

/// No single thing an application does may take longer, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a thread does, and since when.
struct Watched {
    doing: Mutex<(&'static str, Instant)>,
    n_done: AtomicU64,
    slowest: Mutex<(Duration, &'static str)>,
}

impl Watched {
    fn new() -> Self {
        Self {
            doing: Mutex::new(("starting", Instant::now())),
            n_done: AtomicU64::new(0),
            slowest: Mutex::new((Duration::ZERO, "nothing")),
        }
    }

    /// Does something that must end.
    fn act(&self, what: &'static str, action: impl FnOnce()) {
        let begin = Instant::now();
        *self.doing.lock().unwrap() = (what, begin);
        action();
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = (*slowest).max((begin.elapsed(), what));
        self.n_done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `threads` pipelines for `minutes` and prints how much they did.
///
/// # Errors
/// What is alive after the end (with `GST_TRACERS=leaks`), or an error on a bus. A hang ends the
/// process with status 3, since a thread that hangs cannot be joined.
pub fn run(minutes: f64, threads: usize) -> Result<(), String> {
    let leaks = Leaks::new();
    let before = leaks.alive();
    let script = std::env::temp_dir().join(format!("vlmcaption-churn-{}.json", std::process::id()));
    std::fs::write(
        &script,
        r#"[{"text": "Caption {n}.", "prefill-ms": 30, "token-ms": 1}]"#,
    )
    .map_err(|error| format!("{}: {error}", script.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut watched = Vec::new();
    let mut running = Vec::new();
    for n in 0..threads {
        let watch = Arc::new(Watched::new());
        watched.push(watch.clone());
        let (stop, script) = (stop.clone(), script.display().to_string());
        running.push(thread::spawn(move || {
            churn(n as u64, &script, &watch, &stop)
        }));
    }
    let first_kib = resident_kib()?;
    watch(minutes, &watched, &running)?;
    stop.store(true, Ordering::Relaxed);
    while running.iter().any(|thread| !thread.is_finished()) {
        thread::sleep(Duration::from_millis(100));
        look_for_hangs(&watched);
    }
    let mut failures = Vec::new();
    for thread in running {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => failures.push(reason),
            Err(_) => failures.push("a thread panicked".into()),
        }
    }
    let done = n_done(&watched);
    let slowest = watched.iter().map(|w| *w.slowest.lock().unwrap()).max();
    let (slowest, what) = slowest.unwrap_or_default();
    println!("{threads} threads, {done} actions, the slowest {slowest:.1?} ({what})");
    println!(
        "resident: {first_kib:.0} KiB at the start, {:.0} KiB now",
        resident_kib()?
    );
    if failures.is_empty() {
        nothing_leaks(&leaks, &before)
    } else {
        Err(failures.join("\n"))
    }
}

/// Tells for `minutes` how far the threads are, or until one has ended.
fn watch<T>(
    minutes: f64,
    watched: &[Arc<Watched>],
    running: &[thread::JoinHandle<T>],
) -> Result<(), String> {
    let begin = Instant::now();
    let mut next_line = Duration::from_secs(30);
    while begin.elapsed() < Duration::from_secs_f64(minutes * 60.0)
        && !running.iter().any(thread::JoinHandle::is_finished)
    {
        thread::sleep(Duration::from_millis(500));
        look_for_hangs(watched);
        if begin.elapsed() > next_line {
            println!(
                "{:5.0} s  {} actions, {:.0} KiB",
                next_line.as_secs_f64(),
                n_done(watched),
                resident_kib()?
            );
            next_line += Duration::from_secs(30);
        }
    }
    Ok(())
}

fn n_done(watched: &[Arc<Watched>]) -> u64 {
    let done = watched.iter().map(|w| w.n_done.load(Ordering::Relaxed));
    done.sum()
}

/// That nothing is alive, a while after the end, but what was `before`.
fn nothing_leaks(leaks: &Leaks, before: &[String]) -> Result<(), String> {
    if !leaks.are_traced() {
        println!(
            "Leaks are not looked for: start this with GST_TRACERS=leaks (tests/soak.sh does)."
        );
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<_> = leaks
            .alive()
            .into_iter()
            .filter(|line| !before.contains(line))
            .collect();
        if left.is_empty() {
            println!("nothing is left alive");
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{} objects leaked, the first: {}",
                left.len(),
                left[0]
            ));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn look_for_hangs(watched: &[Arc<Watched>]) {
    for (n, watch) in watched.iter().enumerate() {
        let (what, since) = *watch.doing.lock().unwrap();
        if since.elapsed() > PATIENCE {
            eprintln!("thread {n} hangs: {what} for {:.0?}", since.elapsed());
            std::process::exit(3);
        }
    }
}

/// One thread: pipelines one after the other, until it is told to stop.
fn churn(n: u64, script: &str, watch: &Watched, stop: &AtomicBool) -> Result<(), String> {
    let mut chance = Chance(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    while !stop.load(Ordering::Relaxed) {
        let text = match chance.below(3) {
            0 => "fakesink sync=true",
            1 => "textoverlay name=o ! fakesink sync=true c.text_src ! queue ! o.text_sink",
            _ => "fakesink sync=true c.text_src ! fakesink sync=true async=false",
        };
        let line = format!(
            "videotestsrc pattern=black ! \
             video/x-raw,format=I420,width=32,height=32,framerate=10/1 ! \
             vlmcaption name=c backend=mock model={script} window=2 sample-rate=5/1 ! {text}"
        );
        let pipeline = gst::parse::launch(&line).map_err(|error| error.to_string())?;
        let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
        let element = pipeline
            .downcast_ref::<gst::Bin>()
            .and_then(|bin| bin.by_name("c"))
            .ok_or("no element")?;
        let mut error = None;
        for _ in 0..chance.below(30) {
            one_action(&pipeline, &element, watch, &mut chance);
            error = error_on(&bus).filter(|_| pipeline_runs(&pipeline));
            if error.is_some() || stop.load(Ordering::Relaxed) {
                break;
            }
        }
        watch.act("to NULL", || {
            let _ = pipeline.set_state(gst::State::Null);
        });
        if let Some(error) = error {
            return Err(error);
        }
    }
    Ok(())
}

fn error_on(bus: &gst::Bus) -> Option<String> {
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Error(error) = message.view() {
            return Some(format!("{} ({:?})", error.error(), error.debug()));
        }
    }
    None
}

/// Stock elements fail a new segment that meets pads just being stopped, and the source then says
/// so: an error of a pipeline that is stopped tells nothing.
fn pipeline_runs(pipeline: &gst::Element) -> bool {
    pipeline.current_state() >= gst::State::Paused || pipeline.pending_state() >= gst::State::Paused
}

fn one_action(
    pipeline: &gst::Element,
    element: &gst::Element,
    watch: &Watched,
    chance: &mut Chance,
) {
    // A pipeline that cannot change its state says why on its bus.
    let go = |what, state| {
        watch.act(what, || {
            let _ = pipeline.set_state(state);
        });
    };
    match chance.below(10) {
        0 | 1 => go("to PLAYING", gst::State::Playing),
        2 => go("to PAUSED", gst::State::Paused),
        3 => go("to READY", gst::State::Ready),
        4 => go("to NULL", gst::State::Null),
        5 | 6 => {
            let to = gst::ClockTime::from_mseconds(chance.below(60_000));
            // Refused while the pipeline is stopped.
            watch.act("seek", || {
                drop(pipeline.seek_simple(gst::SeekFlags::FLUSH, to));
            });
        }
        7 => watch.act("flush", || flush(element)),
        8 => watch.act("waiting for the state", || {
            let _ = pipeline.state(gst::ClockTime::from_seconds(2));
        }),
        _ => thread::sleep(Duration::from_millis(chance.below(300))),
    }
}

/// What an element upstream does that flushes: no buffer comes between the flush and the segment.
fn flush(element: &gst::Element) {
    let Some(pad) = element.static_pad("sink") else {
        return;
    };
    let Some(segment) = pad.sticky_event::<gst::event::Segment<_>>(0) else {
        return;
    };
    pad.send_event(gst::event::FlushStart::new());
    let _stream = pad.stream_lock();
    pad.send_event(gst::event::FlushStop::new(false));
    pad.send_event(segment);
}

/// Marsaglia's xorshift: the same numbers for the same thread in every run.
struct Chance(u64);

impl Chance {
    /// 0..n
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) % n
    }
}
