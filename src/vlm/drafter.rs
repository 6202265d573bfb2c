// SPDX-License-Identifier: MPL-2.0

//! What a camera is expected to say: nearly what it said last.
//!
//! Prompt-lookup decoding: the tokens of the last answer to the same question, and those of the prompt,
//! are a draft of the next one. The model verifies several of them at once
//! ([`Program::verify`](crate::backend::Program::verify)), and what it would have said itself is said,
//! token for token. Of an answer that is drawn at random this is speculative sampling (Leviathan et al.
//! 2023) with a draft that is certain: a drafted token is accepted as often as it would have been drawn.
//!
//! A launch of many rows takes longer than one of a single row, so a draft is used only where it is
//! expected to save time: by what launches were measured to take, and by how often this camera's drafts
//! turned out to be right.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backend::Launch;

/// Tokens by which a place in an earlier text is found again, at most.
const LONGEST_MATCH: usize = 3;

/// Part of a new measurement in what is kept.
const NEW: f64 = 0.125;

/// What a launch that was not made for an answer is believed to take, of what it was measured to: it is
/// measured again some day.
const FADES: f64 = 0.995;

/// A draft is used if it is expected to take less than this part of the time without it.
const WORTH: f64 = 0.95;

/// Single tokens that are measured before a draft may be compared with them.
const MEASURED: u32 = 2;

/// Drafts for the answers to one question of one camera.
#[derive(Debug, Clone, Default)]
pub struct Drafter {
    /// Drafts are used however long they take.
    eager: bool,
    /// What may be said again: the last answer.
    last: Vec<u32>,
    /// The prompt's tokens.
    prompt: Vec<u32>,
    /// The answer so far.
    said: Vec<u32>,
    /// What is expected next.
    next: Option<Place>,
    /// The place of the last answer where this one parted from it last.
    parted: usize,
    /// How often a drafted token was right.
    hits: Average,
    pace: Pace,
}

/// A place in an earlier text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Of the last answer.
    Last(usize),
    /// Of the prompt.
    Prompt(usize),
}

/// What launches take.
#[derive(Debug, Clone, Default)]
struct Pace {
    /// A token by itself, s.
    single: Average,
    n_single: u32,
    /// Launches that verify, by their rows, s.
    launches: BTreeMap<usize, Average>,
}

/// A mean in which the newest counts most.
#[derive(Debug, Clone, Copy, Default)]
struct Average(Option<f64>);

impl Average {
    fn note(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |mean| mean + NEW * (value - mean)));
    }
}

impl Drafter {
    /// One that drafts as far as it can, whether that saves time or not.
    pub fn eager() -> Self {
        Self {
            eager: true,
            ..Self::default()
        }
    }

    /// Has it expect an answer.
    pub fn expect(&mut self, answer: &[u32]) {
        answer.clone_into(&mut self.last);
    }

    /// An answer to a prompt begins.
    pub(super) fn begin(&mut self, prompt: impl Iterator<Item = u32>) {
        self.prompt.clear();
        self.prompt.extend(prompt);
        self.said.clear();
        self.next = (!self.last.is_empty()).then_some(Place::Last(0));
        self.parted = 0;
        self.pace.fade();
    }

    /// The answer goes on with a token.
    pub(super) fn note(&mut self, token: u32) {
        let expected = self.expected().first().copied();
        if let Some(expected) = expected {
            self.hits.note(f64::from(u8::from(expected == token)));
        }
        self.said.push(token);
        self.next = match (self.next, expected == Some(token)) {
            (Some(Place::Last(at)), true) => Some(Place::Last(at + 1)),
            (Some(Place::Prompt(at)), true) => Some(Place::Prompt(at + 1)),
            (place, _) => {
                if let Some(Place::Last(at)) = place {
                    self.parted = at;
                }
                self.find()
            }
        };
    }

    /// The answer has ended; it is expected again.
    pub(super) fn end(&mut self) {
        if !self.said.is_empty() {
            self.last = std::mem::take(&mut self.said);
        }
        self.next = None;
    }

    /// Whether anything is expected next.
    pub(super) fn expects(&self) -> bool {
        !self.expected().is_empty()
    }

