// SPDX-License-Identifier: MPL-2.0

//! One connection while a thread of its own makes it, and another waits for it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Problem;

/// The least that is tried for one of several addresses.
const LEAST: Duration = Duration::from_millis(100);

/// How a host becomes addresses.
pub type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// One connection while it is made.
#[derive(Debug)]
pub(crate) struct Attempt {
    progress: Mutex<Progress>,
    pub(super) changed: Condvar,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Progress {
    LookingUp,
    /// The address is known; the time by which to be connected is not.
    Found,
    /// Until then.
    Connecting(Instant),
    Done(Result<TcpStream, Problem>),
    /// Nobody waits any more.
    Abandoned,
}

impl Attempt {
    pub(super) fn new() -> Self {
        Self {
            progress: Mutex::new(Progress::LookingUp),
            changed: Condvar::new(),
        }
    }

    /// Nobody waits any more.
    pub(crate) fn abandon(&self) {
        *self.progress() = Progress::Abandoned;
        self.changed.notify_all();
    }

    /// What the helper's thread does.
    pub(super) fn run(&self, lookup: &Lookup, host: &str, port: u16) {
        let result = match lookup(host, port) {
            Ok(addresses) if !addresses.is_empty() => match self.tell_found() {
                Some(by) => self.connect(&addresses, by),
                None => return,
            },
            Ok(_) => Err(Problem::Lookup {
                host: host.to_owned(),
                reason: "it has no address".into(),
            }),
            Err(error) => Err(Problem::Lookup {
                host: host.to_owned(),
                reason: lookup_reason(&error),
            }),
        };
        let mut progress = self.progress();
        if !matches!(*progress, Progress::Abandoned) {
            *progress = Progress::Done(result);
            self.changed.notify_all();
        }
    }

    /// Tells that the address is known; gives the time by which to be connected, or `None` if
    /// nobody waits any more.
    fn tell_found(&self) -> Option<Instant> {
        let mut progress = self.progress();
        if matches!(*progress, Progress::Abandoned) {
            return None;
        }
        *progress = Progress::Found;
        self.changed.notify_all();
        loop {
            match *progress {
                Progress::Connecting(by) => return Some(by),
                Progress::Found => {
                    let waited = self.changed.wait(progress);
                    progress = waited.unwrap_or_else(PoisonError::into_inner);
                }
                _ => return None,
            }
        }
    }

    fn connect(&self, addresses: &[SocketAddr], by: Instant) -> Result<TcpStream, Problem> {
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            if matches!(*self.progress(), Progress::Abandoned) {
                return Err(Problem::Cancelled);
            }
            let left = by.saturating_duration_since(Instant::now());
            let share = left / (addresses.len() - index) as u32;
            match TcpStream::connect_timeout(address, share.max(LEAST)) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(format!("{address}: {}", reason(&error))),
            }
        }
        Err(Problem::Connect {
            reason: last.unwrap_or_default(),
        })
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's reason in its words, without the number.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

fn lookup_reason(error: &io::Error) -> String {
    let text = reason(error);
    let prefix = "failed to lookup address information: ";
    text.strip_prefix(prefix).unwrap_or(&text).to_owned()
}
