// SPDX-License-Identifier: MPL-2.0

//! One element's prepare thread: pixels to patches to windows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::captioner::{Command, Inner, Options, Sample};
use super::gate::Gate;
use super::inquiry::{Asked, FLUSHED, Inquiry};
use super::ladder::{Ladder, Rung};
use super::mailbox::Sent;
use super::motion::Cells;
use super::note::Note;
use super::pairs::Coming;
use super::panic::caught;
use super::picture::Picture;
use super::scene::Scenes;
use super::schedule::Job;
use super::window::{Frame, FrameTime, Pair, Progress, Shape, Window, Windower};
use super::{DropReason, Report};
use crate::backend::Patches;
use crate::vlm::image::RgbImage;
use crate::vlm::{self, FrameBounds, PixelBudget, VisualKind, Vlm};

/// What the prepare thread knows.
pub(super) struct Preparer<'a> {
    inner: &'a Inner,
    vlm: Arc<dyn Vlm>,
    windower: Windower,
    /// Frames of a window.
    window: usize,
    kind: VisualKind,
    shape: Shape,
    /// As it was asked for, and as the model takes it.
    asked: PixelBudget,
    budget: PixelBudget,
    /// A gap longer than this closes a window.
    max_gap: Duration,
    /// Time from window to window.
    stride: Duration,
    sequence: u64,
    gate: Gate,
    /// [`Reporter::lost`](super::reporter::Reporter::lost) when it was last looked at.
    lost: u64,
    /// [`Reporter::restarts`](super::reporter::Reporter::restarts) when it was last looked at.
    restarts: u64,
    scenes: Scenes,
    /// Number of the scene.
    scene: u64,
    /// Number of the timeline of the last sample.
    timeline: u64,
    /// When the last frame came.
    arrived: Instant,
    /// What the windows being filled get of what was asked for, the number of that rung, and the
    /// running time since when.
    rung: Rung,
    level: usize,
    level_since: Duration,
    /// Pairs that are not yet to be encoded: their windows may be kept from the model.
    held: Vec<Weak<Pair>>,
    /// The last complete window.
    last: Option<Window>,
}

