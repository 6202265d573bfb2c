// SPDX-License-Identifier: MPL-2.0

//! Numbers of an element since it went to PAUSED, and what is told of them by the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::histogram::Histogram;
use super::imp::VlmCaption;
use super::output::nanos;
use crate::caption::Caption;
use crate::caption::prompt::iso8601;

/// A `vlmcaption/dropped` message is posted at most this often for each reason.
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);

/// Counted by the element itself.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) captions: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) tokens_in: AtomicU64,
    pub(super) tokens_out: AtomicU64,
    reused_tokens: AtomicU64,
    reused_pairs: AtomicU64,
    /// From a buffer's arrival to its push, less the push.
    pub(super) pushes: Histogram,
    /// From a window's turn to its first token.
    ttft: Histogram,
    ttft_last: AtomicU64,
    /// Tokens after the first, and the time they took, ns.
    decoded: AtomicU64,
    decode_time: AtomicU64,
    pub(super) drops: Mutex<Drops>,
    /// Frames that were due and damaged.
    corrupted: AtomicU64,
    /// Captions dropped by the text pad that were told of.
    text_told: AtomicU64,
    pub(super) clock: Mutex<Clock>,
    pub(super) last_error: Mutex<Option<LastError>>,
    pub(super) loading: Mutex<Loading>,
    /// Properties of which was said that they wait for the next start.
    pub(super) late: Mutex<BTreeSet<String>>,
    /// The user was told that windows are cut.
    pub(super) cut: AtomicBool,
}

/// Progress messages about the model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Loading {
    /// None was begun.
    #[default]
    Idle,
    /// Begun, and not ended.
    Told,
    /// There are to be none: the element has stopped.
    Over,
}

/// The last thing that went wrong.
pub(super) struct LastError {
    reason: String,
    /// Since the Unix epoch.
    at: Duration,
}

/// What is done by the clock.
#[derive(Default)]
pub(super) struct Clock {
    /// When the element went to PAUSED.
    began: Option<Instant>,
    /// When statistics were posted last.
    posted: Option<Instant>,
}

/// What was dropped and not yet told of, by reason.
#[derive(Default)]
pub(super) struct Drops(BTreeMap<&'static str, Untold>);

#[derive(Default)]
struct Untold {
    count: u64,
    told: Option<Instant>,
}

impl Drops {
    pub fn add(&mut self, reason: &'static str, count: u64) {
        self.0.entry(reason).or_default().count += count;
    }

    /// Takes the reasons and counts of which it is time to tell.
    pub fn due(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut due = Vec::new();
        for (reason, untold) in &mut self.0 {
            if untold.count > 0 && untold.next().is_none_or(|next| next <= now) {
                due.push((*reason, std::mem::take(&mut untold.count)));
                untold.told = Some(now);
            }
        }
        due
    }

    /// Takes all reasons and counts.
    pub fn all(&mut self) -> Vec<(&'static str, u64)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.filter(|(_, untold)| untold.count > 0)
            .map(|(reason, untold)| (reason, untold.count))
            .collect()
    }

    /// When something is to be told next.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.0.values().filter(|untold| untold.count > 0);
        waiting.filter_map(Untold::next).min()
    }
}

impl Untold {
    fn next(&self) -> Option<Instant> {
        self.told.map(|told| told + DROPPED_INTERVAL)
    }
}

impl Tally {
    /// Begins anew.
    pub fn reset(&self) {
        for number in [
            &self.captions,
            &self.failed,
            &self.tokens_in,
            &self.tokens_out,
            &self.reused_tokens,
            &self.reused_pairs,
            &self.ttft_last,
            &self.decoded,
            &self.decode_time,
            &self.corrupted,
            &self.text_told,
        ] {
            number.store(0, Relaxed);
        }
        self.pushes.reset();
        self.ttft.reset();
        *self.drops.lock().unwrap() = Drops::default();
        *self.clock.lock().unwrap() = Clock {
            began: Some(Instant::now()),
            posted: None,
        };
        *self.last_error.lock().unwrap() = None;
        self.cut.store(false, Relaxed);
        *self.loading.lock().unwrap() = Loading::Idle;
        self.late.lock().unwrap().clear();
    }

