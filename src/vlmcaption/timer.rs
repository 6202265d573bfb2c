// SPDX-License-Identifier: MPL-2.0

//! A thread that does what is due by the clock, whether or not buffers come.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::caption::panic::caught;

/// After a panic the closure is called again this much later.
const AGAIN: Duration = Duration::from_millis(500);

/// Calls a closure again and again; dropped, it ends and is joined.
pub(super) struct Timer {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// Has a timer's closure called soon: something may be due earlier than it asked for.
#[derive(Clone, Default)]
pub(super) struct Waker(Arc<Signal>);

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    quit: bool,
}

impl Timer {
    /// Calls `round` now, and again each time that it asked for, or sooner when woken; `None` asks
    /// for no time. A panic in it is said to `failed`, once if the same comes in a row, and it is
    /// called again.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        waker: Waker,
        mut round: impl FnMut() -> Option<Duration> + Send + 'static,
        failed: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<Self> {
        let signal = waker.0.clone();
        let thread = std::thread::Builder::new()
            .name("vlmcaption-tick".into())
            .spawn(move || {
                let mut last = None;
                loop {
                    let pause = match caught("what is due by the clock", &mut round) {
                        Ok(pause) => pause,
                        Err(reason) => {
                            if last.as_ref() != Some(&reason) {
                                failed(&reason);
                            }
                            last = Some(reason);
                            Some(AGAIN)
                        }
                    };
                    if !signal.wait(pause) {
                        return;
                    }
                }
            })?;
        Ok(Self {
            waker,
            thread: Some(thread),
        })
    }
}

impl Waker {
    pub fn wake(&self) {
        self.0.change(|state| state.woken = true);
    }
}

impl Signal {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits for the time or a wake; false at the end.
    fn wait(&self, pause: Option<Duration>) -> bool {
        let state = self.state.lock().unwrap();
        let idle = |state: &mut State| !state.woken && !state.quit;
        let mut state = match pause {
            Some(pause) => {
                let waited = self.changed.wait_timeout_while(state, pause, idle);
                waited.unwrap().0
            }
            None => self.changed.wait_while(state, idle).unwrap(),
        };
        state.woken = false;
        !state.quit
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.waker.0.change(|state| state.quit = true);
        if let Some(thread) = self.thread.take()
            // Who handles a message may stop the element on the thread that posted it.
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was said there.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_panic_is_said_once_and_what_is_due_is_done_all_the_same() {
        let (done, rounds) = channel();
        let (says, said) = channel();
        let mut n = 0;
        let round = move || {
            n += 1;
            assert!(n > 2, "the clock is broken");
            done.send(n).unwrap();
            None
        };
        let failed = move |reason: &str| says.send(reason.to_owned()).unwrap();
        let timer = Timer::start(Waker::default(), round, failed).unwrap();
        assert_eq!(rounds.recv().unwrap(), 3);
        let reason = said.try_recv().unwrap();
        assert!(reason.contains("the clock is broken"), "{reason}");
        assert!(said.try_recv().is_err(), "the same is said once");
        drop(timer);
    }
}
