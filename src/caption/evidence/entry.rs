// SPDX-License-Identifier: MPL-2.0

//! A caption becomes a record.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::folder::Files;
use super::model::Identity;
use super::record::{
    Alarm, Answer, Candidate, Exchange, FORMAT, Frame, Generation, Model, Prompt, Question, Record,
    Run, System, Times, Window,
};
use super::{picture, record, sha256};
use crate::backend::cpu;
use crate::caption::engine::source::Source;
use crate::caption::frames::window::WallClock;
use crate::caption::questions::prompt::iso8601;
use crate::caption::questions::question::Kind;
use crate::caption::reports::caption::Caption;
use crate::caption::reports::evidence::{Evidence, RenderedText, ShownFrame};
use crate::vlm::PromptRun;
use crate::vlm::generate::Generated;

/// A caption that is to be kept, and what is known of it beside its evidence.
pub struct Entry {
    /// The caption; without evidence nothing is kept.
    pub caption: Caption,
    /// Name of the element.
    pub element: String,
    /// Name of the model.
    pub model: String,
    /// What answered.
    pub source: Arc<Source>,
    /// What it means to its question's alarm.
    pub alarm: Option<Alarm>,
    /// Whether the application asked, by `ask`.
    pub inquiry: bool,
}

impl Entry {
    /// What follows the time in the record's name.
    pub fn name(&self) -> String {
        let question = match self.inquiry {
            true => "ask",
            false => self.caption.question.id.as_str(),
        };
        let named = format!("{}-{}-{question}", self.element, self.caption.sequence);
        let plain = |c: char| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
            true => c,
            false => '_',
        };
        named.chars().map(plain).take(100).collect()
    }

    /// The frames as files, which are the same for all records of a window.
    ///
    /// # Errors
    /// A frame that cannot be written as a file.
    pub fn frames(&self) -> Result<Files, String> {
        let frames = self.caption.evidence.iter().flat_map(|e| e.frames.iter());
        let files = frames.enumerate().map(|(index, frame)| {
            let name = picture::name(index, &frame.picture);
            Ok((name, picture::file(&frame.picture)?))
        });
        files.collect()
    }

    /// The record, if there is evidence; `frames` are its files.
    pub fn record(&self, id: &str, frames: &Files, identity: &Identity) -> Option<Record> {
        let caption = &self.caption;
        let evidence = caption.evidence.as_ref()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let info = &caption.window_info;
        let files = evidence.frames.iter().zip(frames);
        Some(Record {
            format: FORMAT,
            id: id.to_owned(),
            version: version(),
            written: iso8601(now.unwrap_or_default()),
            element: self.element.clone(),
            stream: evidence.stream.clone(),
            sequence: caption.sequence,
            inquiry: self.inquiry,
            alarm: self.alarm,
            question: question(caption, evidence),
            system: System {
                template: evidence.system_template.clone(),
                text: evidence.system.clone(),
            },
            last: evidence.last.clone(),
            history: exchanges(evidence),
            forgotten: evidence.forgotten,
            prompt: evidence.prompt.as_ref().map(prompt),
            generation: generation(evidence),
            answer: answer(&evidence.answer, caption.question.kind.choices()),
            frames: files.map(|(frame, file)| frame_of(frame, file)).collect(),
            skipped: evidence.skipped,
            times: Times {
                queue_wait: nanos(caption.queue_wait),
                ttft: nanos(caption.ttft),
                total: nanos(caption.total),
            },
            window: Window {
                timeline: info.timeline,
                scene: info.scene,
                scene_cut: info.scene_cut,
                overload: info.rung.step.as_str().to_owned(),
                repeats: info.repeat.repeats,
            },
            model: self.model(evidence, identity),
        })
    }

    fn model(&self, evidence: &Evidence, identity: &Identity) -> Model {
        let source = &*self.source;
        let mut model = Model {
            name: self.model.clone(),
            backend: source.backend().to_owned(),
            device: source.device(),
            properties: properties(source),
            precision: evidence.arithmetic.precision.clone(),
            kernels: evidence.arithmetic.kernels.clone(),
            weight_bytes: evidence.weight_bytes,
            files: Vec::new(),
            sha256: None,
            unknown: None,
        };
        identify(&mut model, identity);
        model
    }
}

/// Writes down what is known of a model's files.
pub fn identify(model: &mut Model, identity: &Identity) {
    match identity {
        Identity::Pending => {}
        Identity::Known(files) => {
            model.files = files.files.clone();
            model.sha256 = files.sha256.clone();
        }
        Identity::Unknown(reason) => model.unknown = Some(reason.clone()),
    }
}

