// SPDX-License-Identifier: MPL-2.0

//! What was asked for ([`Settings`]) and what can be run ([`Plan`]).

use std::time::Duration;

use crate::caption::captioner;
use crate::caption::evidence::folder::Bounds;
use crate::caption::evidence::recorder::{EvidenceOptions, Which};
use crate::caption::gate::GateRules;
use crate::caption::mailbox;
use crate::caption::prompt::Ask;
use crate::caption::rules::Rules;
use crate::caption::sampler::Rate;
use crate::caption::session::SessionOptions;
use crate::caption::source::Source;
use crate::vlm::PixelBudget;

use super::enums::{Attach, Drafts, DropPolicy, EvidenceOf, TextGaps, TextTiming};
use super::model::Choice;
use super::{masks, prompts};

/// What the application asked for. Its `Default` is blank:
/// [`defaults`](super::properties::defaults) are what the element begins with.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub choice: Choice,
    pub prompt: String,
    pub system_prompt: String,
    pub history: u32,
    /// Numerator and denominator.
    pub sample_rate: (i32, i32),
    pub window: u32,
    pub stride: u32,
    pub max_pixels: u32,
    pub video_ratio: f64,
    pub max_tokens: u32,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub seed: u64,
    pub stop: Vec<String>,
    pub drop_policy: DropPolicy,
    pub max_queued: u32,
    pub hold: Option<gst::ClockTime>,
    pub attach: Attach,
    pub text_timing: TextTiming,
    pub text_gaps: TextGaps,
    pub eos_timeout: Option<gst::ClockTime>,
    pub priority: u32,
    pub emit_partial: bool,
    pub drafts: Drafts,
    pub prompts: Vec<glib::SendValue>,
    pub privacy_masks: Vec<glib::SendValue>,
    pub scene_cuts: bool,
    pub motion_threshold: f64,
    pub heartbeat: Option<gst::ClockTime>,
    pub gate_labels: Vec<String>,
    pub gate_min_area: f64,
    pub gate_linger: Option<gst::ClockTime>,
    pub latency_budget: Option<gst::ClockTime>,
    /// Raised by every change, so that the last one wins wherever it is applied.
    pub revision: u64,
    pub stats_interval: Option<gst::ClockTime>,
    pub model_timeout: Option<gst::ClockTime>,
    pub evidence: Option<String>,
    pub evidence_of: EvidenceOf,
    pub evidence_max_bytes: u64,
    pub evidence_max_age: Option<gst::ClockTime>,
}

/// Settings that were checked: everything that is fixed while the element runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// What may answer, the preferred one first; at least one.
    pub sources: Vec<Source>,
    /// The properties that it comes from.
    pub choice: Choice,
    pub options: captioner::Options,
    pub fixed: Fixed,
    /// What is kept of captions, if anything is.
    pub evidence: Option<EvidenceOptions>,
    /// No model was named: the built-in one runs.
    pub demo: bool,
}

/// What the element itself needs of the properties that are fixed while it runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fixed {
    /// Time from window to window.
    pub stride: Duration,
    /// Time from sample to sample.
    pub period: Duration,
    drop_policy: DropPolicy,
}

impl Fixed {
    /// The drop policy once it is known whether upstream is live.
    pub fn policy(&self, live: bool) -> mailbox::DropPolicy {
        match self.drop_policy {
            DropPolicy::Latest => mailbox::DropPolicy::Latest,
            DropPolicy::Oldest => mailbox::DropPolicy::Oldest,
            DropPolicy::Block => mailbox::DropPolicy::Block,
            DropPolicy::Auto if live => mailbox::DropPolicy::Latest,
            DropPolicy::Auto => mailbox::DropPolicy::Block,
        }
    }
}

