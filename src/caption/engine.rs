// SPDX-License-Identifier: MPL-2.0

//! One model, many cameras: an engine owns a model on a thread of its own; sessions of elements
//! take weighted turns on it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mailbox::Queue;
use super::schedule::{Load, Outcome, SessionState, State};
use super::session::{Session, SessionOptions};
use super::source::{Loader, Opened, Source};
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

    /// What the user should know of the model, though it works.
    pub fn notes(&self) -> &[String] {
        &self.shared.notes
    }

    /// How the device fares, as it was at most a second of work ago.
    pub fn health(&self) -> Health {
        self.shared.health.lock().unwrap().clone()
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
        Session::new(self.clone(), id)
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

/// The engine thread: reads the weights, then takes turns until the engine is dropped.
fn run(shared: &Shared, loader: Loader) {
    /// The device is asked how it fares at most this often.
    const CHECKUP: Duration = Duration::from_secs(1);
    let Some(mut program) = load(shared, loader) else {
        return;
    };
    let mut asked: Option<Instant> = None;
    loop {
        if asked.is_none_or(|asked| asked.elapsed() >= CHECKUP) {
            asked = Some(Instant::now());
            let health = caught(|| program.health()).unwrap_or_default();
            *shared.health.lock().unwrap() = health;
        }
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
        for session in state.sessions.values_mut() {
            // An end of stream waits until its listener has been told.
            session.reporting = true;
            if program.is_none() {
                session.windows.drain();
                session.pairs.clear();
            }
        }
    }
    tell(&report);
    for session in shared.state.lock().unwrap().sessions.values_mut() {
        session.reporting = false;
    }
    shared.changed.notify_all();
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