/// What an answer is in a record; `choices` are those that there were.
pub fn answer(answer: &Generated, choices: &[String]) -> Answer {
    let candidates = answer.branches.iter().map(|branch| Candidate {
        answer: choices.get(branch.choice).cloned().unwrap_or_default(),
        tokens: branch.tokens.clone(),
        likelihood: branch.share,
    });
    Answer {
        text: answer.text.clone(),
        tokens: answer.tokens.clone(),
        likelihoods: answer.likelihoods.clone(),
        probability: answer.probability,
        probabilities: answer.probabilities.clone(),
        candidates: candidates.collect(),
        finish: answer.stop_reason.name().to_owned(),
        tokens_in: answer.tokens_in,
        reused: answer.reused,
        tokens_out: answer.tokens_out,
    }
}

/// What a prompt is in a record.
pub fn prompt(rendered: &RenderedText) -> record::Prompt {
    let runs = rendered.prompt.runs.iter().map(|run| match run {
        PromptRun::Tokens(ids) => Run::Tokens(ids.clone()),
        PromptRun::Visual(pair) => Run::Visual { pair: *pair },
    });
    let runs: Vec<Run> = runs.collect();
    let json = serde_json::to_vec(&runs).unwrap_or_default();
    Prompt {
        text: rendered.text.clone(),
        sha256: sha256(&json),
        rows: rendered.prompt.n_rows(),
        runs,
    }
}

fn question(caption: &Caption, evidence: &Evidence) -> Question {
    let question = &caption.question;
    Question {
        id: question.id.clone(),
        kind: question.kind.name().to_owned(),
        template: question.text.clone(),
        text: evidence.text.clone(),
        choices: question.kind.choices().to_vec(),
        schema: match &question.kind {
            Kind::Json(schema) => Some(schema.json().clone()),
            _ => None,
        },
        prompt_hash: caption.prompt_hash.clone(),
    }
}

fn exchanges(evidence: &Evidence) -> Vec<Exchange> {
    let history = evidence.history.iter().map(|turn| Exchange {
        user: turn.user.clone(),
        assistant: turn.assistant.clone(),
    });
    history.collect()
}

fn generation(evidence: &Evidence) -> Generation {
    let (options, sampling) = (&evidence.options, &evidence.options.sampling);
    Generation {
        max_tokens: options.max_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        repetition_penalty: sampling.repetition_penalty,
        seed: sampling.seed,
        stop: options.stop.clone(),
        eos: options.eos.clone(),
    }
}

fn frame_of(frame: &ShownFrame, (file, bytes): &(String, Vec<u8>)) -> Frame {
    let (width, height) = frame.picture.size();
    Frame {
        file: file.clone(),
        sha256: sha256(bytes),
        width,
        height,
        pts: nanos(frame.time.pts),
        running_time: nanos(frame.time.running_time),
        wallclock: nanos(frame.time.wallclock),
        time: iso8601(frame.time.wallclock),
        clock: match frame.time.clock {
            WallClock::Ntp => "ntp",
            WallClock::System => "system",
        }
        .to_owned(),
    }
}

/// The properties that choose a source; a server's address may have a key in it, so of a server there
/// is nothing but the host, in `device`.
fn properties(source: &Source) -> Vec<(String, String)> {
    let mut list = vec![("backend".to_owned(), source.backend().to_owned())];
    let mut add = |name: &str, value: String| list.push((name.to_owned(), value));
    match source.device_source() {
        Source::Cpu { model, options } => {
            if let Some(model) = model {
                add("model", model.display().to_string());
            }
            let precision = match options.precision {
                cpu::Precision::Auto => "auto",
                cpu::Precision::F32 => "f32",
                cpu::Precision::Bf16 => "bf16",
                cpu::Precision::Int8 => "int8",
            };
            add("precision", precision.to_owned());
            if let Some(threads) = options.threads {
                add("device", format!("threads={threads}"));
            }
        }
        Source::Axera {
            model,
            config,
            device,
        }
        | Source::Sophgo {
            model,
            config,
            device,
        } => {
            add("model", model.display().to_string());
            if let Some(config) = config {
                add("config", config.display().to_string());
            }
            add("device", device.to_string());
        }
        Source::Mock { script } => {
            if let Some(script) = script {
                add("model", script.display().to_string());
            }
        }
        Source::OpenAi(_) | Source::Isolated(..) => {}
    }
    list
}

/// The version of the plugin, with the commit.
pub fn version() -> String {
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")).to_owned()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
