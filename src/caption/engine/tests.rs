// SPDX-License-Identifier: MPL-2.0

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::handle::Engine;
use super::opened::{Opened, ProgramLoader};
use super::pairs::OpenWindow;
use super::run::MAX_FAULTS;
use super::schedule::Schedule;
use super::session::{Session, SessionOptions};
use super::state::SessionState;
use super::turn::{Job, Outcome, Turn, Work};
use crate::backend::{
    Cancel, Error, Features, GridThw, Health, Limits, Next, Patches, Position, Program, Segment,
    SequenceId, VisualTokens,
};
use crate::caption::frames::ladder::Ladder;
use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{FrameTime, Pair, Partial, WallClock, Window};
use crate::caption::mailbox::{DropPolicy, Sent};
use crate::caption::questions::prompt::Ask;
use crate::caption::reports::outbox::Listener;
use crate::caption::reports::report::{ModelReport, Report, WindowReport};
use crate::caption::reports::reporter::Reporter;
use crate::caption::reports::window_info::WindowInfo;
use crate::vlm::Checkpoint;
use crate::vlm::files::ModelFiles;

const PATIENCE: Duration = Duration::from_secs(60);

/// What of a program panics, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Load,
    Remark,
    Health,
    Encode,
    Extend,
    Drop,
}

/// Parts that are still to panic, and how many turns the program makes at a time.
#[derive(Clone, Default)]
struct Faulty {
    parts: Arc<Mutex<Vec<Part>>>,
    batch: usize,
    /// The vision net waits for a word, if set.
    gate: Option<Arc<Mutex<Receiver<()>>>>,
}

impl Faulty {
    fn reach(&self, part: Part) {
        let panics = {
            let mut parts = self.parts.lock().unwrap();
            let at = parts.iter().position(|one| *one == part);
            at.map(|at| parts.remove(at)).is_some()
        };
        assert!(!panics, "{part:?} is broken");
    }
}

/// A program that says nothing and panics where it is told to.
struct Fake {
    faulty: Faulty,
    limits: Limits,
    eos: u32,
}

impl Program for Fake {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, _: &Cancel) -> Result<VisualTokens, Error> {
        self.faulty.reach(Part::Encode);
        if let Some(gate) = &self.faulty.gate {
            let _ = gate.lock().unwrap().recv();
        }
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens: 1,
            features: Features::Host {
                launch: 0,
                embeds: Vec::new(),
                deepstack: Vec::new(),
            },
        })
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        Ok(SequenceId(0))
    }

    fn extend(
        &mut self,
        _: SequenceId,
        _: &[Segment<'_>],
        _: &[Position],
        _: &Cancel,
    ) -> Result<Next<'_>, Error> {
        self.faulty.reach(Part::Extend);
        Ok(Next::Token(self.eos))
    }

    fn batch(&self) -> usize {
        self.faulty.batch
    }

    fn truncate(&mut self, _: SequenceId, _: usize) {}

    fn close(&mut self, _: SequenceId) {}

    fn remark(&self) -> Option<String> {
        self.faulty.reach(Part::Remark);
        None
    }

    fn health(&mut self) -> Health {
        self.faulty.reach(Part::Health);
        Health::default()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.faulty.reach(Part::Drop);
        }
    }
}

fn engine(faulty: Faulty) -> Arc<Engine> {
    let checkpoint = Arc::new(Checkpoint::open(ModelFiles::demo()).unwrap());
    let eos = checkpoint.defaults.eos[0];
    let loader: ProgramLoader = Box::new(move |_, _| {
        faulty.reach(Part::Load);
        Ok(Box::new(Fake {
            faulty: faulty.clone(),
            limits: Limits {
                context: 1 << 20,
                prompt: 1 << 20,
                vocab_size: 0,
                weight_bytes: 0,
            },
            eos,
        }))
    });
    let opened = Opened::model(checkpoint, loader);
    Arc::new(Engine::start(opened).unwrap())
}

fn options() -> SessionOptions {
    SessionOptions {
        element: "e".into(),
        stream: "s".into(),
        weight: 1,
        policy: DropPolicy::Oldest,
        max_queued: 64,
        ask: Ask::plain("?"),
    }
}

