// SPDX-License-Identifier: MPL-2.0

//! Three backends that fail in every order and in every way, by a clock of its own: captions come all
//! the same, each window's once, and the best that works answers in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Act, Patience, Seen, Succession};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The clock's step, and how often backends are looked at.
const TICK: Duration = ms(50);
const LOOK: Duration = ms(100);
/// From window to window; they do not overlap.
const WINDOW: Duration = ms(1000);
/// After so long one that does not answer has failed.
const TIMEOUT: Duration = ms(3000);
/// How long things take.
const READYING: Duration = ms(400);
const ANSWER: Duration = ms(200);
const SLOW_ANSWER: Duration = ms(2500);
const REFUSAL: Duration = ms(50);
/// Before it is made ready again.
const PAUSE: Duration = ms(2000);
/// One that has nothing to do is looked at this often.
const CHECK: Duration = ms(5000);

/// What a backend does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Works,
    /// Refuses at once.
    IsDead,
    /// Never answers.
    Hangs,
    /// Answers late.
    IsSlow,
}

const FAULTS: [Does; 3] = [Does::IsDead, Does::Hangs, Does::IsSlow];

/// What an engine is at.
#[derive(Debug, Clone, Copy)]
enum At {
    /// It is being made ready since then.
    Readying(Instant),
    /// It is not, until it is tried again.
    Pausing(Instant),
    /// It has had nothing to do since then.
    Idle(Instant),
    /// It is looked whether it is still there, since then.
    Check(Instant),
    /// A window since then.
    Turn(Instant, u64),
}

/// An engine.
#[derive(Debug)]
struct Engine {
    at: At,
    seen: Seen,
    /// The window that waits.
    queued: Option<u64>,
}

/// What is done with windows.
struct Element {
    succession: Succession,
    does: [Does; 3],
    engines: [Option<Engine>; 3],
    /// The one that gets the windows.
    current: usize,
    /// Those before it that have windows to answer yet: it begins once they are done.
    before: Vec<usize>,
    pending: Option<(usize, bool)>,
    has_arrived: bool,
    /// Windows so far, and when the one that is being filled began.
    n_windows: u64,
    filling_since: Instant,
    answered: BTreeSet<u64>,
    last_caption: Instant,
    /// How long there was no caption.
    longest_gap: Duration,
    n_changes: usize,
}

impl Engine {
    fn new(now: Instant) -> Self {
        Self {
            at: At::Readying(now),
            seen: Seen::default(),
            queued: None,
        }
    }

    /// Goes on; a window that was answered.
    fn go_on(
        &mut self,
        does: Does,
        (is_current, is_first): (bool, bool),
        now: Instant,
    ) -> Option<u64> {
        let usually = match self.at {
            At::Readying(_) => READYING,
            _ => ANSWER,
        };
        let (takes, works) = match does {
            Does::Works => (usually, true),
            Does::IsSlow => (SLOW_ANSWER, true),
            Does::IsDead => (REFUSAL, false),
            Does::Hangs => (TIMEOUT, false),
        };
        let standing = &mut self.seen.standing;
        match self.at {
            At::Readying(since) if now - since >= takes => {
                standing.is_ready = works;
                standing.failure = (!works).then(|| "cannot be reached".into());
                self.at = match works {
                    true => At::Idle(now),
                    false => At::Pausing(now),
                };
            }
            At::Pausing(since) if now - since >= PAUSE => self.at = At::Readying(now),
            At::Check(since) if now - since >= takes => {
                self.seen.longest_turn = Duration::ZERO;
                self.at = At::Idle(now);
                if !works {
                    standing.is_ready = false;
                    standing.failure = Some("is gone".into());
                    self.at = At::Pausing(now);
                }
            }
            At::Turn(since, window) if now - since >= takes => {
                self.at = At::Idle(now);
                self.seen.longest_turn = Duration::ZERO;
                match works {
                    true => standing.n_answered += 1,
                    false => {
                        standing.n_failed += 1;
                        standing.last_failure = "no answer".into();
                    }
                }
                return works.then_some(window);
            }
            At::Turn(since, _) | At::Check(since) => self.seen.longest_turn = now - since,
            At::Idle(since) => {
                if let Some(window) = self.queued.take_if(|_| is_first) {
                    self.at = At::Turn(now, window);
                } else if !is_current && now - since >= CHECK {
                    self.at = At::Check(now);
                }
            }
            At::Readying(_) | At::Pausing(_) => {}
        }
        None
    }

    fn is_idle(&self) -> bool {
        self.queued.is_none() && !matches!(self.at, At::Turn(..))
    }

