// SPDX-License-Identifier: MPL-2.0

//! What the model's threads report, as messages, signals, text and numbers.

use std::sync::{Arc, Weak};
use std::time::Duration;

use gst::prelude::*;

use super::enums::TextTiming;
use super::faults::Cause;
use super::log::CAT;
use super::output::{self, Origin};
use super::partial::Partial;
use super::post;
use super::run::{Loading, Run};
use super::settings::Fixed;
use super::shared::Shared;
use super::text::{Begin, Text};
use super::words;
use crate::caption::gate::Gated;
use crate::caption::ladder::Step;
use crate::caption::outbox::Listener;
use crate::caption::question::Kind;
use crate::caption::window::FrameTime;
use crate::caption::{Caption, InquiryReport, ModelReport, Notice, Report, WindowReport};

/// Somebody reports to a run of the element.
pub(super) struct Reporter<'a> {
    pub element: &'a gst::Element,
    pub shared: &'a Shared,
    pub run: &'a Run,
    /// Who reports.
    pub by: &'a Origin,
}

/// What the threads below call; it does not keep the element alive.
pub(super) fn listener(shared: &Arc<Shared>, run: Arc<Run>, by: Origin) -> Listener {
    let weak = Arc::downgrade(shared);
    Arc::new(move |report| hear(&weak, &run, &by, report))
}

/// Takes a report, if the element is still there.
pub(super) fn hear(shared: &Weak<Shared>, run: &Run, by: &Origin, report: Report) {
    let Some(shared) = shared.upgrade() else {
        return;
    };
    let Some(element) = shared.element() else {
        return;
    };
    let reporter = Reporter {
        element: &element,
        shared: &shared,
        run,
        by,
    };
    reporter.report(report);
}

/// Tells the user what he should know of a model.
pub(super) fn post_notices(element: &gst::Element, notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::Info(text) => post::info(element, gst::LibraryError::Settings, text),
            Notice::Warning(text) => post::warning(element, gst::LibraryError::Settings, text),
        }
    }
}

