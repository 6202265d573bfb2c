// SPDX-License-Identifier: MPL-2.0

//! Reports on their way to one element: told by a thread of its own, so that whoever is slow to hear
//! them keeps nobody else waiting.
//!
//! Putting a report in never waits. What says how things stand (loading, a text so far, drops) takes
//! the place of what waits and said so before; what happened once is kept. While more than a few of
//! those wait, [`Outbox::has_room`] says so, and the element's own turns wait, not the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::report::{Report, WindowReport};
use crate::caption::mailbox::Waited;
use crate::caption::panic::caught;

/// Hears reports, one after the other, from the element's reporting thread, without a lock held.
pub type Listener = Arc<dyn Fn(Report) + Send + Sync>;

/// Reports of things that happened that may wait before the element's turns do.
const MAX_WAITING: usize = 16;
/// A flush and the end wait so long for a listener that is being told of something; one that takes
/// longer hears of them when it is done.
const PATIENCE: Duration = Duration::from_millis(100);

/// Is to look again whether an outbox has room.
pub(crate) trait Wake: Send + Sync {
    /// Must return at once.
    fn wake(&self);
}

/// Reports that wait, and the thread that tells them until [`end`](Outbox::end).
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    mail: Mutex<Mail>,
    changed: Condvar,
}

#[derive(Default)]
struct Mail {
    waiting: VecDeque<Entry>,
    /// Those of them that no other may take the place of.
    n_kept: usize,
    /// The thread that a listener is being called on.
    telling: Option<ThreadId>,
    /// It has been waited for long enough.
    given_up: bool,
    wakers: Vec<Weak<dyn Wake>>,
    closed: bool,
}

struct Entry {
    report: Report,
    listener: Listener,
}

/// How a report stands to those that wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It happened.
    Event,
    /// How things stand: the next of its kind says it better.
    Standing,
}

