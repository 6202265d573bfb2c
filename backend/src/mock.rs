// SPDX-License-Identifier: MPL-2.0

//! No model at all: a device program that answers by a script, so that pipelines and applications
//! can be tested for what they do with captions, delays, errors and hangs.
//!
//! A script is a JSON list; its steps answer one question each, over and over:
//!
//! ```json
//! [
//!   { "text": "A person walks to the door.", "prefill-ms": 300, "token-ms": 20, "repeat": 3 },
//!   { "text": "Window {n}.", "encode-ms": 50 },
//!   { "probabilities": { "yes": 0.9, "no": 0.1 } },
//!   { "error": "the device is gone" },
//!   { "hang-ms": 20000, "text": "At last." }
//! ]
//! ```
//!
//! or an object with such a list as `answers`, which also says how the model loads:
//!
//! ```json
//! { "load-ms": 2000, "load-error": "no such device", "load-errors": 2, "answers": [ ... ] }
//! ```
//!
//! In a process of its own (`isolation=process`) it also does what a vendor's library does at its worst,
//! once a step, while it encodes, prefills or decodes:
//!
//! ```json
//! [ { "text": "All is well." }, { "crash": "abort", "crash-at": "decode", "text": "Never said." } ]
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{
    Cancel, Error, Features, Limits, Next, Patches, Position, Program, Segment, SequenceId,
    VisualTokens, next_launch,
};

/// One answer.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Step {
    /// What it says; `{n}` is the number of the answer, from 1.
    pub text: String,
    /// How likely these texts are, 0..=1, by the first token of each; instead of `text`, for
    /// questions that are decided by probabilities.
    pub probabilities: BTreeMap<String, f32>,
    /// Answers that it gives in a row; 0 is 1.
    pub repeat: u64,
    /// Time of the vision net for each pair, ms.
    pub encode_ms: u64,
    /// Time to the first token, ms.
    pub prefill_ms: u64,
    /// Time of each later token, ms.
    pub token_ms: u64,
    /// Time before the first token in which nothing is heard of the device, ms: it cannot be
    /// cancelled either, as a launch cannot on a real one.
    pub hang_ms: u64,
    /// Nothing is heard of the device until the answer is cancelled.
    pub hang: bool,
    /// Fails with this instead.
    pub error: Option<String>,
    /// Ends the process that it runs in.
    pub crash: Option<Crash>,
    /// While it does this.
    pub crash_at: Stage,
}

/// How a process comes to its end, or to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crash {
    /// `abort()`, as for an exception that nobody catches.
    Abort,
    /// `exit(0)`.
    Exit,
    /// SIGKILL, as by the system that is short of memory.
    Kill,
    /// SIGSTOP.
    Stop,
    /// It reads what is at the null pointer.
    Segfault,
    /// More memory than it may have, asked for.
    Memory,
    /// More memory than there is, used: 256 MiB, for a group of processes that has less.
    OutOfMemory,
    /// It tries to reach the network in every way there is, says what came of it, and aborts.
    Network,
    /// Nonsense instead of an answer.
    Rubbish,
    /// It hangs, and cannot be cancelled.
    Hang,
}

/// What a program does when it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The vision net.
    Encode,
    /// The first token.
    #[default]
    Prefill,
    /// The second token.
    Decode,
}

/// Makes a process crash; see [`Crash`].
pub type Crasher = Box<dyn Fn(Crash) + Send>;

/// Answers in order, over and over, and how long it takes to be ready for them.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Script {
    answers: Vec<Step>,
    /// Time to load, ms.
    #[serde(default)]
    load_ms: u64,
    /// Loading fails with this.
    #[serde(default)]
    load_error: Option<String>,
    /// So many times; every time if it is not set.
    #[serde(default)]
    load_errors: Option<u64>,
}

impl Default for Script {
    /// Says `Mock caption {n}.` at once.
    fn default() -> Self {
        let text = "Mock caption {n}.".into();
        Self::of(vec![Step {
            text,
            ..Step::default()
        }])
    }
}

impl Script {
    fn of(answers: Vec<Step>) -> Self {
        Self {
            answers,
            load_ms: 0,
            load_error: None,
            load_errors: None,
        }
    }

