// SPDX-License-Identifier: MPL-2.0

//! One element's way from sampled frames to captions: its prepare thread, its windows, its session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::engine::{Engine, Listener};
use super::mailbox::{DropPolicy, Mailbox, Sent, Waited};
use super::prompt::Ask;
use super::sampler::Rate;
use super::schedule::Job;
use super::session::{Session, SessionOptions};
use super::window::{Frame, FrameTime, Progress, Shape, Windower};
use super::{DropReason, Report};
use crate::backend::Patches;
use crate::vlm::image::RgbImage;
use crate::vlm::{self, PixelBudget, VisualKind, Vlm};

/// Samples that may wait for the prepare thread; each holds a buffer of the stream's pool.
const MAX_SAMPLES: usize = 2;

/// Gives the pixels of a sampled frame, at their native size; called on the prepare thread.
pub type ReadPixels = Box<dyn FnOnce() -> Result<RgbImage, String> + Send>;

/// A frame that the sampler chose.
pub struct Sample {
    /// When.
    pub time: FrameTime,
    /// How to get at the pixels; the buffer is free again once it is called or dropped.
    pub read: ReadPixels,
}

/// What stays the same from READY to NULL.
#[derive(Debug, Clone)]
pub struct Options {
    /// Samples per second.
    pub sample_rate: Rate,
    /// Frames of a window.
    pub window: usize,
    /// Frames from window to window.
    pub stride: usize,
    /// Pixels of a frame.
    pub budget: PixelBudget,
    /// The session's part.
    pub session: SessionOptions,
}

/// Numbers since the captioner began.
#[derive(Debug, Default)]
pub struct Counters {
    /// Frames that were read and resized.
    pub frames: AtomicU64,
    /// Frames dropped because preparing was too slow.
    pub dropped_frames: AtomicU64,
    /// Windows that became complete.
    pub windows: AtomicU64,
    /// Windows dropped because the model was busy.
    pub dropped_windows: AtomicU64,
}

/// Frames in, captions out, for one element.
pub struct Captioner {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    session: Session,
    mailbox: Mailbox<Command>,
    policy: Mutex<DropPolicy>,
    counters: Counters,
    listener: Listener,
}

/// Each command carries the session's epoch of when it was sent.
enum Command {
    Sample(u64, Sample),
    /// The windows being filled end here.
    Close(u64),
    /// Forget everything: after a flush.
    Reset,
}

impl Captioner {
    /// Begins; `listener` hears what comes of it, from other threads, until this is dropped.
    pub fn start(
        engine: &Arc<Engine>,
        mut options: Options,
        listener: Listener,
    ) -> std::io::Result<Self> {
        let policy = options.session.policy;
        let inner = Arc::new(Inner {
            session: engine.session(options.session.clone(), listener.clone()),
            mailbox: Mailbox::new(MAX_SAMPLES),
            policy: Mutex::new(policy),
            counters: Counters::default(),
            listener,
        });
        options.budget.limit(engine.checkpoint().max_pixels);
        let vlm = engine.checkpoint().vlm.clone();
        let thread = {
            let inner = inner.clone();
            std::thread::Builder::new()
                .name("vlmcaption-prep".into())
                .spawn(move || Preparer::new(&inner, vlm, &options).run())?
        };
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// Hands a sampled frame over; never waits unless the policy is [`DropPolicy::Block`]. False
    /// at a flush.
    pub fn submit(&self, sample: Sample) -> bool {
        let policy = *self.inner.policy.lock().unwrap();
        // A hole inside a window is worse than a window that ends early, so it is the arriving
        // frame that gives way here, whichever windows give way later.
        let policy = if policy == DropPolicy::Block {
            policy
        } else {
            DropPolicy::Oldest
        };
        let epoch = self.inner.session.epoch();
        match self
            .inner
            .mailbox
            .send(Command::Sample(epoch, sample), policy)
        {
            Sent::Queued => true,
            Sent::Flushing(_) => false,
            Sent::Replaced(command) | Sent::Refused(command) => {
                if let Command::Sample(_, sample) = command {
                    self.inner
                        .counters
                        .dropped_frames
                        .fetch_add(1, Ordering::Relaxed);
                    let frames = vec![sample.time];
                    (self.inner.listener)(Report::Dropped {
                        reason: DropReason::Prepare,
                        frames,
                    });
                }
                true
            }
        }
    }

    /// Ends the windows being filled: they are captioned with the frames they have.
    pub fn close_window(&self) {
        let epoch = self.inner.session.epoch();
        self.inner.mailbox.send_control(Command::Close(epoch));
    }

    /// Ends the windows being filled and waits, at most `timeout`, until all is captioned.
    pub fn drain(&self, timeout: Duration) -> Waited {
        let deadline = Instant::now() + timeout;
        self.close_window();
        match self.inner.mailbox.wait_idle(deadline) {
            Waited::Idle => self.inner.session.wait_idle(deadline),
            other => other,
        }
    }

    /// Drops everything in flight and wakes whoever waits, until [`stop_flush`](Self::stop_flush).
    pub fn start_flush(&self) {
        // The mailbox first: nothing new may be stamped with the session's next epoch.
        self.inner.mailbox.start_flush();
        self.inner.session.start_flush();
    }

    /// Begins anew after [`start_flush`](Self::start_flush).
    pub fn stop_flush(&self) {
        self.inner.session.stop_flush();
        self.inner.mailbox.stop_flush();
        self.inner.mailbox.send_control(Command::Reset);
    }

    /// Changes what the next windows are asked.
    pub fn set_ask(&self, ask: Ask) {
        self.inner.session.set_ask(ask);
    }

    /// Changes the drop policy.
    pub fn set_policy(&self, policy: DropPolicy) {
        *self.inner.policy.lock().unwrap() = policy;
        self.inner.session.set_policy(policy);
    }

    /// Changes the name of the stream in prompts.
    pub fn set_stream(&self, stream: &str) {
        self.inner.session.set_stream(stream);
    }

    /// Complete windows that wait for the model.
    pub fn queued(&self) -> usize {
        self.inner.session.queued()
    }

    /// Numbers since the start.
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }
}

impl Drop for Captioner {
    fn drop(&mut self) {
        self.start_flush();
        self.inner.mailbox.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic in it was caught and reported there.
            let _ = thread.join();
        }
    }
}

/// The prepare thread: pixels to patches to windows.
struct Preparer<'a> {
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
    fn new(inner: &'a Inner, vlm: Arc<dyn Vlm>, options: &Options) -> Self {
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

    fn run(mut self) {
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
