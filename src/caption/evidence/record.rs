// SPDX-License-Identifier: MPL-2.0

//! A record as it is written: `record.json`, whose fields `docs/evidence.md` describes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::caption::frames::window::{FrameTime, WallClock};

/// Version of the fields; raised when one changes its meaning.
pub const FORMAT: u32 = 1;
/// The file of a record that is not a frame.
pub const FILE: &str = "record.json";

/// All that is kept of a caption.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`] of whoever wrote it.
    pub format: u32,
    /// Name of its folder.
    pub id: String,
    /// Version of the plugin.
    pub version: String,
    /// When it was written, UTC.
    pub written: String,
    /// Name of the element.
    pub element: String,
    /// Id of the stream.
    pub stream: String,
    /// Number of the window.
    pub sequence: u64,
    /// Whether it answers a question of the application's, by `ask`.
    pub inquiry: bool,
    /// What the answer means to its question's alarm.
    pub alarm: Option<Alarm>,
    /// What was asked.
    pub question: Question,
    /// The system prompt.
    pub system: System,
    /// The caption before, for `{last}`.
    pub last: String,
    /// Earlier exchanges that could be given, the oldest first.
    pub history: Vec<Exchange>,
    /// Of these, the oldest that were left out.
    pub forgotten: usize,
    /// The prompt as the model was given it; none of a server.
    pub prompt: Option<Prompt>,
    /// How the answer was made.
    pub generation: Generation,
    /// The answer.
    pub answer: Answer,
    /// The frames, in order of time.
    pub frames: Vec<Frame>,
    /// Frames at the beginning that the answer is not about.
    pub skipped: usize,
    /// What it took.
    pub times: Times,
    /// How the window stood to others.
    pub window: Window,
    /// What answered.
    pub model: Model,
}

/// What an answer means to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alarm {
    /// It begins.
    Begin,
    /// It goes on.
    Open,
    /// It ends.
    End,
    /// Above the threshold, and not yet for long enough.
    Rising,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Names it in captions.
    pub id: String,
    /// `caption`, `yes-no`, `choice`, `count` or `json`.
    pub kind: String,
    /// As it was set.
    pub template: String,
    /// As it was asked.
    pub text: String,
    /// The answers there are.
    pub choices: Vec<String>,
    /// The schema of an answer in JSON.
    pub schema: Option<Value>,
    /// Short name of template and system prompt.
    pub prompt_hash: String,
}

/// The system prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct System {
    /// As it was set.
    pub template: String,
    /// As it was given.
    pub text: String,
}

/// An earlier exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// What was asked.
    pub user: String,
    /// What was answered.
    pub assistant: String,
}

/// The prompt as the model was given it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// With special tokens; `[0]` stands for the first pair's visual tokens.
    pub text: String,
    /// SHA-256 of `runs` as JSON.
    pub sha256: String,
    /// Tokens, visual tokens counted one by one.
    pub rows: usize,
    /// Tokens in order.
    pub runs: Vec<Run>,
}

/// A run of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Run {
    /// Ids.
    Tokens(Vec<u32>),
    /// All visual tokens of a pair, by its number.
    Visual {
        /// From 0, of the pairs that the answer is about.
        pair: usize,
    },
}

/// How the answer was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the property of its name")]
pub struct Generation {
    pub max_tokens: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: usize,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub seed: u64,
    pub stop: Vec<String>,
    /// Ids of tokens that end the answer.
    pub eos: Vec<u32>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Ids of its tokens.
    pub tokens: Vec<u32>,
    /// How likely each of them was.
    pub likelihoods: Vec<f64>,
    /// How likely the answer is among all of its form.
    pub probability: Option<f64>,
    /// The same of each choice.
    pub probabilities: Vec<f64>,
    /// What a choice was decided by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,
    /// Why it ended.
    pub finish: String,
    /// Tokens of the prompt.
    pub tokens_in: usize,
    /// Of these, tokens that were computed before.
    pub reused: usize,
    /// Tokens generated.
    pub tokens_out: usize,
}

/// Tokens with which a choice may begin, and from which on it can be no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The choice.
    pub answer: String,
    /// Ids.
    pub tokens: Vec<u32>,
    /// How likely they were among all candidates.
    pub likelihood: f64,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Its file, beside `record.json`.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Presentation time, ns.
    pub pts: u64,
    /// The same in running time, ns.
    pub running_time: u64,
    /// Since the Unix epoch, ns.
    pub wallclock: u64,
    /// The same as text, UTC.
    pub time: String,
    /// Whose clock that is: `ntp` or `system`.
    pub clock: String,
}

/// What it took, ns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each is the caption's field of its name")]
pub struct Times {
    pub queue_wait: u64,
    pub ttft: u64,
    pub total: u64,
}

/// How the window stood to others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Number of the timeline.
    pub timeline: u64,
    /// Number of the scene.
    pub scene: u64,
    /// Whether it begins a scene.
    pub scene_cut: bool,
    /// What gave way, if captions came late.
    pub overload: String,
    /// Captions before that said the same.
    pub repeats: u64,
}

/// What answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name in captions.
    pub name: String,
    /// `cpu`, `sophgo`, `axera`, `openai` or `mock`.
    pub backend: String,
    /// The device, or the host of a server.
    pub device: String,
    /// The properties that choose it, less those that may hold a secret.
    pub properties: Vec<(String, String)>,
    /// Number type that its large matrices were multiplied in, whatever the property left open.
    pub precision: Option<String>,
    /// What multiplied them: the instruction set of the cpu's kernels, or the chip.
    pub kernels: Option<String>,
    /// Memory of its weights, bytes.
    pub weight_bytes: Option<u64>,
    /// Its files; none of a server.
    pub files: Vec<ModelFile>,
    /// SHA-256 of all of them; none until it is known.
    pub sha256: Option<String>,
    /// Why it cannot be known.
    pub unknown: Option<String>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Of its bytes.
    pub sha256: String,
}

impl Frame {
    /// When it was.
    pub fn when(&self) -> FrameTime {
        FrameTime {
            pts: Duration::from_nanos(self.pts),
            running_time: Duration::from_nanos(self.running_time),
            wallclock: Duration::from_nanos(self.wallclock),
            clock: match self.clock.as_str() {
                "ntp" => WallClock::Ntp,
                _ => WallClock::System,
            },
        }
    }
}

impl Record {
    /// The file: one field of the record a line.
    pub fn json(&self) -> Vec<u8> {
        let fields = serde_json::to_value(self).unwrap_or_default();
        let fields = fields.as_object().into_iter().flatten();
        let lines =
            fields.map(|(name, value)| format!("  {}: {value}", Value::from(name.as_str())));
        let lines: Vec<String> = lines.collect();
        format!("{{\n{}\n}}\n", lines.join(",\n")).into_bytes()
    }

    /// See [`chance`].
    pub fn chance(&self) -> Option<f64> {
        chance(&self.question.kind, &self.answer)
    }
}

/// How likely a yes-no question's `yes` is, or the first choice; an answer without probabilities is
/// certain.
pub fn chance(kind: &str, answer: &Answer) -> Option<f64> {
    match (kind, answer.probabilities.first()) {
        ("yes-no" | "choice", Some(first)) => Some(*first),
        ("yes-no", None) => Some(f64::from(u8::from(answer.text == "yes"))),
        _ => None,
    }
}