    /// Reads a script from a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            file: file.clone(),
            source,
        })?;
        let text = text.trim_start_matches('\u{feff}');
        Self::parse(text).map_err(|reason| Error::Script { file, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        // Two forms by hand: an untagged enum would not say what is wrong with either.
        let script = if text.trim_start().starts_with('[') {
            serde_json::from_str(text).map(Self::of)
        } else {
            serde_json::from_str(text)
        };
        let script = script.map_err(|e| e.to_string())?;
        if script.answers.is_empty() {
            return Err("the list of answers is empty".into());
        }
        let probabilities = script.answers.iter().flat_map(|step| &step.probabilities);
        for (text, probability) in probabilities {
            if !(0.0..=1.0).contains(probability) {
                return Err(format!(
                    "the probability of {text:?} is {probability}; it is 0.0 to 1.0"
                ));
            }
        }
        Ok(script)
    }

    fn step(&self, answer: u64) -> &Step {
        let length = |step: &Step| step.repeat.max(1);
        let mut at = answer % self.answers.iter().map(length).sum::<u64>();
        for step in &self.answers {
            if at < length(step) {
                return step;
            }
            at -= length(step);
        }
        unreachable!("`at` is below the sum of the lengths")
    }
}

/// A script, and all that is to be known to play it; played again, it goes on where it was.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Play {
    script: Script,
    role: Role,
    /// Answers so far.
    #[serde(with = "count")]
    answers: Arc<AtomicU64>,
    /// How often it was loaded before.
    n_loads: u64,
}

/// What another process is told of a count: how far it has come.
mod count {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(count: &Arc<AtomicU64>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(count.load(Ordering::Relaxed))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<AtomicU64>, D::Error> {
        Ok(Arc::new(AtomicU64::new(u64::deserialize(from)?)))
    }
}

/// What the mock must know of the model that it stands for.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Role {
    /// Tokens of what a script says.
    pub words: Words,
    /// Ends an answer.
    pub eos: u32,
    /// That of the family whose prompts it is given.
    pub merge_size: usize,
    /// Entries of the logits.
    pub vocab_size: usize,
}

/// What a script says, in tokens.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Words {
    /// Of each text what stands between its `{n}`.
    texts: BTreeMap<String, Vec<Vec<u32>>>,
    digits: Vec<Vec<u32>>,
    /// First tokens of texts that have probabilities.
    firsts: BTreeMap<String, u32>,
}

impl Words {
    /// Of all steps of a script, by what makes tokens of text.
    pub fn of(script: &Script, encode: impl Fn(&str) -> Vec<u32>) -> Self {
        let steps = || script.answers.iter();
        let cut = |step: &Step| step.text.split("{n}").map(&encode).collect();
        let likely = steps().flat_map(|step| step.probabilities.keys());
        Self {
            texts: steps().map(|step| (step.text.clone(), cut(step))).collect(),
            digits: (0..10)
                .map(|digit: u32| encode(&digit.to_string()))
                .collect(),
            firsts: likely
                .filter_map(|text| Some((text.clone(), *encode(text).first()?)))
                .collect(),
        }
    }

    /// A text with the number of the answer in it.
    fn say(&self, text: &str, n: u64) -> Vec<u32> {
        let digits = n.to_string();
        let digits = digits
            .bytes()
            .filter_map(|digit| self.digits.get(usize::from(digit - b'0')));
        let number: Vec<u32> = digits.flatten().copied().collect();
        self.texts
            .get(text)
            .map_or_else(Vec::new, |parts| parts.join(&number[..]))
    }
}

impl Play {
    /// At its beginning.
    pub fn new(script: Script, role: Role) -> Self {
        Self {
            script,
            role,
            answers: Arc::default(),
            n_loads: 0,
        }
    }

    /// What is to be loaded now; the next time it is loaded once more.
    #[must_use]
    pub fn next_load(&mut self) -> Self {
        let now = self.clone();
        self.n_loads += 1;
        now
    }

    /// Answers so far.
    pub fn answers(&self) -> &Arc<AtomicU64> {
        &self.answers
    }

    /// Takes as long to load as the script says; `progress` hears 0.0..=1.0.
    ///
    /// # Errors
    /// Those of the script, and [`Error::Cancelled`]. [`Error::Script`] for one that crashes without a
    /// process of its own.
    pub fn load(
        &self,
        crasher: Option<Crasher>,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Mock, Error> {
        if crasher.is_none() && self.script.answers.iter().any(|step| step.crash.is_some()) {
            return Err(Error::Script {
                file: "crash".into(),
                reason: "it would end the whole application; set isolation=process".into(),
            });
        }
        let (began, time) = (Instant::now(), Duration::from_millis(self.script.load_ms));
        while began.elapsed() < time {
            progress(began.elapsed().as_secs_f32() / time.as_secs_f32());
            sleep(SLICE.min(time), cancel)?;
        }
        if let Some(error) = &self.script.load_error
            && self.n_loads < self.script.load_errors.unwrap_or(u64::MAX)
        {
            return Err(Error::Scripted(error.clone()));
        }
        Ok(Mock::new(self.clone(), crasher))
    }
}

/// The program.
pub struct Mock {
    script: Script,
    role: Role,
    limits: Limits,
    answers: Arc<AtomicU64>,
    crasher: Option<Crasher>,
    next_sequence: u32,
    /// Tokens still to be said by each sequence.
    open: HashMap<SequenceId, Option<Answer>>,
    logits: Vec<f32>,
}

struct Answer {
    tokens: std::vec::IntoIter<u32>,
    token_time: Duration,
    /// Before the next token.
    crash: Option<Crash>,
}

impl Mock {
    /// A program that says what the script says from the answer on that it has come to.
    fn new(play: Play, crasher: Option<Crasher>) -> Self {
        let Play {
            script,
            role,
            answers,
            ..
        } = play;
        let limits = Limits {
            context: 1 << 20,
            prompt: 1 << 20,
            vocab_size: role.vocab_size,
            weight_bytes: 0,
        };
        Self {
            script,
            role,
            limits,
            answers,
            crasher,
            next_sequence: 0,
            open: HashMap::new(),
            logits: Vec::new(),
        }
    }

