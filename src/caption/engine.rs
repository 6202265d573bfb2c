// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras: an engine owns a model on a thread of its own; sessions of elements
//! take weighted turns on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::outbox::Wake;
use super::panic::caught;
use super::reporter::Outlet;
use super::schedule::{Load, Outcome, SessionState, State, Turn, Work};
use super::seat::{Seat, Table};
use super::session::{Session, SessionOptions};
use super::source::{Loader, Opened, Source};
use super::watched::{Backoff, Watched};
use super::{Report, worker};
use crate::backend::{Cancel, Health, Program};
use crate::vlm::{self, Checkpoint};

/// A model and the thread that owns it.
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Option<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) checkpoint: Arc<Checkpoint>,
    notes: Vec<String>,
    health: Mutex<Health>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Ends the loading.
    cancel: Cancel,
    /// Of each turn that is being made, by the number of its place.
    pulses: Mutex<BTreeMap<usize, Pulse>>,
}

/// Signs of life of what the device is doing.
struct Pulse {
    cancel: Cancel,
    /// [`Cancel::checks`] as it was last seen.
    checks: u64,
    /// When it was first seen so.
    since: Instant,
}

impl Engine {
    /// The engine for `source`: the one that runs already, or a new one, its weights being read in
    /// the background.
    ///
    /// # Errors
    /// What can be said of the model without reading its weights.
    pub fn acquire(source: &Source) -> Result<Arc<Self>, vlm::Error> {
        static ENGINES: OnceLock<Mutex<HashMap<Source, Weak<Engine>>>> = OnceLock::new();
        let engines = ENGINES.get_or_init(Mutex::default).lock();
        // A model at which the reading of its configuration panicked is not among them.
        let mut engines = engines.unwrap_or_else(PoisonError::into_inner);
        engines.retain(|_, engine| engine.strong_count() > 0);
        let running = engines.get(source).and_then(Weak::upgrade);
        if let Some(engine) = running.filter(|engine| !engine.shared.state().ended) {
            return Ok(engine);
        }
        let engine = Arc::new(Self::start(source.open()?)?);
        engines.insert(source.clone(), Arc::downgrade(&engine));
        Ok(engine)
    }

