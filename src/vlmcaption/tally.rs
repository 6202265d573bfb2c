// SPDX-License-Identifier: MPL-2.0

//! What is counted from READY to PAUSED and back, without a lock, and the structure that tells of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::histogram::Histogram;
use super::output::{Origin, nanos};
use crate::backend::Health;
use crate::caption::Caption;
use crate::caption::captioner::Captioner;
use crate::caption::engine::identity::Sent;
use crate::caption::evidence::recorder::Counts;
use crate::caption::prompt::iso8601;

/// Counted by the element itself.
pub(super) struct Tally {
    /// When the element went to PAUSED.
    pub began: Instant,
    /// From a buffer's arrival to its push, less the push.
    pub pushes: Histogram,
    captions: AtomicU64,
    failed: AtomicU64,
    tokens_in: AtomicU64,
    tokens_out: AtomicU64,
    reused_tokens: AtomicU64,
    reused_pairs: AtomicU64,
    drafted_tokens: AtomicU64,
    accepted_tokens: AtomicU64,
    /// From a window's turn to its first token.
    ttft: Histogram,
    ttft_last: AtomicU64,
    /// Tokens after the first, and the time they took, ns.
    decoded: AtomicU64,
    decode_time: AtomicU64,
    /// Frames that were due and damaged.
    corrupted: AtomicU64,
}

/// The last thing that went wrong.
#[derive(Debug, Clone)]
pub(super) struct LastError {
    reason: String,
    /// Since the Unix epoch.
    at: Duration,
}

impl LastError {
    /// It went wrong now.
    pub fn now(reason: &str) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            reason: reason.to_owned(),
            at: at.unwrap_or_default(),
        }
    }
}

/// What `stats` tells of beside the tally.
pub(super) struct Surroundings {
    pub dropped_text: u64,
    pub last_error: Option<LastError>,
    /// By host and port.
    pub sent: BTreeMap<String, Sent>,
    pub health: Health,
    pub evidence: Counts,
    /// The stream, and the model in use.
    pub origin: Origin,
}

impl Tally {
    /// All counts are zero, and time begins.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            pushes: Histogram::default(),
            captions: AtomicU64::default(),
            failed: AtomicU64::default(),
            tokens_in: AtomicU64::default(),
            tokens_out: AtomicU64::default(),
            reused_tokens: AtomicU64::default(),
            reused_pairs: AtomicU64::default(),
            drafted_tokens: AtomicU64::default(),
            accepted_tokens: AtomicU64::default(),
            ttft: Histogram::default(),
            ttft_last: AtomicU64::default(),
            decoded: AtomicU64::default(),
            decode_time: AtomicU64::default(),
            corrupted: AtomicU64::default(),
        }
    }

    pub fn caption(&self, caption: &Caption) {
        let add = |number: &AtomicU64, n: usize| number.fetch_add(n as u64, Relaxed);
        add(&self.captions, 1);
        add(&self.tokens_in, caption.tokens_in);
        add(&self.tokens_out, caption.tokens_out);
        add(&self.reused_tokens, caption.reused);
        add(&self.reused_pairs, caption.reused_pairs);
        add(&self.drafted_tokens, caption.drafts.drafted);
        add(&self.accepted_tokens, caption.drafts.accepted);
        self.ttft.record(caption.ttft);
        self.ttft_last.store(nanos(caption.ttft), Relaxed);
        let took = caption.total.saturating_sub(caption.ttft);
        add(&self.decoded, caption.tokens_out.saturating_sub(1));
        self.decode_time.fetch_add(nanos(took), Relaxed);
    }

    /// A frame was passed over because it is damaged.
    pub fn corrupted(&self) {
        self.corrupted.fetch_add(1, Relaxed);
    }

    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
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

    /// Everything that is counted; the fields are described in `docs/element.md`.
    pub fn structure(
        &self,
        name: &str,
        around: &Surroundings,
        captioner: Option<&Captioner>,
    ) -> gst::Structure {
        let mut fields = gst::Structure::builder(name)
            .field("uptime", nanos(self.began.elapsed()))
            .field("buffers", self.pushes.count())
            .field("push-p50", self.pushes.percentile(50))
            .field("push-p95", self.pushes.percentile(95))
            .field("push-p99", self.pushes.percentile(99))
            .field("push-max", self.pushes.max())
            .field("captions", self.captions.load(Relaxed))
            .field("failed", self.failed.load(Relaxed))
            .field("tokens-in", self.tokens_in.load(Relaxed))
            .field("tokens-out", self.tokens_out.load(Relaxed))
            .field("reused-tokens", self.reused_tokens.load(Relaxed))
            .field("reused-pairs", self.reused_pairs.load(Relaxed))
            .field("drafted-tokens", self.drafted_tokens.load(Relaxed))
            .field("accepted-tokens", self.accepted_tokens.load(Relaxed))
            .field("ttft-last", self.ttft_last.load(Relaxed))
            .field("ttft-p50", self.ttft.percentile(50))
            .field("ttft-p95", self.ttft.percentile(95))
            .field("decode-rate", self.decode_rate())
            .field("dropped-corrupted", self.corrupted.load(Relaxed))
            .build();
        around.fill(&mut fields);
        if let Some(captioner) = captioner {
            count_windows(&mut fields, captioner);
        }
        fields
    }
}

impl Surroundings {
    fn fill(&self, fields: &mut gst::Structure) {
        fields.set("dropped-text", self.dropped_text);
        let sent: Sent = self.sent.values().copied().sum();
        fields.set("sent-bytes", sent.bytes);
        fields.set("sent-frames", sent.frames);
        fields.set("received-bytes", sent.received_bytes);
        fields.set("requests", sent.requests);
        let to = self.sent.iter().map(|(host, sent)| {
            gst::Structure::builder("destination")
                .field("host", host)
                .field("sent-bytes", sent.bytes)
                .field("sent-frames", sent.frames)
                .field("received-bytes", sent.received_bytes)
                .field("requests", sent.requests)
                .build()
        });
        fields.set("sent-to", gst::Array::new(to));
        fields.set("evidence-records", self.evidence.written);
        fields.set("evidence-bytes", self.evidence.bytes);
        fields.set("dropped-evidence", self.evidence.dropped);
        if let Some(error) = &self.last_error {
            fields.set("last-error", &error.reason);
            fields.set("last-error-time", iso8601(error.at));
        }
        let (origin, health) = (&self.origin, &self.health);
        fields.set("stream-id", &origin.stream_id);
        fields.set("model", origin.model.name());
        fields.set("backend", origin.backend);
        fields.set("device", &origin.device);
        fields.set_if_some("chip", health.chip.as_ref());
        fields.set_if_some("memory-used", health.memory_used);
        fields.set_if_some("memory-total", health.memory_total);
        fields.set_if_some("utilisation", health.utilisation);
        fields.set_if_some("temperature", health.temperature);
    }
}

/// What the captioner counts.
fn count_windows(fields: &mut gst::Structure, captioner: &Captioner) {
    let counters = captioner.counters();
    let counts = [
        ("frames", &counters.frames),
        ("windows", &counters.windows),
        ("dropped-frames", &counters.dropped_frames),
        ("dropped-windows", &counters.dropped_windows),
        ("gated-windows", &counters.gated_windows),
        ("skipped-windows", &counters.skipped_windows),
    ];
    for (name, count) in counts {
        fields.set(name, count.load(Relaxed));
    }
    fields.set("overload", captioner.rung().step.as_str());
    let queued = u64::try_from(captioner.queued()).unwrap_or(u64::MAX);
    fields.set("queued", queued);
}