impl Settings {
    /// Checks what can be checked without a model; `element` is the element's name, and `sources` are
    /// what may answer.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn plan(&self, element: &str, sources: Vec<Source>) -> Result<Plan, String> {
        let demo = matches!(
            sources.as_slice(),
            [source] if matches!(source.device_source(), Source::Cpu { model: None, .. })
        );
        let sample_rate = Rate::new(self.sample_rate.0, self.sample_rate.1)
            .ok_or("sample-rate must be positive, for example 1/1")?;
        let fixed = Fixed {
            stride: sample_rate.span(u64::from(self.stride())),
            period: sample_rate.period(),
            drop_policy: self.drop_policy,
        };
        let options = captioner::Options {
            sample_rate,
            window: self.window as usize,
            stride: self.stride() as usize,
            budget: PixelBudget {
                max_pixels: (self.max_pixels > 0).then_some(self.max_pixels as usize),
                video_ratio: (self.video_ratio > 0.0).then_some(self.video_ratio),
                exact: None,
            },
            rules: self.rules()?,
            keeps_frames: self.evidence().is_some(),
            session: SessionOptions {
                element: element.into(),
                // It is known once the stream begins.
                stream: String::new(),
                weight: self.priority,
                policy: fixed.policy(false),
                max_queued: self.max_queued as usize,
                ask: self.ask()?,
            },
        };
        Ok(Plan {
            sources,
            choice: self.choice.clone(),
            options,
            fixed,
            evidence: self.evidence(),
            demo,
        })
    }

    /// What the next windows are asked.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn ask(&self) -> Result<Ask, String> {
        let questions = prompts::parse(&self.prompts)?;
        if questions.is_empty() && self.prompt.trim().is_empty() {
            return Err("prompt is empty; set prompt=\"Describe the video.\" or a question".into());
        }
        Ok(Ask {
            prompt: self.prompt.clone(),
            questions,
            system_prompt: self.system_prompt.clone(),
            history: self.history as usize,
            max_tokens: self.max_tokens as usize,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k as usize,
            min_p: self.min_p,
            repetition_penalty: (self.repetition_penalty > 0.0).then_some(self.repetition_penalty),
            seed: self.seed,
            stop: self
                .stop
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            emit_partial: self.emit_partial,
            drafts: self.drafts == Drafts::Auto,
            evidence: self.evidence().is_some(),
        })
    }

    /// What may change while the element runs.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn live(&self) -> Result<(Ask, Rules), String> {
        Ok((self.ask()?, self.rules()?))
    }

    /// What the model is shown.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn rules(&self) -> Result<Rules, String> {
        Ok(Rules {
            revision: self.revision,
            masks: masks::parse(&self.privacy_masks)?,
            spans_cuts: !self.scene_cuts,
            gate: GateRules {
                motion_threshold: self.motion_threshold,
                heartbeat: or_no_limit(self.heartbeat),
                by_detection: !self.gate_labels.is_empty(),
                linger: or_for_ever(self.gate_linger),
            },
            latency_budget: self.latency_budget(),
        })
    }

    /// What is kept of captions; an empty folder is none.
    fn evidence(&self) -> Option<EvidenceOptions> {
        let folder = self
            .evidence
            .as_deref()
            .filter(|folder| !folder.is_empty())?;
        Some(EvidenceOptions {
            folder: folder.into(),
            which: match self.evidence_of {
                EvidenceOf::All => Which::All,
                EvidenceOf::Alarms => Which::Alarms,
            },
            bounds: Bounds {
                bytes: self.evidence_max_bytes,
                age: or_no_limit(self.evidence_max_age),
            },
        })
    }

    /// Frames from window to window.
    fn stride(&self) -> u32 {
        if self.stride == 0 {
            self.window
        } else {
            self.stride
        }
    }

    /// How long a caption stays on buffers.
    pub fn hold(&self) -> Duration {
        or_for_ever(self.hold)
    }

    /// How long the end of the stream waits.
    pub fn eos_timeout(&self) -> Duration {
        or_for_ever(self.eos_timeout)
    }

    /// How late a caption may be; zero is no limit.
    pub fn latency_budget(&self) -> Duration {
        or_no_limit(self.latency_budget)
    }

    /// Time from message to message; zero is never.
    pub fn stats_interval(&self) -> Duration {
        or_no_limit(self.stats_interval)
    }

    /// How long a device may be silent; zero is for ever.
    pub fn model_timeout(&self) -> Duration {
        or_no_limit(self.model_timeout)
    }
}

/// A time that is waited; `GST_CLOCK_TIME_NONE` is for ever.
fn or_for_ever(time: Option<gst::ClockTime>) -> Duration {
    time.map_or(Duration::MAX, Duration::from)
}

/// A limit of which zero is none, and so is `GST_CLOCK_TIME_NONE`.
fn or_no_limit(time: Option<gst::ClockTime>) -> Duration {
    time.map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vlmcaption::properties::defaults;
    use crate::vlmcaption::sources::sources;

    #[test]
    fn an_empty_prompt_is_refused_with_the_fix() {
        let settings = Settings {
            prompt: " ".into(),
            ..defaults()
        };
        let refused = settings.plan("s", Vec::new()).unwrap_err();
        assert!(refused.contains("set prompt="));
    }

    #[test]
    fn no_model_means_the_demo_model() {
        let plan = |settings: Settings| {
            let sources = sources(&settings).unwrap();
            settings.plan("s", sources).unwrap()
        };
        assert!(plan(defaults()).demo);
        let settings = Settings {
            choice: Choice {
                model: Some("/m".into()),
                ..Choice::default()
            },
            ..defaults()
        };
        assert!(!plan(settings).demo);
    }
}