/// A session, its reporter, and what is heard of it.
fn session(engine: &Arc<Engine>) -> (Session, Arc<Reporter>, Receiver<Report>) {
    let (told, hears) = channel();
    let listener: Listener = Arc::new(move |report| {
        // A test that has seen enough listens no more.
        let _ = told.send(report);
    });
    let reporter = Reporter::start(listener, Ladder::new(1, 1), Duration::ZERO).unwrap();
    (
        Session::begin(engine, options(), reporter.outlet()),
        reporter,
        hears,
    )
}

fn job(sequence: u64) -> Job {
    let at = Duration::from_secs(sequence);
    let pair = Pair {
        pts: vec![at],
        visual: Mutex::new(Visual::Pixels(Patches {
            grid: GridThw { t: 1, h: 2, w: 2 },
            pixels: Vec::new().into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        })),
        frames: Vec::new(),
        answered: AtomicBool::new(false),
    };
    Job {
        sequence,
        window: Window {
            frames: vec![FrameTime {
                pts: at,
                running_time: at,
                wallclock: at,
                clock: WallClock::System,
            }],
            pairs: vec![Arc::new(pair)],
        },
        window_info: WindowInfo::default(),
        complete_since: Instant::now(),
    }
}

/// Submits windows, once the model is there, until one is captioned; what was heard meanwhile.
fn heard_until_captioned(session: &Session, hears: &Receiver<Report>) -> Vec<Report> {
    let (deadline, mut all) = (Instant::now() + PATIENCE, Vec::new());
    for sequence in 1.. {
        assert!(Instant::now() < deadline, "{all:?}");
        while !session.is_ready() {
            std::thread::yield_now();
        }
        if !matches!(session.submit(job(sequence), session.epoch()), Sent::Queued) {
            continue;
        }
        loop {
            let report = hears.recv_timeout(PATIENCE).unwrap();
            all.push(report);
            match all.last() {
                Some(Report::Window(WindowReport::Caption(_))) => return all,
                Some(
                    Report::Window(WindowReport::Failed { .. })
                    | Report::Model(ModelReport::Restarting),
                ) => break,
                _ => {}
            }
        }
    }
    all
}

