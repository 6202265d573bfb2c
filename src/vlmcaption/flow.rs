// SPDX-License-Identifier: MPL-2.0

//! The streaming thread: buffers, events and queries on their way through.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::allocation::ask_for_more;
use super::board::Ageing;
use super::imp::{CAT, VlmCaption};
use super::output;
use super::partial::Partials;
use super::stream::Liveness;
use super::trouble::Cause;
use crate::caption::alarm::Ending;
use crate::caption::captioner::Sample;
use crate::caption::mailbox::Waited;

impl VlmCaption {
    pub(super) fn sink_chain(
        &self,
        mut buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let arrived = Instant::now();
        self.learn_liveness();
        let arrival = self.stream.lock().unwrap().arrive(&buffer);
        if let Some(complaint) = arrival.complaint {
            self.trouble(Cause::Stream, complaint);
        }
        if arrival.recovered {
            self.relief(&[Cause::Stream]);
        }
        if let Some(number) = arrival.timeline {
            self.begin_timeline(number);
        }
        if arrival.corrupted {
            gst::log!(CAT, imp = self, "passing over a damaged {buffer:?}");
            self.tally.corrupted();
        }
        if let Some(sample) = arrival.sample
            && let Some(captioner) = self.captioner()
        {
            gst::log!(CAT, imp = self, "sampling {buffer:?}");
            let (reader, sampled) = (self.reader.clone(), buffer.clone());
            captioner.submit(Sample {
                time: sample.time,
                timeline: sample.timeline,
                detection: sample.detection,
                read: Box::new(move || reader.read(&sampled, &sample.caps)),
            });
        }
        if let Some(fields) = self.fields(arrival.running_time) {
            output::attach(buffer.make_mut(), &fields, &self.obj().name());
        }
        if let Some((begin, end)) = arrival.span {
            self.text.advance(begin, end);
        }
        gst::trace!(CAT, imp = self, "pushing {buffer:?}");
        self.tally.pushes.record(arrived.elapsed());
        self.srcpad.push(buffer)
    }

    /// The stream's time went back: what was said of later times is no news of what comes now.
    fn begin_timeline(&self, number: u64) {
        gst::info!(CAT, imp = self, "time went back: timeline {number} begins");
        self.board.lock().unwrap().begin_timeline(number);
        self.text.begin_timeline(number);
    }

    /// The meta's fields for a buffer at `running_time`.
    fn fields(&self, running_time: Option<Duration>) -> Option<gst::Structure> {
        let (attach, hold) = {
            let settings = self.settings.lock().unwrap();
            (settings.attach, settings.hold())
        };
        let stride = self.stream.lock().unwrap().fixed.stride;
        let ageing = Ageing { stride, hold };
        self.board
            .lock()
            .unwrap()
            .fields(running_time, attach, ageing)
    }

    /// Asks upstream whether it is live, if it was not asked since the stream began or the pipeline
    /// has set its latency anew. Of a live stream windows may be dropped by default, and of one
    /// that does not say: a camera must not wait for a model.
    fn learn_liveness(&self) {
        // Asked again if it changes while the query is on its way.
        if std::mem::replace(&mut self.stream.lock().unwrap().liveness_asked, true) {
            return;
        }
        let mut query = gst::query::Latency::new();
        let liveness = match self.sinkpad.peer_query(&mut query) {
            false => Liveness::Unknown,
            true if query.result().0 => Liveness::Live,
            true => Liveness::NotLive,
        };
        gst::debug!(CAT, imp = self, "upstream is {liveness:?}");
        let policy = {
            let mut stream = self.stream.lock().unwrap();
            stream.liveness = liveness;
            stream.fixed.policy(liveness.may_be_live())
        };
        if let Some(captioner) = self.captioner() {
            captioner.set_policy(policy);
        }
    }

    /// Has upstream asked again whether it is live, with the next buffer.
    fn ask_liveness_again(&self) {
        self.stream.lock().unwrap().liveness_asked = false;
    }