    pub fn caption(&self, caption: &Caption) {
        self.captions.fetch_add(1, Relaxed);
        self.tokens_in.fetch_add(caption.tokens_in as u64, Relaxed);
        self.tokens_out
            .fetch_add(caption.tokens_out as u64, Relaxed);
        self.reused_tokens.fetch_add(caption.reused as u64, Relaxed);
        self.reused_pairs
            .fetch_add(caption.reused_pairs as u64, Relaxed);
        self.ttft.record(caption.ttft);
        self.ttft_last.store(nanos(caption.ttft), Relaxed);
        let later = caption.tokens_out.saturating_sub(1) as u64;
        let took = caption.total.saturating_sub(caption.ttft);
        self.decoded.fetch_add(later, Relaxed);
        self.decode_time.fetch_add(nanos(took), Relaxed);
    }

    /// A frame was passed over because it is damaged. Called on the streaming thread: it is told of
    /// by the clock.
    pub fn corrupted(&self) {
        self.corrupted.fetch_add(1, Relaxed);
        self.drops.lock().unwrap().add("corrupted", 1);
    }

    pub fn error(&self, reason: &str) {
        self.failed.fetch_add(1, Relaxed);
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        *self.last_error.lock().unwrap() = Some(LastError {
            reason: reason.to_owned(),
            at: at.unwrap_or_default(),
        });
    }

    /// Tokens after the first per second; 0 before there was one.
    fn decode_rate(&self) -> f64 {
        let time = Duration::from_nanos(self.decode_time.load(Relaxed));
        let tokens = self.decoded.load(Relaxed);
        if time.is_zero() || tokens == 0 {
            0.0
        } else {
            tokens as f64 / time.as_secs_f64()
        }
    }
}

impl VlmCaption {
    /// Everything that is counted; the fields are described in `docs/element.md`.
    pub(super) fn stats(&self, name: &str) -> gst::Structure {
        let tally = &self.tally;
        let began = tally.clock.lock().unwrap().began;
        let uptime = began.map_or(Duration::ZERO, |began| began.elapsed());
        let builder = gst::Structure::builder(name)
            .field("uptime", nanos(uptime))
            .field("buffers", tally.pushes.count())
            .field("push-p50", tally.pushes.percentile(50))
            .field("push-p95", tally.pushes.percentile(95))
            .field("push-p99", tally.pushes.percentile(99))
            .field("push-max", tally.pushes.max())
            .field("captions", tally.captions.load(Relaxed))
            .field("failed", tally.failed.load(Relaxed))
            .field("tokens-in", tally.tokens_in.load(Relaxed))
            .field("tokens-out", tally.tokens_out.load(Relaxed))
            .field("reused-tokens", tally.reused_tokens.load(Relaxed))
            .field("reused-pairs", tally.reused_pairs.load(Relaxed))
            .field("ttft-last", tally.ttft_last.load(Relaxed))
            .field("ttft-p50", tally.ttft.percentile(50))
            .field("ttft-p95", tally.ttft.percentile(95))
            .field("decode-rate", tally.decode_rate())
            .field("dropped-corrupted", tally.corrupted.load(Relaxed))
            .field("dropped-text", self.text.n_dropped());
        let builder = match &*tally.last_error.lock().unwrap() {
            Some(error) => builder
                .field("last-error", &error.reason)
                .field("last-error-time", iso8601(error.at)),
            None => builder,
        };
        let engine = self
            .model
            .lock()
            .unwrap()
            .as_ref()
            .map(|m| m.engine.clone());
        let health = engine.map(|engine| engine.health()).unwrap_or_default();
        let origin = self.origin.lock().unwrap().clone();
        let builder = builder
            .field("stream-id", origin.stream_id)
            .field("model", origin.model)
            .field("backend", origin.backend)
            .field("device", origin.device)
            .field_if_some("chip", health.chip)
            .field_if_some("memory-used", health.memory_used)
            .field_if_some("memory-total", health.memory_total)
            .field_if_some("utilisation", health.utilisation)
            .field_if_some("temperature", health.temperature);
        let Some(captioner) = self.captioner() else {
            return builder.build();
        };
        let counters = captioner.counters();
        builder
            .field("frames", counters.frames.load(Relaxed))
            .field("windows", counters.windows.load(Relaxed))
            .field("dropped-frames", counters.dropped_frames.load(Relaxed))
            .field("dropped-windows", counters.dropped_windows.load(Relaxed))
            .field("gated-windows", counters.gated_windows.load(Relaxed))
            .field("skipped-windows", counters.skipped_windows.load(Relaxed))
            .field("overload", captioner.rung().step.as_str())
            .field(
                "queued",
                u64::try_from(captioner.queued()).unwrap_or(u64::MAX),
            )
            .build()
    }

