// SPDX-License-Identifier: MPL-2.0

//! One thread a worker, that sees how it fares: its heartbeat, its output, its death.

use std::io::{PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::arena::Arena;
use super::silence::{Work, state};
use super::spawn::Spawned;
use super::text::Tail;

/// From one look to the next.
const TICK: Duration = Duration::from_millis(100);
/// Looks without a heartbeat after which a process that was stopped is given up.
const STOPPED: u32 = 2;
/// And one that was not: it may swap.
const FROZEN: u32 = 50;
/// How long a process that was killed may take to die; one that hangs in the kernel never does.
const DYING: Duration = Duration::from_millis(500);

type OnOutput = fn(pid: u32, line: &str);
type OnLoss = Box<dyn Fn(&str) + Send + Sync>;

static OUTPUT: OnceLock<OnOutput> = OnceLock::new();

/// Has every line that a worker prints told to `hear`: once a process, the first one stays.
pub fn on_output(hear: OnOutput) {
    let _ = OUTPUT.set(hear);
}

/// A worker under observation.
pub struct Ward {
    pid: u32,
    pidfd: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// It has greeted: its heart beats.
    is_up: bool,
    /// It was asked to end.
    is_retired: bool,
    /// What it does.
    doing: Option<&'static str>,
    /// Why it is to be killed.
    condemned: Option<String>,
    /// How it ended.
    verdict: Option<String>,
    on_loss: Option<OnLoss>,
}

impl Ward {
    /// Begins to observe a worker.
    ///
    /// # Errors
    /// The system has no more threads; then the worker is killed.
    pub fn begin(
        spawned: Spawned,
        arena: Arc<Arena>,
    ) -> std::io::Result<(Arc<Self>, std::os::unix::net::UnixStream)> {
        let Spawned {
            child,
            pidfd,
            socket,
            output,
        } = spawned;
        let ward = Arc::new(Self {
            pid: child.id(),
            pidfd,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let watch = Watch {
            ward: ward.clone(),
            arena,
            child,
            output: Some(output),
            tail: Tail::default(),
            lines: Lines::default(),
        };
        let builder = std::thread::Builder::new().name("vlmcaption-ward".into());
        if let Err(error) = builder.spawn(move || watch.run()) {
            ward.kill();
            return Err(error);
        }
        Ok((ward, socket))
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// It has greeted.
    pub fn set_up(&self) {
        self.state().is_up = true;
    }

    /// What it does now.
    pub fn set_doing(&self, doing: Option<&'static str>) {
        self.state().doing = doing;
    }

    /// Has `tell` called when it is lost, at once if it is.
    pub fn on_loss(&self, tell: OnLoss) {
        let mut state = self.state();
        if let Some(verdict) = &state.verdict {
            let verdict = verdict.clone();
            drop(state);
            return tell(&verdict);
        }
        state.on_loss = Some(tell);
    }

    /// Ends it for a reason; what became of it.
    pub fn condemn(&self, reason: String) -> String {
        {
            let mut state = self.state();
            if state.condemned.is_none() {
                state.condemned = Some(reason);
            }
        }
        self.kill();
        self.verdict()
    }

    /// It has closed its socket: waits for what became of it, and ends it if it has only done that.
    pub fn ended(&self) -> String {
        let is_alive = |state: &mut State| state.verdict.is_none();
        let waited = self
            .changed
            .wait_timeout_while(self.state(), DYING, is_alive);
        let late = waited.is_ok_and(|(_, late)| late.timed_out());
        if late {
            return self.condemn("closed its socket".into());
        }
        self.verdict()
    }

    /// Waits for what became of one that is dying.
    fn verdict(&self) -> String {
        let most = DYING * 2 + TICK * 3;
        let waited = self
            .changed
            .wait_timeout_while(self.state(), most, |state| state.verdict.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let verdict = state.verdict.clone();
        verdict.unwrap_or_else(|| format!("{} is silent and does not die", name(self.pid)))
    }

    /// It was asked to end by itself: waits until it has, and kills it when that takes too long. A device
    /// that is used again must be free.
    pub fn retire(&self) {
        /// A vendor's library gives back gigabytes.
        const PATIENCE: Duration = Duration::from_secs(3);
        let is_alive = |state: &mut State| state.verdict.is_none();
        let mut state = self.state();
        state.is_retired = true;
        state.on_loss = None;
        let waited = self.changed.wait_timeout_while(state, PATIENCE, is_alive);
        let (state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            self.kill();
            let _ = self.changed.wait_timeout_while(state, DYING * 2, is_alive);
        }
    }

    fn kill(&self) {
        // It may be dead already.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the messages call it.
pub fn name(pid: u32) -> String {
    format!("the device's process (vlmcaption-worker, pid {pid})")
}

/// The thread.
struct Watch {
    ward: Arc<Ward>,
    arena: Arc<Arena>,
    child: Child,
    output: Option<PipeReader>,
    tail: Tail,
    lines: Lines,
}

impl Watch {
    fn run(mut self) {
        let mut heart = Heart::default();
        let mut killed: Option<Instant> = None;
        let died = loop {
            let began = Instant::now();
            if self.look() {
                break true;
            }
            let state = self.ward.state();
            let (is_up, is_condemned) = (state.is_up, state.condemned.is_some());
            drop(state);
            if is_condemned {
                let at = *killed.get_or_insert_with(Instant::now);
                if at.elapsed() > DYING {
                    break false;
                }
                continue;
            }
            // One that output cut short counts no more than a late one.
            let on_time = (TICK / 2..TICK * 3).contains(&began.elapsed());
            let missed = heart.look(self.arena.beats(), on_time);
            let pid = self.ward.pid;
            if missed == STOPPED {
                heart.work = Work::of(pid);
            }
            if missed >= FROZEN && heart.has_waited(pid) {
                continue;
            }
            let dead = given_up(missed, is_up, || is_stopped(pid));
            if let Some(reason) = dead {
                self.ward.state().condemned = Some(reason.into());
                self.ward.kill();
            }
        };
        let status = if died {
            self.child.try_wait().ok().flatten()
        } else {
            None
        };
        self.drain();
        self.finish(status, died);
        // It must not stay behind as a zombie, however long it takes.
        if !died {
            let _ = self.child.wait();
        }
    }

    /// Waits for something to happen; whether it has died.
    fn look(&mut self) -> bool {
        let mut fds = vec![PollFd::new(&self.ward.pidfd, PollFlags::IN)];
        if let Some(output) = &self.output {
            fds.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        // A signal of the application may interrupt it: then nothing has happened.
        if poll(&mut fds, Some(&timeout)).is_err() {
            return false;
        }
        let has_died = !fds[0].revents().is_empty();
        let has_output = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        if has_output {
            self.read();
        }
        has_died
    }

    /// Reads what there is; false at the end.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let Some(output) = &mut self.output else {
            return false;
        };
        match output.read(&mut bytes) {
            Ok(n) if n > 0 => {
                let (pid, lines) = (self.ward.pid, &mut self.lines);
                self.tail
                    .take(&bytes[..n], &mut |line| lines.tell(pid, line));
                true
            }
            _ => {
                self.output = None;
                false
            }
        }
    }

    /// Reads what is left; a grandchild may hold the pipe open, so not until its end.
    fn drain(&mut self) {
        for _ in 0..64 {
            let Some(output) = &self.output else {
                break;
            };
            let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            let ready = poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0);
            if !ready || !self.read() {
                break;
            }
        }
        let (pid, lines) = (self.ward.pid, &mut self.lines);
        self.tail.end_line(&mut |line| lines.tell(pid, line));
    }

    /// Says what became of it.
    fn finish(&self, status: Option<ExitStatus>, died: bool) {
        let mut state = self.ward.state();
        let end = match &state.condemned {
            Some(reason) => format!("{reason}, and was killed"),
            None => ended(status),
        };
        let mut verdict = format!("{} {end}", name(self.ward.pid));
        if let Some(doing) = state.doing {
            verdict += &format!(" while {doing}");
        }
        if !died {
            verdict += "; it hangs in the kernel and has not died yet";
        }
        let words = self.tail.words();
        if !words.is_empty() && !state.is_retired {
            verdict += &format!("; its last words: {words}");
        }
        state.verdict = Some(verdict.clone());
        let tell = state.on_loss.take().filter(|_| !state.is_retired);
        drop(state);
        self.ward.changed.notify_all();
        if let Some(tell) = tell {
            tell(&verdict);
        }
    }
}

/// How a process ended that nobody killed on purpose.
fn ended(status: Option<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    let Some(status) = status else {
        return "ended; its status was taken by the application".into();
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let core = if status.core_dumped() {
                ", core dumped"
            } else {
                ""
            };
            format!("was ended by signal {signal}{}{core}", signal_name(signal))
        }
        (None, Some(code)) => format!("ended by itself with status {code}"),
        (None, None) => format!("ended: {status}"),
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL; short of memory?)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS)",
        _ => "",
    }
}

/// Whether a process was stopped, as with SIGSTOP; one that a debugger holds was not.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&stat) == Some('T')
}

/// Heartbeats as they are seen.
#[derive(Default)]
struct Heart {
    beats: u64,
    missed: u32,
    /// What the system did with the process when it had missed some.
    work: Option<Work>,
}

impl Heart {
    /// A look; how many there were since the last beat. A look that itself came late counts for nothing:
    /// then the machine has no time for either.
    fn look(&mut self, beats: u64, on_time: bool) -> u32 {
        if beats != self.beats {
            (self.beats, self.missed) = (beats, 0);
        } else if on_time {
            self.missed += 1;
        }
        self.missed
    }

    /// Whether a process that has missed many had no processor to beat on, half of that time at least; then
    /// it begins anew to count.
    fn has_waited(&mut self, pid: u32) -> bool {
        let Some((before, now)) = self.work.as_ref().zip(Work::of(pid)) else {
            return false;
        };
        let has_waited = now.queued_since(before) > TICK * (self.missed - STOPPED) / 2;
        if has_waited {
            (self.missed, self.work) = (0, None);
        }
        has_waited
    }
}

/// Why a process is to be given up that has missed so many beats; one that has not begun yet may take its
/// time, unless somebody has stopped it.
fn given_up(missed: u32, is_up: bool, is_stopped: impl Fn() -> bool) -> Option<&'static str> {
    if is_up && missed >= FROZEN {
        return Some("showed no sign of life for 5 s");
    }
    (missed >= STOPPED && is_stopped()).then_some("was stopped (SIGSTOP)")
}

