// SPDX-License-Identifier: MPL-2.0

//! Which windows the model need not see: those in which nothing moved, and those in which a
//! detector upstream found nothing.

use std::collections::VecDeque;
use std::time::Duration;

use super::motion::Cells;
use super::window::FrameTime;

/// When windows are kept from the model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GateRules {
    /// Share of the picture that must change for a window to be shown, 0..=1; 0 shows them all.
    pub motion_threshold: f64,
    /// The longest time from the end of one shown window to that of the next; zero is no limit.
    pub heartbeat: Duration,
    /// Only windows with a detection are shown.
    pub by_detection: bool,
    /// How long after a detection windows are still shown.
    pub linger: Duration,
}

/// Why a window is kept from the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gated {
    /// Nothing moved since the window with this number, nor in it: what was said of it holds.
    Still(u64),
    /// Nothing was detected.
    Undetected,
}

/// Remembers what was shown last, and what the frames since then look like.
#[derive(Debug, Default)]
pub struct Gate {
    /// The prepared frames, newest last; those of the windows being filled and a few more.
    frames: VecDeque<PastFrame>,
    shown: Option<Shown>,
    /// Running time of the last detection, at the last sample and at the one before.
    detection: Option<Duration>,
    detected: bool,
}

#[derive(Debug)]
struct PastFrame {
    pts: Duration,
    cells: Cells,
    /// Something was detected between the frame before and this one.
    detected: bool,
    /// Running time of the last detection up to this frame.
    detection: Option<Duration>,
}

/// The window that the model saw last.
#[derive(Debug)]
struct Shown {
    sequence: u64,
    /// Running time of its last frame.
    end: Duration,
    cells: Cells,
    /// Largest share by which its other frames differ from the last: somebody who walked through
    /// was there although the last frame shows nobody, and what was said of them does not hold for
    /// the stillness after.
    moved: f64,
}

impl Gate {
    /// Takes note of a sample, whether or not it is prepared; `detection` is the running time of
    /// the last detection up to it.
    pub fn sample(&mut self, detection: Option<Duration>) {
        self.detected = detection.is_some() && detection != self.detection;
        self.detection = detection;
    }

    /// Takes note of a prepared frame of the last sample; `keep` frames make a window.
    pub fn see(&mut self, pts: Duration, cells: Cells, keep: usize) {
        self.frames.push_back(PastFrame {
            pts,
            cells,
            detected: self.detected,
            detection: self.detection,
        });
        while self.frames.len() > keep.saturating_add(1) {
            self.frames.pop_front();
        }
    }

    /// Whether a window, or what there is of it, is kept from the model; `stride` is the time to
    /// the end of the next.
    pub fn check(
        &self,
        rules: &GateRules,
        frames: &[FrameTime],
        stride: Duration,
    ) -> Option<Gated> {
        if rules.motion_threshold <= 0.0 && !rules.by_detection {
            return None;
        }
        let (first, last) = (frames.first()?, frames.last()?);
        if rules.heartbeat > Duration::ZERO && self.overdue(last, rules.heartbeat, stride) {
            return None;
        }
        if let Some(sequence) = self.still_since(rules, frames) {
            return Some(Gated::Still(sequence));
        }
        let missed = rules.by_detection && !self.is_detected(rules, first, frames);
        missed.then_some(Gated::Undetected)
    }

    /// The model is to see this window.
    pub fn shown(&mut self, sequence: u64, frames: &[FrameTime]) {
        self.shown = None;
        let (Some(last), Some(newest)) = (frames.last(), self.past(frames).last()) else {
            return;
        };
        let cells = newest.cells.clone();
        let moved = self
            .past(frames)
            .map(|past| past.cells.changed(&cells))
            .fold(0.0, f64::max);
        self.shown = Some(Shown {
            sequence,
            end: last.running_time,
            cells,
            moved,
        });
    }

