// SPDX-License-Identifier: MPL-2.0

//! The element while it runs: built from READY to PAUSED, dropped on the way back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::alarms::{AlarmEvent, Questions};
use super::board::Board;
use super::drops::{self, Drops};
use super::faults::Cause;
use super::inquiries::Inquiries;
use super::keeper::Keeper;
use super::log::CAT;
use super::output::Origin;
use super::partial::{Partial, Partials};
use super::pixels::Reader;
use super::post;
use super::stream::Stream;
use super::swap::Swap;
use super::tally::{LastError, Tally};
use super::timer::{Timer, Waker};
use crate::caption::Caption;
use crate::caption::alarm::Ending;
use crate::caption::captioner::Captioner;
use crate::caption::evidence::record::Alarm;
use crate::caption::prompt::Ask;

/// The threads of a run, and what they share. Dropped, it joins them.
pub(super) struct Running {
    /// Before the captioner, which it asks.
    pub timer: Timer,
    pub captioner: Arc<Captioner>,
    pub run: Arc<Run>,
}

/// What is known of a run. Whatever it has to say it posts itself, without its lock.
pub(super) struct Run {
    pub tally: Tally,
    /// Writes records of captions, if that is wanted.
    pub keeper: Option<Keeper>,
    pub reader: Arc<Reader>,
    pub waker: Waker,
    state: Mutex<State>,
}

/// All that changes.
pub(super) struct State {
    pub stream: Stream,
    pub board: Board,
    pub numbered: Numbered,
    pub swap: Swap,
    stream_id: String,
    /// The last seek that upstream has done.
    pub sought: Option<gst::Seqnum>,
    partials: Partials,
    drops: Drops,
    /// Captions that the text pad has dropped, as far as they were counted.
    dropped_text: u64,
    loading: Loading,
    last_error: Option<LastError>,
    /// When statistics were posted last.
    stats_posted: Option<Instant>,
    /// Properties of which was said that they wait for the next start.
    waiting: BTreeSet<String>,
    /// The user was told that windows are cut.
    cut: bool,
}

/// What has numbers that no later run may use again.
#[derive(Default)]
pub(super) struct Numbered {
    pub questions: Questions,
    pub inquiries: Inquiries,
}

/// Progress messages about the model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loading {
    /// The application has heard of no loading.
    Idle,
    /// The application waits for its end.
    Begun,
    /// The element has stopped, and posts no more of them.
    Over,
}

impl Run {
    pub fn new(stream: Stream, keeper: Option<Keeper>) -> Self {
        Self {
            keeper,
            tally: Tally::new(),
            reader: Arc::default(),
            waker: Waker::default(),
            state: Mutex::new(State {
                stream,
                board: Board::default(),
                numbered: Numbered::default(),
                swap: Swap::default(),
                stream_id: String::new(),
                sought: None,
                partials: Partials::default(),
                drops: Drops::default(),
                dropped_text: 0,
                loading: Loading::Idle,
                last_error: None,
                stats_posted: None,
                waiting: BTreeSet::new(),
                cut: false,
            }),
        }
    }

    /// To be dropped before anything is called that may wait or call out.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Who reports, about this stream.
    pub fn origin_of(&self, element: &str, by: &Origin) -> Origin {
        Origin {
            element: element.to_owned(),
            stream_id: self.state().stream_id.clone(),
            ..by.clone()
        }
    }

    /// What was said and is in flight is of no use any more: a flush.
    pub fn flush(&self) {
        let mut state = self.state();
        state.stream.flush();
        state.board.clear();
        state.partials = Partials::default();
    }

    /// Takes what outlives a run from the one before, or gives it to the next.
    pub fn swap_numbered(&self, other: &mut Numbered) {
        std::mem::swap(&mut self.state().numbered, other);
    }
}

impl State {
    pub fn set_stream_id(&mut self, id: &str) {
        self.stream_id = id.to_owned();
    }

    pub fn stream_id(&self) -> &str {
        &self.stream_id
    }

    pub fn last_error(&self) -> Option<LastError> {
        self.last_error.clone()
    }

