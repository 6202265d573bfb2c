// SPDX-License-Identifier: MPL-2.0

//! What was asked for ([`Settings`]) and what can be run ([`Plan`]).

use std::time::Duration;

use gst::glib;
use gst::prelude::*;

use crate::caption::captioner;
use crate::caption::gate::GateRules;
use crate::caption::mailbox;
use crate::caption::prompt::Ask;
use crate::caption::rules::Rules;
use crate::caption::sampler::Rate;
use crate::caption::session::SessionOptions;
use crate::caption::source::Source;
use crate::vlm::PixelBudget;

use super::model::Choice;
use super::{Attach, Backend, DropPolicy, Precision, TextGaps, TextTiming, masks, prompts};

/// 768 x 768: what the compiled models of the boards spend on an image.
const DEFAULT_MAX_PIXELS: u32 = 768 * 768;

/// What the application asked for.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub model: Option<String>,
    pub config: Option<String>,
    pub device: Option<String>,
    pub backend: Backend,
    pub precision: Precision,
    pub prompt: String,
    pub system_prompt: String,
    pub history: u32,
    pub sample_rate: gst::Fraction,
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
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            config: None,
            device: None,
            backend: Backend::Auto,
            precision: Precision::Auto,
            prompt: "Describe the video.".into(),
            system_prompt: String::new(),
            history: 0,
            sample_rate: gst::Fraction::new(1, 1),
            window: 4,
            stride: 0,
            max_pixels: DEFAULT_MAX_PIXELS,
            video_ratio: 0.0,
            max_tokens: 64,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 0.0,
            seed: 0,
            stop: Vec::new(),
            drop_policy: DropPolicy::Auto,
            max_queued: 1,
            hold: Some(gst::ClockTime::from_seconds(30)),
            attach: Attach::Latest,
            text_timing: TextTiming::Auto,
            text_gaps: TextGaps::Event,
            eos_timeout: Some(gst::ClockTime::from_seconds(30)),
            priority: 100,
            emit_partial: false,
            prompts: Vec::new(),
            privacy_masks: Vec::new(),
            scene_cuts: true,
            motion_threshold: 0.0,
            heartbeat: Some(gst::ClockTime::ZERO),
            gate_labels: Vec::new(),
            gate_min_area: 0.0,
            gate_linger: Some(gst::ClockTime::from_seconds(5)),
            latency_budget: Some(gst::ClockTime::ZERO),
            revision: 0,
            stats_interval: Some(gst::ClockTime::ZERO),
            model_timeout: Some(gst::ClockTime::from_seconds(10)),
        }
    }
}