    /// The window that was shown last came to nothing, or another question is asked now: the next
    /// one is shown.
    pub fn forget_shown(&mut self) {
        self.shown = None;
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether the window after this one would end too late.
    fn overdue(&self, last: &FrameTime, heartbeat: Duration, stride: Duration) -> bool {
        let next = last.running_time.saturating_add(stride);
        self.shown
            .as_ref()
            .is_none_or(|shown| next > shown.end.saturating_add(heartbeat))
    }

    fn still_since(&self, rules: &GateRules, frames: &[FrameTime]) -> Option<u64> {
        let shown = self.shown.as_ref()?;
        let threshold = rules.motion_threshold;
        let moves = |share: f64| share >= threshold;
        if threshold <= 0.0 || moves(shown.moved) {
            return None;
        }
        // A frame that is not known any more is not known to be still.
        let known = self.past(frames).count() >= frames.len();
        let moved = || {
            self.past(frames)
                .any(|past| moves(past.cells.changed(&shown.cells)))
        };
        (known && !moved()).then_some(shown.sequence)
    }

    fn is_detected(&self, rules: &GateRules, first: &FrameTime, frames: &[FrameTime]) -> bool {
        let detection = self.past(frames).last().and_then(|past| past.detection);
        let lingers = |at: Duration| at.saturating_add(rules.linger) >= first.running_time;
        self.past(frames).any(|past| past.detected) || detection.is_some_and(lingers)
    }

    fn past(&self, frames: &[FrameTime]) -> impl Iterator<Item = &PastFrame> {
        let span = frames
            .first()
            .zip(frames.last())
            .map(|(first, last)| first.pts..=last.pts);
        self.frames
            .iter()
            .filter(move |past| span.as_ref().is_some_and(|span| span.contains(&past.pts)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::motion::tests::yard;
    use super::*;
    use crate::caption::frames::window::WallClock;
    use crate::vlm::image::RgbImage;

    const STRIDE: Duration = Duration::from_secs(2);

    /// Frames a second apart, two a window.
    struct Camera {
        gate: Gate,
        rules: GateRules,
        second: u64,
        windows: u64,
    }

    impl Camera {
        fn new(rules: GateRules) -> Self {
            let gate = Gate::default();
            Self {
                gate,
                rules,
                second: 0,
                windows: 0,
            }
        }

        fn moving(motion_threshold: f64) -> Self {
            Self::new(GateRules {
                motion_threshold,
                ..GateRules::default()
            })
        }

        /// Whether the window of these two pictures is shown, as it would be in a stream.
        fn window(&mut self, pictures: [&RgbImage; 2], detection: Option<u64>) -> bool {
            let times = pictures.map(|picture| {
                let at = Duration::from_secs(self.second);
                self.second += 1;
                self.gate.sample(detection.map(Duration::from_secs));
                self.gate.see(at, Cells::of(picture), 2);
                FrameTime {
                    pts: at,
                    running_time: at,
                    wallclock: at,
                    clock: WallClock::System,
                }
            });
            self.windows += 1;
            let verdict = self.gate.check(&self.rules, &times, STRIDE);
            if verdict.is_none() {
                self.gate.shown(self.windows, &times);
            }
            verdict.is_none()
        }

        fn still(&mut self, picture: &RgbImage) -> bool {
            self.window([picture; 2], None)
        }
    }

    fn flat(value: u8) -> RgbImage {
        RgbImage {
            width: 96,
            height: 96,
            pixels: vec![value; 96 * 96 * 3],
        }
    }

    #[test]
    fn a_still_scene_is_shown_once() {
        let mut camera = Camera::moving(0.005);
        let dark = flat(40);
        assert!(camera.still(&dark));
        assert!((0..50).all(|_| !camera.still(&dark)));
    }

    #[test]
    fn noise_of_a_dark_scene_is_not_motion() {
        let mut camera = Camera::moving(0.005);
        let shown: Vec<bool> = (0..6)
            .map(|n| {
                camera.window(
                    [&yard(2 * n, 12.0, None), &yard(2 * n + 1, 12.0, None)],
                    None,
                )
            })
            .collect();
        assert_eq!(shown, [true, false, false, false, false, false]);
    }

    #[test]
    fn what_moves_is_shown_and_so_is_the_stillness_after_it() {
        let mut camera = Camera::moving(0.005);
        let (empty, walker) = (yard(1, 0.0, None), |at| yard(2, 0.0, Some(at)));
        assert!(camera.still(&empty));
        assert!(!camera.still(&empty));
        // Through the picture within a window: its last frame is empty again.
        assert!(camera.window([&walker(100), &empty], None));
        assert!(
            camera.still(&empty),
            "they are gone: what was said of them holds no more"
        );
        assert!(!camera.still(&empty));
        assert!(camera.window([&walker(100), &walker(200)], None));
        assert!(
            camera.window([&walker(200), &walker(200)], None),
            "they stand still now"
        );
        assert!(!camera.still(&walker(200)));
    }

    #[test]
    fn a_slow_drift_adds_up() {
        let mut camera = Camera::moving(0.005);
        // Two levels a window: no two neighbours differ.
        let shown: Vec<bool> = (0..12).map(|n| camera.still(&flat(40 + 2 * n))).collect();
        let shown: Vec<usize> = (0..12).filter(|i| shown[*i]).collect();
        assert_eq!(
            shown,
            [0, 6],
            "at the first difference of more than 10 levels"
        );
    }

    #[test]
    fn the_heartbeat_bounds_the_silence() {
        let mut camera = Camera::moving(0.005);
        camera.rules.heartbeat = Duration::from_secs(7);
        let dark = flat(40);
        let shown: Vec<bool> = (0..9).map(|_| camera.still(&dark)).collect();
        // Windows end every 2 s; three later it is 6 s, four later it would be 8 s.
        let shown: Vec<usize> = (0..9).filter(|i| shown[*i]).collect();
        assert_eq!(shown, [0, 3, 6]);
    }

    #[test]
    fn a_window_that_came_to_nothing_confirms_nothing() {
        let mut camera = Camera::moving(0.005);
        let dark = flat(40);
        assert!(camera.still(&dark));
        camera.gate.forget_shown();
        assert!(camera.still(&dark));
    }

    #[test]
    fn a_detection_opens_the_gate_as_long_as_it_lingers() {
        let mut camera = Camera::new(GateRules {
            by_detection: true,
            linger: Duration::from_secs(3),
            ..GateRules::default()
        });
        let dark = flat(40);
        let mut window = |detection| camera.window([&dark; 2], detection);
        assert!(!window(None), "0 s to 1 s");
        assert!(window(Some(3)), "2 s to 3 s");
        assert!(window(Some(3)), "4 s to 5 s: a second after it");
        assert!(window(Some(3)), "6 s to 7 s: just 3 s after it");
        assert!(!window(Some(3)), "8 s to 9 s");
    }

    #[test]
    fn a_detection_between_two_windows_counts_without_lingering() {
        let mut camera = Camera::new(GateRules {
            by_detection: true,
            ..GateRules::default()
        });
        let dark = flat(40);
        let mut gated = Vec::new();
        // Something is detected between the frames at 1 s and 2 s, and seen again in none.
        for detection in [None, Some(1), Some(1)] {
            gated.push(!camera.window([&dark; 2], detection));
        }
        assert_eq!(gated, [true, false, true]);
    }

    #[test]
    fn stillness_and_detection_are_both_asked_for() {
        let mut camera = Camera::new(GateRules {
            motion_threshold: 0.005,
            by_detection: true,
            linger: Duration::from_secs(60),
            heartbeat: Duration::ZERO,
        });
        let dark = flat(40);
        assert!(camera.window([&dark; 2], Some(1)));
        assert!(!camera.window([&dark; 2], Some(2)), "they have not moved");
        assert!(camera.window([&flat(90); 2], Some(5)));
        camera.rules.linger = Duration::ZERO;
        assert!(camera.window([&dark; 2], Some(7)));
        assert!(
            !camera.window([&flat(90); 2], Some(7)),
            "nobody is detected"
        );
    }

    #[test]
    fn a_gate_that_is_off_shows_everything() {
        let mut camera = Camera::new(GateRules::default());
        assert!((0..3).all(|_| camera.still(&flat(40))));
    }
}