    /// What is expected next, at most `most` tokens, if verifying it by one of these launches is worth its
    /// time.
    pub(super) fn draft(&self, launches: &[Launch], most: usize) -> &[u32] {
        let expected = self.expected();
        let most = most.min(expected.len());
        // A launch takes the last token, too.
        let drafted = |launch: &Launch| most.min(launch.tokens.saturating_sub(1));
        let n = match self.eager {
            true => launches.iter().map(drafted).max(),
            false => self.best(launches, drafted),
        };
        &expected[..n.unwrap_or(0)]
    }

    /// A token by itself took this long.
    pub(super) fn took_single(&mut self, time: Duration) {
        self.pace.single.note(time.as_secs_f64());
        self.pace.n_single = self.pace.n_single.saturating_add(1);
    }

    /// So many tokens were verified by the shortest launch that takes them.
    pub(super) fn took(&mut self, launches: &[Launch], n_tokens: usize, time: Duration) {
        let launch = launches.iter().find(|launch| launch.tokens >= n_tokens);
        if let Some(launch) = launch {
            let pace = self.pace.launches.entry(launch.rows).or_default();
            pace.note(time.as_secs_f64());
        }
    }

    /// Drafted tokens with which the time for each is least; `None` if a token by itself is as good.
    fn best(&self, launches: &[Launch], drafted: impl Fn(&Launch) -> usize) -> Option<usize> {
        let single = self
            .pace
            .single
            .0
            .filter(|_| self.pace.n_single >= MEASURED)?;
        // Of a camera that is new nothing is known: it is tried.
        let hit = self.hits.0.unwrap_or(0.75);
        let each = |launch: &Launch| {
            let n = drafted(launch);
            // Tokens that a launch comes to: those up to the first that is wrong, and the right one there.
            let expected: f64 = (0..=n).map(|i| hit.powf(i as f64)).sum();
            (n, self.pace.of(launch.rows, single) / expected)
        };
        let plans = launches.iter().map(each);
        plans
            .filter(|&(n, time)| n > 0 && time < WORTH * single)
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(n, _)| n)
    }

    fn expected(&self) -> &[u32] {
        match self.next {
            Some(Place::Last(at)) => self.last.get(at..).unwrap_or_default(),
            Some(Place::Prompt(at)) => self.prompt.get(at..).unwrap_or_default(),
            None => &[],
        }
    }

    /// Where an earlier text went on after what was said last: by as many tokens as are found, the last
    /// answer before the prompt, and there the nearest behind the place where the two parted.
    fn find(&self) -> Option<Place> {
        for n in (1..=LONGEST_MATCH.min(self.said.len())).rev() {
            let said = &self.said[self.said.len() - n..];
            let ends = |text: &[u32]| -> Vec<usize> {
                let windows = text.windows(n).enumerate();
                let found = windows.filter(|(_, window)| *window == said);
                // With nothing behind it there is nothing to expect.
                let ends = found.map(|(at, _)| at + n);
                ends.filter(|&end| end < text.len()).collect()
            };
            let of_last = ends(&self.last);
            let nearest = of_last.iter().find(|&&end| end > self.parted);
            if let Some(&end) = nearest.or(of_last.last()) {
                return Some(Place::Last(end));
            }
            // One token alone says too little among so many.
            if n > 1
                && let Some(&end) = ends(&self.prompt).last()
            {
                return Some(Place::Prompt(end));
            }
        }
        None
    }
}

impl Pace {
    fn fade(&mut self) {
        for time in self.launches.values_mut() {
            time.0 = time.0.map(|time| time * FADES);
        }
    }

