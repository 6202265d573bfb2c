// SPDX-License-Identifier: MPL-2.0

//! A thread that does what is due by the clock, whether or not buffers come.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Calls a closure again and again; dropped, it ends and is joined.
pub(super) struct Minder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    quit: bool,
}

impl Minder {
    /// Calls `round` now, and again each time that it asked for, or sooner when woken; `None` asks
    /// for no time.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        mut round: impl FnMut() -> Option<Duration> + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("vlmcaption-mind".into())
                .spawn(move || {
                    loop {
                        let pause = round();
                        if !shared.wait(pause) {
                            return;
                        }
                    }
                })?
        };
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Has the closure called soon: something may be due earlier than it asked for.
    pub fn wake(&self) {
        self.shared.state.lock().unwrap().woken = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
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

impl Drop for Minder {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().quit = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            // Who handles a message may stop the element on the thread that posted it.
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was printed there.
            let _ = thread.join();
        }
    }
}
