// SPDX-License-Identifier: MPL-2.0

//! One element's prepare thread: pixels to patches to windows.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::lane::{Command, Lane, Options, Sample};
use crate::caption::engine::pairs::OpenWindow;
use crate::caption::engine::turn::{InquiryJob, Job};
use crate::caption::frames::gate::Gate;
use crate::caption::frames::ladder::{Ladder, Rung};
use crate::caption::frames::motion::Cells;
use crate::caption::frames::picture::Picture;
use crate::caption::frames::processor::FrameProcessor;
use crate::caption::frames::scene::Scenes;
use crate::caption::frames::visual::Visual;
use crate::caption::frames::window::{Frame, FrameTime, Pair, Progress, Shape, Window, Windower};
use crate::caption::mailbox::Sent;
use crate::caption::panic::caught;
use crate::caption::questions::inquiry::{FLUSHED, Inquiry};
use crate::caption::reports::report::{DropReason, WindowReport};
use crate::caption::reports::window_info::WindowInfo;
use crate::caption::trace::{self, Span, Stage};
use crate::vlm::image::RgbImage;
use crate::vlm::{self, PixelBudget, VisualKind};

/// What the prepare thread knows.
pub(crate) struct Preparer<'a> {
    lane: &'a Lane,
    processor: Arc<dyn FrameProcessor>,
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
    /// `Reporter::lost` when it was last looked at.
    lost: u64,
    /// `Reporter::restarts` when it was last looked at.
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
    /// Name of the element, and when its last frames arrived, by PTS: for spans.
    element: Arc<str>,
    arrivals: VecDeque<(Duration, Instant)>,
}

impl<'a> Preparer<'a> {
    pub(crate) fn new(
        lane: &'a Lane,
        processor: Arc<dyn FrameProcessor>,
        options: &Options,
    ) -> Self {
        let budget = processor.limited(options.budget);
        let shape = Shape {
            window: options.window,
            stride: options.stride,
            temporal_patch_size: processor.temporal_patch_size(),
            keeps_frames: options.keeps_frames,
        };
        Self {
            lane,
            processor,
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
            element: options.session.element.clone(),
            arrivals: VecDeque::new(),
        }
    }