impl Reporter<'_> {
    pub fn report(&self, report: Report) {
        match words::cleaned(report) {
            Report::Model(report) => self.of_model(report),
            Report::Window(report) => self.of_window(report),
            Report::Inquiry(InquiryReport { id, answer }) => {
                let origin = self.run.origin_of(&self.element.name(), self.by);
                let answer = answer.as_deref().map_err(String::as_str);
                if let (Some(keeper), Ok(answer)) = (&self.run.keeper, answer) {
                    keeper.keep_inquiry(answer, &origin);
                }
                self.run.inquiry_answered(self.element, id, answer, &origin);
            }
        }
    }

    fn of_model(&self, report: ModelReport) {
        let (element, run) = (self.element, self.run);
        match report {
            ModelReport::Loading(part) => run.loading(element, part),
            ModelReport::Loaded {
                took,
                remark,
                notices,
            } => self.loaded(took, remark, &notices),
            ModelReport::Failed(reason) => {
                run.end_loading(element, Loading::Idle, gst::ProgressType::Error);
                let reason = format!("the model cannot be used: {reason}");
                run.fault(element, Cause::Load, &reason);
            }
            ModelReport::ChangedOver => {}
            ModelReport::Restarting => {
                gst::info!(
                    CAT,
                    obj = element,
                    "the device failed: loading the model anew"
                );
            }
        }
    }

    fn of_window(&self, report: WindowReport) {
        let (element, run) = (self.element, self.run);
        match report {
            WindowReport::Partial {
                sequence,
                prompt_id,
                text,
            } => {
                let partial = Partial {
                    sequence,
                    prompt_id,
                    text,
                };
                run.partial(element, partial);
            }
            WindowReport::Cut { frames, of, tokens } => self.cut(frames, of, tokens),
            WindowReport::Caption(caption) => self.caption(&caption),
            WindowReport::QuestionFailed { id, reason } => {
                run.question_failed(element, id, &reason);
            }
            WindowReport::Failed { reason, .. } => {
                run.post_last_partial(element);
                run.fault(element, Cause::Window, &reason);
            }
            WindowReport::Overload(step) => self.overloaded(step),
            WindowReport::Unasked => gst::debug!(CAT, obj = element, "no question is due"),
            WindowReport::Gated { why, frames } => self.gated(why, &frames),
            WindowReport::Dropped { reason, count } => {
                let reason = output::drop_reason(reason);
                gst::debug!(CAT, obj = element, "dropped {count}: {reason}");
                run.dropped(element, reason, count);
            }
        }
    }

    fn loaded(&self, took: Duration, remark: Option<String>, notices: &[Notice]) {
        gst::info!(CAT, obj = self.element, "model ready after {took:?}");
        if let Some(remark) = remark {
            gst::debug!(CAT, obj = self.element, "{remark}");
        }
        post_notices(self.element, notices);
        self.run
            .end_loading(self.element, Loading::Idle, gst::ProgressType::Complete);
        self.run.recovered(self.element, &[Cause::Load]);
    }

    fn caption(&self, caption: &Caption) {
        let (element, run) = (self.element, self.run);
        gst::info!(
            CAT,
            obj = element,
            "window {}, {}: {:?} ({} tokens in, {} out, {:?})",
            caption.sequence,
            caption.question.id,
            caption.text,
            caption.tokens_in,
            caption.tokens_out,
            caption.total
        );
        gst::trace!(
            CAT,
            obj = element,
            "turn of window {} on timeline {}: waited {:?}, first token after {:?}, {} rows reused",
            caption.sequence,
            caption.window_info.timeline,
            caption.queue_wait,
            caption.ttft,
            caption.reused
        );
        run.tally.caption(caption);
        run.post_last_partial(element);
        let origin = run.origin_of(&element.name(), self.by);
        let is_main = run.state().board.post(caption, &origin);
        run.recovered(element, &[Cause::Window, Cause::Load, Cause::Silence]);
        if caption.question.kind == Kind::Caption {
            self.push_text(caption);
        }
        let mut structure = output::structure("vlmcaption/caption", caption, &origin);
        structure.set("status", output::Status::Fresh.as_str());
        if let Some(age) = self.age(caption) {
            structure.set("age", output::nanos(age));
        }
        element.emit_by_name::<()>("caption", &[&structure]);
        if is_main {
            element.notify("caption");
        }
        post::structure(element, structure);
        let alarm = run.answer_alarm(element, caption);
        if let Some(keeper) = &run.keeper {
            keeper.keep(caption, &origin, alarm);
        }
    }

    /// Time from a caption's last frame to now: by the clock, or by the video where that is ahead.
    /// `None` if both are before that frame, since time went back.
    fn age(&self, caption: &Caption) -> Option<Duration> {
        let clock = self.element.current_running_time().map(Duration::from);
        let now = clock.max(self.run.state().stream.position())?;
        now.checked_sub(caption.frames.last()?.running_time)
    }

    fn push_text(&self, caption: &Caption) {
        if self.shared.textpad().is_none() {
            return;
        }
        let timing = self.shared.settings().text_timing;
        let (live, Fixed { stride, period, .. }) = {
            let stream = &self.run.state().stream;
            (stream.liveness.may_be_live(), stream.fixed)
        };
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
        self.shared.text.push(Text {
            text: caption.text.clone(),
            begin,
            duration: clock_time(if arrival { stride } else { span }),
            timeline: caption.window_info.timeline,
        });
    }

    /// Windows are too large for the model: the user is told once.
    fn cut(&self, frames: usize, of: usize, tokens: usize) {
        if !self.run.state().first_cut() {
            return;
        }
        let text = format!(
            "a window of {of} frames is more than the model holds: captions are about its \
             last {frames} frames ({tokens} tokens); lower window, max-pixels, video-ratio or \
             max-tokens"
        );
        post::warning(self.element, gst::LibraryError::Settings, &text);
    }

    /// Captions come too late: the user is told what gives way, at first and at last.
    fn overloaded(&self, step: Step) {
        let budget = self.shared.settings().latency_budget();
        let gives_way = match step {
            Step::Skip => "windows are left out, too: this device is too slow for this model",
            _ => {
                "captions are made shorter, then of fewer frames, fewer pixels and fewer windows, \
                 until they come in time"
            }
        };
        let text = format!(
            "captions come later than latency-budget ({} ms) allows: {gives_way}; raise \
             latency-budget, lower max-tokens, window or max-pixels, or take a smaller model",
            budget.as_millis()
        );
        post::warning(self.element, gst::ResourceError::Busy, &text);
    }

    /// A window was kept from the model; if nothing moved, the last caption still holds.
    fn gated(&self, why: Gated, frames: &[FrameTime]) {
        let n_frames = frames.len();
        gst::debug!(
            CAT,
            obj = self.element,
            "not captioned: {why:?}, {n_frames} frames"
        );
        if let (Gated::Still(sequence), Some(last)) = (why, frames.last()) {
            self.run.state().board.confirm(sequence, *last);
        }
    }
}
