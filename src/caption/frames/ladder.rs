// SPDX-License-Identifier: MPL-2.0

//! What gives way when captions come later than the user accepts: a ladder from all that was asked
//! for down to one window in many.
//!
//! A state machine on latencies, without a clock. It goes down a rung after two late captions (or
//! one that is twice too late), and up again after a run of captions well within the budget. A rung
//! that turns out too high makes the next try wait twice as long: at a constant load it settles.

use std::time::Duration;

use crate::vlm::PixelBudget;

/// Late captions after which a rung is not enough.
const LATE: u32 = 2;
/// Part of the budget below which a caption is early enough to try for more.
const EARLY: f64 = 0.7;
/// Early captions in a row before more is tried, at first and at most.
const PATIENCE: u32 = 8;
const MAX_PATIENCE: u32 = 512;
/// Captions in time after which a rung that was tried is known to hold.
const PROBATION: u32 = 64;
/// A caption is never cut below this, unless fewer tokens were asked for.
const MIN_TOKENS: usize = 8;

/// What gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Step {
    /// Nothing.
    #[default]
    None,
    /// The length of captions.
    Tokens,
    /// Frames of a window, too.
    Frames,
    /// Pixels of a frame, too.
    Pixels,
    /// Windows, too.
    Skip,
}

impl Step {
    /// Its name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::None => "none",
            Step::Tokens => "tokens",
            Step::Frames => "frames",
            Step::Pixels => "pixels",
            Step::Skip => "skip",
        }
    }
}

/// How much of what was asked for the model gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// What gave way last.
    pub step: Step,
    /// Captions get this part of their tokens: one in so many.
    pub tokens: usize,
    /// Every n-th frame is shown.
    pub frames: usize,
    /// Frames get this part of their pixels: one in so many.
    pub pixels: usize,
    /// Every n-th window is shown.
    pub windows: u64,
}

impl Default for Rung {
    fn default() -> Self {
        Self {
            step: Step::None,
            tokens: 1,
            frames: 1,
            pixels: 1,
            windows: 1,
        }
    }
}

impl Rung {
    /// Tokens of a caption that was to have `asked` at most.
    pub fn max_tokens(&self, asked: usize) -> usize {
        (asked / self.tokens).max(MIN_TOKENS.min(asked))
    }

    /// Whether the window with this number is shown.
    pub fn shows(&self, sequence: u64) -> bool {
        sequence.is_multiple_of(self.windows)
    }

    /// The budget that gives a frame no more than this rung's part of its pixels, as far as the
    /// family can show less: `area` is how many it gives a frame of `native` pixels within a budget.
    ///
    /// # Errors
    /// Those of `area`.
    pub(crate) fn lowered<E>(
        &self,
        budget: PixelBudget,
        native: usize,
        area: impl Fn(PixelBudget) -> Result<usize, E>,
    ) -> Result<PixelBudget, E> {
        if self.pixels <= 1 {
            return Ok(budget);
        }
        let whole = area(budget)?;
        let (mut least, mut lowered) = (whole, budget);
        let mut most = budget.max_pixels.unwrap_or(native);
        // What a budget comes to is the family's business (ratios, sides that are multiples), so
        // it is tried: 48 times 7/8 is less than a five-hundredth.
        for _ in 0..48 {
            if least <= whole / self.pixels {
                break;
            }
            most = most / 8 * 7;
            let budget = PixelBudget {
                max_pixels: Some(most),
                ..budget
            };
            let area = area(budget)?;
            if area < least {
                (least, lowered) = (area, budget);
            }
        }
        Ok(lowered)
    }
}

/// The rungs and where on them it stands.
#[derive(Debug)]
pub struct Ladder {
    rungs: Vec<Rung>,
    at: usize,
    late: u32,
    early: u32,
    /// Early captions in a row that are asked for before the next try.
    patience: u32,
    /// Captions in time until the rung that is being tried is known to hold.
    probation: u32,
}

impl Ladder {
    /// The ladder for windows of `window` frames, `temporal_patch_size` of which are one picture to
    /// the model: only rungs that save something.
    pub fn new(window: usize, temporal_patch_size: usize) -> Self {
        let mut rung = Rung::default();
        let mut rungs = vec![rung];
        let mut add = |rung: Rung| rungs.push(rung);
        rung.step = Step::Tokens;
        for tokens in [2, 4] {
            rung.tokens = tokens;
            add(rung);
        }
        rung.step = Step::Frames;
        let patches = |frames: usize| (window / frames).div_ceil(temporal_patch_size.max(1));
        for frames in [2, 4] {
            if frames <= window && patches(frames) < patches(rung.frames) {
                rung.frames = frames;
                add(rung);
            }
        }
        rung.step = Step::Pixels;
        for pixels in [2, 4] {
            rung.pixels = pixels;
            add(rung);
        }
        rung.step = Step::Skip;
        for windows in [2, 4, 8, 16] {
            rung.windows = windows;
            add(rung);
        }
        Self {
            rungs,
            at: 0,
            late: 0,
            early: 0,
            patience: PATIENCE,
            probation: 0,
        }
    }