    /// What it was given is given up.
    fn give_up(&mut self, now: Instant) {
        self.queued = None;
        if let At::Turn(..) = self.at {
            self.at = At::Idle(now);
            self.seen.longest_turn = Duration::ZERO;
        }
    }
}

impl Element {
    fn new(now: Instant) -> Self {
        Self {
            succession: Succession::new(&[true; 3], 0, now),
            does: [Does::Works; 3],
            engines: std::array::from_fn(|_| Some(Engine::new(now))),
            current: 0,
            before: Vec::new(),
            pending: None,
            has_arrived: false,
            n_windows: 0,
            filling_since: now,
            answered: BTreeSet::new(),
            last_caption: now,
            longest_gap: Duration::ZERO,
            n_changes: 0,
        }
    }

    /// Plays for a while.
    fn play(&mut self, now: &mut Instant, time: Duration, budget: Duration) {
        let end = *now + time;
        let mut looked = *now;
        while *now < end {
            *now += TICK;
            self.tick(*now);
            if *now - looked >= LOOK {
                looked = *now;
                self.look(*now, budget);
            }
            self.longest_gap = self.longest_gap.max(*now - self.last_caption);
        }
    }

    /// Engines and frames go on.
    fn tick(&mut self, now: Instant) {
        for which in 0..self.engines.len() {
            let (does, is_current) = (self.does[which], which == self.current);
            let engine = self.engines[which].as_mut();
            let is_first = self.before.first().unwrap_or(&self.current) == &which;
            let said = engine.and_then(|engine| engine.go_on(does, (is_current, is_first), now));
            if let Some(window) = said {
                self.say(window, now);
            }
        }
        let engines = &self.engines;
        let is_busy = |which: &usize| engines[*which].as_ref().is_some_and(|e| !e.is_idle());
        self.before.retain(is_busy);
        // A frame comes; with one there may be a window.
        let is_between = now - self.filling_since >= WINDOW;
        if is_between {
            self.filling_since = now;
            self.n_windows += 1;
            if let Some(engine) = &mut self.engines[self.current] {
                engine.queued = Some(self.n_windows);
            }
        }
        match self.pending {
            Some((to, at_once)) if at_once || is_between => self.change_over(to, at_once, now),
            _ => {}
        }
    }

    fn change_over(&mut self, to: usize, at_once: bool, now: Instant) {
        let is_ready = |engine: &Engine| engine.seen.standing.is_ready;
        if !self.engines[to].as_ref().is_some_and(is_ready) {
            return;
        }
        self.pending = None;
        self.has_arrived = true;
        self.n_changes += 1;
        match at_once {
            true => {
                for which in self.before.drain(..).chain([self.current]) {
                    if let Some(engine) = &mut self.engines[which] {
                        engine.give_up(now);
                    }
                }
                self.filling_since = now;
            }
            false => self.before.push(self.current),
        }
        self.before.retain(|which| *which != to);
        self.current = to;
    }

    fn say(&mut self, window: u64, now: Instant) {
        assert!(self.answered.insert(window), "window {window} again");
        assert_eq!(self.answered.last(), Some(&window), "the order");
        self.last_caption = now;
    }

    fn look(&mut self, now: Instant, budget: Duration) {
        let engines = self.engines.iter();
        let all: Vec<Option<Seen>> = engines
            .map(|engine| engine.as_ref().map(|engine| engine.seen.clone()))
            .collect();
        let has_arrived = std::mem::take(&mut self.has_arrived);
        let patience = Patience {
            budget,
            silence: Duration::ZERO,
        };
        for act in self.succession.look(now, patience, has_arrived, &all) {
            match act {
                Act::GoOver { to, at_once, .. } => self.pending = Some((to, at_once)),
                Act::Stay => self.pending = None,
                Act::Open(which) => {
                    assert_ne!(which, self.current);
                    self.engines[which] = Some(Engine::new(now));
                    self.succession.opened(which, true, now);
                }
                Act::Drop(which) => {
                    assert_ne!(which, self.current);
                    self.engines[which] = None;
                }
                Act::Tell(..) => {}
            }
        }
    }

    /// The longest gap since this was asked last.
    fn take_gap(&mut self) -> Duration {
        std::mem::take(&mut self.longest_gap)
    }
}

