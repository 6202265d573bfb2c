// SPDX-License-Identifier: MPL-2.0

//! The streaming thread: buffers, events and queries on their way through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;

use super::allocation::ask_for_more;
use super::analytics;
use super::board::Ageing;
use super::faults::Cause;
use super::log::CAT;
use super::output;
use super::post;
use super::run::Run;
use super::shared::Shared;
use super::stream::{Liveness, Sampled};
use crate::caption::alarm::Ending;
use crate::caption::captioner::{Captioner, Sample};
use crate::caption::mailbox::Waited;

/// Something of the video's on its way through the element.
pub(super) struct Flow<'a> {
    element: &'a gst::Element,
    shared: &'a Shared,
    run: Option<Arc<Run>>,
}

/// Buffers.
impl<'a> Flow<'a> {
    pub fn new(element: &'a gst::Element, shared: &'a Shared) -> Self {
        Self {
            element,
            shared,
            run: shared.run(),
        }
    }

    pub fn chain(&self, mut buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrived = Instant::now();
        let Some(run) = self.run.as_deref() else {
            return self.shared.srcpad.push(buffer);
        };
        self.learn_liveness(run);
        let arrival = run.state().stream.arrive(&buffer);
        if let Some(complaint) = arrival.complaint {
            run.fault(self.element, Cause::Stream, complaint);
        }
        if arrival.recovered {
            run.recovered(self.element, &[Cause::Stream]);
        }
        if let Some(number) = arrival.timeline {
            self.begin_timeline(run, number);
        }
        if arrival.corrupted {
            gst::log!(CAT, obj = self.element, "passing over a damaged {buffer:?}");
            run.corrupted();
        }
        if let Some(sample) = arrival.sample {
            self.submit(run, sample, &buffer);
        }
        if let Some(fields) = self.fields(run, arrival.running_time) {
            output::attach(buffer.make_mut(), &fields, &self.element.name());
            let classes = run.state().numbered.questions.classes();
            if !classes.is_empty() {
                analytics::add_classes(buffer.make_mut(), &classes);
            }
        }
        if let Some((begin, end)) = arrival.span {
            self.shared.text.advance(begin, end);
        }
        gst::trace!(CAT, obj = self.element, "pushing {buffer:?}");
        run.tally.pushes.record(arrived.elapsed());
        let pushed = self.shared.srcpad.push(buffer);
        pushed.or_else(|error| self.combined(error))
    }

