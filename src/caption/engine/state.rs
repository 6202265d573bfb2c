// SPDX-License-Identifier: MPL-2.0

//! What an engine knows of one session: its queues, what was said, and what is asked. The one owner
//! of its pairs, its epoch and its running turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::charge::Charges;
use super::drafters::Drafters;
use super::pairs::{OpenWindow, Pairs};
use super::turn::{Context, Epoch, InquiryJob, Job, Turn, Work};
use crate::backend::Cancel;
use crate::caption::frames::window::{Pair, Window};
use crate::caption::mailbox::{DropPolicy, Queue, Sent};
use crate::caption::questions::inquiry::FLUSHED;
use crate::caption::questions::prompt::Ask;
use crate::caption::questions::question::due;
use crate::caption::reports::report::{InquiryReport, Report};
use crate::caption::reports::reporter::Outlet;
use crate::caption::reports::window_info::WindowInfo;
use crate::vlm;

/// What a session begins with.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Name of the element, for [spans](crate::caption::trace).
    pub element: Arc<str>,
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

/// What is done when a session has told all its answers.
pub(crate) type Drained = Box<dyn FnOnce() + Send>;

pub(crate) struct SessionState {
    outlet: Outlet,
    ask: Arc<Ask>,
    element: Arc<str>,
    stream: String,
    weight: f64,
    /// Device time charged, divided by the weight: the session with the least is next.
    used: f64,
    charges: Charges,
    policy: DropPolicy,
    windows: Queue<Job>,
    pairs: Pairs,
    /// What was said, the newest last: as much as prompts are given, and at least the last.
    history: VecDeque<vlm::Turn>,
    /// What is likely to be said again.
    drafters: Drafters,
    /// By question: PTS at the end of the window that it was last asked about.
    last_asked: HashMap<String, Duration>,
    /// The scene that the history is about.
    scene: u64,
    inquiries: VecDeque<InquiryJob>,
    epoch: Epoch,
    flushing: bool,
    /// The turn that is being made.
    running: Option<Running>,
    /// Its work waits until another session's has been told.
    held: bool,
    /// It has failed, and another is to take over: it takes no more work.
    given_up: bool,
    /// Called once nothing is left to tell; there will be no more work.
    drained: Option<Drained>,
}

/// A turn that is being made.
struct Running {
    /// Ends it.
    cancel: Cancel,
    /// Somebody waits for what comes of it: it is no pair's.
    is_asked: bool,
}

/// What goes over from a session to its successor at another engine.
pub(crate) struct Handover {
    options: SessionOptions,
    history: VecDeque<vlm::Turn>,
    last_asked: HashMap<String, Duration>,
    scene: u64,
    epoch: u64,
    flushing: bool,
}

impl SessionState {
    /// One without work, that has `used` as much as the others.
    pub(crate) fn new(options: SessionOptions, outlet: Outlet, used: f64) -> Self {
        Self {
            outlet,
            ask: Arc::new(options.ask),
            element: options.element,
            stream: options.stream,
            weight: f64::from(options.weight.max(1)),
            used,
            charges: Charges::default(),
            policy: options.policy,
            windows: Queue::new(options.max_queued),
            pairs: Pairs::default(),
            history: VecDeque::new(),
            drafters: Drafters::default(),
            last_asked: HashMap::new(),
            scene: 0,
            inquiries: VecDeque::new(),
            epoch: Epoch::default(),
            flushing: false,
            running: None,
            held: false,
            given_up: false,
            drained: None,
        }
    }
}

/// What it is asked for.
impl SessionState {
    /// What it began with, as it is now.
    pub(crate) fn options(&self) -> SessionOptions {
        SessionOptions {
            element: self.element.clone(),
            stream: self.stream.clone(),
            // It was made of such a number.
            weight: self.weight as u32,
            policy: self.policy,
            max_queued: self.windows.capacity(),
            ask: Ask::clone(&self.ask),
        }
    }