    fn start(opened: Opened) -> Result<Self, vlm::Error> {
        let Opened {
            checkpoint,
            loader,
            notes,
        } = opened;
        let shared = Arc::new(Shared {
            checkpoint,
            notes,
            health: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            cancel: Cancel::default(),
            pulses: Mutex::default(),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("vlmcaption-engine".into())
                .spawn(move || {
                    // Turns, loading and serving are caught closer by, and tried again.
                    if let Err(reason) = caught(PLACE, || run(&shared, loader)) {
                        give_up(&shared, &reason, &Report::LoadFailed(reason.clone()));
                    }
                    shared.state().ended = true;
                    shared.changed.notify_all();
                })
                .map_err(|source| vlm::Error::Io {
                    file: "engine thread".into(),
                    source,
                })?
        };
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The checkpoint that it runs.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// What the user should know of the model, though it works.
    pub fn notes(&self) -> &[String] {
        &self.shared.notes
    }

    /// How the device fares, as it was at most a second of work ago.
    pub fn health(&self) -> Health {
        self.shared.health.lock().unwrap().clone()
    }

    /// How long nothing has been heard of the device, though it has work. The first call after a
    /// sign of life says zero, so this must be asked again and again.
    pub fn silence(&self) -> Duration {
        let mut pulses = self.shared.pulses.lock().unwrap();
        // One turn that lives shows that the device does: the others may wait for it.
        let silences = pulses.values_mut().map(|pulse| {
            let checks = pulse.cancel.checks();
            if checks != pulse.checks {
                pulse.checks = checks;
                pulse.since = Instant::now();
            }
            pulse.since.elapsed()
        });
        silences.min().unwrap_or_default()
    }

    /// Begins a session; `weight` is its share of the device's time.
    pub(super) fn session(self: &Arc<Self>, options: SessionOptions, outlet: Outlet) -> Session {
        outlet.on_room(Arc::<Shared>::downgrade(&self.shared) as Weak<dyn Wake>);
        let mut state = self.shared.state();
        let id = state.next_id;
        state.next_id += 1;
        let used = state.least_used().unwrap_or(0.0);
        match &state.load {
            Load::Running => {}
            Load::Ready => outlet.put(Report::Loaded {
                took: Duration::ZERO,
                remark: None,
            }),
            Load::Failed(reason) => outlet.put(Report::LoadFailed(reason.clone())),
        }
        let session = SessionState::new(options, outlet, used);
        let epoch = session.epoch.clone();
        state.sessions.insert(id, session);
        drop(state);
        Session::new(self.clone(), id, epoch)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        /// A device that does not return is left alone after this: nobody can stop it, and a
        /// pipeline that is stopped must not wait for it.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.shared.cancel.cancel();
        self.shared.state().quit = true;
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // What is done when a session has told all may have held the last reference: the thread
        // cannot wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        let state = self.shared.state();
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| !state.ended);
        let ended = waited.unwrap_or_else(PoisonError::into_inner).0.ended;
        if ended {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A panic on one thread must not take the others along.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, at most for `time`.
    pub(super) fn wait_for<'a>(
        &self,
        state: MutexGuard<'a, State>,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reports what came of a turn so far, unless a flush has come. A flush waits for the lock, so
    /// nothing of before is put in the outlet after it.
    pub(super) fn tell(&self, turn: &Turn, report: Report) {
        let state = self.state();
        let session = state.sessions.get(&turn.session);
        if session.is_some_and(|session| session.epoch.get() == turn.epoch) {
            turn.outlet.put(report);
        }
    }

    /// Does what is due since sessions have nothing left to tell.
    pub(super) fn call_drained(&self) {
        let drained = self.state().take_drained();
        for call in drained {
            call();
        }
    }
}

impl Wake for Shared {
    fn wake(&self) {
        // Nobody is between a look and a wait once this has the lock.
        drop(self.state());
        self.changed.notify_all();
    }
}

/// Where a panic was.
const PLACE: &str = "the model engine";

/// Turns in a row that fail before the model is loaded anew.
const MAX_FAULTS: u32 = 3;

/// The engine thread: reads the weights and takes turns until the engine is dropped. A model that
/// cannot be loaded, or whose device fails again and again, is loaded anew, less and less often.
fn run(shared: &Shared, mut loader: Loader) {
    let backoff = Mutex::new(Backoff::default());
    for generation in 0.. {
        let program = loop {
            match load(shared, &mut loader) {
                Ok(program) => break program,
                Err(reason) => {
                    give_up(shared, &reason, &Report::LoadFailed(reason.clone()));
                }
            }
            let time = backoff.lock().unwrap().next();
            if !pause(shared, time) {
                return;
            }
        };
        if shared.state().quit {
            return;
        }
        let program = Watched::new(program, generation);
        // The device is free after this, as it must be before it is opened again.
        let Some(reason) = guarded(shared, || serve_all(shared, program, &backoff)) else {
            return;
        };
        give_up(shared, &reason, &Report::Restarting);
        let time = backoff.lock().unwrap().next();
        if !pause(shared, time) {
            return;
        }
    }
}

/// A program as one turn at a time sees it.
trait Place: Program {
    /// A turn begins.
    fn begin(&mut self);

    /// The turn that took `time` has ended: its share of the device's time, and whether the device
    /// failed.
    fn end(&mut self, time: Duration) -> (Duration, bool);
}

impl Place for Watched {
    fn begin(&mut self) {}

    fn end(&mut self, time: Duration) -> (Duration, bool) {
        (time, self.take_fault())
    }
}

impl Place for Seat<'_> {
    fn begin(&mut self) {
        self.sit();
    }

    fn end(&mut self, _: Duration) -> (Duration, bool) {
        self.rise()
    }
}

/// Takes turns, as many at a time as the program is good for; returns why the model must be loaded
/// anew, or `None` at the end.
fn serve_all(shared: &Shared, mut program: Watched, backoff: &Mutex<Backoff>) -> Option<String> {
    let stop = AtomicBool::new(false);
    if program.batch() <= 1 {
        return serve(shared, 0, &mut program, backoff, &stop);
    }
    let size = program.batch();
    let table = Table::new(program, size);
    let sit = |place| {
        let reason = guarded(shared, || {
            serve(shared, place, &mut table.seat(), backoff, &stop)
        });
        {
            // The others must not miss it between a look and a wait.
            let _state = shared.state();
            stop.store(true, Ordering::Release);
        }
        shared.changed.notify_all();
        reason
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..table.size())
            .filter_map(|place| {
                let builder = std::thread::Builder::new().name(format!("vlmcaption-seat{place}"));
                // One that does not start leaves its turns to the others.
                builder.spawn_scoped(scope, move || sit(place)).ok()
            })
            .collect();
        let reason = sit(0);
        let others = others
            .into_iter()
            .filter_map(|other| other.join().ok().flatten());
        reason.into_iter().chain(others).next()
    })
}

/// Serves; all sessions are told of a panic, which is a reason to load the model anew.
fn guarded(shared: &Shared, serve: impl FnOnce() -> Option<String>) -> Option<String> {
    caught(PLACE, serve).unwrap_or_else(|reason| {
        let failed = Report::Failed {
            frames: Vec::new(),
            reason: reason.clone(),
        };
        tell_all(shared, &failed);
        Some(reason)
    })
}