/// Whatever becomes of some of them before they were ever ready.
#[test]
fn captions_begin_whichever_backends_are_there_at_the_start() {
    const ALL: [Does; 3] = [Does::Works, Does::IsDead, Does::Hangs];
    for does in (0..26).map(|n| [ALL[n % 3], ALL[n / 3 % 3], ALL[n / 9]]) {
        let Some(best) = does.iter().position(|does| *does == Does::Works) else {
            continue;
        };
        let mut now = Instant::now();
        let mut element = Element::new(now);
        element.does = does;
        // None but the first is waited for, and that not for long.
        let waits = if best == 0 { Duration::ZERO } else { TIMEOUT };
        element.play(
            &mut now,
            waits + READYING + WINDOW * 2 + ANSWER + LOOK,
            Duration::ZERO,
        );
        assert!(!element.answered.is_empty(), "{does:?}");
        assert_eq!(element.current, best, "{does:?}");
        element.does = [Does::Works; 3];
        element.play(&mut now, ms(45_000), Duration::ZERO);
        assert_eq!(element.current, 0, "{does:?}");
    }
}

const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

/// Every way in which three backends may fail, one of [`FAULTS`] each.
fn faults() -> impl Iterator<Item = [Does; 3]> {
    (0..FAULTS.len().pow(3)).map(|n| [FAULTS[n % 3], FAULTS[n / 3 % 3], FAULTS[n / 9]])
}

/// How long there may be no caption while one backend works: what is asked of the one that fails and
/// does not come, the window that is filled anew, and its answer. That one is slow is not seen before it
/// is asked about a window: each of them costs a window more where a budget says what is late.
fn longest(does: [Does; 3], budget: Duration) -> Duration {
    let noticed = does.map(|does| match does {
        Does::Works => Duration::ZERO,
        Does::IsDead => REFUSAL,
        _ if !budget.is_zero() => budget + LOOK,
        Does::Hangs => TIMEOUT,
        Does::IsSlow => SLOW_ANSWER,
    });
    let n_slow = does.iter().filter(|does| **does == Does::IsSlow).count() as u32;
    let slow = match budget.is_zero() {
        true => SLOW_ANSWER * n_slow.min(1),
        false => (WINDOW + budget + LOOK + TICK) * n_slow,
    };
    let noticed = noticed.into_iter().max().unwrap_or_default();
    WINDOW + noticed + LOOK + TICK + WINDOW + slow + ANSWER + 2 * TICK
}

#[test]
fn captions_come_whichever_backends_fail_in_whichever_order_and_way() {
    let (mut n_played, mut worst) = (0, Duration::ZERO);
    for budget in [Duration::ZERO, ms(1000)] {
        for (order, kinds) in ORDERS.iter().flat_map(|o| faults().map(move |f| (o, f))) {
            for back in [*order, [order[2], order[1], order[0]]] {
                let case = format!("{kinds:?} in {order:?}, back in {back:?}, {budget:?}");
                let (element, gap) = played(order, kinds, &back, budget, &case);
                worst = worst.max(gap);
                assert!(element.n_changes <= 24, "{case}: {}", element.n_changes);
                n_played += 1;
            }
        }
    }
    assert_eq!(n_played, 2 * 6 * 27 * 2);
    assert!(worst > WINDOW + TIMEOUT, "{worst:?}: nothing has failed");
}

/// Plays one case; the longest gap while at least one backend worked.
fn played(
    order: &[usize; 3],
    kinds: [Does; 3],
    back: &[usize; 3],
    budget: Duration,
    case: &str,
) -> (Element, Duration) {
    let mut now = Instant::now();
    let mut element = Element::new(now);
    element.play(&mut now, ms(10_000), budget);
    assert_eq!(element.current, 0, "{case}");
    let mut worst = Duration::ZERO;
    element.take_gap();
    for which in order {
        element.does[*which] = kinds[*which];
        element.play(&mut now, ms(30_000), budget);
        let gap = element.take_gap();
        if element.does.contains(&Does::Works) {
            worst = worst.max(gap);
            let most = longest(element.does, budget);
            assert!(gap <= most, "{case}: {which} cost {gap:?} of {most:?}");
        }
    }
    for (n, which) in back.iter().enumerate() {
        let most = longest(element.does, budget);
        element.does[*which] = Does::Works;
        element.play(&mut now, ms(45_000), budget);
        let gap = element.take_gap();
        // The first to come back may be left alone for a while yet.
        if n > 0 {
            assert!(
                gap <= most,
                "{case}: {which} came back, {gap:?} of {most:?}"
            );
            worst = worst.max(gap);
        }
        let since = now - element.last_caption;
        assert!(since <= most, "{case}: {since:?} of {most:?}");
    }
    element.play(&mut now, ms(120_000), budget);
    assert_eq!(element.current, 0, "{case}: the best answers again");
    (element, worst)
}
