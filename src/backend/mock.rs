// SPDX-License-Identifier: MPL-2.0

//! No model at all: a device program that answers by a script, so that pipelines and applications
//! can be tested for what they do with captions, delays and errors.
//!
//! A script is a JSON list; its steps answer one window each, over and over:
//!
//! ```json
//! [
//!   { "text": "A person walks to the door.", "prefill-ms": 300, "token-ms": 20 },
//!   { "text": "Window {n}.", "encode-ms": 50 },
//!   { "error": "the device is gone" }
//! ]
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{
    Cancel, Error, Features, Limits, Next, Patches, Position, Program, Segment, SequenceId,
    VisualTokens,
};

/// One answer.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// What it says; `{n}` is the number of the answer, from 1.
    #[serde(default)]
    pub text: String,
    /// Time of the vision net for each pair, ms.
    #[serde(default)]
    pub encode_ms: u64,
    /// Time to the first token, ms.
    #[serde(default)]
    pub prefill_ms: u64,
    /// Time of each later token, ms.
    #[serde(default)]
    pub token_ms: u64,
    /// Fails with this instead.
    #[serde(default)]
    pub error: Option<String>,
}

/// Answers in order, over and over.
#[derive(Debug, Clone, PartialEq)]
pub struct Script(Vec<Step>);

impl Default for Script {
    /// Says `Mock caption {n}.` at once.
    fn default() -> Self {
        Self(vec![Step {
            text: "Mock caption {n}.".into(),
            encode_ms: 0,
            prefill_ms: 0,
            token_ms: 0,
            error: None,
        }])
    }
}

impl Script {
    /// Reads a script from a file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            file: file.clone(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| Error::Script { file, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let steps: Vec<Step> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if steps.is_empty() {
            Err("the list of answers is empty".into())
        } else {
            Ok(Self(steps))
        }
    }

    fn step(&self, answer: u64) -> &Step {
        // Never empty: both constructors see to it.
        &self.0[(answer % self.0.len() as u64) as usize]
    }
}

/// Makes tokens of text.
pub type Encode = Box<dyn Fn(&str) -> Vec<u32> + Send>;

/// The program.
pub struct Mock {
    script: Script,
    encode: Encode,
    eos: u32,
    merge_size: usize,
    limits: Limits,
    answers: u64,
    next_sequence: u32,
    /// Tokens still to be said by each sequence.
    open: HashMap<SequenceId, Option<Answer>>,
}

struct Answer {
    tokens: std::vec::IntoIter<u32>,
    token_time: Duration,
}

impl Mock {
    /// A program that says what `script` says; `encode` makes tokens of text, `eos` ends an
    /// answer, `merge_size` is that of the family whose prompts it is given.
    pub fn new(script: Script, encode: Encode, eos: u32, merge_size: usize) -> Self {
        let limits = Limits {
            context: 1 << 20,
            prompt: 1 << 20,
            vocab_size: 0,
            weight_bytes: 0,
        };
        let open = HashMap::new();
        Self {
            script,
            encode,
            eos,
            merge_size,
            limits,
            answers: 0,
            next_sequence: 0,
            open,
        }
    }
}

impl Program for Mock {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        sleep(
            Duration::from_millis(self.script.step(self.answers).encode_ms),
            cancel,
        )?;
        Ok(VisualTokens {
            grid: patches.grid,
            n_tokens: patches.grid.n_tokens(self.merge_size),
            features: Features::Host {
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
            return Ok(Next::Token(answer.tokens.next().unwrap_or(self.eos)));
        }
        let step = self.script.step(self.answers);
        sleep(Duration::from_millis(step.prefill_ms), cancel)?;
        self.answers += 1;
        if let Some(error) = &step.error {
            return Err(Error::Scripted(error.clone()));
        }
        let text = step.text.replace("{n}", &self.answers.to_string());
        let mut tokens = (self.encode)(&text).into_iter();
        let first = tokens.next().unwrap_or(self.eos);
        let token_time = Duration::from_millis(step.token_ms);
        self.open
            .insert(sequence, Some(Answer { tokens, token_time }));
        Ok(Next::Token(first))
    }

    fn truncate(&mut self, _sequence: SequenceId, _n_rows: usize) {}

    fn close(&mut self, sequence: SequenceId) {
        self.open.remove(&sequence);
    }
}

/// Sleeps like a device that works: a cancel is seen within 20 ms.
fn sleep(time: Duration, cancel: &Cancel) -> Result<(), Error> {
    const SLICE: Duration = Duration::from_millis(20);
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
mod tests {
    use super::*;

    #[test]
    fn a_script_with_an_unknown_key_is_refused_by_name() {
        let error = Script::parse(r#"[{"txt": "a"}]"#).unwrap_err();
        assert!(
            error.contains("txt") && error.contains("prefill-ms"),
            "{error}"
        );
        assert!(Script::parse("[]").unwrap_err().contains("empty"));
    }

    #[test]
    fn steps_follow_each_other_and_start_over() {
        let script = Script::parse(r#"[{"text": "{n}"}, {"error": "gone"}]"#).unwrap();
        let bytes = |text: &str| text.bytes().map(u32::from).collect();
        let mut mock = Mock::new(script, Box::new(bytes), 7, 2);
        let cancel = Cancel::default();
        for n in [1u32, 3] {
            let sequence = mock.open().unwrap();
            let next = mock.extend(sequence, &[], &[], &cancel).unwrap();
            assert!(matches!(next, Next::Token(t) if t == u32::from(b'0') + n));
            let next = mock.extend(sequence, &[], &[], &cancel).unwrap();
            assert!(matches!(next, Next::Token(7)));
            mock.close(sequence);
            let failing = mock.open().unwrap();
            let error = mock.extend(failing, &[], &[], &cancel).unwrap_err();
            assert_eq!(error.to_string(), "gone");
            mock.close(failing);
        }
    }
}
