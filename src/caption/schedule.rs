// SPDX-License-Identifier: MPL-2.0

//! Whose turn it is: the sessions of an engine, their queues, and how device time is shared out.
//! No thread and no clock of its own; the engine and its sessions change it under one lock.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::inquiry::{Asked, Inquiry};
use super::mailbox::{DropPolicy, Queue};
use super::note::Note;
use super::pairs::{Coming, Pairs};
use super::prompt::Ask;
use super::question::{Question, due};
use super::reporter::Outlet;
use super::session::SessionOptions;
use super::window::{FrameTime, Pair, Window};
use crate::backend::Cancel;
use crate::vlm;

#[derive(Default)]
pub(super) struct State {
    pub(super) sessions: BTreeMap<u64, SessionState>,
    pub(super) next_id: u64,
    pub(super) load: Load,
    /// The last turn was an inquiry's: a caption that waits is next.
    pub(super) inquired: bool,
    pub(super) quit: bool,
    /// The engine's thread has ended.
    pub(super) ended: bool,
}

#[derive(Clone, Default)]
pub(super) enum Load {
    #[default]
    Running,
    Ready,
    Failed(String),
}

pub(super) struct SessionState {
    pub(super) outlet: Outlet,
    pub(super) ask: Arc<Ask>,
    pub(super) stream: String,
    pub(super) weight: f64,
    /// Device time used, divided by the weight: the session with the least is next.
    pub(super) used: f64,
    pub(super) policy: DropPolicy,
    pub(super) windows: Queue<Job>,
    pub(super) pairs: Pairs,
    /// What was said, the newest last: as much as prompts are given, and at least the last.
    pub(super) history: VecDeque<vlm::Turn>,
    /// By question: PTS at the end of the window that it was last asked about.
    pub(super) asked: HashMap<String, Duration>,
    /// The scene that the history is about.
    pub(super) scene: u64,
    pub(super) inquiries: VecDeque<Asked>,
    pub(super) epoch: Epoch,
    pub(super) flushing: bool,
    pub(super) running: Option<Cancel>,
    /// Its work waits until another session's has been told.
    pub(super) held: bool,
    /// Called once nothing is left to tell; there will be no more work.
    pub(super) drained: Option<Drained>,
}

/// A session's number that every flush raises: what was begun under another one is not reported. It
/// is changed under the engine's lock and read without it, so that a streaming thread never waits
/// there.
#[derive(Clone, Default)]
pub(super) struct Epoch(Arc<AtomicU64>);

impl Epoch {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, epoch: u64) {
        self.0.store(epoch, Ordering::Release);
    }
}

/// What is done when a session has told all its answers.
pub(super) type Drained = Box<dyn FnOnce() + Send>;

/// A window in the queue.
pub(super) struct Job {
    pub(super) sequence: u64,
    pub(super) window: Window,
    pub(super) note: Note,
    pub(super) complete_since: Instant,
}

/// What a session leaves to the one that comes after it at another engine.
pub(super) struct Legacy {
    options: SessionOptions,
    history: VecDeque<vlm::Turn>,
    asked: HashMap<String, Duration>,
    scene: u64,
    epoch: u64,
    flushing: bool,
}

/// A turn on the device.
pub(super) struct Turn {
    pub(super) session: u64,
    pub(super) epoch: u64,
    pub(super) outlet: Outlet,
    pub(super) cancel: Cancel,
    pub(super) work: Work,
}

pub(super) enum Work {
    Pair {
        pair: Arc<Pair>,
        /// The window that it is of, if its prompt may begin to be computed.
        begin: Option<Box<Begin>>,
    },
    Window {
        job: Box<Job>,
        ask: Arc<Ask>,
        /// Those of its questions that are due.
        questions: Vec<Arc<Question>>,
        stream: String,
        history: Vec<vlm::Turn>,
        /// The caption before.
        last: String,
    },
    Inquiry {
        inquiry: Inquiry,
        /// `None` if a flush has taken it away.
        job: Option<Job>,
        ask: Arc<Ask>,
        stream: String,
        /// The last caption.
        last: String,
    },
}

/// The beginning of a prompt that is expected.
pub(super) struct Begin {
    pub(super) job: Job,
    pub(super) ask: Arc<Ask>,
    pub(super) stream: String,
    pub(super) history: Vec<vlm::Turn>,
    /// The caption before.
    pub(super) last: String,
}

/// What a turn came to.
pub(super) enum Outcome {
    Encoded,
    /// All has been told; the exchange is what later prompts may be given as context.
    Answered(Option<vlm::Turn>),
    /// Of an inquiry.
    Inquired(Result<Box<super::Caption>, String>),
    Failed {
        frames: Vec<FrameTime>,
        reason: String,
    },
    Cancelled,
}

