// SPDX-License-Identifier: MPL-2.0

//! Frames to temporal patches to windows.
//!
//! ```text
//! frames   0 1 2 3 4 5 6 7        window=4 stride=2 temporal_patch_size=2
//! pairs    [0 1][2 3][4 5][6 7]
//! windows  [0 1  2 3]
//!               [2 3  4 5]        the pair [2 3] belongs to both, and is one object
//!                    [4 5  6 7]
//! ```

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::visual::Visual;
use crate::vlm::image::RgbImage;

/// When a frame was, on the three clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTime {
    /// Presentation time of the buffer.
    pub pts: Duration,
    /// The same in running time, for ages.
    pub running_time: Duration,
    /// Wall clock, as time since the Unix epoch.
    pub wallclock: Duration,
    /// Whose wall clock.
    pub clock: WallClock,
}

/// Where a wall clock time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WallClock {
    /// When the frame was captured, by the sender's clock.
    Ntp,
    /// When it arrived, by this machine's clock.
    System,
}

/// A frame as the model sees it: converted and resized.
#[derive(Debug, Clone)]
pub struct Frame {
    /// When.
    pub time: FrameTime,
    /// What.
    pub image: RgbImage,
    /// Width and height in the stream.
    pub native: (usize, usize),
}

/// One temporal patch, shared by all windows that it is in.
#[derive(Debug)]
pub struct Pair {
    /// PTS of its frames; a repeated tail is named once per repetition.
    pub pts: Vec<Duration>,
    /// The pixels, until they are encoded; then what the vision net made of them.
    pub visual: Mutex<Visual>,
    /// The same before they were cut into patches, if
    /// [that was asked for](Shape::keeps_frames): without the repetitions of a tail.
    pub frames: Vec<Arc<RgbImage>>,
    /// Whether an answer was about it.
    pub answered: AtomicBool,
}

impl Pair {
    fn new(pts: Vec<Duration>, visual: Visual, frames: Vec<Arc<RgbImage>>) -> Arc<Self> {
        Arc::new(Self {
            pts,
            visual: Mutex::new(visual),
            frames,
            answered: AtomicBool::new(false),
        })
    }
}

/// Frames that one caption is about.
#[derive(Debug, Clone)]
pub struct Window {
    /// Frames in order of time; at least one.
    pub frames: Vec<FrameTime>,
    /// Temporal patches in order of time.
    pub pairs: Vec<Arc<Pair>>,
}

/// A window that is being filled, as far as its whole pairs go. It keeps nothing from being dropped.
#[derive(Debug, Clone)]
pub struct Partial {
    /// The frames of the pairs.
    pub frames: Vec<FrameTime>,
    /// The pairs.
    pub pairs: Vec<Weak<Pair>>,
}

/// Shape of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Frames of a window, at least 1.
    pub window: usize,
    /// Frames from the start of one window to the start of the next, at least 1.
    pub stride: usize,
    /// Frames of a temporal patch, at least 1.
    pub temporal_patch_size: usize,
    /// Whether pairs keep their pixels beside what a model is shown of them.
    pub keeps_frames: bool,
}

impl Shape {
    /// The frames of a pair that are kept: of JPEGs none, since they stay as they are.
    fn kept(&self, frames: &[Frame], visual: &Visual) -> Vec<Arc<RgbImage>> {
        match visual {
            Visual::Jpeg(_) => Vec::new(),
            _ if !self.keeps_frames => Vec::new(),
            _ => frames.iter().map(|f| Arc::new(f.image.clone())).collect(),
        }
    }
}

/// What pushing a frame brought about.
#[derive(Debug, Default)]
pub struct Progress {
    /// Pairs that became complete, to be encoded while the window fills.
    pub pairs: Vec<Arc<Pair>>,
    /// The window that became complete.
    pub window: Option<Window>,
}

