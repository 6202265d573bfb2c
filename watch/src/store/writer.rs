// SPDX-License-Identifier: MPL-2.0

//! The writing thread. Who hands something over never waits for the disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::health::Pulse;
use crate::log;
use crate::time::Millis;

use super::error::Error;
use super::keeper::{Item, Keeper, Status};
use super::state::Mark;

/// Items that may wait for the thread.
const MOST: usize = 8_192;

/// How long somebody waits for the thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// Hands items to the thread; cheap to copy.
#[derive(Debug, Clone)]
pub struct Hand {
    sender: SyncSender<Command>,
    dropped: Arc<AtomicU64>,
}

/// The thread, and how things stand with it.
#[derive(Debug)]
pub struct Writer {
    hand: Hand,
    status: Arc<Mutex<Status>>,
    pulse: Arc<Mutex<Option<Arc<Pulse>>>>,
    thread: JoinHandle<Status>,
}

#[derive(Debug)]
enum Command {
    Keep(Item),
    Mark(i64, Mark, SyncSender<Result<bool, Error>>),
    End,
}

impl Hand {
    /// Hands something over; if the thread is far behind it is dropped and counted.
    pub fn keep(&self, item: Item) {
        match self.sender.try_send(Command::Keep(item)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Changes what people say of an event, and waits until it is on the disk; false if there is none of
    /// this number.
    pub fn mark(&self, id: i64, mark: Mark) -> Result<bool, Error> {
        let busy = || Error::Refused("the store is busy; try again".into());
        let (sender, receiver) = mpsc::sync_channel(1);
        let command = Command::Mark(id, mark, sender);
        self.sender.try_send(command).map_err(|_| busy())?;
        receiver.recv_timeout(PATIENCE).map_err(|_| busy())?
    }
}

impl Writer {
    /// Starts it.
    pub fn start(keeper: Keeper) -> Result<Self, Error> {
        let (sender, receiver) = mpsc::sync_channel(MOST);
        let status = Arc::new(Mutex::new(keeper.status().clone()));
        let dropped = Arc::new(AtomicU64::new(0));
        let told = status.clone();
        let missed = dropped.clone();
        let pulse = Arc::<Mutex<Option<Arc<Pulse>>>>::default();
        let moves = pulse.clone();
        let body = move || {
            let mut keeper = keeper;
            loop {
                match receiver.recv_timeout(Duration::from_secs(1)) {
                    Ok(Command::Keep(item)) => keeper.take(item, Millis::now()),
                    Ok(Command::Mark(id, mark, answer)) => {
                        let _ = answer.try_send(keeper.mark(id, &mark));
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => break,
                }
                keeper.tick(Millis::now());
                if let Some(pulse) = &*moves.lock().unwrap() {
                    pulse.beat();
                }
                let mut now = keeper.status().clone();
                now.lost += missed.load(Ordering::Relaxed);
                *told.lock().unwrap() = now;
            }
            keeper.close(Millis::now())
        };
        let thread = std::thread::Builder::new()
            .name("watch-writer".into())
            .spawn(body)
            .map_err(|error| Error::Refused(format!("no thread for the store: {error}")))?;
        Ok(Self {
            hand: Hand { sender, dropped },
            status,
            pulse,
            thread,
        })
    }

    /// For whoever has something to keep.
    pub fn hand(&self) -> Hand {
        self.hand.clone()
    }

    /// How things stand.
    pub fn status(&self) -> Arc<Mutex<Status>> {
        self.status.clone()
    }

    /// Shows from now on that it moves.
    pub fn show(&self, pulse: Arc<Pulse>) {
        *self.pulse.lock().unwrap() = Some(pulse);
    }

    /// Writes all that was handed over, and ends.
    pub fn end(self) {
        // The thread takes from the queue all the time, so this wait is short.
        if self.hand.sender.send(Command::End).is_err() {
            log::error("the store's thread ended before its time");
        }
        match self.thread.join() {
            Ok(status) => {
                if let Some(trouble) = status.trouble {
                    log::error(format!("what waited is lost: {trouble}"));
                }
            }
            Err(_) => log::error("the store's thread ended by a fault of this program"),
        }
    }
}
