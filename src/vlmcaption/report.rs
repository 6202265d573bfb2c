// SPDX-License-Identifier: MPL-2.0

//! What the model's threads report, as messages, signals, text and numbers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::enums::TextTiming;
use super::imp::{CAT, VlmCaption};
use super::output::{self, Origin};
use super::partial::Partial;
use super::settings::Fixed;
use super::stats::Loading;
use super::text::{Begin, Text};
use super::trouble::Cause;
use super::words;
use crate::caption::gate::Gated;
use crate::caption::ladder::Step;
use crate::caption::question::Kind;
use crate::caption::window::FrameTime;
use crate::caption::{Caption, Report};

impl VlmCaption {
    /// `by` is who reports.
    pub(super) fn report(&self, report: Report, by: &Origin) {
        match words::cleaned(report) {
            Report::Loading(part) => {
                let before = {
                    let mut loading = self.tally.loading.lock().unwrap();
                    let before = *loading;
                    if before == Loading::Idle {
                        *loading = Loading::Told;
                    }
                    before
                };
                match before {
                    Loading::Over => return,
                    Loading::Idle => self.post_loading(gst::ProgressType::Start, 0.0),
                    Loading::Told => {}
                }
                self.post_loading(gst::ProgressType::Continue, part);
            }
            Report::Loaded { took, remark } => {
                gst::info!(CAT, imp = self, "model ready after {took:?}");
                if let Some(remark) = remark {
                    gst::debug!(CAT, imp = self, "{remark}");
                }
                self.end_loading(Loading::Idle, gst::ProgressType::Complete);
                self.relief(&[Cause::Load]);
            }
            Report::LoadFailed(reason) => {
                self.end_loading(Loading::Idle, gst::ProgressType::Error);
                let reason = format!("the model cannot be used: {reason}");
                self.trouble(Cause::Load, &reason);
            }
            Report::ChangedOver => {}
            Report::Restarting => {
                gst::info!(CAT, imp = self, "the device failed: loading the model anew");
                // What the vision net made of frames is gone with it.
                if let Some(captioner) = self.captioner() {
                    captioner.restart();
                }
            }
            Report::Partial {
                sequence,
                prompt_id,
                text,
            } => self.partial(Partial {
                sequence,
                prompt_id,
                text,
            }),
            Report::Answer { id, answer } => self.answered(id, answer, by),
            Report::Cut { frames, of, tokens } => self.cut(frames, of, tokens),
            Report::Caption(caption) => self.caption(&caption, by),
            Report::QuestionFailed { id, reason } => self.question_failed(id, &reason),
            Report::Failed { reason, .. } => {
                self.post_last_partial();
                self.trouble(Cause::Window, &reason);
            }
            Report::Overload(step) => self.overloaded(step),
            Report::Unasked => gst::debug!(CAT, imp = self, "no question is due"),
            Report::Gated { why, frames } => self.gated(why, &frames),
            Report::Dropped { reason, frames } => {
                let reason = output::drop_reason(reason);
                gst::debug!(CAT, imp = self, "dropped {} frames: {reason}", frames.len());
                self.dropped(reason, 1);
            }
        }
    }

    fn caption(&self, caption: &Caption, by: &Origin) {
        gst::info!(
            CAT,
            imp = self,
            "window {}, {}: {:?} ({} tokens in, {} out, {:?})",
            caption.sequence,
            caption.question.id,
            caption.text,
            caption.tokens_in,
            caption.tokens_out,
            caption.total
        );
        self.tally.caption(caption);
        self.post_last_partial();
        let origin = self.origin_of(by);
        let is_main = self.board.lock().unwrap().post(caption, &origin);
        self.relief(&[Cause::Window, Cause::Load, Cause::Silence]);
        if caption.question.kind == Kind::Caption {
            self.push_text(caption);
        }
        let mut structure = output::structure("vlmcaption/caption", caption, &origin);
        structure.set("status", output::Status::Fresh.as_str());
        if let Some(age) = self.age(caption) {
            structure.set("age", output::nanos(age));
        }
        self.obj().emit_by_name::<()>("caption", &[&structure]);
        if is_main {
            self.obj().notify("caption");
        }
        self.post(structure);
        self.feed_alarm(caption);
    }