    /// Number of the rung it stands on, 0 being all that was asked for.
    pub fn level(&self) -> usize {
        self.at
    }

    /// What the next windows get.
    pub fn rung(&self) -> Rung {
        // `at` stays within the rungs: they are moved by one, and not past the ends.
        self.rungs[self.at]
    }

    /// Takes note of how late a caption was that got what the rung `level` gives; captions of other
    /// rungs say nothing about this one. Without a budget (zero) nothing gives way. Whether it
    /// moved.
    pub fn observe(&mut self, level: usize, latency: Duration, budget: Duration) -> bool {
        if budget.is_zero() {
            let moved = self.at > 0;
            let rungs = std::mem::take(&mut self.rungs);
            *self = Self {
                rungs,
                at: 0,
                late: 0,
                early: 0,
                patience: PATIENCE,
                probation: 0,
            };
            return moved;
        }
        if level != self.at {
            return false;
        }
        if latency > budget {
            self.early = 0;
            self.late += if latency > budget * 2 { LATE } else { 1 };
            return self.late >= LATE && self.give_way();
        }
        self.late = 0;
        if self.probation > 0 {
            self.probation -= 1;
            if self.probation == 0 {
                self.patience = PATIENCE;
            }
        }
        let early = latency.as_secs_f64() <= budget.as_secs_f64() * EARLY;
        self.early = if early { self.early + 1 } else { 0 };
        if self.early < self.patience || self.at == 0 {
            return false;
        }
        self.at -= 1;
        self.early = 0;
        self.probation = PROBATION;
        true
    }