/// Reasons that were told.
fn reasons(reports: &[Report]) -> Vec<&str> {
    let reasons = reports.iter().filter_map(|report| match report {
        Report::Window(WindowReport::Failed { reason, .. })
        | Report::Model(ModelReport::Failed(reason)) => Some(reason.as_str()),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn a_panic_anywhere_in_a_model_is_told_and_captions_come_again() {
    for batch in [1, 2] {
        for part in [Part::Load, Part::Remark, Part::Encode, Part::Extend] {
            let parts = Arc::new(Mutex::new(vec![part]));
            let engine = engine(Faulty {
                parts,
                batch,
                gate: None,
            });
            let (session, _reporter, hears) = session(&engine);
            let all = heard_until_captioned(&session, &hears);
            let reasons = reasons(&all);
            let told = format!("internal error in the model engine: {part:?} is broken");
            assert_eq!(reasons.len(), 1, "{all:?}");
            assert!(reasons[0].starts_with(&told), "{reasons:?}");
        }
    }
}

#[test]
fn a_panic_of_a_device_s_health_does_no_harm() {
    let parts = Arc::new(Mutex::new(vec![Part::Health]));
    let engine = engine(Faulty {
        parts: parts.clone(),
        ..Faulty::default()
    });
    let (session, _reporter, hears) = session(&engine);
    let all = heard_until_captioned(&session, &hears);
    assert!(reasons(&all).is_empty(), "{all:?}");
    assert!(parts.lock().unwrap().is_empty());
}

#[test]
fn a_panic_between_two_turns_is_told_and_the_model_is_loaded_anew() {
    for batch in [1, 2] {
        let (go, gate) = channel();
        let engine = engine(Faulty {
            // The program is dropped before the next one is loaded.
            parts: Arc::new(Mutex::new(vec![Part::Drop])),
            batch,
            gate: Some(Arc::new(Mutex::new(gate))),
        });
        let (failing, _failing_reporter, failing_hears) = session(&engine);
        let (other, _reporter, hears) = session(&engine);
        while !failing.is_ready() {
            std::thread::yield_now();
        }
        assert!(matches!(failing.submit(job(1), 0), Sent::Queued));
        // Its turn has begun, or will: what is done when it has told all is done by that thread.
        failing.retire(Box::new(|| panic!("the slot is broken")));
        go.send(()).unwrap();
        drop(go);
        for (session, hears) in [(other, hears), (failing, failing_hears)] {
            let mut all = Vec::new();
            while all.last() != Some(&Report::Model(ModelReport::Restarting)) {
                all.push(hears.recv_timeout(PATIENCE).unwrap());
            }
            let told = reasons(&all);
            assert!(told[0].contains("the slot is broken"), "{all:?}");
            assert!(told[1..].iter().all(|told| told.contains("Drop is broken")));
            heard_until_captioned(&session, &hears);
        }
    }
}

#[test]
fn a_model_that_is_loaded_anew_costs_nothing_of_what_comes_after_however_slow_the_listener() {
    let engine = engine(Faulty {
        parts: Arc::new(Mutex::new(vec![Part::Extend; MAX_FAULTS as usize])),
        ..Faulty::default()
    });
    let (go, gate) = channel::<()>();
    let (told, hears): (Sender<Report>, _) = channel();
    let gate = Mutex::new(gate);
    let listener: Listener = Arc::new(move |report| {
        let stuck = matches!(report, Report::Window(WindowReport::Failed { .. }));
        let _ = told.send(report);
        if stuck {
            let _ = gate.lock().unwrap().recv();
        }
    });
    let reporter = Reporter::start(listener, Ladder::new(1, 1), Duration::ZERO).unwrap();
    let session = Session::begin(&engine, options(), reporter.outlet());
    let submit = |sequence| {
        while !session.is_ready() {
            std::thread::yield_now();
        }
        let sent = session.submit(job(sequence), session.epoch());
        assert!(matches!(sent, Sent::Queued));
        session.wait_idle(Instant::now() + PATIENCE);
    };
    let before = session.epoch();
    (1..=u64::from(MAX_FAULTS)).for_each(submit);
    while session.epoch() == before {
        std::thread::yield_now();
    }
    submit(9);
    assert_eq!(reporter.restarts(), 1);
    drop(go);
    let mut all = Vec::new();
    while !matches!(all.last(), Some(Report::Window(WindowReport::Caption(_)))) {
        all.push(hears.recv_timeout(PATIENCE).unwrap());
    }
    let at = |wanted: &Report| all.iter().position(|report| report == wanted);
    assert!(
        at(&Report::Model(ModelReport::Restarting)).is_some(),
        "{all:?}"
    );
    let Some(Report::Window(WindowReport::Caption(caption))) = all.last() else {
        unreachable!()
    };
    assert_eq!(caption.sequence, 9, "{all:?}");
}

#[test]
fn a_session_that_is_not_heard_waits_alone_and_is_not_owed_the_turns_of_others() {
    let (stuck, heard) = (unheard(), unheard());
    let mut schedule = Schedule::default();
    for (id, (reporter, ..)) in [&stuck, &heard].into_iter().enumerate() {
        let session = |used| SessionState::new(options(), reporter.outlet(), used);
        assert_eq!(schedule.add(session), id as u64);
    }
    let queue = |schedule: &mut Schedule| {
        for id in [0, 1] {
            for sequence in 0..64 {
                let _ = schedule.get_mut(id).unwrap().offer_window(job(sequence));
            }
        }
    };
    let take = |schedule: &mut Schedule| {
        let turn = schedule.next_turn().unwrap();
        let answered = Outcome::Answered(None);
        schedule.finish_turn(&turn, Duration::from_millis(10), &answered);
        turn.session
    };
    queue(&mut schedule);
    let (reporter, hears, go) = &stuck;
    reporter.report(WindowReport::failed("the one that is stuck".into()));
    hears.recv().unwrap();
    while reporter.outlet().has_room() {
        reporter.report(WindowReport::failed("an event".into()));
    }
    assert!((0..32).all(|_| take(&mut schedule) == 1));
    for _ in 0..32 {
        let _ = go.send(());
    }
    reporter.outbox().wait_room();
    queue(&mut schedule);
    let turns: Vec<u64> = (0..16).map(|_| take(&mut schedule)).collect();
    let n = turns.iter().filter(|id| **id == 0).count();
    assert!((7..=9).contains(&n), "{turns:?}");
}

/// A schedule of a model that keeps two prompts, with so many sessions, and what they report to.
fn two_prompts(n_sessions: usize) -> (Schedule, Vec<Arc<Reporter>>) {
    let mut schedule = Schedule::default();
    schedule.set_prompts(2);
    let reporter = |_| Reporter::start(Arc::new(|_| ()), Ladder::new(1, 1), Duration::ZERO);
    let reporters: Vec<_> = (0..n_sessions).map(reporter).map(Result::unwrap).collect();
    for reporter in &reporters {
        schedule.add(|used| SessionState::new(options(), reporter.outlet(), used));
    }
    (schedule, reporters)
}

/// Offers the first pair of a window of two frames; it is needed for as long as it is held.
fn offer_pair(schedule: &mut Schedule, session: u64) -> Arc<Pair> {
    let Window { frames, mut pairs } = job(1).window;
    let pair = pairs.remove(0);
    let of = OpenWindow {
        sequence: 1,
        scene: 0,
        partial: Partial {
            frames: [frames.clone(), frames].concat(),
            pairs: vec![Arc::downgrade(&pair)],
        },
    };
    let session = schedule.get_mut(session).unwrap();
    session.offer_pairs(std::slice::from_ref(&pair), Some(of));
    pair
}

/// Whose turn is next, and whether a prompt is begun with it.
fn begun(schedule: &mut Schedule) -> (Turn, bool) {
    let turn = schedule.next_turn().unwrap();
    let begins = matches!(turn.work, Work::Pair { ahead: Some(_), .. });
    (turn, begins)
}

#[test]
fn prompts_are_begun_for_as_many_sessions_as_the_model_keeps_prompts_of() {
    for (n_sessions, wanted) in [(1, true), (2, true), (3, false)] {
        let (mut schedule, _reporters) = two_prompts(n_sessions);
        let sessions = 0..n_sessions as u64;
        let _pairs: Vec<_> = sessions
            .clone()
            .map(|id| offer_pair(&mut schedule, id))
            .collect();
        for id in sessions {
            let (turn, begins) = begun(&mut schedule);
            assert_eq!(
                (turn.session, begins),
                (id, wanted),
                "{n_sessions} sessions"
            );
        }
    }
}

#[test]
fn no_answer_waits_for_the_head_start_of_another_session() {
    let (mut schedule, _reporters) = two_prompts(2);
    let finish = |schedule: &mut Schedule, turn: &Turn| {
        schedule.finish_turn(turn, Duration::from_millis(10), &Outcome::Answered(None));
    };
    let _pair = offer_pair(&mut schedule, 0);
    let queued = schedule.get_mut(1).unwrap().offer_window(job(1));
    assert!(matches!(queued, Sent::Queued));
    let (pair, begins) = begun(&mut schedule);
    assert_eq!((pair.session, begins), (0, false), "a window waits");
    finish(&mut schedule, &pair);
    let (window, _) = begun(&mut schedule);
    let _pair = offer_pair(&mut schedule, 0);
    let (pair, begins) = begun(&mut schedule);
    assert_eq!(
        (pair.session, begins),
        (0, false),
        "an answer is being made"
    );
    finish(&mut schedule, &window);
    finish(&mut schedule, &pair);
    let _pair = offer_pair(&mut schedule, 0);
    let (_, begins) = begun(&mut schedule);
    assert!(begins, "nobody waits");
}

/// A reporter whose listener waits for a word at each report.
fn unheard() -> (Arc<Reporter>, Receiver<()>, Sender<()>) {
    let (go, gate) = channel();
    let (told, hears) = channel();
    let gate = Mutex::new(gate);
    let listener: Listener = Arc::new(move |_| {
        let _ = told.send(());
        let _ = gate.lock().unwrap().recv();
    });
    let reporter = Reporter::start(listener, Ladder::new(1, 1), Duration::ZERO).unwrap();
    (reporter, hears, go)
}