    /// An event that could not be passed on because the element is being stopped is no error of the
    /// stream's.
    pub(super) fn sink_event_full(
        &self,
        pad: &gst::Pad,
        event: gst::Event,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        if self.sink_event(pad, event) {
            Ok(gst::FlowSuccess::Ok)
        } else if self.srcpad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            Err(gst::FlowError::Flushing)
        } else {
            Err(gst::FlowError::Error)
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        use gst::EventView;
        gst::log!(CAT, obj = pad, "handling {event:?}");
        match event.view() {
            EventView::StreamStart(start) => {
                self.close_window();
                self.ask_liveness_again();
                self.origin.lock().unwrap().stream_id = start.stream_id().to_owned();
                if let Some(captioner) = self.captioner() {
                    captioner.set_stream(start.stream_id());
                }
                self.text.stream_start(self.text_stream_start(start));
            }
            EventView::Caps(caps) => self.stream.lock().unwrap().set_caps(caps.caps()),
            EventView::Segment(segment) => {
                let jumps = self.stream.lock().unwrap().set_segment(segment.segment());
                if jumps {
                    self.close_window();
                }
                self.text.segment(event.clone());
            }
            EventView::Gap(gap) => {
                let (begin, duration) = gap.get();
                let end = begin.saturating_add(duration.unwrap_or(gst::ClockTime::ZERO));
                self.stream.lock().unwrap().skip(end);
                if let Some(captioner) = self.captioner() {
                    captioner.pass(end.into());
                }
                self.text.advance(begin, end);
            }
            EventView::FlushStart(_) => {
                if let Some(captioner) = self.captioner() {
                    captioner.start_flush();
                }
                self.end_events(Ending::Flush);
                self.text.stop();
                self.push_text_event(&event);
                let passed = self.srcpad.push_event(event);
                if let Some(pad) = self.textpad() {
                    let _ = pad.pause_task();
                }
                return passed;
            }
            EventView::FlushStop(_) => {
                self.stream.lock().unwrap().flush();
                self.board.lock().unwrap().clear();
                *self.partials.lock().unwrap() = Partials::default();
                self.text.flush();
                if let Some(captioner) = self.captioner() {
                    captioner.stop_flush();
                }
                self.push_text_event(&event);
                if let Some(pad) = self.textpad()
                    && let Err(error) = self.text.start(&pad)
                {
                    error.log_with_imp(self);
                }
            }
            EventView::Eos(_) => {
                self.drain();
                self.end_events(Ending::Eos);
                self.text.end(event.clone());
            }
            EventView::SegmentDone(_) => self.text.end(event.clone()),
            _ => {}
        }
        self.srcpad.push_event(event)
    }

    /// An event from downstream of the video, or a seek from downstream of the text. A seek of the
    /// pipeline comes from both and is done once.
    pub(super) fn src_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Latency {
            self.ask_liveness_again();
        }
        if event.type_() != gst::EventType::Seek {
            return self.sinkpad.push_event(event);
        }
        let seqnum = event.seqnum();
        if *self.sought.lock().unwrap() == Some(seqnum) {
            return true;
        }
        let done = self.sinkpad.push_event(event);
        if done {
            *self.sought.lock().unwrap() = Some(seqnum);
        }
        done
    }

    pub(super) fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.type_() {
            // Video concerns the video pad alone: the default would ask the text pad too.
            gst::QueryType::Allocation => {
                let answered = self.srcpad.peer_query(query);
                match query.view_mut() {
                    gst::QueryViewMut::Allocation(query) => ask_for_more(query, answered),
                    _ => answered,
                }
            }
            gst::QueryType::Caps | gst::QueryType::AcceptCaps | gst::QueryType::Drain => {
                self.srcpad.peer_query(query)
                    || gst::Pad::query_default(pad, Some(&*self.obj()), query)
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// The stream ends: waits for what is still being captioned.
    fn drain(&self) {
        let Some(captioner) = self.captioner() else {
            return;
        };
        let timeout = self.settings.lock().unwrap().eos_timeout();
        if captioner.drain(timeout) == Waited::TimedOut {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                (
                    "the stream ended before its last captions were ready; raise eos-timeout \
                     (now {} s) or lower max-tokens",
                    timeout.as_secs()
                )
            );
        }
    }

    fn close_window(&self) {
        if let Some(captioner) = self.captioner() {
            captioner.close_window();
        }
    }

    pub(super) fn textpad(&self) -> Option<gst::Pad> {
        self.textpad.lock().unwrap().clone()
    }

    fn push_text_event(&self, event: &gst::Event) {
        if let Some(pad) = self.textpad() {
            pad.push_event(event.clone());
        }
    }

    /// The text is a stream of its own, in the group of the video.
    fn text_stream_start(&self, video: &gst::event::StreamStart) -> gst::Event {
        let id = format!("{}/text", video.stream_id());
        let mut builder = gst::event::StreamStart::builder(&id)
            .flags(gst::StreamFlags::SPARSE)
            .seqnum(video.seqnum());
        if let Some(group) = video.group_id() {
            builder = builder.group_id(group);
        }
        builder.build()
    }
}