    fn give_way(&mut self) -> bool {
        self.late = 0;
        let failed_try = std::mem::take(&mut self.probation) > 0;
        self.patience = match failed_try {
            true => (self.patience * 2).min(MAX_PATIENCE),
            false => PATIENCE,
        };
        let moved = self.at + 1 < self.rungs.len();
        self.at += usize::from(moved);
        moved
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Duration = Duration::from_secs(4);

    /// A device that takes a while for each pixel and token, and windows that wait for it.
    #[derive(Debug, Clone, Copy)]
    struct Device {
        fixed: f64,
        pixels: f64,
        tokens: f64,
        /// Every n-th caption takes a tenth longer.
        jitter: u32,
    }

    impl Device {
        fn latency(&self, rung: &Rung, n: u32) -> Duration {
            let share = |part: usize| 1.0 / part as f64;
            let pixels = self.pixels * share(rung.frames) * share(rung.pixels);
            let mut work = self.fixed + pixels + self.tokens * share(rung.tokens);
            if n.is_multiple_of(self.jitter) {
                work *= 1.1;
            }
            // A window every four seconds; one may wait while another is worked on.
            let stride = 4.0 * rung.windows as f64;
            let wait = if work > stride {
                work - stride / 2.0
            } else {
                0.0
            };
            Duration::from_secs_f64(work + wait)
        }
    }

    fn devices() -> impl Strategy<Value = Device> {
        let seconds = || (-3.0..2.5f64).prop_map(|power| 10f64.powf(power));
        (seconds(), seconds(), seconds(), 2u32..9).prop_map(|(fixed, pixels, tokens, jitter)| {
            Device {
                fixed: fixed / 4.0,
                pixels,
                tokens,
                jitter,
            }
        })
    }

    /// Levels after each of `n` captions.
    fn levels(device: &Device, ladder: &mut Ladder, n: u32) -> Vec<usize> {
        (0..n)
            .map(|i| {
                let latency = device.latency(&ladder.rung(), i);
                ladder.observe(ladder.level(), latency, BUDGET);
                ladder.level()
            })
            .collect()
    }

    /// Where it mostly stands.
    fn settled(levels: &[usize]) -> usize {
        let count = |level: usize| levels.iter().filter(|l| **l == level).count();
        let top = levels.iter().max().copied().unwrap_or(0);
        (0..=top).max_by_key(|level| count(*level)).unwrap_or(0)
    }

    fn n_moves(levels: &[usize]) -> usize {
        levels.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    proptest! {
        #[test]
        fn rungs_never_give_more_than_the_one_above(window in 1usize..32, patch in 1usize..3) {
            let ladder = Ladder::new(window, patch);
            prop_assert_eq!(ladder.rungs[0], Rung::default());
            for pair in ladder.rungs.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                prop_assert!(a.step <= b.step && a != b);
                prop_assert!(a.tokens <= b.tokens && a.frames <= b.frames);
                prop_assert!(a.pixels <= b.pixels && a.windows <= b.windows);
                prop_assert!(b.frames <= window && b.max_tokens(64) >= MIN_TOKENS);
                prop_assert!(b.max_tokens(3) == 3);
            }
        }

        #[test]
        fn it_settles_where_captions_are_in_time_or_at_the_bottom(device in devices()) {
            let mut ladder = Ladder::new(8, 2);
            let level = settled(&levels(&device, &mut ladder, 2000)[1000..]);
            let bottom = ladder.rungs.len() - 1;
            let late = |level: usize| {
                (0..8).filter(|n| device.latency(&ladder.rungs[level], *n) > BUDGET).count()
            };
            prop_assert!(late(level) < 8 || level == bottom, "{level} is late");
            // It gives no more way than it must: one rung higher captions are not early.
            let early = |level: usize| {
                (1..9).all(|n| device.latency(&ladder.rungs[level], n) <= BUDGET.mul_f64(EARLY))
            };
            prop_assert!(level == 0 || !early(level - 1), "{} would do", level - 1);
        }

        #[test]
        fn at_a_constant_load_it_does_not_flap(device in devices()) {
            let mut ladder = Ladder::new(8, 2);
            let bottom = ladder.rungs.len() - 1;
            let levels = levels(&device, &mut ladder, 6000);
            // Down once; then tries at 8, 16, … 512 captions, and every 512 from there on.
            prop_assert!(n_moves(&levels) <= bottom + 2 * 7 + 2 * (6000 / 512 + 1));
            prop_assert!(n_moves(&levels[4000..]) <= 2 * (2000 / 512 + 1));
        }

        #[test]
        fn a_slower_device_never_gets_more(device in devices(), factor in 1.0..8.0f64) {
            let slower = Device {
                fixed: device.fixed * factor,
                pixels: device.pixels * factor,
                tokens: device.tokens * factor,
                ..device
            };
            let level = |device: &Device| {
                settled(&levels(device, &mut Ladder::new(8, 2), 2000)[1000..])
            };
            prop_assert!(level(&device) <= level(&slower));
        }

        #[test]
        fn it_stays_on_its_rungs_whatever_it_hears(
            heard in prop::collection::vec((0usize..14, 0u64..20_000, 0u64..3), 0..300),
        ) {
            let mut ladder = Ladder::new(4, 2);
            for (level, ms, budget) in heard {
                let before = ladder.level();
                let budget = Duration::from_secs(2 * budget);
                let moved = ladder.observe(level, Duration::from_millis(ms), budget);
                prop_assert!(ladder.level() < ladder.rungs.len());
                prop_assert_eq!(moved, ladder.level() != before);
                prop_assert!(ladder.level().abs_diff(before) <= 1 || budget.is_zero());
            }
        }
    }

    #[test]
    fn it_goes_down_in_the_order_that_is_documented() {
        let mut ladder = Ladder::new(8, 2);
        let mut steps = vec![ladder.rung().step];
        while ladder.observe(ladder.level(), BUDGET * 3, BUDGET) {
            steps.push(ladder.rung().step);
        }
        use Step::*;
        assert_eq!(
            steps,
            [
                None, Tokens, Tokens, Frames, Frames, Pixels, Pixels, Skip, Skip, Skip, Skip
            ]
        );
        // One pair less one frame is the same work for a model that sees pairs.
        let has_frames = |window, patch| {
            let ladder = Ladder::new(window, patch);
            ladder.rungs.iter().any(|rung| rung.step == Frames)
        };
        assert!(!has_frames(2, 2) && !has_frames(1, 1) && has_frames(2, 1) && has_frames(4, 2));
    }

    #[test]
    fn one_late_caption_is_none() {
        let mut ladder = Ladder::new(4, 2);
        let (late, good) = (BUDGET.mul_f64(1.2), BUDGET.mul_f64(0.9));
        for _ in 0..50 {
            assert!(!ladder.observe(0, late, BUDGET));
            assert!(!ladder.observe(0, good, BUDGET));
        }
        ladder.observe(0, late, BUDGET);
        assert!(ladder.observe(0, late, BUDGET));
        // Captions that were made before it moved say nothing.
        assert!(!ladder.observe(0, BUDGET * 9, BUDGET));
    }

    #[test]
    fn when_the_load_is_gone_all_is_given_again() {
        let mut ladder = Ladder::new(8, 2);
        while ladder.observe(ladder.level(), BUDGET * 3, BUDGET) {}
        let bottom = ladder.level();
        let early = BUDGET.mul_f64(0.1);
        let n = (0..).take_while(|_| {
            ladder.observe(ladder.level(), early, BUDGET);
            ladder.level() > 0
        });
        assert!(n.count() <= bottom * PATIENCE as usize);
        while ladder.observe(ladder.level(), BUDGET * 3, BUDGET) {}
        assert!(
            ladder.observe(0, BUDGET, Duration::ZERO),
            "without a budget"
        );
        assert_eq!(ladder.rung(), Rung::default());
    }
}