    /// Posts statistics if it is time; time until the next, if they are wanted.
    pub(super) fn post_stats(&self, now: Instant) -> Option<Duration> {
        let interval = self.settings.lock().unwrap().stats_interval();
        if interval.is_zero() {
            return None;
        }
        {
            let mut clock = self.tally.clock.lock().unwrap();
            let before = clock.posted.or(clock.began).unwrap_or(now);
            let next = before.checked_add(interval)?;
            if now < next {
                return Some(next - now);
            }
            clock.posted = Some(now);
        }
        let stats = self.stats("vlmcaption/stats");
        self.post(stats);
        Some(interval)
    }

    /// Counts what was dropped, and tells of it now or when it is time.
    pub(super) fn dropped(&self, reason: &'static str, count: u64) {
        self.tally.drops.lock().unwrap().add(reason, count);
        if self.post_drops(Instant::now()).is_some() {
            self.wake_minder();
        }
    }

    /// Tells of drops if it is time; time until the next message.
    pub(super) fn post_drops(&self, now: Instant) -> Option<Duration> {
        let (due, next) = {
            let mut drops = self.tally.drops.lock().unwrap();
            (drops.due(now), drops.next())
        };
        self.tell_drops(&due);
        next.map(|next| next.saturating_duration_since(now))
    }

    /// Counts what the text pad dropped since the last call.
    pub(super) fn count_text_drops(&self) {
        let dropped = self.text.n_dropped();
        let before = self.tally.text_told.swap(dropped, Relaxed);
        if dropped > before {
            self.tally
                .drops
                .lock()
                .unwrap()
                .add("text", dropped - before);
        }
    }

    /// Tells of what was dropped since the last message, at the end.
    pub(super) fn post_last_drops(&self) {
        self.count_text_drops();
        let all = self.tally.drops.lock().unwrap().all();
        self.tell_drops(&all);
    }

    fn tell_drops(&self, drops: &[(&'static str, u64)]) {
        for (reason, count) in drops {
            let structure = gst::Structure::builder("vlmcaption/dropped")
                .field("reason", *reason)
                .field("count", *count);
            self.post(structure.build());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_burst_of_drops_the_first_and_the_rest_are_told_and_none_is_lost() {
        let mut drops = Drops::default();
        let start = Instant::now();
        drops.add("busy", 1);
        assert_eq!(drops.due(start), [("busy", 1)]);
        for _ in 0..5 {
            drops.add("busy", 1);
            assert_eq!(drops.due(start), []);
        }
        drops.add("prepare", 2);
        assert_eq!(drops.due(start), [("prepare", 2)], "a reason of its own");
        assert_eq!(drops.next(), Some(start + DROPPED_INTERVAL));
        assert_eq!(drops.due(start + DROPPED_INTERVAL), [("busy", 5)]);
        assert_eq!(drops.next(), None);
        drops.add("busy", 3);
        assert_eq!(drops.all(), [("busy", 3)]);
    }
}