impl State {
    /// Device time of the session that used least, among those with work that may be done.
    pub(super) fn least_used(&self) -> Option<f64> {
        let busy = self
            .sessions
            .values()
            .filter(|s| s.running.is_some() || (s.has_work() && s.outlet.has_room()));
        busy.map(|s| s.used).min_by(f64::total_cmp)
    }

    /// A session that is about to get work; one that slept is not owed the time it did not ask for.
    pub(super) fn wake(&mut self, id: u64) -> Option<&mut SessionState> {
        let floor = self.least_used();
        let session = self.sessions.get_mut(&id)?;
        if session.running.is_none() && !session.has_work() {
            session.used = session.used.max(floor.unwrap_or(0.0));
        }
        Some(session)
    }

    /// The next turn, if there is work. Inquiries go before captions, but for every inquiry one
    /// caption that waits is made. Of each, the session that used least of its share goes first.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        self.pass_over_unheard();
        let mut sessions = self.sessions.values();
        let captions_wait = sessions.any(|s| s.has_work() && s.is_free());
        if !(self.inquired && captions_wait)
            && let Some(turn) = self.next_inquiry()
        {
            self.inquired = true;
            return Some(turn);
        }
        self.inquired = false;
        self.next_caption()
    }

    /// A session whose reports are not heard is not owed the turns that others take meanwhile.
    fn pass_over_unheard(&mut self) {
        let floor = self.least_used().unwrap_or(0.0);
        for session in self.sessions.values_mut() {
            if session.running.is_none() && !session.outlet.has_room() {
                session.used = session.used.max(floor);
            }
        }
    }

    fn next_inquiry(&mut self) -> Option<Turn> {
        for session in self.sessions.values_mut() {
            let taken_back = |asked: &Asked| asked.inquiry.cancel.is_cancelled();
            while session.inquiries.front().is_some_and(taken_back) {
                session.inquiries.pop_front();
            }
        }
        let (id, session) = self
            .sessions
            .iter_mut()
            .filter(|(_, session)| !session.inquiries.is_empty() && session.is_free())
            .min_by(|a, b| a.1.used.total_cmp(&b.1.used))?;
        let Asked { inquiry, job } = session.inquiries.pop_front()?;
        session.running = Some(inquiry.cancel.clone());
        Some(Turn {
            session: *id,
            epoch: session.epoch.get(),
            outlet: session.outlet.clone(),
            cancel: inquiry.cancel.clone(),
            work: Work::Inquiry {
                inquiry,
                job,
                ask: session.ask.clone(),
                stream: session.stream.clone(),
                last: session.last(session.scene),
            },
        })
    }

    fn next_caption(&mut self) -> Option<Turn> {
        // What one session has begun another's prompt would overwrite.
        let alone = self.sessions.len() == 1;
        loop {
            let (id, session) = self
                .sessions
                .iter_mut()
                .filter(|(_, session)| session.has_work() && session.is_free())
                .min_by(|a, b| a.1.used.total_cmp(&b.1.used))?;
            let Some(work) = session.take_work(alone) else {
                continue;
            };
            let cancel = Cancel::default();
            session.running = Some(cancel.clone());
            return Some(Turn {
                session: *id,
                epoch: session.epoch.get(),
                outlet: session.outlet.clone(),
                cancel,
                work,
            });
        }
    }

    /// What is to be done since sessions have nothing left to tell; to be called without a lock.
    pub(super) fn take_drained(&mut self) -> Vec<Drained> {
        let sessions = self.sessions.values_mut();
        let idle = sessions.filter(|s| {
            let waiting = !s.windows.is_empty() || !s.inquiries.is_empty();
            !waiting && s.running.is_none()
        });
        idle.filter_map(|session| session.drained.take()).collect()
    }

    /// Books a finished turn; whether its result is still wanted.
    pub(super) fn finish_turn(&mut self, turn: &Turn, took: Duration, outcome: &Outcome) -> bool {
        let Some(session) = self.sessions.get_mut(&turn.session) else {
            return false;
        };
        session.running = None;
        session.used += took.as_secs_f64() / session.weight;
        if session.epoch.get() != turn.epoch {
            return false;
        }
        if let Outcome::Answered(Some(said)) = outcome {
            session.history.push_back(said.clone());
            while session.history.len() > session.ask.history.max(1) {
                session.history.pop_front();
            }
        }
        true
    }
}

impl SessionState {
    /// One without work, that has `used` as much as the others.
    pub(super) fn new(options: SessionOptions, outlet: Outlet, used: f64) -> Self {
        Self {
            outlet,
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
            epoch: Epoch::default(),
            flushing: false,
            running: None,
            held: false,
            drained: None,
        }
    }

    /// Whether work that was begun in `epoch` is still wanted.
    pub(super) fn accepts(&self, epoch: u64) -> bool {
        !self.flushing && self.epoch.get() == epoch
    }

    /// Whether a turn may begin: it has none, and its reports are heard.
    fn is_free(&self) -> bool {
        self.running.is_none() && self.outlet.has_room()
    }