impl Outbox {
    /// Begins the thread.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("vlmcaption-tell".into());
            builder.spawn(move || shared.run())?
        };
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a listener told of something; never waits.
    pub(crate) fn put(&self, report: Report, listener: &Listener) {
        self.shared.mail().put(report, listener);
        self.shared.changed.notify_all();
    }

    /// Whether the element's next turn may begin.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.mail().has_room()
    }

    /// Waits for room or the end.
    pub(crate) fn wait_room(&self) {
        let mut mail = self.shared.mail();
        while !mail.has_room() {
            mail = self.shared.wait(mail);
        }
    }

    /// Has `waker` woken whenever there is room again, for as long as it is there.
    pub(crate) fn on_room(&self, waker: Weak<dyn Wake>) {
        let mut mail = self.shared.mail();
        mail.wakers.retain(|known| known.strong_count() > 0);
        if !mail.wakers.iter().any(|known| known.ptr_eq(&waker)) {
            mail.wakers.push(waker);
        }
    }

    /// Forgets what waits of the stream and waits for what is being told; a listener that flushes by
    /// itself does not wait for itself.
    pub(crate) fn flush(&self) {
        let mut mail = self.shared.mail();
        let full = !mail.has_room();
        mail.forget(|report| !is_of_stream(report));
        let wakers = if full { mail.wakers() } else { Vec::new() };
        drop(mail);
        self.shared.changed.notify_all();
        wake(&wakers);
        self.wait_told(PATIENCE);
    }

    /// Whether this is the thread that tells, so that nobody may wait on it for what is to be told.
    pub(crate) fn is_own_thread(&self) -> bool {
        self.shared.mail().telling == Some(std::thread::current().id())
    }

    /// Waits until all has been told, at most until `deadline`; never for itself.
    pub(crate) fn wait_idle(&self, deadline: Instant) -> Waited {
        let mut mail = self.shared.mail();
        loop {
            let own = mail.telling == Some(std::thread::current().id());
            if mail.closed || (own && !mail.waiting.is_empty()) {
                return Waited::Interrupted;
            }
            if mail.waiting.is_empty() && !mail.is_telling() {
                return Waited::Idle;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            mail = self.shared.wait_for(mail, left);
        }
    }

    /// Forgets what waits and takes no more.
    pub(crate) fn close(&self) {
        let mut mail = self.shared.mail();
        mail.closed = true;
        mail.forget(|_| false);
        drop(mail);
        self.shared.changed.notify_all();
    }

    /// [`close`](Self::close), and joins the thread, unless a listener does not return.
    pub(crate) fn end(&self) {
        self.close();
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = thread.take();
        drop(thread);
        let Some(thread) = taken else { return };
        // A listener may stop the element by itself, or not return: nobody can wait for that.
        if thread.thread().id() != std::thread::current().id() && self.wait_told(PATIENCE) {
            // Panics in it were caught there.
            let _ = thread.join();
        }
    }

    /// Waits until no listener is being called on another thread; whether that is so.
    fn wait_told(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut mail = self.shared.mail();
        // Another report may be being told by then, which was put in after the flush.
        while mail.is_telling() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO || mail.given_up {
                mail.given_up = true;
                return false;
            }
            mail = self.shared.wait_for(mail, left);
        }
        true
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, mail: MutexGuard<'a, Mail>) -> MutexGuard<'a, Mail> {
        let waited = self.changed.wait(mail);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'a>(&self, mail: MutexGuard<'a, Mail>, time: Duration) -> MutexGuard<'a, Mail> {
        let waited = self.changed.wait_timeout(mail, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The thread: tells until the end.
    fn run(&self) {
        let mut mail = self.mail();
        while !mail.closed {
            let full = !mail.has_room();
            let Some(Entry { report, listener }) = mail.take() else {
                mail = self.wait(mail);
                continue;
            };
            mail.telling = Some(std::thread::current().id());
            let wakers = match full && mail.has_room() {
                true => mail.wakers(),
                false => Vec::new(),
            };
            drop(mail);
            self.changed.notify_all();
            wake(&wakers);
            tell(&listener, report);
            // May be the last reference to much else, so no lock is held.
            drop((listener, wakers));
            mail = self.mail();
            (mail.telling, mail.given_up) = (None, false);
            self.changed.notify_all();
        }
    }
}

impl Mail {
    fn put(&mut self, report: Report, listener: &Listener) {
        if self.closed {
            return;
        }
        let entry = Entry {
            report,
            listener: listener.clone(),
        };
        match kind(&entry.report) {
            Kind::Event => self.n_kept += 1,
            Kind::Standing => return self.put_standing(entry),
        }
        self.waiting.push_back(entry);
    }

    /// Takes the place of one that says the same of an earlier time, if nothing happened since.
    fn put_standing(&mut self, mut entry: Entry) {
        let since = self.waiting.iter().rev();
        let n = since
            .take_while(|e| kind(&e.report) == Kind::Standing)
            .count();
        let first = self.waiting.len() - n;
        let same = |old: &Entry| {
            Arc::ptr_eq(&old.listener, &entry.listener) && is_outdone(&old.report, &entry.report)
        };
        if let Some(at) = (first..self.waiting.len()).find(|at| same(&self.waiting[*at]))
            && let Some(old) = self.waiting.remove(at)
        {
            add(&mut entry.report, &old.report);
        }
        self.waiting.push_back(entry);
    }

    fn take(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.n_kept -= usize::from(kind(&entry.report) == Kind::Event);
        Some(entry)
    }

    fn forget(&mut self, stays: impl Fn(&Report) -> bool) {
        self.waiting.retain(|entry| stays(&entry.report));
        let events = self.waiting.iter();
        self.n_kept = events.filter(|e| kind(&e.report) == Kind::Event).count();
    }

    fn has_room(&self) -> bool {
        self.closed || self.n_kept < MAX_WAITING
    }

    /// Whether a listener is being called on another thread than this one.
    fn is_telling(&self) -> bool {
        self.telling
            .is_some_and(|id| id != std::thread::current().id())
    }

    fn wakers(&self) -> Vec<Arc<dyn Wake>> {
        self.wakers.iter().filter_map(Weak::upgrade).collect()
    }
}

fn wake(wakers: &[Arc<dyn Wake>]) {
    for waker in wakers {
        waker.wake();
    }
}

/// Tells a listener; if it panics, it is told that.
fn tell(listener: &Listener, report: Report) {
    const PLACE: &str = "the element's reports";
    if let Err(reason) = caught(PLACE, || listener(report)) {
        let failed = WindowReport::failed(reason).into();
        // There is nobody else to tell of a second panic; both were printed.
        let _ = caught(PLACE, || listener(failed));
    }
}

fn kind(report: &Report) -> Kind {
    match report {
        Report::Inquiry(_) => Kind::Event,
        // The last word on a model is what counts.
        Report::Model(_) => Kind::Standing,
        Report::Window(report) => match report {
            WindowReport::Caption(_)
            | WindowReport::QuestionFailed { .. }
            | WindowReport::Failed { .. }
            | WindowReport::Cut { .. }
            | WindowReport::Overload(_) => Kind::Event,
            WindowReport::Partial { .. }
            | WindowReport::Unasked
            | WindowReport::Gated { .. }
            | WindowReport::Dropped { .. } => Kind::Standing,
        },
    }
}

/// Whether a flush of the stream takes it along. What is of the model, answers to whoever asked, what
/// is told once for all and what is counted are told all the same.
fn is_of_stream(report: &Report) -> bool {
    use WindowReport::{Dropped, Overload};
    match report {
        Report::Model(_) | Report::Inquiry(_) => false,
        Report::Window(report) => !matches!(report, Overload(_) | Dropped { .. }),
    }
}

/// Whether `old` need not be told if `new` is.
fn is_outdone(old: &Report, new: &Report) -> bool {
    use std::mem::discriminant;
    match (old, new) {
        (Report::Model(old), Report::Model(new)) => discriminant(old) == discriminant(new),
        (Report::Window(old), Report::Window(new)) => is_window_outdone(old, new),
        _ => false,
    }
}

fn is_window_outdone(old: &WindowReport, new: &WindowReport) -> bool {
    use WindowReport::{Dropped, Gated, Partial, Unasked};
    match (old, new) {
        (
            Partial {
                sequence: n,
                prompt_id: id,
                ..
            },
            Partial {
                sequence,
                prompt_id,
                ..
            },
        ) => n == sequence && id == prompt_id,
        (Gated { why: old, .. }, Gated { why: new, .. }) => old == new,
        (Dropped { reason: old, .. }, Dropped { reason: new, .. }) => old == new,
        (Unasked, Unasked) => true,
        _ => false,
    }
}

/// What is counted is counted together.
fn add(new: &mut Report, old: &Report) {
    use WindowReport::Dropped;
    if let (Report::Window(Dropped { count, .. }), Report::Window(Dropped { count: more, .. })) =
        (new, old)
    {
        *count += more;
    }
}

#[cfg(test)]
mod tests;
