// SPDX-License-Identifier: MPL-2.0

//! Pairs that may be encoded while their windows fill: the only place where a session keeps them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{Pair, Partial};

/// Pairs that may wait. One that gives way is encoded with its window.
const MAX_PAIRS: usize = 64;

/// A window that will be in the queue, as far as it has come.
pub(crate) struct OpenWindow {
    /// The number that it will have.
    pub(crate) sequence: u64,
    pub(crate) scene: u64,
    pub(crate) partial: Partial,
}

/// What is to be encoded ahead, the oldest first; nothing here keeps a pair from being dropped.
///
/// All that is done here takes the same time however long the device has been busy: what a window
/// took along or a drop policy threw away leaves when a pair is added, and no more than
/// [`MAX_PAIRS`] wait.
#[derive(Default)]
pub(crate) struct Pairs {
    waiting: VecDeque<Weak<Pair>>,
    /// The oldest window being filled.
    open: Option<OpenWindow>,
}

impl Pairs {
    /// Adds pairs of windows being filled; `of` is the oldest of these windows.
    pub(crate) fn offer(&mut self, pairs: &[Arc<Pair>], of: Option<OpenWindow>) {
        for pair in pairs {
            let gone = |pair: &Weak<Pair>| pair.strong_count() == 0;
            while self.waiting.len() >= MAX_PAIRS || self.waiting.front().is_some_and(gone) {
                self.waiting.pop_front();
            }
            self.waiting.push_back(Arc::downgrade(pair));
        }
        self.open = of;
    }

    /// Takes the oldest pair that somebody still needs and no window has encoded.
    pub(crate) fn next(&mut self) -> Option<Arc<Pair>> {
        while let Some(pair) = self.waiting.pop_front() {
            let pixels =
                |pair: &Arc<Pair>| matches!(*pair.visual.lock().unwrap(), Visual::Pixels(_));
            if let Some(pair) = pair.upgrade().filter(pixels) {
                return Some(pair);
            }
        }
        None
    }

    /// Takes the oldest window being filled.
    pub(crate) fn take_open(&mut self) -> Option<OpenWindow> {
        self.open.take()
    }

    /// Whether there is nothing to look at; of pairs that are there, none may be needed any more.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.open = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::backend::{GridThw, Patches};

    fn pair(second: u64) -> Arc<Pair> {
        let pixels = Patches {
            grid: GridThw { t: 1, h: 1, w: 1 },
            pixels: Vec::new().into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        Arc::new(Pair {
            pts: vec![Duration::from_secs(second)],
            visual: Mutex::new(Visual::Pixels(pixels)),
            frames: Vec::new(),
            answered: AtomicBool::new(false),
        })
    }

    #[test]
    fn pairs_whose_windows_were_dropped_take_no_room() {
        let mut pairs = Pairs::default();
        for second in 0..10_000 {
            pairs.offer(&[pair(second)], None);
            assert!(pairs.waiting.len() <= 1);
        }
        assert!(pairs.next().is_none() && pairs.is_empty());
    }

    #[test]
    fn behind_a_pair_that_stays_no_more_wait_than_are_allowed_and_the_newest_are_kept() {
        let mut pairs = Pairs::default();
        // A window that waits for the model holds the first; those after it are refused.
        let (first, last) = (pair(0), pair(10_000));
        pairs.offer(std::slice::from_ref(&first), None);
        for second in 1..10_000 {
            pairs.offer(&[pair(second)], None);
            assert!(pairs.waiting.len() <= MAX_PAIRS);
        }
        pairs.offer(std::slice::from_ref(&last), None);
        assert!(Arc::ptr_eq(&pairs.next().unwrap(), &last));
        assert!(pairs.next().is_none());
    }

    #[test]
    fn a_pair_that_a_window_has_encoded_is_passed_over() {
        let mut pairs = Pairs::default();
        let (first, second) = (pair(0), pair(1));
        pairs.offer(&[first.clone(), second.clone()], None);
        *first.visual.lock().unwrap() = Visual::Taken;
        assert!(Arc::ptr_eq(&pairs.next().unwrap(), &second));
    }
}