impl<'a> Preparer<'a> {
    /// `bounds` are the model's own.
    pub(super) fn new(
        inner: &'a Inner,
        vlm: Arc<dyn Vlm>,
        bounds: FrameBounds,
        options: &Options,
    ) -> Self {
        let mut budget = options.budget;
        budget.limit(bounds);
        let shape = Shape {
            window: options.window,
            stride: options.stride,
            temporal_patch_size: vlm.temporal_patch_size(),
        };
        Self {
            inner,
            vlm,
            windower: Windower::new(shape),
            window: options.window,
            kind: if options.window == 1 {
                VisualKind::Image
            } else {
                VisualKind::Video
            },
            shape,
            asked: options.budget,
            budget,
            max_gap: options.sample_rate.span(options.window as u64),
            stride: options.sample_rate.span(options.stride as u64),
            sequence: 0,
            gate: Gate::default(),
            lost: 0,
            restarts: 0,
            scenes: Scenes::default(),
            scene: 0,
            timeline: 0,
            arrived: Instant::now(),
            rung: Rung::default(),
            level: 0,
            level_since: Duration::ZERO,
            held: Vec::new(),
            last: None,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(command) = self.inner.mailbox.receive() {
            // Whoever hears what comes of it may be far behind.
            self.inner.reporter.outbox().wait_room();
            let restarts = self.inner.reporter.restarts();
            if std::mem::replace(&mut self.restarts, restarts) != restarts {
                self.forget();
            }
            let asked = match &command {
                Command::Inquire(_, inquiry) => Some(inquiry.clone()),
                _ => None,
            };
            let ran = caught("preparing frames", || match command {
                Command::Sample(epoch, arrived, sample) => self.sample(epoch, arrived, sample),
                Command::Close(epoch) => {
                    self.arrived = Instant::now();
                    self.close(epoch);
                }
                Command::Pass(epoch, pts) => {
                    self.arrived = Instant::now();
                    self.pass(epoch, pts);
                }
                Command::Inquire(epoch, inquiry) => self.inquire(epoch, inquiry),
                Command::Reset => {
                    self.forget();
                    self.sequence = 0;
                }
                Command::Restart => self.forget(),
            });
            if let Err(reason) = ran {
                self.windower.abandon();
                match asked {
                    Some(inquiry) => self.inner.unanswered(&inquiry, reason),
                    None => self.inner.reporter.report(Report::Failed {
                        frames: Vec::new(),
                        reason,
                    }),
                }
            }
        }
    }

    fn sample(&mut self, epoch: u64, arrived: Instant, sample: Sample) {
        self.arrived = arrived;
        if self.timeline != sample.timeline {
            self.begin_timeline(epoch, sample.timeline);
        } else {
            self.pass(epoch, sample.time.pts);
        }
        self.gate.sample(sample.detection);
        if self.windower.is_between() {
            self.change_over();
        }
        if !self.windower.wants_next() {
            return self.windower.skip();
        }
        if self.windower.begins_next() {
            self.climb(sample.time);
        }
        let shown = (sample.read)().and_then(|picture| {
            let native = (picture.image.width, picture.image.height);
            Ok((native, self.show(picture)?))
        });
        let (native, image) = match shown {
            Ok(shown) => shown,
            Err(reason) => {
                self.close(epoch);
                return self.failed(epoch, vec![sample.time], reason);
            }
        };
        self.inner.counters.frames.fetch_add(1, Ordering::Relaxed);
        if self.windower.size_differs(native, &image) {
            self.close(epoch);
        }
        self.look(epoch, sample.time, Cells::of(&image));
        let vlm = self.vlm.clone();
        let cut = &mut |frames: &[Frame]| cut(&*vlm, frames);
        let pushed = match self.windower.keeps_next(self.rung.frames) {
            true => {
                let time = sample.time;
                let frame = Frame {
                    time,
                    image,
                    native,
                };
                self.windower.push(frame, cut)
            }
            false => self.windower.pass_over(cut),
        };
        match pushed {
            Ok(progress) => self.progress(epoch, progress),
            Err(error) => self.failed(epoch, vec![sample.time], error.to_string()),
        }
    }

    /// The stream has come to this PTS: too long after the last frame, the windows being filled end.
    fn pass(&mut self, epoch: u64, pts: Duration) {
        let gap = |last: FrameTime| pts.saturating_sub(last.pts) > self.max_gap;
        if self.windower.last().is_some_and(gap) {
            self.close(epoch);
        }
    }

    /// The stream's time went back: windows end, and nothing is compared by time with what was
    /// before.
    fn begin_timeline(&mut self, epoch: u64, timeline: u64) {
        self.close(epoch);
        self.timeline = timeline;
        self.gate.reset();
        self.level_since = Duration::ZERO;
    }

    /// Takes the rung of the overload ladder that holds now, for the window that begins.
    fn climb(&mut self, time: FrameTime) {
        let (level, rung) = self.inner.reporter.rung();
        if level != self.level {
            (self.level, self.rung) = (level, rung);
            self.level_since = time.running_time;
        }
    }

    /// Compares a frame with those before it; a cut ends the windows being filled.
    fn look(&mut self, epoch: u64, time: FrameTime, cells: Cells) {
        if self.scenes.is_cut(&cells) && !self.inner.rules.lock().unwrap().spans_cuts {
            self.close(epoch);
            self.scene += 1;
        }
        self.gate.see(time.pts, cells, self.window);
    }

    /// Forgets the windows being filled and all frames.
    fn forget(&mut self) {
        self.last = None;
        self.windower.abandon();
        self.gate.reset();
        self.scenes.reset();
        self.held.clear();
        self.level_since = Duration::ZERO;
    }

    fn close(&mut self, epoch: u64) {
        let vlm = self.vlm.clone();
        match self.windower.close(&mut |frames| cut(&*vlm, frames)) {
            Ok(progress) => self.progress(epoch, progress),
            Err(error) => self.failed(epoch, Vec::new(), error.to_string()),
        }
    }

    /// What the model may see of a frame, at the size it sees it.
    fn show(&self, mut picture: Picture) -> Result<RgbImage, String> {
        let masks = self.inner.rules.lock().unwrap().masks.clone();
        for mask in &masks {
            mask.paint(&mut picture.image);
        }
        let image = picture.into_square()?;
        let area = |budget| {
            let size = self
                .vlm
                .target_size(image.width, image.height, self.kind, budget);
            size.map(|(width, height)| width * height)
        };
        let native = image.width * image.height;
        let budget = self.rung.lowered(self.budget, native, area);
        let fitted = budget.and_then(|budget| self.vlm.fit(&image, self.kind, budget));
        fitted.map_err(|error| error.to_string())
    }

    fn progress(&mut self, epoch: u64, progress: Progress) {
        if self.outdated(epoch) {
            return;
        }
        let lost = self.inner.reporter.lost();
        if std::mem::replace(&mut self.lost, lost) != lost {
            self.gate.forget_shown();
        }
        match progress.window {
            Some(window) => {
                self.window(epoch, window);
                if self.shape.stride < self.shape.window {
                    self.change_over();
                }
            }
            None => self.offer_pairs(epoch, &progress.pairs),
        }
    }

    /// A window is complete: it goes to the model, unless the gate keeps it.
    fn window(&mut self, epoch: u64, window: Window) {
        let counters = &self.inner.counters;
        counters.windows.fetch_add(1, Ordering::Relaxed);
        self.sequence += 1;
        self.last = Some(window.clone());
        let rules = self.inner.rules.lock().unwrap().gate.clone();
        if let Some(why) = self.gate.check(&rules, &window.frames, self.stride) {
            counters.gated_windows.fetch_add(1, Ordering::Relaxed);
            let frames = window.frames;
            return self.inner.reporter.report(Report::Gated { why, frames });
        }
        if !self.rung.shows(self.sequence) {
            counters.skipped_windows.fetch_add(1, Ordering::Relaxed);
            return self.inner.reporter.report(Report::Dropped {
                reason: DropReason::Overload,
                count: 1,
            });
        }
        let frames = window.frames.clone();
        let on_rung = |first: &FrameTime| first.running_time >= self.level_since;
        let job = Job {
            sequence: self.sequence,
            window,
            note: Note {
                timeline: self.timeline,
                scene: self.scene,
                rung: self.rung,
                level: frames.first().is_some_and(on_rung).then_some(self.level),
                since: Some(self.arrived),
                ..Note::default()
            },
            complete_since: Instant::now(),
        };
        let sent = self.inner.session.submit(job, epoch);
        match sent {
            Sent::Queued | Sent::Replaced(_) => self.gate.shown(self.sequence, &frames),
            Sent::Flushing(_) => self.gate.forget_shown(),
            Sent::Refused(_) => {}
        }
        match sent {
            Sent::Queued | Sent::Flushing(_) => {}
            Sent::Replaced(_) | Sent::Refused(_) => {
                counters.dropped_windows.fetch_add(1, Ordering::Relaxed);
                self.inner.reporter.report(Report::Dropped {
                    reason: DropReason::Busy,
                    count: 1,
                });
            }
        }
    }

    /// Has pairs encoded while their window fills, as soon as it is known that the model is to see
    /// it: what the gate keeps costs the device nothing.
    fn offer_pairs(&mut self, epoch: u64, pairs: &[Arc<Pair>]) {
        self.held.retain(|pair| pair.strong_count() > 0);
        self.held.extend(pairs.iter().map(Arc::downgrade));
        let rules = self.inner.rules.lock().unwrap().gate.clone();
        let frames = self.windower.frames();
        let gated = self.gate.check(&rules, frames, self.stride).is_some();
        if gated || !self.rung.shows(self.sequence + 1) {
            return;
        }
        let pairs: Vec<Arc<Pair>> = self.held.drain(..).filter_map(|p| p.upgrade()).collect();
        let coming = self.windower.partial().map(|partial| Coming {
            sequence: self.sequence + 1,
            scene: self.scene,
            partial,
        });
        self.inner.session.offer_pairs(&pairs, coming, epoch);
    }

    /// Puts a question of the application's to the model, about the window being filled as far as
    /// it has come, or else about the last one.
    fn inquire(&mut self, epoch: u64, inquiry: Inquiry) {
        if self.outdated(epoch) {
            return self.inner.unanswered(&inquiry, FLUSHED.into());
        }
        let vlm = self.vlm.clone();
        let window = match self.windower.glimpse(&mut |frames| cut(&*vlm, frames)) {
            Ok(open) => open.or_else(|| self.last.clone()),
            Err(error) => return self.inner.unanswered(&inquiry, error.to_string()),
        };
        let Some(window) = window else {
            let reason = "no frame has been sampled yet".into();
            return self.inner.unanswered(&inquiry, reason);
        };
        let asked = Asked::new(inquiry.clone(), self.sequence, window);
        if let Err(reason) = self.inner.session.inquire(asked, epoch) {
            self.inner.unanswered(&inquiry, reason);
        }
    }

    /// Goes over to another model if one is ready. Windows that overlap begin anew with the next
    /// frame: what the model before made of their first frames is of no use.
    fn change_over(&mut self) {
        let Some(checkpoint) = self.inner.session.change_over() else {
            return;
        };
        self.vlm = checkpoint.vlm.clone();
        self.budget = self.asked;
        self.budget.limit(checkpoint.bounds);
        self.shape.temporal_patch_size = self.vlm.temporal_patch_size();
        self.windower = Windower::new(self.shape);
        self.held.clear();
        self.last = None;
        let (window, patch) = (self.shape.window, self.shape.temporal_patch_size);
        self.inner.reporter.change_model(Ladder::new(window, patch));
    }

    fn failed(&self, epoch: u64, frames: Vec<FrameTime>, reason: String) {
        if !self.outdated(epoch) {
            self.inner
                .reporter
                .report(Report::Failed { frames, reason });
        }
    }

    fn outdated(&self, epoch: u64) -> bool {
        epoch != self.inner.session.epoch()
    }
}

fn cut(vlm: &dyn Vlm, frames: &[Frame]) -> Result<Patches, vlm::Error> {
    let images: Vec<RgbImage> = frames.iter().map(|frame| frame.image.clone()).collect();
    vlm.patches(&images)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::GridThw;
    use crate::caption::engine::Engine;
    use crate::caption::mailbox::DropPolicy;
    use crate::caption::mask::Mask;
    use crate::caption::prompt::Ask;
    use crate::caption::rules::Rules;
    use crate::caption::sampler::Rate;
    use crate::caption::session::SessionOptions;
    use crate::caption::source::Source;
    use crate::caption::window::WallClock;
    use crate::vlm::{Prompt, PromptRequest};

    /// A family that remembers what it was shown.
    #[derive(Default)]
    struct Spy {
        seen: Mutex<Vec<RgbImage>>,
    }

    impl Vlm for Spy {
        fn temporal_patch_size(&self) -> usize {
            2
        }

        fn target_size(
            &self,
            width: usize,
            height: usize,
            _: VisualKind,
            _: PixelBudget,
        ) -> Result<(usize, usize), vlm::Error> {
            Ok((width, height))
        }

        fn fit(
            &self,
            frame: &RgbImage,
            _: VisualKind,
            _: PixelBudget,
        ) -> Result<RgbImage, vlm::Error> {
            self.seen.lock().unwrap().push(frame.clone());
            Ok(frame.clone())
        }

        fn patches(&self, _: &[RgbImage]) -> Result<Patches, vlm::Error> {
            Ok(Patches {
                grid: GridThw { t: 1, h: 2, w: 2 },
                pixels: Vec::new(),
                mean: [0.5; 3],
                std: [0.5; 3],
            })
        }

        fn n_visual_tokens(&self, _: GridThw) -> usize {
            1
        }

        fn prompt(&self, _: &PromptRequest<'_>) -> Result<Prompt, vlm::Error> {
            unreachable!("the engine has the mock's own family")
        }
    }

    fn options(window: usize, rules: Rules) -> Options {
        Options {
            sample_rate: Rate::new(1, 1).unwrap(),
            window,
            stride: window,
            budget: PixelBudget {
                max_pixels: None,
                video_ratio: None,
                exact: None,
            },
            rules,
            session: SessionOptions {
                stream: "s".into(),
                weight: 1,
                policy: DropPolicy::Block,
                max_queued: 64,
                ask: Ask::plain("?"),
            },
        }
    }

    fn inner(options: &Options) -> Inner {
        let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
        Inner::new(&engine, options, Arc::new(|_| {})).unwrap()
    }

    fn white(second: u64, width: usize, height: usize) -> Sample {
        let at = Duration::from_secs(second);
        let image = RgbImage {
            width,
            height,
            pixels: vec![255; width * height * 3],
        };
        Sample {
            time: FrameTime {
                pts: at,
                running_time: at,
                wallclock: at,
                clock: WallClock::System,
            },
            timeline: 0,
            detection: None,
            read: Box::new(move || Ok(Picture::square(image))),
        }
    }

    /// Columns of the middle row that are hidden.
    fn hidden(image: &RgbImage) -> (usize, usize) {
        let row = image.height / 2 * image.width;
        let is_white = |x: &usize| image.pixels[(row + x) * 3] == 255;
        let columns = || (0..image.width).filter(|x| !is_white(x));
        (columns().next().unwrap_or(0), columns().count())
    }

    #[test]
    fn the_model_is_shown_masked_frames_alone_whatever_their_size() {
        let masks = vec![Mask::new(0.5, 0.0, 0.5, 1.0).unwrap()];
        let options = options(
            2,
            Rules {
                revision: 1,
                masks,
                ..Rules::default()
            },
        );
        let (inner, spy) = (inner(&options), Arc::new(Spy::default()));
        let mut preparer = Preparer::new(&inner, spy.clone(), FrameBounds::default(), &options);
        let sizes = [(101, 57), (57, 101), (33, 1), (640, 361)];
        for (second, (width, height)) in sizes.into_iter().enumerate() {
            preparer.sample(0, Instant::now(), white(second as u64, width, height));
        }
        let seen = spy.seen.lock().unwrap();
        let hidden: Vec<_> = seen.iter().map(hidden).collect();
        // From the pixel that the edge is in, and 8 before it, to the last.
        assert_eq!(hidden, [(42, 59), (20, 37), (8, 25), (312, 328)]);
    }

    #[test]
    fn a_mask_set_while_a_window_fills_gives_that_window_up() {
        let options = options(2, Rules::default());
        let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
        let captioner =
            super::super::captioner::Captioner::start(&engine, options, Arc::new(|_| {})).unwrap();
        let windows = |n: u64| {
            captioner.drain(Duration::from_secs(60));
            assert_eq!(captioner.counters().windows.load(Ordering::Relaxed), n);
        };
        captioner.submit(white(0, 64, 64));
        let masks = vec![Mask::new(0.0, 0.0, 0.5, 0.5).unwrap()];
        captioner.set_rules(Rules {
            revision: 2,
            masks,
            ..Rules::default()
        });
        windows(0);
        captioner.submit(white(1, 64, 64));
        captioner.set_rules(Rules {
            revision: 1,
            ..Rules::default()
        });
        windows(1);
    }

    #[test]
    fn a_lower_rung_shows_fewer_pixels_of_a_frame_of_any_size() {
        let options = options(2, Rules::default());
        let engine = Engine::acquire(&Source::Mock { script: None }).unwrap();
        let inner = inner(&options);
        let mut preparer = Preparer::new(
            &inner,
            engine.checkpoint().vlm.clone(),
            FrameBounds::default(),
            &options,
        );
        for (width, height) in [(1920, 1080), (320, 240), (97, 301)] {
            let areas = [1, 2, 4].map(|pixels| {
                preparer.rung.pixels = pixels;
                let image = RgbImage {
                    width,
                    height,
                    pixels: vec![0; width * height * 3],
                };
                let shown = preparer.show(Picture::square(image)).unwrap();
                shown.width * shown.height
            });
            assert!(areas[1] <= areas[0] / 2, "{width}x{height}: {areas:?}");
            assert!(areas[2] <= areas[0] / 4, "{width}x{height}: {areas:?}");
            assert!(areas[2] * 16 > areas[0], "{width}x{height}: {areas:?}");
        }
    }
}