/// Takes one turn at a time; returns why the model must be loaded anew, or `None` at the end.
fn serve(
    shared: &Shared,
    place: usize,
    program: &mut impl Place,
    backoff: &Mutex<Backoff>,
    stop: &AtomicBool,
) -> Option<String> {
    /// The device is asked how it fares at most this often.
    const CHECKUP: Duration = Duration::from_secs(1);
    let mut asked: Option<Instant> = None;
    let mut faults = 0;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= CHECKUP) {
            asked = Some(Instant::now());
            let health = caught(PLACE, || program.health()).unwrap_or_default();
            *shared.health.lock().unwrap() = health;
        }
        let turn = next_turn(shared, stop)?;
        let is_window = matches!(turn.work, Work::Window { .. });
        let began = Instant::now();
        let pulse = Pulse {
            cancel: turn.cancel.clone(),
            checks: turn.cancel.checks(),
            since: began,
        };
        shared.pulses.lock().unwrap().insert(place, pulse);
        program.begin();
        let result = caught(PLACE, || worker::work(shared, program, &turn));
        shared.pulses.lock().unwrap().remove(&place);
        let (took, faulted) = program.end(began.elapsed());
        let faulted = faulted || result.is_err();
        let outcome = result.unwrap_or_else(|panic| match &turn.work {
            Work::Inquiry { .. } => Outcome::Inquired(Err(panic)),
            Work::Pair { .. } | Work::Window { .. } => Outcome::Failed {
                frames: Vec::new(),
                reason: panic,
            },
        });
        let works = is_window && !matches!(outcome, Outcome::Cancelled | Outcome::Failed { .. });
        let broken = match &outcome {
            Outcome::Failed { reason, .. } | Outcome::Inquired(Err(reason))
                if faulted && faults + 1 == MAX_FAULTS =>
            {
                Some(reason.clone())
            }
            _ => None,
        };
        report(shared, &turn, took, outcome);
        if faulted {
            faults += 1;
        } else if works {
            faults = 0;
            backoff.lock().unwrap().reset();
        }
        if broken.is_some() {
            return broken;
        }
    }
}

/// Waits for work; `None` at the end.
fn next_turn(shared: &Shared, stop: &AtomicBool) -> Option<Turn> {
    let mut state = shared.state();
    let turn = loop {
        if state.quit || stop.load(Ordering::Acquire) {
            return None;
        }
        if let Some(turn) = state.next_turn() {
            break turn;
        }
        state = shared.wait(state);
    };
    drop(state);
    shared.changed.notify_all();
    Some(turn)
}

/// Books a turn and reports what came of it.
fn report(shared: &Shared, turn: &Turn, took: Duration, outcome: Outcome) {
    {
        let mut state = shared.state();
        let wanted = state.finish_turn(turn, took, &outcome);
        match (&turn.work, outcome) {
            // Also after a flush: whoever asked waits for it.
            (Work::Inquiry { inquiry, .. }, Outcome::Inquired(answer)) => {
                let id = inquiry.id;
                turn.outlet.put(Report::Answer { id, answer });
            }
            (_, Outcome::Failed { frames, reason }) if wanted => {
                turn.outlet.put(Report::Failed { frames, reason });
            }
            _ => {}
        }
    }
    shared.changed.notify_all();
    shared.call_drained();
}

/// Reads the weights, telling all sessions how far it is.
fn load(shared: &Shared, loader: &mut Loader) -> Result<Box<dyn Program>, String> {
    /// A model that is read faster than this is not worth a message.
    const INTERVAL: Duration = Duration::from_millis(500);
    let began = Instant::now();
    let mut told = began;
    let mut progress = |part: f32| {
        if told.elapsed() >= INTERVAL {
            told = Instant::now();
            tell_all(shared, &Report::Loading(part));
        }
    };
    let loaded = caught(PLACE, || {
        let program = loader(&mut progress, &shared.cancel)?;
        let remark = program.remark();
        Ok((program, remark))
    });
    let (program, remark) =
        loaded.and_then(|loaded| loaded.map_err(|error: vlm::Error| error.to_string()))?;
    {
        let mut state = shared.state();
        if state.quit {
            return Ok(program);
        }
        state.load = Load::Ready;
    }
    let took = began.elapsed();
    tell_all(shared, &Report::Loaded { took, remark });
    Ok(program)
}

/// The model cannot be used: what waits for it is dropped, and all sessions are told. No turn is being
/// made then; one that a panic has ended is over.
fn give_up(shared: &Shared, reason: &str, report: &Report) {
    {
        let mut state = shared.state();
        state.load = Load::Failed(reason.to_owned());
        let quit = state.quit;
        for session in state.sessions.values_mut() {
            session.running = None;
            for asked in session.inquiries.drain(..) {
                let (id, answer) = (asked.inquiry.id, Err(reason.to_owned()));
                session.outlet.put(Report::Answer { id, answer });
            }
            match report {
                // What the vision net made of frames is gone with the program.
                Report::Restarting => session.forget(),
                _ => session.drop_work(),
            }
            if !quit {
                session.outlet.put(report.clone());
            }
        }
    }
    shared.pulses.lock().unwrap().clear();
    shared.changed.notify_all();
    shared.call_drained();
}

/// Tells all sessions.
fn tell_all(shared: &Shared, report: &Report) {
    let state = shared.state();
    if state.quit {
        return;
    }
    for session in state.sessions.values() {
        session.outlet.put(report.clone());
    }
}

/// Waits before the next try; false at the end.
fn pause(shared: &Shared, time: Duration) -> bool {
    let state = shared.state();
    let waited = shared
        .changed
        .wait_timeout_while(state, time, |state| !state.quit);
    !waited.unwrap_or_else(PoisonError::into_inner).0.quit
}

#[cfg(test)]
mod tests;