/// Lines to tell, a bounded number each second.
#[derive(Default)]
struct Lines {
    second: Option<Instant>,
    told: u32,
}

impl Lines {
    fn tell(&mut self, pid: u32, line: &str) {
        const MOST: u32 = 50;
        let now = Instant::now();
        if self
            .second
            .is_none_or(|second| now - second >= Duration::from_secs(1))
        {
            (self.second, self.told) = (Some(now), 0);
        }
        self.told += 1;
        if self.told <= MOST
            && let Some(hear) = OUTPUT.get()
        {
            hear(pid, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_given_up_soon_if_stopped_late_if_silent_and_never_for_a_slow_machine() {
        let mut heart = Heart::default();
        let mut stopped = |beats| given_up(heart.look(beats, true), true, || true).is_some();
        let looks: Vec<bool> = (0..3).map(|_| stopped(1)).collect();
        assert_eq!(looks, [false, false, true]);
        assert!(!stopped(2), "it goes on");
        let silent = |missed, is_up| given_up(missed, is_up, || false).is_some();
        assert!(silent(FROZEN, true) && !silent(FROZEN - 1, true) && !silent(FROZEN, false));
        assert!(given_up(STOPPED, false, || true).is_some());
        heart.look(3, true);
        assert!((0..1000).all(|_| heart.look(3, false) == 0));
    }
}