    /// Whether this is the first time that the user is told that windows are cut.
    pub fn first_cut(&mut self) -> bool {
        !std::mem::replace(&mut self.cut, true)
    }

    /// Whether this is the first time that a property waits for the next start.
    pub fn first_wait(&mut self, property: &str) -> bool {
        self.waiting.insert(property.to_owned())
    }

    /// The questions are these from now on; what ends by it.
    pub fn set_questions(&mut self, ask: &Ask) -> Vec<AlarmEvent> {
        self.board.set_questions(ask);
        self.numbered.questions.set(ask)
    }
}

/// What is wrong, and what is right again.
impl Run {
    /// Something is wrong: the video flows on, and the user is told once.
    pub fn fault(&self, element: &gst::Element, cause: Cause, reason: &str) {
        self.tally.failed();
        let tell = {
            let mut state = self.state();
            state.last_error = Some(LastError::now(reason));
            state.board.fail(cause, reason, Instant::now())
        };
        match (tell, cause) {
            (false, _) => gst::debug!(CAT, obj = element, "again: {reason}"),
            (true, Cause::Stream) => post::warning(element, gst::StreamError::Format, reason),
            (true, _) => post::warning(element, gst::ResourceError::Failed, reason),
        }
    }

    /// Faults are over, if they were there.
    pub fn recovered(&self, element: &gst::Element, causes: &[Cause]) {
        let over = self.state().board.relieve(causes);
        if let Some(reason) = over {
            let text = format!("captions again; this is over: {reason}");
            post::info(element, gst::ResourceError::Failed, &text);
        }
    }

    /// One of several questions got no answer: told once per reason, until it gets one.
    pub fn question_failed(&self, element: &gst::Element, id: String, reason: &str) {
        let new = self.state().numbered.questions.failed(id, reason);
        if new {
            post::warning(element, gst::StreamError::Failed, reason);
        } else {
            gst::debug!(CAT, obj = element, "again: {reason}");
        }
    }
}

/// Alarms.
impl Run {
    /// An answer to a question that may alarm; how the alarm stands, unless it is quiet.
    pub fn answer_alarm(&self, element: &gst::Element, caption: &Caption) -> Option<Alarm> {
        let (over, decided, standing) = {
            let questions = &mut self.state().numbered.questions;
            let (over, decided) = questions.answered(caption);
            let standing = questions.standing(&caption.question.id, &decided);
            (over, decided, standing)
        };
        self.post_events(element, over, None);
        self.post_events(element, decided, Some(caption));
        standing
    }

    /// Ends all events.
    pub fn end_events(&self, element: &gst::Element, ending: Ending) {
        let over = self.state().numbered.questions.end(ending);
        self.post_events(element, over, None);
    }

    /// `caption` is the answer that decided, if one did.
    pub fn post_events(
        &self,
        element: &gst::Element,
        events: Vec<AlarmEvent>,
        caption: Option<&Caption>,
    ) {
        if events.is_empty() {
            return;
        }
        let stream_id = self.state().stream_id.clone();
        for event in events {
            gst::info!(CAT, obj = element, "{event:?}");
            post::structure(element, event.structure(caption, &stream_id));
        }
    }
}

/// Questions of the application.
impl Run {
    /// An answer, or why there is none; not of interest if nobody waits for it any more.
    pub fn inquiry_answered(
        &self,
        element: &gst::Element,
        id: u64,
        answer: Result<&Caption, &str>,
        origin: &Origin,
    ) {
        let message = {
            let inquiries = &mut self.state().numbered.inquiries;
            inquiries.answered(id, answer, origin)
        };
        match message {
            Some(message) => post::structure(element, message),
            None => gst::debug!(CAT, obj = element, "question {id} is not open any more"),
        }
    }

    /// Ends the questions whose time is over; time until the next one's is.
    pub fn end_late_inquiries(&self, element: &gst::Element, now: Instant) -> Option<Duration> {
        let (late, next) = {
            let inquiries = &mut self.state().numbered.inquiries;
            (inquiries.end_late(now), inquiries.next())
        };
        post::structures(element, late);
        until(next, now)
    }

