// SPDX-License-Identifier: MPL-2.0

//! A bounded hand-over between threads with a stated drop policy; counts what it drops.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Who gives way when the mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropPolicy {
    /// The oldest waiting item: the newest is always kept.
    Latest,
    /// The arriving item: those that wait keep their place.
    Oldest,
    /// Nobody: the sender waits for room.
    Block,
}

/// What became of a sent item.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent<T> {
    /// It waits for the receiver.
    Queued,
    /// It waits, and this older one was dropped for it.
    Replaced(T),
    /// It was dropped itself.
    Refused(T),
    /// The mailbox is flushing or closed.
    Flushing(T),
}

/// How a wait for the end of all work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Nothing is left to do.
    Idle,
    /// A flush, the end, or a model that cannot be used: what is left will not be done.
    Interrupted,
    /// Time ran out first.
    TimedOut,
}

/// A bounded queue with a drop policy; the part of a mailbox that needs no thread.
#[derive(Debug)]
pub struct Queue<T> {
    items: VecDeque<T>,
    capacity: usize,
}

impl<T> Queue<T> {
    /// An empty queue for at least one item.
    pub fn new(capacity: usize) -> Self {
        Self {
            items: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// Items that may wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether [`offer`](Self::offer) would need somebody to give way.
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.capacity
    }

    /// Adds an item or applies the policy; under [`DropPolicy::Block`] the caller waits for room
    /// first, and an item that comes all the same is refused.
    pub fn offer(&mut self, item: T, policy: DropPolicy) -> Sent<T> {
        if !self.is_full() {
            self.items.push_back(item);
            return Sent::Queued;
        }
        if policy != DropPolicy::Latest {
            return Sent::Refused(item);
        }
        let oldest = self.items.pop_front();
        self.items.push_back(item);
        oldest.map_or(Sent::Queued, Sent::Replaced)
    }

    /// Adds an item whatever the capacity.
    pub fn force(&mut self, item: T) {
        self.items.push_back(item);
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Takes all items.
    pub fn drain(&mut self) -> Vec<T> {
        self.items.drain(..).collect()
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// A queue of at most `capacity` items between threads.
#[derive(Debug)]
pub struct Mailbox<T> {
    state: Mutex<Contents<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Contents<T> {
    items: Queue<T>,
    flushing: bool,
    closed: bool,
    /// The receiver took an item and has not said that it is done with it.
    busy: bool,
}

impl<T> Mailbox<T> {
    /// An empty mailbox for at least one item.
    pub fn new(capacity: usize) -> Self {
        let state = Contents {
            items: Queue::new(capacity),
            flushing: false,
            closed: false,
            busy: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Hands an item over; only [`DropPolicy::Block`] ever waits, until there is room, a flush or
    /// the end.
    pub fn send(&self, item: T, policy: DropPolicy) -> Sent<T> {
        let mut state = self.state.lock().unwrap();
        while policy == DropPolicy::Block
            && state.items.is_full()
            && !state.flushing
            && !state.closed
        {
            state = self.changed.wait(state).unwrap();
        }
        if state.flushing || state.closed {
            return Sent::Flushing(item);
        }
        let sent = state.items.offer(item, policy);
        self.changed.notify_all();
        sent
    }

    /// Hands a control item over: never dropped, never waits, not bounded by the capacity.
    pub fn send_control(&self, item: T) {
        let mut state = self.state.lock().unwrap();
        if !state.closed {
            state.items.force(item);
            self.changed.notify_all();
        }
    }

    /// Drops what waits and puts `item` first; blocked senders find room. Gives back what waited.
    pub fn restart(&self, item: T) -> Vec<T> {
        let mut state = self.state.lock().unwrap();
        let dropped = state.items.drain();
        if !state.closed {
            state.items.force(item);
        }
        self.changed.notify_all();
        dropped
    }

    /// Takes the oldest item, waiting for one; `None` once closed. The item before counts as done.
    pub fn receive(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap();
        state.busy = false;
        self.changed.notify_all();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.items.pop() {
                state.busy = true;
                self.changed.notify_all();
                return Some(item);
            }
            state = self.changed.wait(state).unwrap();
        }
    }

    /// Waits until nothing waits and the receiver is done, at most until `deadline`.
    pub fn wait_idle(&self, deadline: Instant) -> Waited {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.flushing || state.closed {
                return Waited::Interrupted;
            }
            if state.items.is_empty() && !state.busy {
                return Waited::Idle;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Refuses items and wakes all waiting senders until [`stop_flush`](Self::stop_flush); gives
    /// back what waited.
    pub fn start_flush(&self) -> Vec<T> {
        let mut state = self.state.lock().unwrap();
        state.flushing = true;
        self.changed.notify_all();
        state.items.drain()
    }

    /// Accepts items again.
    pub fn stop_flush(&self) {
        self.state.lock().unwrap().flushing = false;
    }

    /// Ends it: senders and the receiver return at once.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap();
        state.closed = true;
        state.items.drain();
        self.changed.notify_all();
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.state.lock().unwrap().items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn latest_drops_the_oldest_that_waits() {
        let mailbox = Mailbox::new(2);
        assert_eq!(mailbox.send(1, DropPolicy::Latest), Sent::Queued);
        assert_eq!(mailbox.send(2, DropPolicy::Latest), Sent::Queued);
        assert_eq!(mailbox.send(3, DropPolicy::Latest), Sent::Replaced(1));
        assert_eq!(mailbox.receive(), Some(2));
    }

    #[test]
    fn oldest_drops_the_one_that_arrives() {
        let mailbox = Mailbox::new(1);
        assert_eq!(mailbox.send(1, DropPolicy::Oldest), Sent::Queued);
        assert_eq!(mailbox.send(2, DropPolicy::Oldest), Sent::Refused(2));
        assert_eq!(mailbox.receive(), Some(1));
    }

    #[test]
    fn a_blocked_sender_is_woken_by_room_and_by_a_flush() {
        let mailbox = Arc::new(Mailbox::new(1));
        assert_eq!(mailbox.send(1, DropPolicy::Block), Sent::Queued);
        let sender = {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || {
                (
                    mailbox.send(2, DropPolicy::Block),
                    mailbox.send(3, DropPolicy::Block),
                )
            })
        };
        assert_eq!(mailbox.receive(), Some(1));
        // The second send may or may not have begun to wait: the flush wakes or refuses it. What
        // was flushed is 2, unless the thread has not sent it yet.
        while mailbox.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(mailbox.start_flush(), [2]);
        assert_eq!(sender.join().unwrap(), (Sent::Queued, Sent::Flushing(3)));
    }

    #[test]
    fn a_restart_comes_before_everything_that_is_sent_later() {
        let mailbox = Mailbox::new(2);
        mailbox.send_control(1);
        mailbox.send_control(2);
        assert_eq!(mailbox.restart(3), [1, 2]);
        assert_eq!(mailbox.send(4, DropPolicy::Block), Sent::Queued);
        assert_eq!(mailbox.receive(), Some(3));
        assert_eq!(mailbox.receive(), Some(4));
    }

    #[test]
    fn idle_means_that_the_receiver_is_done_too() {
        let mailbox = Mailbox::new(1);
        let soon = || Instant::now() + Duration::from_millis(1);
        assert_eq!(mailbox.wait_idle(soon()), Waited::Idle);
        mailbox.send_control(1);
        assert_eq!(mailbox.wait_idle(soon()), Waited::TimedOut);
        mailbox.receive();
        assert_eq!(
            mailbox.wait_idle(soon()),
            Waited::TimedOut,
            "the receiver still works on it"
        );
        mailbox.send_control(2);
        mailbox.receive();
        mailbox.close();
        assert_eq!(mailbox.wait_idle(soon()), Waited::Interrupted);
        assert_eq!(mailbox.receive(), None);
    }
}