    /// Changes what the next windows are asked; whether that is something else.
    pub(crate) fn set_ask(&mut self, mut ask: Ask) -> bool {
        // Fixed while the element runs, as the frames are that are kept for it.
        ask.evidence = self.ask.evidence;
        let all = ask.all();
        self.last_asked
            .retain(|id, _| all.iter().any(|question| question.id == *id));
        self.drafters
            .retain(|id| all.iter().any(|question| question.id == id));
        let other = *self.ask != ask;
        self.ask = Arc::new(ask);
        other
    }

    pub(crate) fn policy(&self) -> DropPolicy {
        self.policy
    }

    pub(crate) fn set_policy(&mut self, policy: DropPolicy) {
        self.policy = policy;
    }

    pub(crate) fn set_stream(&mut self, stream: &str) {
        stream.clone_into(&mut self.stream);
    }
}

/// Work comes in.
impl SessionState {
    /// Whether work that was begun in `epoch` is still wanted.
    pub(crate) fn accepts(&self, epoch: u64) -> bool {
        !self.flushing && !self.given_up && self.is_of(epoch)
    }

    /// Whether what was begun in `epoch` may still be reported.
    pub(crate) fn is_of(&self, epoch: u64) -> bool {
        self.epoch.get() == epoch
    }

    /// Its number, readable without the lock.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch.clone()
    }

    pub(crate) fn offer_pairs(&mut self, pairs: &[Arc<Pair>], of: Option<OpenWindow>) {
        self.pairs.offer(pairs, of);
    }

    /// Whether a window would have to wait, or another to give way.
    pub(crate) fn is_full(&self) -> bool {
        self.windows.is_full()
    }

    /// Queues a window by the drop policy.
    pub(crate) fn offer_window(&mut self, job: Job) -> Sent<Job> {
        self.windows.offer(job, self.policy)
    }

    /// Queues a question of the application's.
    ///
    /// # Errors
    /// Its frames were flushed.
    pub(crate) fn inquire(&mut self, asked: InquiryJob, epoch: u64) -> Result<(), String> {
        if !self.is_of(epoch) {
            return Err(FLUSHED.into());
        }
        self.inquiries.push_back(asked);
        Ok(())
    }

    /// Complete windows that wait.
    pub(crate) fn queued(&self) -> usize {
        self.windows.len()
    }
}

/// Whether a turn may begin, and whose is next.
impl SessionState {
    pub(crate) fn used(&self) -> f64 {
        self.used
    }

    /// A session that did not ask for the device is not owed the time that it did not use.
    pub(crate) fn raise_used(&mut self, floor: f64) {
        self.used = self.used.max(floor);
    }

    /// Whether somebody hears its reports in time.
    pub(crate) fn is_heard(&self) -> bool {
        self.outlet.has_room()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether an answer is being made, or one that can be made waits.
    pub(crate) fn is_asked(&self) -> bool {
        let waits = !self.held && self.is_heard() && !self.windows.is_empty();
        waits || self.has_inquiry() || self.running.as_ref().is_some_and(|turn| turn.is_asked)
    }

    /// Whether a turn may begin: it has none, and its reports are heard.
    pub(crate) fn is_free(&self) -> bool {
        !self.is_running() && self.is_heard()
    }

    /// Whether there is something to look at: pairs may turn out to be needed no more.
    pub(crate) fn has_work(&self) -> bool {
        !self.held && (!self.windows.is_empty() || !self.pairs.is_empty())
    }

    pub(crate) fn has_inquiry(&self) -> bool {
        !self.inquiries.is_empty()
    }

    /// Whether all that was queued is done and reported.
    pub(crate) fn is_idle(&self) -> bool {
        self.windows.is_empty() && self.inquiries.is_empty() && !self.is_running()
    }

    /// Whether it waits for nothing: a flush has come.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }
}

/// Turns.
impl SessionState {
    /// Begins the next inquiry's turn.
    pub(crate) fn begin_inquiry(&mut self, id: u64) -> Option<Turn> {
        let InquiryJob { inquiry, job } = self.inquiries.pop_front()?;
        let context = job.map(|job| {
            Box::new(Context {
                job,
                ask: self.ask.clone(),
                element: self.element.clone(),
                stream: self.stream.clone(),
                history: Vec::new(),
                last: self.last(self.scene),
                drafters: None,
            })
        });
        let cancel = inquiry.cancel.clone();
        Some(self.begin(id, cancel, Work::Inquiry { inquiry, context }))
    }