    /// Who reports, about this stream.
    pub(super) fn origin_of(&self, by: &Origin) -> Origin {
        Origin {
            element: self.obj().name().into(),
            stream_id: self.origin.lock().unwrap().stream_id.clone(),
            ..by.clone()
        }
    }

    /// Time from a caption's last frame to now: by the clock, or by the video where that is ahead.
    /// `None` if both are before that frame, since time went back.
    fn age(&self, caption: &Caption) -> Option<Duration> {
        let clock = self.obj().current_running_time().map(Duration::from);
        let now = clock.max(self.stream.lock().unwrap().position())?;
        now.checked_sub(caption.frames.last()?.running_time)
    }

    fn push_text(&self, caption: &Caption) {
        if self.textpad().is_none() {
            return;
        }
        let (live, Fixed { stride, period, .. }) = {
            let stream = self.stream.lock().unwrap();
            (stream.liveness.may_be_live(), stream.fixed)
        };
        let timing = self.settings.lock().unwrap().text_timing;
        let clock_time = |time: Duration| gst::ClockTime::from_nseconds(output::nanos(time));
        let arrival = match timing {
            TextTiming::Auto => live,
            TextTiming::Arrival => true,
            TextTiming::Window => false,
        };
        let span = caption.end().saturating_sub(caption.start()) + period;
        let begin = match caption.frames.first() {
            Some(frame) if !arrival => Begin::Window {
                pts: clock_time(frame.pts),
                running_time: frame.running_time,
            },
            _ if live => Begin::Live,
            _ => Begin::Arrival,
        };
        self.text.push(Text {
            text: caption.text.clone(),
            begin,
            duration: clock_time(if arrival { stride } else { span }),
            timeline: caption.note.timeline,
        });
    }

    /// Windows are too large for the model: the user is told once.
    fn cut(&self, frames: usize, of: usize, tokens: usize) {
        if self.tally.cut.swap(true, Ordering::Relaxed) {
            return;
        }
        gst::element_imp_warning!(
            self,
            gst::LibraryError::Settings,
            ("a window of {of} frames is more than the model holds: captions are about its \
                 last {frames} frames ({tokens} tokens); lower window, max-pixels, video-ratio or \
                 max-tokens")
        );
    }

    /// Captions come too late: the user is told what gives way, at first and at last.
    fn overloaded(&self, step: Step) {
        let budget = self.settings.lock().unwrap().latency_budget();
        let gives_way = match step {
            Step::Skip => "windows are left out, too: this device is too slow for this model",
            _ => {
                "captions are made shorter, then of fewer frames, fewer pixels and fewer windows, \
                 until they come in time"
            }
        };
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Busy,
            (
                "captions come later than latency-budget ({} ms) allows: {gives_way}; raise \
                 latency-budget, lower max-tokens, window or max-pixels, or take a smaller model",
                budget.as_millis()
            )
        );
    }

    /// A window was kept from the model; if nothing moved, the last caption still holds.
    fn gated(&self, why: Gated, frames: &[FrameTime]) {
        gst::debug!(
            CAT,
            imp = self,
            "not captioned: {why:?}, {} frames",
            frames.len()
        );
        if let (Gated::Still(sequence), Some(last)) = (why, frames.last()) {
            self.board.lock().unwrap().confirm(sequence, *last);
        }
    }

    /// Ends the progress messages, if they were begun.
    pub(super) fn end_loading(&self, next: Loading, how: gst::ProgressType) {
        let before = std::mem::replace(&mut *self.tally.loading.lock().unwrap(), next);
        if before == Loading::Told {
            let complete = how == gst::ProgressType::Complete;
            self.post_loading(how, f32::from(u8::from(complete)));
        }
    }

    fn post_loading(&self, kind: gst::ProgressType, part: f32) {
        let text = format!("reading the model's weights: {:.0} %", part * 100.0);
        let progress = gst::message::Progress::builder(kind, "loading", &text);
        self.post_message(progress.src(&*self.obj()).build());
        let structure =
            gst::Structure::builder("vlmcaption/loading").field("progress", f64::from(part));
        self.post(structure.build());
    }

    pub(super) fn post(&self, structure: gst::Structure) {
        self.post_message(
            gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build(),
        );
    }

    fn post_message(&self, message: gst::Message) {
        // Without a bus nobody asked for messages.
        let _ = self.obj().post_message(message);
    }
}