    /// Ends all questions: the element stops.
    pub fn end_inquiries(&self, element: &gst::Element) {
        let open = self.state().numbered.inquiries.end_all();
        post::structures(element, open);
    }
}

/// Texts that are being written.
impl Run {
    pub fn partial(&self, element: &gst::Element, partial: Partial) {
        let (due, wait) = {
            let partials = &mut self.state().partials;
            (partials.add(partial, Instant::now()), partials.next())
        };
        post::structures(element, due.into_iter().map(Partial::structure));
        if wait.is_some() {
            self.waker.wake();
        }
    }

    /// Tells of a text if it is time; time until the next.
    pub fn post_due_partial(&self, element: &gst::Element, now: Instant) -> Option<Duration> {
        let (due, next) = {
            let partials = &mut self.state().partials;
            (partials.due(now), partials.next())
        };
        post::structures(element, due.map(Partial::structure));
        until(next, now)
    }

    /// Tells of the last text: the answer has ended.
    pub fn post_last_partial(&self, element: &gst::Element) {
        let last = self.state().partials.last();
        post::structures(element, last.map(Partial::structure));
    }
}

/// What was dropped.
impl Run {
    /// A frame was passed over because it is damaged. Called on the streaming thread: it is told of by
    /// the clock.
    pub fn corrupted(&self) {
        self.tally.corrupted();
        self.state().drops.add("corrupted", 1);
    }

    /// Counts what was dropped, and tells of it now or when it is time.
    pub fn dropped(&self, element: &gst::Element, reason: &'static str, count: u64) {
        self.state().drops.add(reason, count);
        if self.post_drops(element, Instant::now()).is_some() {
            self.waker.wake();
        }
    }

    /// Tells of drops if it is time; time until the next message.
    pub fn post_drops(&self, element: &gst::Element, now: Instant) -> Option<Duration> {
        let (due, next) = {
            let drops = &mut self.state().drops;
            (drops.due(now), drops.next())
        };
        post::structures(element, due.iter().map(drops::structure));
        until(next, now)
    }

    /// Counts what the text pad has dropped since the last call, given what it has dropped in all.
    pub fn count_text_drops(&self, dropped: u64) {
        let mut state = self.state();
        let before = std::mem::replace(&mut state.dropped_text, dropped);
        if dropped > before {
            state.drops.add("text", dropped - before);
        }
    }

    /// Tells of what was dropped since the last message, at the end.
    pub fn post_last_drops(&self, element: &gst::Element) {
        let all = self.state().drops.all();
        post::structures(element, all.iter().map(drops::structure));
    }
}

/// Reading the model's weights, and statistics.
impl Run {
    /// So much of the model, 0 to 1, is there.
    pub fn loading(&self, element: &gst::Element, part: f32) {
        let before = {
            let mut state = self.state();
            let before = state.loading;
            if before == Loading::Idle {
                state.loading = Loading::Begun;
            }
            before
        };
        match before {
            Loading::Over => return,
            Loading::Idle => post::loading(element, gst::ProgressType::Start, 0.0),
            Loading::Begun => {}
        }
        post::loading(element, gst::ProgressType::Continue, part);
    }

    /// Ends the progress messages, if they were begun.
    pub fn end_loading(&self, element: &gst::Element, next: Loading, how: gst::ProgressType) {
        let before = std::mem::replace(&mut self.state().loading, next);
        if before == Loading::Begun {
            let complete = how == gst::ProgressType::Complete;
            post::loading(element, how, f32::from(u8::from(complete)));
        }
    }

    /// Whether statistics are to be posted now, and time until the next; `None` if that is never.
    pub fn stats_due(&self, interval: Duration, now: Instant) -> Option<(bool, Duration)> {
        if interval.is_zero() {
            return None;
        }
        let mut state = self.state();
        let before = state.stats_posted.unwrap_or(self.tally.began);
        let next = before.checked_add(interval)?;
        if now < next {
            return Some((false, next - now));
        }
        state.stats_posted = Some(now);
        Some((true, interval))
    }
}

fn until(next: Option<Instant>, now: Instant) -> Option<Duration> {
    next.map(|next| next.saturating_duration_since(now))
}