    /// What upstream hears of a buffer that the video's reader did not take. While the text's still
    /// reads the stream goes on; once both have ended it ends, and an error of either is heard.
    fn combined(&self, error: gst::FlowError) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut readers = gst_base::UniqueFlowCombiner::new();
        readers.add_pad(&self.shared.srcpad);
        if let Some(pad) = self.read_textpad() {
            readers.add_pad(&pad);
        }
        readers.update_flow(Err(error))
    }

    /// The text pad, if it is linked. FLUSHING of the text alone must not stop the source, so a
    /// reader that flushes does not count.
    fn read_textpad(&self) -> Option<gst::Pad> {
        self.shared.textpad().filter(|pad| {
            pad.is_linked() && pad.last_flow_result() != Err(gst::FlowError::Flushing)
        })
    }

    /// Has a frame looked at: its pixels are read on another thread.
    fn submit(&self, run: &Run, sample: Sampled, buffer: &gst::Buffer) {
        let Some(captioner) = self.shared.captioner() else {
            return;
        };
        gst::log!(CAT, obj = self.element, "sampling {buffer:?}");
        gst::trace!(
            CAT,
            obj = self.element,
            "sample of timeline {} for epoch {}",
            sample.timeline,
            captioner.epoch()
        );
        let (reader, buffer) = (run.reader.clone(), buffer.clone());
        captioner.submit(Sample {
            time: sample.time,
            timeline: sample.timeline,
            detection: sample.detection,
            read: Box::new(move || reader.read(&buffer, &sample.caps)),
        });
    }

    /// The stream's time went back: what was said of later times is no news of what comes now.
    fn begin_timeline(&self, run: &Run, number: u64) {
        gst::info!(
            CAT,
            obj = self.element,
            "time went back: timeline {number} begins"
        );
        run.state().board.begin_timeline(number);
        self.shared.text.begin_timeline(number);
    }

    /// The meta's fields for a buffer at `running_time`.
    fn fields(&self, run: &Run, running_time: Option<Duration>) -> Option<gst::Structure> {
        let (attach, hold) = {
            let settings = self.shared.settings();
            (settings.attach, settings.hold())
        };
        let mut state = run.state();
        let stride = state.stream.fixed.stride;
        let ageing = Ageing { stride, hold };
        state.board.fields(running_time, attach, ageing)
    }

    /// Asks upstream whether it is live, if it was not asked since the stream began or the pipeline
    /// has set its latency anew. Of a live stream windows may be dropped by default, and of one
    /// that does not say: a camera must not wait for a model.
    fn learn_liveness(&self, run: &Run) {
        // Asked again if it changes while the query is on its way.
        if std::mem::replace(&mut run.state().stream.liveness_asked, true) {
            return;
        }
        let mut query = gst::query::Latency::new();
        let liveness = match self.shared.sinkpad.peer_query(&mut query) {
            false => Liveness::Unknown,
            true if query.result().0 => Liveness::Live,
            true => Liveness::NotLive,
        };
        gst::debug!(CAT, obj = self.element, "upstream is {liveness:?}");
        let policy = {
            let stream = &mut run.state().stream;
            stream.liveness = liveness;
            stream.fixed.policy(liveness.may_be_live())
        };
        if let Some(captioner) = self.shared.captioner() {
            captioner.set_policy(policy);
        }
    }
}