    /// Begins the turn of a window or a pair; `None` if it turns out that there is none. With a pair the
    /// window's prompt is begun, if it `may`.
    pub(crate) fn begin_caption(&mut self, id: u64, may_begin: bool) -> Option<Turn> {
        let work = self.take_work(may_begin)?;
        Some(self.begin(id, Cancel::default(), work))
    }

    fn begin(&mut self, id: u64, cancel: Cancel, work: Work) -> Turn {
        self.running = Some(Running {
            cancel: cancel.clone(),
            is_asked: !matches!(work, Work::Pair { .. }),
        });
        Turn {
            session: id,
            epoch: self.epoch.get(),
            outlet: self.outlet.clone(),
            element: self.element.clone(),
            cancel,
            work,
        }
    }

    /// The turn that took `took` is over.
    pub(crate) fn end_turn(&mut self, work: &Work, took: Duration) {
        self.running = None;
        self.used += self.charges.charge(work, took) / self.weight;
    }

    /// Remembers an exchange for later prompts.
    pub(crate) fn remember(&mut self, exchange: &vlm::Turn) {
        self.history.push_back(exchange.clone());
        while self.history.len() > self.ask.history.max(1) {
            self.history.pop_front();
        }
    }

    /// Takes inquiries out that were taken back.
    pub(crate) fn drop_cancelled(&mut self) {
        let taken_back = |asked: &InquiryJob| asked.inquiry.cancel.is_cancelled();
        while self.inquiries.front().is_some_and(taken_back) {
            self.inquiries.pop_front();
        }
    }

    /// A complete window before pairs of windows to come; pairs that nobody needs any more, or
    /// that a window has encoded already, are skipped.
    fn take_work(&mut self, may_begin: bool) -> Option<Work> {
        if let Some(job) = self.windows.pop() {
            return Some(self.window_work(job));
        }
        let pair = self.pairs.next()?;
        let ahead = match may_begin && !self.has_work() {
            true => self.prompt_ahead(&pair).map(Box::new),
            false => None,
        };
        Some(Work::Pair { pair, ahead })
    }

    fn window_work(&mut self, job: Job) -> Work {
        let scene = job.window_info.scene;
        if self.scene != scene {
            self.scene = scene;
            self.history.clear();
        }
        let end = job.window.frames.last().map_or(Duration::ZERO, |f| f.pts);
        let questions = due(&self.ask.all(), end, |id| self.last_asked.get(id).copied());
        let asked = questions.iter().map(|question| (question.id.clone(), end));
        self.last_asked.extend(asked);
        Work::Window {
            context: Box::new(self.context(job, scene)),
            questions,
        }
    }

    /// The window that is being filled, if `pair` is its last so far, and a question will be asked
    /// about it.
    fn prompt_ahead(&mut self, pair: &Arc<Pair>) -> Option<Context> {
        let OpenWindow {
            sequence,
            scene,
            partial,
        } = self.pairs.take_open()?;
        let pairs: Vec<Arc<Pair>> = partial.pairs.iter().filter_map(Weak::upgrade).collect();
        let whole = pairs.len() == partial.pairs.len();
        if !whole || !pairs.last().is_some_and(|last| Arc::ptr_eq(last, pair)) {
            return None;
        }
        let end = partial.frames.last()?.pts;
        let asked = due(&self.ask.all(), end, |id| self.last_asked.get(id).copied());
        // The end of the window is not known yet, and of one frame not whether it is an image.
        if asked.is_empty() || self.ask.system_prompt.contains("{end}") || partial.frames.len() < 2
        {
            return None;
        }
        let job = Job {
            sequence,
            window: Window {
                frames: partial.frames,
                pairs,
            },
            window_info: WindowInfo::default(),
            complete_since: Instant::now(),
        };
        Some(self.context(job, scene))
    }

