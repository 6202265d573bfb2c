// SPDX-License-Identifier: MPL-2.0

//! Look-up and TCP connection, on a thread of their own: neither can be woken, so a request that
//! is cancelled or out of time leaves the thread behind, which ends by itself.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Instant;

use super::attempt::{Attempt, Lookup, Progress};
use super::link::Link;
use crate::error::{Bound, Problem};

/// Threads that may be left behind before no more are begun.
const MOST_STUCK: usize = 16;

/// Makes connections.
pub(crate) struct Dialer {
    lookup: Arc<Lookup>,
    stuck: Arc<AtomicUsize>,
}

impl Dialer {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self {
            lookup,
            stuck: Arc::default(),
        }
    }

    /// The system's way of finding addresses.
    pub(crate) fn system() -> Arc<Lookup> {
        Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    /// A connection to the first of the host's addresses that takes one, in the order of the
    /// look-up; each is given a share of the time that is left.
    ///
    /// # Errors
    /// Noted in the link: what went wrong, a bound, or nothing if the request was cancelled.
    pub(crate) fn dial(&self, link: &Link, host: &str, port: u16) -> Result<TcpStream, Problem> {
        let attempt = Arc::new(Attempt::new());
        if !link.dials(&attempt) {
            return Err(Problem::Cancelled);
        }
        if self.stuck.fetch_add(1, Ordering::Relaxed) >= MOST_STUCK {
            self.stuck.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::Lookup {
                host: host.to_owned(),
                reason: format!("{MOST_STUCK} look-ups before this one have not ended"),
            });
        }
        let helper = {
            let (attempt, lookup) = (attempt.clone(), self.lookup.clone());
            let (stuck, host) = (self.stuck.clone(), host.to_owned());
            move || {
                attempt.run(&*lookup, &host, port);
                stuck.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let thread = thread::Builder::new().name("vlmcaption-dial".into());
        if let Err(error) = thread.spawn(helper) {
            self.stuck.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::Connect {
                reason: format!("no thread for it: {error}"),
            });
        }
        wait(&attempt, link)
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer").finish_non_exhaustive()
    }
}

/// Waits for the connection, within the link's bounds.
fn wait(attempt: &Attempt, link: &Link) -> Result<TcpStream, Problem> {
    let bounds = *link.bounds();
    let mut bound = (Bound::Lookup, bounds.lookup);
    let mut by = (Instant::now() + bounds.lookup).min(link.whole_by());
    let mut progress = attempt.progress();
    loop {
        match &*progress {
            Progress::Abandoned => return Err(Problem::Cancelled),
            Progress::Done(_) => {
                return match std::mem::replace(&mut *progress, Progress::Abandoned) {
                    Progress::Done(result) => result,
                    _ => Err(Problem::Cancelled),
                };
            }
            Progress::Found => {
                by = link.connects();
                bound = (Bound::Connect, bounds.connect);
                *progress = Progress::Connecting(by);
                attempt.changed.notify_all();
            }
            Progress::LookingUp | Progress::Connecting(_) => {
                let left = by.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    *progress = Progress::Abandoned;
                    if by >= link.whole_by() {
                        bound = (Bound::Whole, bounds.whole);
                    }
                    link.expires_at(bound.0, bound.1);
                    let (bound, after) = bound;
                    return Err(Problem::Timeout { bound, after });
                }
                let waited = attempt.changed.wait_timeout(progress, left);
                progress = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}
