// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras: an engine owns a model on a thread of its own; sessions of elements
//! take weighted turns on it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mailbox::Queue;
use super::pairs::Pairs;
use super::schedule::{Epoch, Load, Outcome, SessionState, State, Turn, Work};
use super::seat::{Seat, Table};
use super::session::{Session, SessionOptions};
use super::source::{Loader, Opened, Source};
use super::watched::{Backoff, Watched};
use super::{Report, worker};
use crate::backend::{Cancel, Health, Program};
use crate::vlm::{self, Checkpoint};

/// Hears of everything that concerns one session; called from the threads of this module, never
/// with a lock held.
pub type Listener = Arc<dyn Fn(Report) + Send + Sync>;

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
        let mut engines = ENGINES.get_or_init(Mutex::default).lock().unwrap();
        engines.retain(|_, engine| engine.strong_count() > 0);
        if let Some(engine) = engines.get(source).and_then(Weak::upgrade) {
            return Ok(engine);
        }
        let engine = Arc::new(Self::start(source)?);
        engines.insert(source.clone(), Arc::downgrade(&engine));
        Ok(engine)
    }

    fn start(source: &Source) -> Result<Self, vlm::Error> {
        let Opened {
            checkpoint,
            loader,
            notes,
        } = source.open()?;
        let shared = Arc::new(Shared {
            checkpoint,
            notes,
            health: Mutex::default(),
            state: Mutex::new(State {
                sessions: BTreeMap::new(),
                next_id: 0,
                load: Load::Running,
                inquired: false,
                quit: false,
                ended: false,
            }),
            changed: Condvar::new(),
            cancel: Cancel::default(),
            pulses: Mutex::default(),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("vlmcaption-engine".into())
                .spawn(move || {
                    run(&shared, loader);
                    shared.state.lock().unwrap().ended = true;
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
    pub fn session(self: &Arc<Self>, options: SessionOptions, listener: Listener) -> Session {
        let mut state = self.shared.state.lock().unwrap();
        let id = state.next_id;
        state.next_id += 1;
        let used = state.least_used().unwrap_or(0.0);
        let load = state.load.clone();
        let epoch = Epoch::default();
        state.sessions.insert(
            id,
            SessionState {
                listener: listener.clone(),
                ask: Arc::new(options.ask),
                stream: options.stream,
                weight: f64::from(options.weight.max(1)),
                used,
                policy: options.policy,
                windows: Queue::new(options.max_queued),
                pairs: Pairs::default(),
                history: VecDeque::new(),
                asked: HashMap::new(),
                scene: 0,
                inquiries: VecDeque::new(),
                epoch: epoch.clone(),
                flushing: false,
                running: None,
                reporting: false,
                held: false,
                drained: None,
            },
        );
        drop(state);
        match load {
            Load::Running => {}
            Load::Ready => listener(Report::Loaded {
                took: Duration::ZERO,
                remark: None,
            }),
            Load::Failed(reason) => listener(Report::LoadFailed(reason)),
        }
        Session::new(self.clone(), id, epoch)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        /// A device that does not return is left alone after this: nobody can stop it, and a
        /// pipeline that is stopped must not wait for it.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.shared.cancel.cancel();
        self.shared.state.lock().unwrap().quit = true;
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A listener may have held the last reference: the thread cannot wait for itself.
        if thread.thread().id() == std::thread::current().id() {
            return;
        }
        let state = self.shared.state.lock().unwrap();
        let changed = &self.shared.changed;
        let waited = changed.wait_timeout_while(state, PATIENCE, |state| !state.ended);
        if waited.unwrap().0.ended {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Tells a session what came of its turn while the turn goes on, unless a flush has come. Whether
    /// it was told.
    pub(super) fn tell(&self, turn: &Turn, report: Report) -> bool {
        {
            let mut state = self.state.lock().unwrap();
            match state.sessions.get_mut(&turn.session) {
                Some(session) if session.epoch.get() == turn.epoch => session.reporting = true,
                _ => return false,
            }
        }
        (turn.listener)(report);
        if let Some(session) = self.state.lock().unwrap().sessions.get_mut(&turn.session) {
            session.reporting = false;
        }
        self.changed.notify_all();
        true
    }

    /// Does what is due since sessions have nothing left to tell.
    pub(super) fn call_drained(&self) {
        let drained = self.state.lock().unwrap().take_drained();
        for call in drained {
            call();
        }
    }
}

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
                    give_up(shared, &reason);
                    tell_all(shared, &Report::LoadFailed(reason));
                }
            }
            let time = backoff.lock().unwrap().next();
            if !pause(shared, time) {
                return;
            }
        };
        if shared.state.lock().unwrap().quit {
            return;
        }
        let program = Watched::new(program, generation);
        // The device is free after this, as it must be before it is opened again.
        let Some(reason) = serve_all(shared, program, &backoff) else {
            return;
        };
        give_up(shared, &reason);
        tell_all(shared, &Report::Restarting);
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
        let reason = serve(shared, place, &mut table.seat(), backoff, &stop);
        {
            // The others must not miss it between a look and a wait.
            let _state = shared.state.lock().unwrap();
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
            let health = caught(|| program.health()).unwrap_or_default();
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
        let result = caught(|| worker::work(shared, program, &turn));
        shared.pulses.lock().unwrap().remove(&place);
        let (took, faulted) = program.end(began.elapsed());
        let faulted = faulted || result.is_err();
        let mut outcome = result.unwrap_or_else(|panic| match &turn.work {
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
        report(shared, &turn, took, &mut outcome);
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
    let mut state = shared.state.lock().unwrap();
    let turn = loop {
        if state.quit || stop.load(Ordering::Acquire) {
            return None;
        }
        if let Some(turn) = state.next_turn() {
            break turn;
        }
        state = shared.changed.wait(state).unwrap();
    };
    drop(state);
    shared.changed.notify_all();
    Some(turn)
}

/// Books a turn and tells what came of it.
fn report(shared: &Shared, turn: &Turn, took: Duration, outcome: &mut Outcome) {
    let wanted = shared
        .state
        .lock()
        .unwrap()
        .finish_turn(turn, took, outcome);
    if let (Work::Inquiry { inquiry, .. }, Outcome::Inquired(answer)) = (&turn.work, &*outcome) {
        // Also after a flush: whoever asked waits for it.
        let (id, answer) = (inquiry.id, answer.clone());
        (turn.listener)(Report::Answer { id, answer });
    }
    if wanted {
        match std::mem::replace(outcome, Outcome::Cancelled) {
            Outcome::Failed { frames, reason } => {
                (turn.listener)(Report::Failed { frames, reason });
            }
            Outcome::Encoded | Outcome::Answered(_) | Outcome::Inquired(_) | Outcome::Cancelled => {
            }
        }
        if let Some(session) = shared.state.lock().unwrap().sessions.get_mut(&turn.session) {
            session.reporting = false;
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
    let program = caught(|| loader(&mut progress, &shared.cancel))
        .and_then(|program| program.map_err(|error| error.to_string()))?;
    {
        let mut state = shared.state.lock().unwrap();
        if state.quit {
            return Ok(program);
        }
        state.load = Load::Ready;
    }
    let took = began.elapsed();
    let remark = program.remark();
    tell_all(shared, &Report::Loaded { took, remark });
    Ok(program)
}

/// The model cannot be used: what waits for it is dropped.
fn give_up(shared: &Shared, reason: &str) {
    let mut unanswered = Vec::new();
    {
        let mut state = shared.state.lock().unwrap();
        state.load = Load::Failed(reason.to_owned());
        for session in state.sessions.values_mut() {
            // An end of stream waits until its listener has been told.
            session.reporting = true;
            session.windows.drain();
            session.pairs.clear();
            for asked in session.inquiries.drain(..) {
                unanswered.push((session.listener.clone(), asked.inquiry.id));
            }
        }
    }
    for (listener, id) in unanswered {
        let answer = Err(reason.to_owned());
        listener(Report::Answer { id, answer });
    }
}

/// Tells all sessions; an end of stream waits until each has been told.
fn tell_all(shared: &Shared, report: &Report) {
    let listeners: Vec<Listener> = {
        let mut state = shared.state.lock().unwrap();
        if state.quit {
            return;
        }
        let sessions = state.sessions.values_mut();
        let told = sessions.map(|session| {
            session.reporting = true;
            session.listener.clone()
        });
        told.collect()
    };
    for listener in listeners {
        listener(report.clone());
    }
    for session in shared.state.lock().unwrap().sessions.values_mut() {
        session.reporting = false;
    }
    shared.changed.notify_all();
    shared.call_drained();
}

/// Waits before the next try; false at the end.
fn pause(shared: &Shared, time: Duration) -> bool {
    let state = shared.state.lock().unwrap();
    let waited = shared
        .changed
        .wait_timeout_while(state, time, |state| !state.quit);
    !waited.unwrap().0.quit
}

/// Runs something of the engine's; a panic in it becomes a reason.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let what = panic
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        format!("internal error in the model engine: {what}; please report it")
    })
}