    fn context(&self, job: Job, scene: u64) -> Context {
        Context {
            job,
            ask: self.ask.clone(),
            element: self.element.clone(),
            stream: self.stream.clone(),
            history: self.earlier(scene),
            last: self.last(scene),
            drafters: self.ask.drafts.then(|| self.drafters.clone()),
        }
    }

    /// Earlier exchanges that a window of this scene is given as context.
    fn earlier(&self, scene: u64) -> Vec<vlm::Turn> {
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
}

/// Ends.
impl SessionState {
    /// Refuses work until [`end_flush`](Self::end_flush), and forgets what there is.
    pub(crate) fn begin_flush(&mut self) {
        self.flushing = true;
        self.forget();
    }

    pub(crate) fn end_flush(&mut self) {
        self.flushing = false;
    }

    /// Drops what waits, what runs and what was said; results on their way are not wanted.
    pub(crate) fn forget(&mut self) {
        self.epoch.set(self.epoch.get() + 1);
        self.drop_work();
        for asked in &mut self.inquiries {
            asked.job = None;
        }
        self.history.clear();
        // A turn that is being made keeps what it has.
        self.drafters = Drafters::default();
        self.last_asked.clear();
        self.cancel();
    }

    /// Drops the windows and pairs that wait.
    pub(crate) fn drop_work(&mut self) {
        self.windows.drain();
        self.pairs.clear();
    }

    /// Ends the turn that is being made.
    pub(crate) fn cancel(&self) {
        if let Some(Running { cancel, .. }) = &self.running {
            cancel.cancel();
        }
    }

    /// The model cannot be used, and no turn is being made: whoever asked something is told why.
    pub(crate) fn give_up(&mut self, reason: &str) {
        self.running = None;
        for asked in std::mem::take(&mut self.inquiries) {
            self.tell(InquiryReport {
                id: asked.inquiry.id,
                answer: Err(reason.to_owned()),
            });
        }
    }

    /// Reports something of it; never waits.
    pub(crate) fn tell(&self, report: impl Into<Report>) {
        self.outlet.put(report);
    }
}

/// From one model to another.
impl SessionState {
    /// What its successor takes over; it does not encode pairs any more.
    pub(crate) fn hand_over(&mut self) -> Handover {
        self.pairs.clear();
        Handover {
            options: self.options(),
            history: self.history.clone(),
            last_asked: self.last_asked.clone(),
            scene: self.scene,
            epoch: self.epoch.get(),
            flushing: self.flushing,
        }
    }

    /// Goes on where another session ended, once [`release`](Self::release) says so.
    pub(crate) fn take_over(&mut self, from: Handover) {
        self.held = true;
        self.stream = from.options.stream;
        self.policy = from.options.policy;
        self.ask = Arc::new(from.options.ask);
        self.history = from.history;
        self.last_asked = from.last_asked;
        self.scene = from.scene;
        self.epoch.set(from.epoch);
        self.flushing = from.flushing;
    }

    /// Whether it has failed and another is to take over: whoever waits for room then waits no more.
    pub(crate) fn set_given_up(&mut self, given_up: bool) {
        self.given_up = given_up;
    }

    /// Lets its work be done.
    pub(crate) fn release(&mut self) {
        self.held = false;
    }

    /// There will be no more work: `drained` is due when all has been told.
    pub(crate) fn retire(&mut self, drained: Drained) {
        self.drained = Some(drained);
    }

    /// What is due since there is nothing left to tell.
    pub(crate) fn take_drained(&mut self) -> Option<Drained> {
        match self.is_idle() {
            true => self.drained.take(),
            false => None,
        }
    }
}