    fn step(&self) -> Step {
        let answers = self.answers.load(Ordering::Relaxed);
        self.script.step(answers).clone()
    }

    /// Crashes, if the step does so at this stage; the answer counts as given, so that the next one comes
    /// when all is well again.
    fn crash(&self, step: &Step, stage: Stage) {
        if let (Some(crash), Some(crasher)) = (step.crash, &self.crasher)
            && step.crash_at == stage
        {
            self.answers.fetch_add(1, Ordering::Relaxed);
            crasher(crash);
        }
    }

    /// Logits by which the first tokens of these texts are as likely as it is said.
    fn weigh(&mut self, probabilities: &BTreeMap<String, f32>) {
        /// Of tokens that are not named; a whole vocabulary of them is still negligible.
        const UNLIKELY: f32 = -30.0;
        self.logits.clear();
        self.logits.resize(self.role.vocab_size, UNLIKELY);
        for (text, probability) in probabilities {
            let first = self.role.words.firsts.get(text);
            let logit = first.and_then(|&id| self.logits.get_mut(id as usize));
            if let Some(logit) = logit {
                *logit = probability.ln().max(UNLIKELY);
            }
        }
    }
}

impl Program for Mock {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        let step = self.step();
        sleep(Duration::from_millis(step.encode_ms), cancel)?;
        self.crash(&step, Stage::Encode);
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens: patches.grid.n_tokens(self.role.merge_size),
            features: Features::Host {
                launch: next_launch(),
                embeds: Vec::new(),
                deepstack: Vec::new(),
            },
        })
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        let id = SequenceId(self.next_sequence);
        self.next_sequence = self.next_sequence.wrapping_add(1);
        self.open.insert(id, None);
        Ok(id)
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        _segments: &[Segment<'_>],
        _positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        if let Some(Some(answer)) = self.open.get_mut(&sequence) {
            sleep(answer.token_time, cancel)?;
            if let (Some(crash), Some(crasher)) = (answer.crash.take(), &self.crasher) {
                crasher(crash);
            }
            return Ok(Next::Token(answer.tokens.next().unwrap_or(self.role.eos)));
        }
        let step = self.step();
        self.crash(&step, Stage::Prefill);
        std::thread::sleep(Duration::from_millis(step.hang_ms));
        while step.hang && !cancel.is_cancelled() {
            std::thread::sleep(SLICE);
        }
        sleep(Duration::from_millis(step.prefill_ms), cancel)?;
        let n = self.answers.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(error) = step.error {
            return Err(Error::Scripted(error));
        }
        let token_time = Duration::from_millis(step.token_ms);
        let crash = step.crash.filter(|_| step.crash_at == Stage::Decode);
        let mut tokens = Vec::new().into_iter();
        let first = if step.probabilities.is_empty() {
            tokens = self.role.words.say(&step.text, n).into_iter();
            Some(tokens.next().unwrap_or(self.role.eos))
        } else {
            self.weigh(&step.probabilities);
            None
        };
        self.open.insert(
            sequence,
            Some(Answer {
                tokens,
                token_time,
                crash,
            }),
        );
        Ok(first.map_or(Next::Logits(&self.logits), Next::Token))
    }

    /// Another question about the same pixels: the next step answers it.
    fn truncate(&mut self, sequence: SequenceId, _n_rows: usize) {
        if let Some(answer) = self.open.get_mut(&sequence) {
            *answer = None;
        }
    }

    fn close(&mut self, sequence: SequenceId) {
        self.open.remove(&sequence);
    }
}

/// A cancel is seen within this time.
const SLICE: Duration = Duration::from_millis(20);

/// Sleeps like a device that works: it shows signs of life, and looks whether it is cancelled.
fn sleep(time: Duration, cancel: &Cancel) -> Result<(), Error> {
    let end = Instant::now() + time;
    loop {
        cancel.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left == Duration::ZERO {
            return Ok(());
        }
        std::thread::sleep(left.min(SLICE));
    }
}

#[cfg(test)]
mod tests;