/// Settings that were checked: everything that is fixed while the element runs.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub source: Source,
    /// The properties that it comes from.
    pub choice: Choice,
    pub options: captioner::Options,
    pub fixed: Fixed,
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
    /// Checks what can be checked without a model.
    ///
    /// # Errors
    /// A sentence that names the property and the fix.
    pub fn plan(&self, stream: &str) -> Result<Plan, String> {
        let source = self.source()?;
        let demo = matches!(source, Source::Cpu { model: None, .. });
        let sample_rate = Rate::new(self.sample_rate.numer(), self.sample_rate.denom())
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
            session: SessionOptions {
                stream: stream.to_owned(),
                weight: self.priority,
                policy: fixed.policy(false),
                max_queued: self.max_queued as usize,
                ask: self.ask()?,
            },
        };
        Ok(Plan {
            source,
            choice: self.choice(),
            options,
            fixed,
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

    /// The value of a property; `None` for those that the element computes.
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "model" => self.model.to_value(),
            "config" => self.config.to_value(),
            "backend" => self.backend.to_value(),
            "device" => self.device.to_value(),
            "precision" => self.precision.to_value(),
            "prompt" => self.prompt.to_value(),
            "system-prompt" => self.system_prompt.to_value(),
            "history" => self.history.to_value(),
            "sample-rate" => self.sample_rate.to_value(),
            "window" => self.window.to_value(),
            "stride" => self.stride.to_value(),
            "max-pixels" => self.max_pixels.to_value(),
            "video-ratio" => self.video_ratio.to_value(),
            "max-tokens" => self.max_tokens.to_value(),
            "temperature" => self.temperature.to_value(),
            "top-p" => self.top_p.to_value(),
            "top-k" => self.top_k.to_value(),
            "min-p" => self.min_p.to_value(),
            "repetition-penalty" => self.repetition_penalty.to_value(),
            "seed" => self.seed.to_value(),
            "stop" => gst::Array::new(self.stop.iter()).to_value(),
            "drop-policy" => self.drop_policy.to_value(),
            "max-queued" => self.max_queued.to_value(),
            "hold" => self.hold.to_value(),
            "attach" => self.attach.to_value(),
            "text-timing" => self.text_timing.to_value(),
            "text-gaps" => self.text_gaps.to_value(),
            "eos-timeout" => self.eos_timeout.to_value(),
            "priority" => self.priority.to_value(),
            "emit-partial" => self.emit_partial.to_value(),
            "scene-cuts" => self.scene_cuts.to_value(),
            "motion-threshold" => self.motion_threshold.to_value(),
            "heartbeat" => self.heartbeat.to_value(),
            "gate-labels" => gst::Array::new(self.gate_labels.iter()).to_value(),
            "gate-min-area" => self.gate_min_area.to_value(),
            "gate-linger" => self.gate_linger.to_value(),
            "latency-budget" => self.latency_budget.to_value(),
            "prompts" => gst::Array::from_values(self.prompts.clone()).to_value(),
            "privacy-masks" => gst::Array::from_values(self.privacy_masks.clone()).to_value(),
            "stats-interval" => self.stats_interval.to_value(),
            "model-timeout" => self.model_timeout.to_value(),
            _ => return None,
        })
    }

    /// Changes a property. GObject has brought the value into the range of
    /// [`PROPERTIES`](super::properties::PROPERTIES), but for what it does not look at: numbers that
    /// are none, and what is in a list.
    ///
    /// # Errors
    /// A sentence that says what was set; nothing has changed.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<(), String> {
        if is_nan(value) {
            return Err("is no number".into());
        }
        match name {
            "model" => self.model = read(value)?,
            "config" => self.config = read(value)?,
            "device" => self.device = read(value)?,
            "backend" => self.backend = read(value)?,
            "precision" => self.precision = read(value)?,
            "prompt" => self.prompt = read::<Option<String>>(value)?.unwrap_or_default(),
            "system-prompt" => {
                self.system_prompt = read::<Option<String>>(value)?.unwrap_or_default()
            }
            "history" => self.history = read(value)?,
            "sample-rate" => self.sample_rate = read(value)?,
            "window" => self.window = read(value)?,
            "stride" => self.stride = read(value)?,
            "max-pixels" => self.max_pixels = read(value)?,
            "video-ratio" => self.video_ratio = read(value)?,
            "max-tokens" => self.max_tokens = read(value)?,
            "temperature" => self.temperature = read(value)?,
            "top-p" => self.top_p = read(value)?,
            "top-k" => self.top_k = read(value)?,
            "min-p" => self.min_p = read(value)?,
            "repetition-penalty" => self.repetition_penalty = read(value)?,
            "seed" => self.seed = read(value)?,
            "stop" => self.stop = texts(value)?,
            "drop-policy" => self.drop_policy = read(value)?,
            "max-queued" => self.max_queued = read(value)?,
            "hold" => self.hold = read(value)?,
            "attach" => self.attach = read(value)?,
            "text-timing" => self.text_timing = read(value)?,
            "text-gaps" => self.text_gaps = read(value)?,
            "eos-timeout" => self.eos_timeout = read(value)?,
            "priority" => self.priority = read(value)?,
            "emit-partial" => self.emit_partial = read(value)?,
            "scene-cuts" => self.scene_cuts = read(value)?,
            "motion-threshold" => self.motion_threshold = read(value)?,
            "heartbeat" => self.heartbeat = read(value)?,
            "gate-labels" => self.gate_labels = texts(value)?,
            "gate-min-area" => self.gate_min_area = read(value)?,
            "gate-linger" => self.gate_linger = read(value)?,
            "latency-budget" => self.latency_budget = read(value)?,
            "prompts" => self.prompts = read::<gst::ArrayRef>(value)?.to_vec(),
            "privacy-masks" => self.privacy_masks = read::<gst::ArrayRef>(value)?.to_vec(),
            "stats-interval" => self.stats_interval = read(value)?,
            "model-timeout" => self.model_timeout = read(value)?,
            _ => return Err("is no property that can be set".into()),
        }
        self.revision += 1;
        Ok(())
    }
}

fn read<'a, T: glib::value::FromValue<'a>>(value: &'a glib::Value) -> Result<T, String> {
    value
        .get()
        .map_err(|_| format!("cannot be a {}", value.type_()))
}

/// Texts of a list; all of them must be.
fn texts(value: &glib::Value) -> Result<Vec<String>, String> {
    let texts = read::<gst::ArrayRef>(value)?;
    let texts = texts.iter().enumerate().map(|(i, text)| {
        let text = text.get::<String>();
        text.map_err(|_| format!("has an entry that is no text, number {}", i + 1))
    });
    texts.collect()
}

fn is_nan(value: &glib::Value) -> bool {
    value.get().is_ok_and(f32::is_nan) || value.get().is_ok_and(f64::is_nan)
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
    use crate::vlmcaption::properties::PROPERTIES;

    #[test]
    fn every_property_can_be_read_and_starts_at_its_default() {
        gst::init().unwrap();
        let settings = Settings::default();
        for spec in PROPERTIES.iter() {
            let Some(value) = settings.get(spec.name()) else {
                assert!(
                    !spec.flags().contains(glib::ParamFlags::WRITABLE),
                    "{}",
                    spec.name()
                );
                continue;
            };
            let (is, default) = (format!("{value:?}"), format!("{:?}", spec.default_value()));
            let unset = matches!(
                spec.name(),
                "stop" | "system-prompt" | "prompts" | "privacy-masks" | "gate-labels"
            );
            assert!(
                is == default || unset,
                "{}: {is} and not {default}",
                spec.name()
            );
            let mut copy = settings.clone();
            copy.set(spec.name(), &value).unwrap();
        }
    }

    #[test]
    fn an_empty_prompt_is_refused_with_the_fix() {
        let settings = Settings {
            prompt: " ".into(),
            ..Settings::default()
        };
        assert!(settings.plan("s").unwrap_err().contains("set prompt="));
    }

    #[test]
    fn no_model_means_the_demo_model() {
        let plan = Settings::default().plan("s").unwrap();
        assert!(plan.demo);
        assert!(matches!(plan.source, Source::Cpu { model: None, .. }));
        let settings = Settings {
            model: Some("/m".into()),
            ..Settings::default()
        };
        assert!(!settings.plan("s").unwrap().demo);
    }
}