    /// What a launch of so many rows takes, s: as measured, or at least as long as the next shorter one
    /// that was.
    fn of(&self, rows: usize, single: f64) -> f64 {
        let shorter = self.launches.range(..=rows).next_back();
        shorter.and_then(|(_, time)| time.0).unwrap_or(single)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: [Launch; 1] = [Launch { rows: 8, tokens: 8 }];

    /// One that has heard an answer.
    fn after(mut drafter: Drafter, said: &[u32]) -> Drafter {
        drafter.begin([90, 91, 92, 93].into_iter());
        said.iter().for_each(|&token| drafter.note(token));
        drafter.end();
        drafter.begin([90, 91, 92, 93].into_iter());
        drafter
    }

    fn draft(drafter: &Drafter) -> Vec<u32> {
        drafter.draft(&EIGHT, 100).to_vec()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_last_answer_is_expected_again_and_found_again_where_it_parted() {
        let mut drafter = after(Drafter::eager(), &[1, 2, 3, 4, 5, 6]);
        assert_eq!(draft(&drafter), [1, 2, 3, 4, 5, 6]);
        drafter.note(1);
        assert_eq!(draft(&drafter), [2, 3, 4, 5, 6]);
        // Another word in place of 2: nothing is expected until it comes back to what is known.
        drafter.note(7);
        assert!(draft(&drafter).is_empty());
        drafter.note(3);
        assert_eq!(draft(&drafter), [4, 5, 6]);
        for token in [4, 5, 6] {
            drafter.note(token);
        }
        assert!(draft(&drafter).is_empty(), "the end has no more");
    }

    #[test]
    fn of_two_places_the_one_that_fits_better_is_taken_then_the_nearer() {
        let mut drafter = after(Drafter::eager(), &[1, 2, 8, 3, 2, 9, 2, 5]);
        drafter.note(3);
        drafter.note(2);
        assert_eq!(draft(&drafter), [9, 2, 5], "3 2 stands there once");
        let mut drafter = after(Drafter::eager(), &[1, 2, 8, 3, 2, 9, 4]);
        drafter.note(1);
        drafter.note(2);
        drafter.note(7);
        drafter.note(2);
        assert_eq!(draft(&drafter), [9, 4], "behind where they parted");
    }

    #[test]
    fn what_stands_in_the_prompt_may_be_said_again() {
        let mut drafter = after(Drafter::eager(), &[1]);
        drafter.note(5);
        drafter.note(91);
        assert!(draft(&drafter).is_empty(), "one token says too little");
        drafter.note(92);
        assert_eq!(draft(&drafter), [93]);
    }

    #[test]
    fn no_more_is_drafted_than_a_launch_and_the_answer_take() {
        let drafter = after(Drafter::eager(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(drafter.draft(&EIGHT, 100).len(), 7);
        assert_eq!(drafter.draft(&EIGHT, 3).len(), 3);
        assert_eq!(drafter.draft(&[], 3).len(), 0);
    }

    #[test]
    fn a_draft_is_used_when_it_is_expected_to_save_time() {
        let launches = [Launch::of(2), Launch::of(8)];
        let mut drafter = after(Drafter::default(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(
            drafter.draft(&launches, 100).len(),
            0,
            "nothing is measured"
        );
        drafter.took_single(ms(10));
        drafter.took_single(ms(10));
        assert_eq!(drafter.draft(&launches, 100).len(), 7, "tried");
        drafter.took(&launches, 8, ms(200));
        assert_eq!(drafter.draft(&launches, 100).len(), 1, "tried as well");
        drafter.took(&launches, 2, ms(30));
        assert_eq!(drafter.draft(&launches, 100).len(), 0, "neither pays");
        drafter.took(&launches, 8, ms(0));
        drafter.hits = Average(Some(1.0));
        for _ in 0..30 {
            drafter.took(&launches, 8, ms(40));
        }
        assert_eq!(
            drafter.draft(&launches, 100).len(),
            7,
            "8 tokens for the time of 4"
        );
        drafter.hits = Average(Some(0.1));
        assert_eq!(
            drafter.draft(&launches, 100).len(),
            0,
            "they are wrong too often"
        );
    }

    #[test]
    fn what_did_not_pay_is_tried_again_some_day() {
        let mut drafter = after(Drafter::default(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        drafter.took_single(ms(10));
        drafter.took_single(ms(10));
        drafter.took(&EIGHT, 8, ms(100));
        let again = (0..1000).find(|_| {
            drafter.begin([].into_iter());
            !drafter.draft(&EIGHT, 100).is_empty()
        });
        assert!(again.is_some_and(|n| n > 20), "{again:?}");
    }

    #[test]
    fn it_is_known_how_often_drafts_are_right_also_while_none_is_used() {
        let mut drafter = after(Drafter::default(), &[1, 2, 3, 4]);
        for token in [1, 2, 3, 4] {
            drafter.note(token);
        }
        assert_eq!(drafter.hits.0, Some(1.0));
        let mut drafter = after(drafter, &[1, 2, 3, 4]);
        drafter.note(9);
        assert!(drafter.hits.0 < Some(1.0));
    }
}