/// Events.
impl Flow<'_> {
    /// An event that could not be passed on because the element is being stopped is no error of the
    /// stream's.
    pub fn sink_event_full(
        &self,
        pad: &gst::Pad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let srcpad = &self.shared.srcpad;
        if self.sink_event(pad, event) {
            Ok(gst::FlowSuccess::Ok)
        } else if srcpad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            Err(gst::FlowError::Flushing)
        } else if !srcpad.is_linked() && self.read_textpad().is_some() {
            // The text alone is read, and has its own events.
            Ok(gst::FlowSuccess::Ok)
        } else {
            Err(gst::FlowError::Error)
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, obj = pad, "handling {event:?}");
        let text = &self.shared.text;
        match event.view() {
            EventView::StreamStart(start) => self.stream_start(start),
            EventView::Caps(caps) => {
                if let Some(run) = &self.run {
                    run.state().stream.set_caps(caps.caps());
                }
            }
            EventView::Segment(segment) => {
                let set = |run: &Arc<Run>| run.state().stream.set_segment(segment.segment());
                if self.run.as_ref().is_some_and(set) {
                    self.captioner(Captioner::close_window);
                }
                text.segment(event.clone());
            }
            EventView::Gap(gap) => self.gap(gap),
            EventView::FlushStart(_) => return self.flush_start(event),
            EventView::FlushStop(_) => self.flush_stop(&event),
            EventView::Eos(_) => {
                self.drain();
                self.end_events(Ending::Eos);
                text.end(event.clone());
            }
            EventView::SegmentDone(_) => text.end(event.clone()),
            _ => {}
        }
        self.shared.srcpad.push_event(event)
    }

    fn stream_start(&self, start: &gst::event::StreamStart) {
        let id = start.stream_id();
        self.captioner(Captioner::close_window);
        if let Some(run) = &self.run {
            let mut state = run.state();
            state.stream.liveness_asked = false;
            state.set_stream_id(id);
        }
        self.captioner(|captioner| captioner.set_stream(id));
        self.shared.text.stream_start(text_stream_start(start));
    }

    fn gap(&self, gap: &gst::event::Gap) {
        let (begin, duration) = gap.get();
        let end = begin.saturating_add(duration.unwrap_or(gst::ClockTime::ZERO));
        if let Some(run) = &self.run {
            run.state().stream.skip(end);
        }
        self.captioner(|captioner| captioner.pass(end.into()));
        self.shared.text.advance(begin, end);
    }

    fn flush_start(&self, event: gst::Event) -> bool {
        self.captioner(Captioner::start_flush);
        self.end_events(Ending::Flush);
        self.shared.text.stop();
        let textpad = self.shared.textpad();
        if let Some(pad) = &textpad {
            pad.push_event(event.clone());
        }
        let passed = self.shared.srcpad.push_event(event);
        if let Some(pad) = &textpad {
            let _ = pad.pause_task();
        }
        passed
    }

    fn flush_stop(&self, event: &gst::Event) {
        if let Some(run) = &self.run {
            run.flush();
        }
        self.shared.text.flush();
        self.captioner(|captioner| {
            captioner.stop_flush();
            let epoch = captioner.epoch();
            gst::trace!(CAT, obj = self.element, "epoch {epoch} begins by a flush");
        });
        let Some(pad) = self.shared.textpad() else {
            return;
        };
        pad.push_event(event.clone());
        if let Err(error) = self.shared.text.start(&pad) {
            error.log_with_object(self.element);
        }
    }

    /// An event from downstream of the video, or a seek from downstream of the text. A seek of the
    /// pipeline comes from both and is done once.
    pub fn src_event(&self, event: gst::Event) -> bool {
        let sinkpad = &self.shared.sinkpad;
        if event.type_() == gst::EventType::Latency
            && let Some(run) = &self.run
        {
            run.state().stream.liveness_asked = false;
        }
        if event.type_() != gst::EventType::Seek {
            return sinkpad.push_event(event);
        }
        let seqnum = event.seqnum();
        let is_done = |run: &Arc<Run>| run.state().sought == Some(seqnum);
        if self.run.as_ref().is_some_and(is_done) {
            return true;
        }
        let done = sinkpad.push_event(event);
        if done && let Some(run) = &self.run {
            run.state().sought = Some(seqnum);
        }
        done
    }

    /// The stream ends: waits for what is still being captioned.
    fn drain(&self) {
        let timeout = self.shared.settings().eos_timeout();
        let Some(captioner) = self.shared.captioner() else {
            return;
        };
        if captioner.drain(timeout) == Waited::TimedOut {
            let text = format!(
                "the stream ended before its last captions were ready; raise eos-timeout \
                 (now {} s) or lower max-tokens",
                timeout.as_secs()
            );
            post::warning(self.element, gst::StreamError::Failed, &text);
        }
    }

    fn end_events(&self, ending: Ending) {
        if let Some(run) = &self.run {
            run.end_events(self.element, ending);
        }
    }

    fn captioner(&self, call: impl FnOnce(&Captioner)) {
        if let Some(captioner) = self.shared.captioner() {
            call(&captioner);
        }
    }
}

/// Queries.
impl Flow<'_> {
    pub fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let srcpad = &self.shared.srcpad;
        match query.type_() {
            // Video concerns the video pad alone: the default would ask the text pad too.
            gst::QueryType::Allocation => {
                let answered = srcpad.peer_query(query);
                match query.view_mut() {
                    gst::QueryViewMut::Allocation(query) => ask_for_more(query, answered),
                    _ => answered,
                }
            }
            gst::QueryType::Caps | gst::QueryType::AcceptCaps | gst::QueryType::Drain => {
                srcpad.peer_query(query) || gst::Pad::query_default(pad, Some(self.element), query)
            }
            _ => gst::Pad::query_default(pad, Some(self.element), query),
        }
    }
}

/// The text is a stream of its own, in the group of the video.
fn text_stream_start(video: &gst::event::StreamStart) -> gst::Event {
    let id = format!("{}/text", video.stream_id());
    let mut builder = gst::event::StreamStart::builder(&id)
        .flags(gst::StreamFlags::SPARSE)
        .seqnum(video.seqnum());
    if let Some(group) = video.group_id() {
        builder = builder.group_id(group);
    }
    builder.build()
}
