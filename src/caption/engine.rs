// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras: an engine owns a model on a thread of its own; sessions of elements
//! take weighted turns on it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mailbox::{DropPolicy, Queue, Sent, Waited};
use super::prompt::Ask;
use super::window::{Pair, Visual, Window};
use super::{Report, worker};
use crate::backend::mock::{self, Script};
use crate::backend::{Cancel, Program, cpu};
use crate::vlm::files::ModelFiles;
use crate::vlm::{self, Checkpoint};

/// Hears of everything that concerns one session; called from the threads of this module, never
/// with a lock held.
pub type Listener = Arc<dyn Fn(Report) + Send + Sync>;

/// What an engine runs; elements that ask for the same share one engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A checkpoint on the host's cores.
    Cpu {
        /// Folder of the checkpoint; `None` for the built-in demo model.
        model: Option<std::path::PathBuf>,
        /// Choices.
        options: cpu::Options,
    },
    /// No model: scripted answers.
    Mock {
        /// The script; `None` for the built-in one.
        script: Option<std::path::PathBuf>,
    },
}

type Loader =
    Box<dyn FnOnce(&mut dyn FnMut(f32), &Cancel) -> Result<Box<dyn Program>, vlm::Error> + Send>;

/// A model and the thread that owns it.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) checkpoint: Arc<Checkpoint>,
    state: Mutex<State>,
    changed: Condvar,
    /// Ends the loading.
    cancel: Cancel,
}

struct State {
    sessions: BTreeMap<u64, SessionState>,
    next_id: u64,
    load: Load,
    quit: bool,
}

#[derive(Clone)]
enum Load {
    Running,
    Ready,
    Failed(String),
}

struct SessionState {
    listener: Listener,
    ask: Arc<Ask>,
    stream: String,
    weight: f64,
    /// Device time used, divided by the weight: the session with the least is next.
    used: f64,
    policy: DropPolicy,
    windows: Queue<Job>,
    pairs: VecDeque<Weak<Pair>>,
    history: VecDeque<vlm::Turn>,
    /// Raised by a flush; what was begun before is not reported.
    epoch: u64,
    flushing: bool,
    running: Option<Cancel>,
    /// The listener is being told of a result.
    reporting: bool,
}

/// A window in the queue.
pub(super) struct Job {
    pub(super) sequence: u64,
    pub(super) window: Window,
    pub(super) complete_since: Instant,
}

/// A turn on the device.
pub(super) struct Turn {
    session: u64,
    epoch: u64,
    pub(super) listener: Listener,
    pub(super) cancel: Cancel,
    pub(super) work: Work,
}

pub(super) enum Work {
    Pair(Arc<Pair>),
    Window {
        job: Job,
        ask: Arc<Ask>,
        stream: String,
        history: Vec<vlm::Turn>,
    },
}