    /// What it began with, as it is now.
    pub(super) fn options(&self) -> SessionOptions {
        SessionOptions {
            stream: self.stream.clone(),
            // It was made of such a number.
            weight: self.weight as u32,
            policy: self.policy,
            max_queued: self.windows.capacity(),
            ask: Ask::clone(&self.ask),
        }
    }

    /// What its successor takes over; it does not encode pairs any more.
    pub(super) fn legacy(&mut self) -> Legacy {
        self.pairs.clear();
        Legacy {
            options: self.options(),
            history: self.history.clone(),
            asked: self.asked.clone(),
            scene: self.scene,
            epoch: self.epoch.get(),
            flushing: self.flushing,
        }
    }

    /// Goes on where another session ended.
    pub(super) fn take_over(&mut self, left: Legacy) {
        self.stream = left.options.stream;
        self.policy = left.options.policy;
        self.ask = Arc::new(left.options.ask);
        self.history = left.history;
        self.asked = left.asked;
        self.scene = left.scene;
        self.epoch.set(left.epoch);
        self.flushing = left.flushing;
    }

    /// Drops the windows and pairs that wait.
    pub(super) fn drop_work(&mut self) {
        self.windows.drain();
        self.pairs.clear();
    }

    /// Drops what waits, what runs and what was said; results on their way are not wanted.
    pub(super) fn forget(&mut self) {
        self.epoch.set(self.epoch.get() + 1);
        self.drop_work();
        for asked in &mut self.inquiries {
            asked.job = None;
        }
        self.history.clear();
        self.asked.clear();
        if let Some(cancel) = &self.running {
            cancel.cancel();
        }
    }

    /// Whether there is something to look at: pairs may turn out to be needed no more.
    pub(super) fn has_work(&self) -> bool {
        !self.held && (!self.windows.is_empty() || !self.pairs.is_empty())
    }

    /// A complete window before pairs of windows to come; pairs that nobody needs any more, or
    /// that a window has encoded already, are skipped.
    pub(super) fn take_work(&mut self, alone: bool) -> Option<Work> {
        if let Some(job) = self.windows.pop() {
            if self.scene != job.note.scene {
                self.scene = job.note.scene;
                self.history.clear();
            }
            let history = self.context(job.note.scene);
            let last = self.last(job.note.scene);
            let end = job.window.frames.last().map_or(Duration::ZERO, |f| f.pts);
            let questions = due(&self.ask.all(), end, |id| self.asked.get(id).copied());
            let asked = questions.iter().map(|question| (question.id.clone(), end));
            self.asked.extend(asked);
            return Some(Work::Window {
                job: Box::new(job),
                questions,
                ask: self.ask.clone(),
                stream: self.stream.clone(),
                history,
                last,
            });
        }
        let pair = self.pairs.next()?;
        let begin = match alone && !self.has_work() {
            true => self.begin(&pair).map(Box::new),
            false => None,
        };
        Some(Work::Pair { pair, begin })
    }

    /// Earlier exchanges that a window of this scene is given as context.
    fn context(&self, scene: u64) -> Vec<vlm::Turn> {
        let keep = match scene == self.scene {
            true => self.ask.history.min(self.history.len()),
            false => 0,
        };
        let history = self.history.iter().skip(self.history.len() - keep);
        history.cloned().collect()
    }

    /// The last caption of this scene; empty before there is one.
    fn last(&self, scene: u64) -> String {
        let last = self.history.back().filter(|_| scene == self.scene);
        last.map_or_else(String::new, |turn| turn.assistant.clone())
    }

    /// The window that is being filled, if `pair` is its last so far, and a question will be asked
    /// about it.
    fn begin(&mut self, pair: &Arc<Pair>) -> Option<Begin> {
        let Coming {
            sequence,
            scene,
            partial,
        } = self.pairs.take_coming()?;
        let pairs: Vec<Arc<Pair>> = partial.pairs.iter().filter_map(Weak::upgrade).collect();
        let whole = pairs.len() == partial.pairs.len();
        if !whole || !pairs.last().is_some_and(|last| Arc::ptr_eq(last, pair)) {
            return None;
        }
        let end = partial.frames.last()?.pts;
        let asked = due(&self.ask.all(), end, |id| self.asked.get(id).copied());
        // The end of the window is not known yet, and of one frame not whether it is an image.
        if asked.is_empty() || self.ask.system_prompt.contains("{end}") || partial.frames.len() < 2
        {
            return None;
        }
        Some(Begin {
            job: Job {
                sequence,
                window: Window {
                    frames: partial.frames,
                    pairs,
                },
                note: Note::default(),
                complete_since: Instant::now(),
            },
            ask: self.ask.clone(),
            stream: self.stream.clone(),
            history: self.context(scene),
            last: self.last(scene),
        })
    }
}
