// SPDX-License-Identifier: MPL-2.0

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use super::*;
use crate::caption::reports::report::{DropReason, InquiryReport, ModelReport};

/// A listener that is told one report at a time: each waits for a word on `go`.
fn stuck() -> (Listener, mpsc::Receiver<Report>, mpsc::Sender<()>) {
    let (told, hears) = mpsc::channel();
    let (go, goes) = mpsc::channel();
    let goes = Mutex::new(goes);
    let listener: Listener = Arc::new(move |report| {
        told.send(report).unwrap();
        let _ = goes.lock().unwrap().recv();
    });
    (listener, hears, go)
}

fn failed(n: usize) -> Report {
    WindowReport::failed(n.to_string()).into()
}

fn partial(sequence: u64, text: &str) -> Report {
    Report::Window(WindowReport::Partial {
        sequence,
        prompt_id: "default".into(),
        text: text.into(),
    })
}

fn gone() -> Report {
    ModelReport::Failed("gone".into()).into()
}

fn loading(part: f32) -> Report {
    ModelReport::Loading(part).into()
}

fn dropped(count: u64) -> Report {
    Report::Window(WindowReport::Dropped {
        reason: DropReason::Busy,
        count,
    })
}

#[test]
fn what_happened_is_kept_and_what_stands_is_told_as_it_stands_last() {
    let (listener, hears, go) = stuck();
    let outbox = Outbox::start().unwrap();
    outbox.put(failed(0), &listener);
    let mut all = vec![hears.recv().unwrap()];
    for n in 1..=1000 {
        outbox.put(dropped(1), &listener);
        outbox.put(partial(1, &n.to_string()), &listener);
        outbox.put(loading(n as f32 / 1000.0), &listener);
    }
    outbox.put(failed(1), &listener);
    outbox.put(dropped(1), &listener);
    outbox.put(partial(2, "next"), &listener);
    drop(go);
    all.extend((0..6).map(|_| hears.recv().unwrap()));
    assert_eq!(
        all,
        [
            failed(0),
            dropped(1000),
            partial(1, "1000"),
            loading(1.0),
            failed(1),
            dropped(1),
            partial(2, "next"),
        ]
    );
    let soon = Instant::now() + Duration::from_secs(10);
    assert_eq!(outbox.wait_idle(soon), Waited::Idle);
}

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_full_outbox_says_so_and_wakes_who_waits_for_room() {
    let (listener, hears, go) = stuck();
    let outbox = Outbox::start().unwrap();
    let woken = Arc::new(Woken::default());
    outbox.on_room(Arc::<Woken>::downgrade(&woken) as Weak<dyn Wake>);
    outbox.put(failed(0), &listener);
    hears.recv().unwrap();
    for n in 1..=MAX_WAITING {
        assert!(outbox.has_room());
        outbox.put(failed(n), &listener);
    }
    assert!(!outbox.has_room());
    assert_eq!(woken.0.load(Ordering::SeqCst), 0);
    go.send(()).unwrap();
    assert_eq!(hears.recv().unwrap(), failed(1));
    outbox.wait_room();
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    drop(go);
}

#[test]
fn a_flush_takes_the_stream_s_reports_and_leaves_the_model_s_and_answers() {
    let (listener, hears, go) = stuck();
    let outbox = Outbox::start().unwrap();
    outbox.put(failed(0), &listener);
    hears.recv().unwrap();
    let answer = || {
        Report::Inquiry(InquiryReport {
            id: 1,
            answer: Err("no".into()),
        })
    };
    outbox.put(failed(1), &listener);
    outbox.put(answer(), &listener);
    outbox.put(partial(1, "A car"), &listener);
    outbox.put(dropped(1), &listener);
    outbox.put(gone(), &listener);
    let began = Instant::now();
    outbox.flush();
    let took = began.elapsed();
    assert!(
        took >= PATIENCE,
        "it waits for what is being told: {took:?}"
    );
    drop(go);
    assert_eq!(hears.recv().unwrap(), answer());
    assert_eq!(hears.recv().unwrap(), dropped(1));
    assert_eq!(hears.recv().unwrap(), gone());
}

#[test]
fn a_listener_that_flushes_and_ends_the_outbox_waits_for_nobody() {
    let outbox = Arc::new(Mutex::new(Some(Outbox::start().unwrap())));
    let (done, ends) = mpsc::channel();
    let own = outbox.clone();
    let listener: Listener = Arc::new(move |_| {
        let began = Instant::now();
        let outbox = own.lock().unwrap().take().unwrap();
        outbox.flush();
        assert_eq!(outbox.wait_idle(Instant::now()), Waited::Idle);
        drop(outbox);
        done.send(began.elapsed()).unwrap();
    });
    outbox
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .put(failed(0), &listener);
    let took = ends.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(took < PATIENCE, "{took:?}");
}

#[test]
fn a_listener_that_does_not_return_keeps_the_end_for_a_moment_alone() {
    let (listener, hears, go) = stuck();
    let outbox = Outbox::start().unwrap();
    outbox.put(failed(0), &listener);
    hears.recv().unwrap();
    let began = Instant::now();
    drop(outbox);
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(go);
}

#[test]
fn a_panic_of_a_listener_is_told_and_the_next_report_too() {
    let (told, hears) = mpsc::channel();
    let listener: Listener = Arc::new(move |report| match report {
        Report::Window(WindowReport::Unasked) => panic!("oh no"),
        report => told.send(report).unwrap(),
    });
    let outbox = Outbox::start().unwrap();
    outbox.put(WindowReport::Unasked.into(), &listener);
    outbox.put(failed(1), &listener);
    let Report::Window(WindowReport::Failed { reason, .. }) = hears.recv().unwrap() else {
        panic!("a report of the panic");
    };
    assert!(reason.contains("oh no"), "{reason}");
    assert_eq!(hears.recv().unwrap(), failed(1));
}