/// What a turn came to.
pub(super) enum Outcome {
    Encoded,
    Caption(Box<super::Caption>, vlm::Turn),
    Failed {
        frames: Vec<super::window::FrameTime>,
        reason: String,
    },
    Cancelled,
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
        if let Some(engine) = engines.get(source).and_then(Weak::upgrade)
            && !matches!(engine.shared.state.lock().unwrap().load, Load::Failed(_))
        {
            return Ok(engine);
        }
        let engine = Arc::new(Self::start(source)?);
        engines.insert(source.clone(), Arc::downgrade(&engine));
        Ok(engine)
    }

    fn start(source: &Source) -> Result<Self, vlm::Error> {
        let (checkpoint, loader) = open(source)?;
        let shared = Arc::new(Shared {
            checkpoint,
            state: Mutex::new(State {
                sessions: BTreeMap::new(),
                next_id: 0,
                load: Load::Running,
                quit: false,
            }),
            changed: Condvar::new(),
            cancel: Cancel::default(),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("vlmcaption-engine".into())
                .spawn(move || run(&shared, loader))
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

    /// Begins a session; `weight` is its share of the device's time.
    pub fn session(self: &Arc<Self>, options: SessionOptions, listener: Listener) -> Session {
        let mut state = self.shared.state.lock().unwrap();
        let id = state.next_id;
        state.next_id += 1;
        let used = state.least_used().unwrap_or(0.0);
        let load = state.load.clone();
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
                pairs: VecDeque::new(),
                history: VecDeque::new(),
                epoch: 0,
                flushing: false,
                running: None,
                reporting: false,
            },
        );
        drop(state);
        match load {
            Load::Running => {}
            Load::Ready => listener(Report::Loaded {
                took: Duration::ZERO,
            }),
            Load::Failed(reason) => listener(Report::LoadFailed(reason)),
        }
        Session {
            engine: self.clone(),
            id,
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
        self.shared.state.lock().unwrap().quit = true;
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A listener may have held the last reference: the thread cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}

/// What a session begins with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Id of the stream, for prompts.
    pub stream: String,
    /// Share of the device's time, against other sessions' weights.
    pub weight: u32,
    /// Who gives way when the queue is full.
    pub policy: DropPolicy,
    /// Complete windows that may wait.
    pub max_queued: usize,
    /// What is asked.
    pub ask: Ask,
}

/// One element's place at an engine.
pub struct Session {
    engine: Arc<Engine>,
    id: u64,
}

impl Session {
    /// Offers a pair for encoding while its window fills; it is skipped if nobody needs it by the
    /// time its turn comes.
    pub(super) fn offer_pair(&self, pair: &Arc<Pair>, epoch: u64) {
        let mut state = self.engine.shared.state.lock().unwrap();
        if let Some(session) = state.wake(self.id).filter(|session| session.accepts(epoch)) {
            session.pairs.push_back(Arc::downgrade(pair));
        }
        drop(state);
        self.engine.shared.changed.notify_all();
    }

    /// Queues a window by the drop policy, unless a flush has come since `epoch`. Only
    /// [`DropPolicy::Block`] waits.
    pub(super) fn submit(&self, job: Job, epoch: u64) -> Sent<Job> {
        let mut state = self.engine.shared.state.lock().unwrap();
        loop {
            let failed = matches!(state.load, Load::Failed(_));
            let Some(session) = state.wake(self.id) else {
                return Sent::Flushing(job);
            };
            if !session.accepts(epoch) || failed {
                return Sent::Flushing(job);
            }
            if session.policy == DropPolicy::Block && session.windows.is_full() {
                state = self.engine.shared.changed.wait(state).unwrap();
                continue;
            }
            let policy = session.policy;
            let sent = session.windows.offer(job, policy);
            drop(state);
            self.engine.shared.changed.notify_all();
            return sent;
        }
    }

    /// Raised by every flush: what was begun under another number is thrown away.
    pub(super) fn epoch(&self) -> u64 {
        let state = self.engine.shared.state.lock().unwrap();
        state
            .sessions
            .get(&self.id)
            .map_or(0, |session| session.epoch)
    }

    /// Changes what the next windows are asked.
    pub fn set_ask(&self, ask: Ask) {
        self.with(|session| session.ask = Arc::new(ask));
    }

    /// Changes who gives way when the queue is full.
    pub fn set_policy(&self, policy: DropPolicy) {
        self.with(|session| session.policy = policy);
    }

    /// Changes the name of the stream in prompts.
    pub fn set_stream(&self, stream: &str) {
        self.with(|session| stream.clone_into(&mut session.stream));
    }

    /// Complete windows that wait.
    pub fn queued(&self) -> usize {
        let state = self.engine.shared.state.lock().unwrap();
        state
            .sessions
            .get(&self.id)
            .map_or(0, |session| session.windows.len())
    }

    /// Drops everything in flight and refuses more until [`stop_flush`](Self::stop_flush). When it
    /// returns, nothing of what was before will be reported any more.
    pub fn start_flush(&self) {
        self.with(|session| {
            session.flushing = true;
            session.epoch += 1;
            session.windows.drain();
            session.pairs.clear();
            session.history.clear();
            if let Some(cancel) = &session.running {
                cancel.cancel();
            }
        });
        self.wait_reported();
    }

    /// Waits until a result that is being reported has been; a listener that flushes by itself
    /// does not wait for itself.
    fn wait_reported(&self) {
        /// A listener that takes longer hears of the flush when it is done.
        const PATIENCE: Duration = Duration::from_millis(100);
        let shared = &self.engine.shared;
        let own = self
            .engine
            .thread
            .as_ref()
            .map(|thread| thread.thread().id());
        if own == Some(std::thread::current().id()) {
            return;
        }
        let reporting = |state: &mut State| {
            state
                .sessions
                .get(&self.id)
                .is_some_and(|session| session.reporting)
        };
        let state = shared.state.lock().unwrap();
        drop(
            shared
                .changed
                .wait_timeout_while(state, PATIENCE, reporting)
                .unwrap(),
        );
    }

    /// Accepts windows again.
    pub fn stop_flush(&self) {
        self.with(|session| session.flushing = false);
    }

    /// Waits until every queued window has been reported, at most until `deadline`.
    pub fn wait_idle(&self, deadline: Instant) -> Waited {
        let mut state = self.engine.shared.state.lock().unwrap();
        loop {
            let failed = matches!(state.load, Load::Failed(_));
            let Some(session) = state.sessions.get(&self.id) else {
                return Waited::Interrupted;
            };
            if session.flushing || failed {
                return Waited::Interrupted;
            }
            if session.windows.is_empty() && session.running.is_none() && !session.reporting {
                return Waited::Idle;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            state = self
                .engine
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap()
                .0;
        }
    }

    fn with(&self, change: impl FnOnce(&mut SessionState)) {
        let mut state = self.engine.shared.state.lock().unwrap();
        if let Some(session) = state.sessions.get_mut(&self.id) {
            change(session);
        }
        drop(state);
        self.engine.shared.changed.notify_all();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.engine.shared.state.lock().unwrap();
        let session = state.sessions.remove(&self.id);
        drop(state);
        if let Some(cancel) = session.and_then(|s| s.running) {
            cancel.cancel();
        }
        self.engine.shared.changed.notify_all();
    }
}

impl State {
    /// Device time of the session that used least, among those with work.
    fn least_used(&self) -> Option<f64> {
        let busy = self
            .sessions
            .values()
            .filter(|s| s.running.is_some() || s.has_work());
        busy.map(|s| s.used).min_by(f64::total_cmp)
    }

    /// A session that is about to get work; one that slept is not owed the time it did not ask for.
    fn wake(&mut self, id: u64) -> Option<&mut SessionState> {
        let floor = self.least_used();
        let session = self.sessions.get_mut(&id)?;
        if session.running.is_none() && !session.has_work() {
            session.used = session.used.max(floor.unwrap_or(0.0));
        }
        Some(session)
    }

    /// The next turn, if there is work: the session that used least of its share goes first.
    fn next_turn(&mut self) -> Option<Turn> {
        loop {
            let (id, session) = self
                .sessions
                .iter_mut()
                .filter(|(_, session)| session.has_work())
                .min_by(|a, b| a.1.used.total_cmp(&b.1.used))?;
            let Some(work) = session.take_work() else {
                continue;
            };
            let cancel = Cancel::default();
            session.running = Some(cancel.clone());
            return Some(Turn {
                session: *id,
                epoch: session.epoch,
                listener: session.listener.clone(),
                cancel,
                work,
            });
        }
    }

    /// Books a finished turn; whether its result is still wanted.
    fn finish_turn(&mut self, turn: &Turn, took: Duration, outcome: &mut Outcome) -> bool {
        let Some(session) = self.sessions.get_mut(&turn.session) else {
            return false;
        };
        session.running = None;
        session.used += took.as_secs_f64() / session.weight;
        if session.epoch != turn.epoch {
            return false;
        }
        session.reporting = true;
        if let Outcome::Caption(_, said) = outcome
            && session.ask.history > 0
        {
            session.history.push_back(said.clone());
            while session.history.len() > session.ask.history {
                session.history.pop_front();
            }
        }
        true
    }
}

impl SessionState {
    /// Whether work that was begun in `epoch` is still wanted.
    fn accepts(&self, epoch: u64) -> bool {
        !self.flushing && self.epoch == epoch
    }

    fn has_work(&self) -> bool {
        !self.windows.is_empty() || self.pairs.iter().any(|pair| pair.strong_count() > 0)
    }

    /// A complete window before pairs of windows to come; pairs that nobody needs any more, or
    /// that a window has encoded already, are skipped.
    fn take_work(&mut self) -> Option<Work> {
        if let Some(job) = self.windows.pop() {
            let keep = self.ask.history.min(self.history.len());
            let history = self
                .history
                .iter()
                .skip(self.history.len() - keep)
                .cloned()
                .collect();
            return Some(Work::Window {
                job,
                ask: self.ask.clone(),
                stream: self.stream.clone(),
                history,
            });
        }
        while let Some(pair) = self.pairs.pop_front() {
            if let Some(pair) = pair.upgrade()
                && matches!(*pair.visual.lock().unwrap(), Visual::Pixels(_))
            {
                return Some(Work::Pair(pair));
            }
        }
        None
    }
}

/// The checkpoint of a source, and how to ready it.
fn open(source: &Source) -> Result<(Arc<Checkpoint>, Loader), vlm::Error> {
    match source {
        Source::Cpu { model, options } => {
            let files = model
                .clone()
                .map_or_else(ModelFiles::demo, ModelFiles::Folder);
            let checkpoint = Arc::new(Checkpoint::open(files)?);
            let (loaded, options) = (checkpoint.clone(), options.clone());
            Ok((
                checkpoint,
                Box::new(move |progress, cancel| loaded.load_cpu(&options, progress, cancel)),
            ))
        }
        Source::Mock { script } => {
            let mut checkpoint = Checkpoint::open(ModelFiles::demo())?;
            checkpoint.name = "mock".into();
            let script = script
                .as_deref()
                .map_or_else(|| Ok(Script::default()), Script::read)?;
            let tokenizer = checkpoint.tokenizer.clone();
            let eos = checkpoint.defaults.eos.first().copied().unwrap_or_default();
            let merge = checkpoint.cpu.vision.spatial_merge_size;
            Ok((
                Arc::new(checkpoint),
                Box::new(move |_, _| {
                    let encode = move |text: &str| tokenizer.encode(text).unwrap_or_default();
                    Ok(Box::new(mock::Mock::new(
                        script,
                        Box::new(encode),
                        eos,
                        merge,
                    )))
                }),
            ))
        }
    }
}

/// The engine thread: reads the weights, then takes turns until the engine is dropped.
fn run(shared: &Shared, loader: Loader) {
    let Some(mut program) = load(shared, loader) else {
        return;
    };
    loop {
        let mut turn = {
            let mut state = shared.state.lock().unwrap();
            loop {
                if state.quit {
                    return;
                }
                if let Some(turn) = state.next_turn() {
                    break turn;
                }
                state = shared.changed.wait(state).unwrap();
            }
        };
        shared.changed.notify_all();
        let began = Instant::now();
        let mut outcome = caught(|| worker::work(shared, program.as_mut(), &mut turn))
            .unwrap_or_else(|panic| Outcome::Failed {
                frames: Vec::new(),
                reason: panic,
            });
        let wanted = shared
            .state
            .lock()
            .unwrap()
            .finish_turn(&turn, began.elapsed(), &mut outcome);
        if wanted {
            match outcome {
                Outcome::Caption(caption, _) => (turn.listener)(Report::Caption(caption)),
                Outcome::Failed { frames, reason } => {
                    (turn.listener)(Report::Failed { frames, reason });
                }
                Outcome::Encoded | Outcome::Cancelled => {}
            }
            if let Some(session) = shared.state.lock().unwrap().sessions.get_mut(&turn.session) {
                session.reporting = false;
            }
        }
        shared.changed.notify_all();
    }
}

/// Reads the weights, telling all sessions how far it is; `None` if they cannot be used.
fn load(shared: &Shared, loader: Loader) -> Option<Box<dyn Program>> {
    /// A model that is read faster than this is not worth a message.
    const INTERVAL: Duration = Duration::from_millis(500);
    let tell = |report: &Report| {
        let listeners: Vec<Listener> = {
            let state = shared.state.lock().unwrap();
            state
                .sessions
                .values()
                .map(|s| s.listener.clone())
                .collect()
        };
        for listener in listeners {
            listener(report.clone());
        }
    };
    let began = Instant::now();
    let mut told = began;
    let mut progress = |part: f32| {
        if told.elapsed() >= INTERVAL {
            told = Instant::now();
            tell(&Report::Loading(part));
        }
    };
    let loaded = caught(|| loader(&mut progress, &shared.cancel))
        .and_then(|program| program.map_err(|error| error.to_string()));
    let (load, report, program) = match loaded {
        Ok(program) => (
            Load::Ready,
            Report::Loaded {
                took: began.elapsed(),
            },
            Some(program),
        ),
        Err(reason) => (
            Load::Failed(reason.clone()),
            Report::LoadFailed(reason),
            None,
        ),
    };
    {
        let mut state = shared.state.lock().unwrap();
        if state.quit {
            return None;
        }
        state.load = load;
        if program.is_none() {
            for session in state.sessions.values_mut() {
                session.windows.drain();
                session.pairs.clear();
            }
        }
    }
    shared.changed.notify_all();
    tell(&report);
    program
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