    pub(crate) fn run(mut self) {
        while let Some(command) = self.lane.mailbox.receive() {
            // Whoever hears what comes of it may be far behind.
            self.lane.reporter.outbox().wait_room();
            let restarts = self.lane.reporter.restarts();
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
                    Some(inquiry) => self.lane.unanswered(&inquiry, reason),
                    None => self.lane.reporter.report(WindowReport::failed(reason)),
                }
            }
        }
    }

    fn sample(&mut self, epoch: u64, arrived: Instant, sample: Sample) {
        self.arrived = arrived;
        if trace::is_on() {
            self.arrivals.truncate(self.window - 1);
            self.arrivals.push_front((sample.time.pts, arrived));
        }
        if self.timeline != sample.timeline {
            self.begin_timeline(epoch, sample.timeline);
        } else {
            self.pass(epoch, sample.time.pts);
        }
        self.gate.sample(sample.detection);
        if self.windower.is_between() || self.lane.sessions.changes_at_once() {
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
        self.lane.counters.frames.fetch_add(1, Ordering::Relaxed);
        if self.windower.size_differs(native, &image) {
            self.close(epoch);
        }
        self.look(epoch, sample.time, Cells::of(&image));
        let processor = self.processor.clone();
        let cut = &mut |frames: &[Frame]| cut(&*processor, frames);
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
        let (level, rung) = self.lane.reporter.rung();
        if level != self.level {
            (self.level, self.rung) = (level, rung);
            self.level_since = time.running_time;
        }
    }

    /// Compares a frame with those before it; a cut ends the windows being filled.
    fn look(&mut self, epoch: u64, time: FrameTime, cells: Cells) {
        if self.scenes.is_cut(&cells) && !self.lane.rules.lock().unwrap().spans_cuts {
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
        let processor = self.processor.clone();
        match self.windower.close(&mut |frames| cut(&*processor, frames)) {
            Ok(progress) => self.progress(epoch, progress),
            Err(error) => self.failed(epoch, Vec::new(), error.to_string()),
        }
    }

    /// What the model may see of a frame, at the size it sees it.
    fn show(&self, mut picture: Picture) -> Result<RgbImage, String> {
        let masks = self.lane.rules.lock().unwrap().masks.clone();
        for mask in &masks {
            mask.paint(&mut picture.image);
        }
        let image = picture.into_square()?;
        let area = |budget| {
            let size = self
                .processor
                .target_size(image.width, image.height, self.kind, budget);
            size.map(|(width, height)| width * height)
        };
        let native = image.width * image.height;
        let budget = self.rung.lowered(self.budget, native, area);
        let fitted = budget.and_then(|budget| self.processor.fit(&image, self.kind, budget));
        fitted.map_err(|error| error.to_string())
    }

    fn progress(&mut self, epoch: u64, progress: Progress) {
        if self.outdated(epoch) {
            return;
        }
        let lost = self.lane.reporter.lost();
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
        let counters = &self.lane.counters;
        counters.windows.fetch_add(1, Ordering::Relaxed);
        self.sequence += 1;
        self.tell_span(&window);
        self.last = Some(window.clone());
        let rules = self.lane.rules.lock().unwrap().gate.clone();
        if let Some(why) = self.gate.check(&rules, &window.frames, self.stride) {
            counters.gated_windows.fetch_add(1, Ordering::Relaxed);
            let frames = window.frames;
            return self
                .lane
                .reporter
                .report(WindowReport::Gated { why, frames });
        }
        if !self.rung.shows(self.sequence) {
            counters.skipped_windows.fetch_add(1, Ordering::Relaxed);
            return self.lane.reporter.report(WindowReport::Dropped {
                reason: DropReason::Overload,
                count: 1,
            });
        }
        let frames = window.frames.clone();
        let on_rung = |first: &FrameTime| first.running_time >= self.level_since;
        let job = Job {
            sequence: self.sequence,
            window,
            window_info: WindowInfo {
                timeline: self.timeline,
                scene: self.scene,
                rung: self.rung,
                level: frames.first().is_some_and(on_rung).then_some(self.level),
                since: Some(self.arrived),
                ..WindowInfo::default()
            },
            complete_since: Instant::now(),
        };
        let sent = self.lane.sessions.current().submit(job, epoch);
        match sent {
            Sent::Queued | Sent::Replaced(_) => self.gate.shown(self.sequence, &frames),
            Sent::Flushing(_) => self.gate.forget_shown(),
            Sent::Refused(_) => {}
        }
        match sent {
            Sent::Queued | Sent::Flushing(_) => {}
            Sent::Replaced(_) | Sent::Refused(_) => {
                counters.dropped_windows.fetch_add(1, Ordering::Relaxed);
                self.lane.reporter.report(WindowReport::Dropped {
                    reason: DropReason::Busy,
                    count: 1,
                });
            }
        }
    }

    /// A window has filled, since its first frame arrived.
    fn tell_span(&self, window: &Window) {
        let first = window.frames.first().map(|frame| frame.pts);
        let mut arrivals = self.arrivals.iter();
        if let Some((_, began)) = arrivals.find(|(pts, _)| Some(*pts) == first) {
            trace::tell(&Span {
                stage: Stage::Window,
                element: &self.element,
                window: self.sequence,
                question: "",
                tokens: 0,
                began: *began,
                ended: self.arrived,
            });
        }
    }

    /// Has pairs encoded while their window fills, as soon as it is known that the model is to see
    /// it: what the gate keeps costs the device nothing.
    fn offer_pairs(&mut self, epoch: u64, pairs: &[Arc<Pair>]) {
        self.held.retain(|pair| pair.strong_count() > 0);
        self.held.extend(pairs.iter().map(Arc::downgrade));
        let rules = self.lane.rules.lock().unwrap().gate.clone();
        let frames = self.windower.frames();
        let gated = self.gate.check(&rules, frames, self.stride).is_some();
        if gated || !self.rung.shows(self.sequence + 1) {
            return;
        }
        let pairs: Vec<Arc<Pair>> = self.held.drain(..).filter_map(|p| p.upgrade()).collect();
        let open = self.windower.partial().map(|partial| OpenWindow {
            sequence: self.sequence + 1,
            scene: self.scene,
            partial,
        });
        self.lane
            .sessions
            .current()
            .offer_pairs(&pairs, open, epoch);
    }

    /// Puts a question of the application's to the model, about the window being filled as far as
    /// it has come, or else about the last one.
    fn inquire(&mut self, epoch: u64, inquiry: Inquiry) {
        if self.outdated(epoch) {
            return self.lane.unanswered(&inquiry, FLUSHED.into());
        }
        let processor = self.processor.clone();
        let window = match self
            .windower
            .glimpse(&mut |frames| cut(&*processor, frames))
        {
            Ok(open) => open.or_else(|| self.last.clone()),
            Err(error) => return self.lane.unanswered(&inquiry, error.to_string()),
        };
        let Some(window) = window else {
            let reason = "no frame has been sampled yet".into();
            return self.lane.unanswered(&inquiry, reason);
        };
        let asked = InquiryJob::new(inquiry.clone(), self.sequence, window);
        if let Err(reason) = self.lane.sessions.current().inquire(asked, epoch) {
            self.lane.unanswered(&inquiry, reason);
        }
    }

    /// Goes over to another model if one is ready. Windows that overlap begin anew with the next
    /// frame: what the model before made of their first frames is of no use.
    fn change_over(&mut self) {
        let Some(processor) = self.lane.sessions.change_over() else {
            return;
        };
        self.processor = processor;
        self.budget = self.processor.limited(self.asked);
        self.shape.temporal_patch_size = self.processor.temporal_patch_size();
        self.windower = Windower::new(self.shape);
        self.held.clear();
        self.last = None;
        let (window, patch) = (self.shape.window, self.shape.temporal_patch_size);
        self.lane.reporter.change_model(Ladder::new(window, patch));
    }

    fn failed(&self, epoch: u64, frames: Vec<FrameTime>, reason: String) {
        if !self.outdated(epoch) {
            self.lane
                .reporter
                .report(WindowReport::Failed { frames, reason });
        }
    }

    fn outdated(&self, epoch: u64) -> bool {
        epoch != self.lane.sessions.current().epoch()
    }
}

fn cut(processor: &dyn FrameProcessor, frames: &[Frame]) -> Result<Visual, vlm::Error> {
    let images: Vec<RgbImage> = frames.iter().map(|frame| frame.image.clone()).collect();
    processor.show(&images)
}

#[cfg(test)]
mod tests;