/// Collects frames into windows.
#[derive(Debug)]
pub struct Windower {
    shape: Shape,
    /// Frames since the start.
    n_frames: u64,
    open: VecDeque<Open>,
    /// Whole pairs, for windows that overlap.
    recent: VecDeque<Weak<Pair>>,
    /// Number after the last frame that any window was made of.
    covered: u64,
    /// Size of the last frame of the stream.
    native: Option<(usize, usize)>,
}

#[derive(Debug)]
struct Open {
    first: u64,
    /// Frames of the stream that it spans; those that were passed over are not in `frames`.
    span: usize,
    frames: Vec<FrameTime>,
    pairs: Vec<Arc<Pair>>,
    tail: Vec<Frame>,
}

impl Windower {
    /// A windower without frames.
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            n_frames: 0,
            open: VecDeque::new(),
            recent: VecDeque::new(),
            covered: 0,
            native: None,
        }
    }

    /// Whether any window takes the next frame; between windows (`stride > window`) none does, and
    /// its pixels need not be touched.
    pub fn wants_next(&self) -> bool {
        self.n_frames.is_multiple_of(self.shape.stride as u64) || !self.open.is_empty()
    }

    /// Whether a window begins with the next frame.
    pub fn begins_next(&self) -> bool {
        self.n_frames.is_multiple_of(self.shape.stride as u64)
    }

    /// Whether the next frame is kept if windows are thinned to every `n`-th frame. Of `n` in a row
    /// it is the last, so that a window is about its end.
    pub fn keeps_next(&self, n: usize) -> bool {
        (self.n_frames + 1).is_multiple_of(n.max(1) as u64)
    }

    /// Counts a frame that [`wants_next`](Self::wants_next) said no window takes.
    pub fn skip(&mut self) {
        self.n_frames += 1;
    }

    /// Whether the next frame begins a window and belongs to no other.
    pub fn is_between(&self) -> bool {
        self.n_frames.is_multiple_of(self.shape.stride as u64) && self.open.is_empty()
    }

    /// Whether a frame that was of this size in the stream cannot be of the windows being filled: they
    /// are about frames of another size, or the other frame of its pair was fitted otherwise.
    pub fn size_differs(&self, native: (usize, usize), image: &RgbImage) -> bool {
        let fitted = |tail: &Frame| (tail.image.width, tail.image.height);
        let tail = self.open.iter().find_map(|open| open.tail.last());
        let unlike = tail.is_some_and(|tail| fitted(tail) != (image.width, image.height));
        unlike || (!self.open.is_empty() && self.native.is_some_and(|size| size != native))
    }

    /// The last frame of the windows being filled.
    pub fn last(&self) -> Option<FrameTime> {
        self.open
            .front()
            .and_then(|open| open.frames.last().copied())
    }

    /// The frames of the oldest window being filled.
    pub fn frames(&self) -> &[FrameTime] {
        self.open.front().map_or(&[], |open| &open.frames)
    }

    /// The oldest window being filled, as far as its whole pairs go; `None` before the first pair.
    pub fn partial(&self) -> Option<Partial> {
        let open = self.open.front().filter(|open| !open.pairs.is_empty())?;
        Some(Partial {
            frames: open.frames[..open.frames.len() - open.tail.len()].to_vec(),
            pairs: open.pairs.iter().map(Arc::downgrade).collect(),
        })
    }

    /// Adds a frame. `cut` makes of 1 to `temporal_patch_size` frames what a model is shown.
    ///
    /// # Errors
    /// What `cut` says; the windows being filled are then given up.
    pub fn push<E>(
        &mut self,
        frame: Frame,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<Progress, E> {
        self.advance(Some(frame), cut)
    }

    /// Passes a frame over: windows span it, and are not about it.
    ///
    /// # Errors
    /// What `cut` says; the windows being filled are then given up.
    pub fn pass_over<E>(
        &mut self,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<Progress, E> {
        self.advance(None, cut)
    }

    fn advance<E>(
        &mut self,
        frame: Option<Frame>,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<Progress, E> {
        let index = self.n_frames;
        self.n_frames += 1;
        if index.is_multiple_of(self.shape.stride as u64) {
            self.open.push_back(Open {
                first: index,
                span: 0,
                frames: Vec::with_capacity(self.shape.window),
                pairs: Vec::new(),
                tail: Vec::new(),
            });
        }
        self.native = frame.as_ref().map(|frame| frame.native).or(self.native);
        let mut progress = Progress::default();
        for i in 0..self.open.len() {
            let open = &mut self.open[i];
            open.span += 1;
            if let Some(frame) = &frame {
                open.frames.push(frame.time);
                open.tail.push(frame.clone());
            }
            let full = open.tail.len() == self.shape.temporal_patch_size;
            let ends = open.span == self.shape.window && !open.tail.is_empty();
            if (full || ends)
                && let Err(error) = self.finish_pair(i, &mut progress, cut)
            {
                self.abandon();
                return Err(error);
            }
        }
        if self
            .open
            .front()
            .is_some_and(|open| open.span == self.shape.window)
        {
            progress.window = self.open.pop_front().and_then(|open| self.complete(open));
        }
        Ok(progress)
    }

    /// The oldest window being filled, as far as it has come; it goes on filling. `None` without a
    /// frame.
    ///
    /// # Errors
    /// What `cut` says.
    pub fn glimpse<E>(
        &self,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<Option<Window>, E> {
        let Some(open) = self.open.front().filter(|open| !open.frames.is_empty()) else {
            return Ok(None);
        };
        let mut window = Window {
            frames: open.frames.clone(),
            pairs: open.pairs.clone(),
        };
        if let Some(last) = open.tail.last() {
            let mut pts: Vec<Duration> = open.tail.iter().map(|f| f.time.pts).collect();
            pts.resize(self.shape.temporal_patch_size, last.time.pts);
            let visual = cut(&open.tail)?;
            let kept = self.shape.kept(&open.tail, &visual);
            window.pairs.push(Pair::new(pts, visual, kept));
        }
        Ok(Some(window))
    }

    /// Ends the windows being filled: the stream ends, jumps or changes its size. The oldest is
    /// given out if it has a frame that no window had.
    ///
    /// # Errors
    /// What `cut` says.
    pub fn close<E>(
        &mut self,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<Progress, E> {
        let mut progress = Progress::default();
        let new = self
            .open
            .front()
            .is_some_and(|open| open.first + open.span as u64 > self.covered);
        if new {
            if !self.open[0].tail.is_empty()
                && let Err(error) = self.finish_pair(0, &mut progress, cut)
            {
                self.abandon();
                return Err(error);
            }
            progress.window = self.open.pop_front().and_then(|open| self.complete(open));
        }
        self.abandon();
        Ok(progress)
    }

    /// Gives up the windows being filled and begins anew.
    pub fn abandon(&mut self) {
        self.open.clear();
        self.recent.clear();
        self.n_frames = 0;
        self.covered = 0;
        self.native = None;
    }

    /// A window, unless it is about nothing: all its frames were passed over.
    fn complete(&mut self, open: Open) -> Option<Window> {
        self.covered = open.first + open.span as u64;
        (!open.frames.is_empty()).then_some(Window {
            frames: open.frames,
            pairs: open.pairs,
        })
    }

    /// Makes the tail of an open window a pair, or finds the pair that another window made of it.
    fn finish_pair<E>(
        &mut self,
        i: usize,
        progress: &mut Progress,
        cut: &mut dyn FnMut(&[Frame]) -> Result<Visual, E>,
    ) -> Result<(), E> {
        let frames = std::mem::take(&mut self.open[i].tail);
        self.recent.retain(|pair| pair.strong_count() > 0);
        let whole = frames.len() == self.shape.temporal_patch_size;
        let mut pts: Vec<Duration> = frames.iter().map(|f| f.time.pts).collect();
        let mut known = self.recent.iter().filter_map(Weak::upgrade);
        if let Some(pair) = known.find(|pair| whole && pair.pts == pts) {
            self.open[i].pairs.push(pair);
            return Ok(());
        }
        if let Some(last) = pts.last().copied() {
            pts.resize(self.shape.temporal_patch_size, last);
        }
        let visual = cut(&frames)?;
        let kept = self.shape.kept(&frames, &visual);
        let pair = Pair::new(pts, visual, kept);
        if whole {
            self.recent.push_back(Arc::downgrade(&pair));
        }
        progress.pairs.push(pair.clone());
        self.open[i].pairs.push(pair);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{GridThw, Patches};

    fn frame(second: u64) -> Frame {
        let at = Duration::from_secs(second);
        let time = FrameTime {
            pts: at,
            running_time: at,
            wallclock: at,
            clock: WallClock::System,
        };
        let image = RgbImage {
            width: 1,
            height: 1,
            pixels: vec![second as u8; 3],
        };
        Frame {
            time,
            image,
            native: (1, 1),
        }
    }

    fn cut(frames: &[Frame]) -> Result<Visual, ()> {
        Ok(Visual::Pixels(Patches {
            grid: GridThw { t: 1, h: 1, w: 1 },
            pixels: frames.iter().flat_map(|f| f.image.pixels.clone()).collect(),
            mean: [0.5; 3],
            std: [0.5; 3],
        }))
    }

    fn seconds(window: &Window) -> Vec<u64> {
        window.frames.iter().map(|f| f.pts.as_secs()).collect()
    }

    fn windower(window: usize, stride: usize) -> Windower {
        Windower::new(Shape {
            window,
            stride,
            temporal_patch_size: 2,
            keeps_frames: false,
        })
    }

    #[test]
    fn pairs_come_before_their_window() {
        let mut w = windower(4, 4);
        assert!(w.push(frame(0), &mut cut).unwrap().pairs.is_empty());
        assert_eq!(w.push(frame(1), &mut cut).unwrap().pairs.len(), 1);
        assert!(w.push(frame(2), &mut cut).unwrap().window.is_none());
        let done = w.push(frame(3), &mut cut).unwrap();
        assert_eq!(done.pairs.len(), 1);
        assert_eq!(seconds(&done.window.unwrap()), [0, 1, 2, 3]);
    }

    #[test]
    fn overlapping_windows_share_a_pair() {
        let mut w = windower(4, 2);
        let mut windows = Vec::new();
        let mut n_pairs = 0;
        for s in 0..8 {
            let progress = w.push(frame(s), &mut cut).unwrap();
            n_pairs += progress.pairs.len();
            windows.extend(progress.window);
        }
        assert_eq!(
            windows.iter().map(seconds).collect::<Vec<_>>(),
            [vec![0, 1, 2, 3], vec![2, 3, 4, 5], vec![4, 5, 6, 7]]
        );
        assert!(Arc::ptr_eq(&windows[0].pairs[1], &windows[1].pairs[0]));
        assert_eq!(n_pairs, 4);
    }

    #[test]
    fn an_odd_tail_names_its_last_frame_twice() {
        let mut w = windower(3, 3);
        w.push(frame(0), &mut cut).unwrap();
        w.push(frame(1), &mut cut).unwrap();
        let window = w.push(frame(2), &mut cut).unwrap().window.unwrap();
        assert_eq!(
            window.pairs[1].pts,
            [Duration::from_secs(2), Duration::from_secs(2)]
        );
    }

    #[test]
    fn closing_gives_out_frames_that_no_window_had() {
        let mut w = windower(4, 2);
        for s in 0..5 {
            w.push(frame(s), &mut cut).unwrap();
        }
        assert_eq!(
            seconds(&w.close(&mut cut).unwrap().window.unwrap()),
            [2, 3, 4]
        );
        for s in 0..4 {
            w.push(frame(s), &mut cut).unwrap();
        }
        assert!(
            w.close(&mut cut).unwrap().window.is_none(),
            "all frames were in a window"
        );
    }

    #[test]
    fn frames_between_windows_are_not_wanted() {
        let mut w = windower(2, 4);
        let mut wanted = Vec::new();
        for s in 0..8 {
            wanted.push(w.wants_next());
            if w.wants_next() {
                w.push(frame(s), &mut cut).unwrap();
            } else {
                w.skip();
            }
        }
        assert_eq!(wanted, [true, true, false, false, true, true, false, false]);
    }

    #[test]
    fn thinned_windows_span_the_same_time_with_fewer_frames() {
        let thinned = |window: usize, stride: usize, n: usize| {
            let mut w = windower(window, stride);
            let mut windows = Vec::new();
            for s in 0..12 {
                let progress = match w.keeps_next(n) {
                    true => w.push(frame(s), &mut cut),
                    false => w.pass_over(&mut cut),
                };
                windows.extend(progress.unwrap().window.as_ref().map(seconds));
            }
            windows.extend(w.close(&mut cut).unwrap().window.as_ref().map(seconds));
            windows
        };
        assert_eq!(thinned(4, 4, 1).len(), 3);
        assert_eq!(thinned(4, 4, 2), [[1, 3], [5, 7], [9, 11]]);
        assert_eq!(thinned(4, 4, 4), [[3], [7], [11]]);
        assert_eq!(thinned(4, 2, 2)[..3], [[1, 3], [3, 5], [5, 7]]);
        assert_eq!(
            thinned(3, 3, 2),
            [vec![1], vec![3, 5], vec![7], vec![9, 11]]
        );
    }

    #[test]
    fn windows_share_pairs_of_the_same_frames_alone() {
        let mut w = windower(4, 2);
        w.push(frame(0), &mut cut).unwrap();
        w.push(frame(1), &mut cut).unwrap();
        w.push(frame(2), &mut cut).unwrap();
        // From here on every second frame: [2 3] of the first window is not [2 5] of the next.
        let first = w.push(frame(3), &mut cut).unwrap().window.unwrap();
        w.pass_over(&mut cut).unwrap();
        let second = w.push(frame(5), &mut cut).unwrap().window.unwrap();
        assert_eq!(seconds(&first), [0, 1, 2, 3]);
        assert_eq!(seconds(&second), [2, 3, 5]);
        assert!(Arc::ptr_eq(&first.pairs[1], &second.pairs[0]));
        assert_eq!(second.pairs[1].pts, [Duration::from_secs(5); 2]);
    }

    #[test]
    fn a_frame_of_another_size_is_not_of_the_window_whether_or_not_a_pair_is_half_full() {
        let mut w = windower(4, 4);
        let image = frame(0).image;
        assert!(!w.size_differs((9, 9), &image), "no window is being filled");
        for s in 0..3 {
            w.push(frame(s), &mut cut).unwrap();
            assert!(w.size_differs((9, 9), &image), "after {} frames", s + 1);
            assert!(!w.size_differs((1, 1), &image));
        }
        w.close(&mut cut).unwrap();
        assert!(!w.size_differs((9, 9), &image));
    }

    #[test]
    fn a_pair_that_cannot_be_cut_gives_the_window_up() {
        let mut w = windower(2, 2);
        w.push(frame(0), &mut cut).unwrap();
        assert!(w.push(frame(1), &mut |_: &[Frame]| Err("no")).is_err());
        assert!(w.last().is_none());
        w.push(frame(2), &mut cut).unwrap();
        let window = w.push(frame(3), &mut cut).unwrap().window.unwrap();
        assert_eq!(seconds(&window), [2, 3]);
    }
}
