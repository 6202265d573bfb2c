// SPDX-License-Identifier: MPL-2.0

//! One element's prepare thread: pixels to patches to windows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::captioner::{Command, Inner, Options, Sample};
use super::mailbox::Sent;
use super::schedule::Job;
use super::window::{Frame, FrameTime, Progress, Shape, Windower};
use super::{DropReason, Report};
use crate::backend::Patches;
use crate::vlm::image::RgbImage;
use crate::vlm::{self, PixelBudget, VisualKind, Vlm};

/// What the prepare thread knows.
pub(super) struct Preparer<'a> {
    inner: &'a Inner,
    vlm: Arc<dyn Vlm>,
    windower: Windower,
    kind: VisualKind,
    budget: PixelBudget,
    /// A gap longer than this closes a window.
    max_gap: Duration,
    sequence: u64,
}

impl<'a> Preparer<'a> {
    pub(super) fn new(inner: &'a Inner, vlm: Arc<dyn Vlm>, options: &Options) -> Self {
        let shape = Shape {
            window: options.window,
            stride: options.stride,
            temporal_patch_size: vlm.temporal_patch_size(),
        };
        Self {
            inner,
            vlm,
            windower: Windower::new(shape),
            kind: if options.window == 1 {
                VisualKind::Image
            } else {
                VisualKind::Video
            },
            budget: options.budget,
            max_gap: options.sample_rate.span(options.window as u64),
            sequence: 0,
        }
    }

    pub(super) fn run(mut self) {
        while let Some(command) = self.inner.mailbox.receive() {
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match command {
                Command::Sample(epoch, sample) => self.sample(epoch, sample),
                Command::Close(epoch) => self.close(epoch),
                Command::Reset => {
                    self.windower.abandon();
                    self.sequence = 0;
                }
            }));
            if ran.is_err() {
                self.windower.abandon();
                let reason = "internal error while preparing a frame; please report it".into();
                (self.inner.listener)(Report::Failed {
                    frames: Vec::new(),
                    reason,
                });
            }
        }
    }

    fn sample(&mut self, epoch: u64, sample: Sample) {
        let gap = |last: FrameTime| sample.time.pts.saturating_sub(last.pts) > self.max_gap;
        if self.windower.last().is_some_and(gap) {
            self.close(epoch);
        }
        if !self.windower.wants_next() {
            return self.windower.skip();
        }
        let image = match (sample.read)().and_then(|image| self.resize(&image)) {
            Ok(image) => image,
            Err(reason) => {
                self.close(epoch);
                return self.failed(epoch, vec![sample.time], reason);
            }
        };
        self.inner.counters.frames.fetch_add(1, Ordering::Relaxed);
        if self
            .windower
            .tail_size()
            .is_some_and(|size| size != (image.width, image.height))
        {
            self.close(epoch);
        }
        let vlm = self.vlm.clone();
        let frame = Frame {
            time: sample.time,
            image,
        };
        match self.windower.push(frame, &mut |frames| cut(&*vlm, frames)) {
            Ok(progress) => self.progress(epoch, progress),
            Err(error) => self.failed(epoch, vec![sample.time], error.to_string()),
        }
    }

    fn close(&mut self, epoch: u64) {
        let vlm = self.vlm.clone();
        match self.windower.close(&mut |frames| cut(&*vlm, frames)) {
            Ok(progress) => self.progress(epoch, progress),
            Err(error) => self.failed(epoch, Vec::new(), error.to_string()),
        }
    }

    fn resize(&self, image: &RgbImage) -> Result<RgbImage, String> {
        let fitted = self.vlm.fit(image, self.kind, self.budget);
        fitted.map_err(|error| error.to_string())
    }

    fn progress(&mut self, epoch: u64, progress: Progress) {
        if self.outdated(epoch) {
            return;
        }
        let counters = &self.inner.counters;
        if let Some(window) = progress.window {
            counters.windows.fetch_add(1, Ordering::Relaxed);
            self.sequence += 1;
            let complete_since = Instant::now();
            let job = Job {
                sequence: self.sequence,
                window,
                complete_since,
            };
            match self.inner.session.submit(job, epoch) {
                Sent::Queued | Sent::Flushing(_) => {}
                Sent::Replaced(job) | Sent::Refused(job) => {
                    counters.dropped_windows.fetch_add(1, Ordering::Relaxed);
                    let frames = job.window.frames;
                    (self.inner.listener)(Report::Dropped {
                        reason: DropReason::Busy,
                        frames,
                    });
                }
            }
        } else {
            for pair in &progress.pairs {
                self.inner.session.offer_pair(pair, epoch);
            }
        }
    }

    fn failed(&self, epoch: u64, frames: Vec<FrameTime>, reason: String) {
        if !self.outdated(epoch) {
            (self.inner.listener)(Report::Failed { frames, reason });
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
