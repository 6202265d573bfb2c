// SPDX-License-Identifier: MPL-2.0

//! What is asked: prompt templates and everything else that may change while captions are made.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};

use super::question::{Kind, Question};

/// How the next window is to be captioned; may change between windows.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Prompt template; see [`render`]. Not asked if there are `questions`.
    pub prompt: String,
    /// What is asked about every window; if there are none, `prompt` is.
    pub questions: Vec<Arc<Question>>,
    /// System prompt template; empty leaves it to the model's chat template.
    pub system_prompt: String,
    /// Earlier captions given as context.
    pub history: usize,
    /// Upper bound of an answer's tokens, unless its question has one of its own.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus, 1.0 keeps all.
    pub top_p: f32,
    /// 0 keeps all.
    pub top_k: usize,
    /// Part of the likeliest token's probability, 0.0 keeps all.
    pub min_p: f32,
    /// `None` takes the checkpoint's own.
    pub repetition_penalty: Option<f32>,
    /// Start of the random numbers, the same for every window.
    pub seed: u64,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Whether unfinished text is reported.
    pub emit_partial: bool,
    /// Whether the last answer is a draft of the next; it changes no word.
    pub drafts: bool,
    /// Whether captions tell [what they were made of](crate::caption::reports::evidence).
    pub evidence: bool,
}

impl Ask {
    /// All that is asked.
    pub fn all(&self) -> Vec<Arc<Question>> {
        match self.questions.as_slice() {
            [] => vec![Arc::new(Question::plain(&self.prompt))],
            questions => questions.to_vec(),
        }
    }

    /// The question whose answers are the captions: the first of that kind, or else the first.
    pub fn main(&self) -> Arc<Question> {
        let all = self.all();
        let first = all.iter().find(|question| question.kind == Kind::Caption);
        // `all` is never empty.
        first.unwrap_or(&all[0]).clone()
    }

    /// Short name of a question: FNV-1a over the system prompt's template and its own, in
    /// hexadecimal. The same templates give the same name in every process and version.
    pub fn hash(&self, question: &Question) -> String {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let bytes = self
            .system_prompt
            .bytes()
            .chain([0])
            .chain(question.text.bytes());
        let hash = bytes.fold(OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        });
        format!("{hash:016x}")
    }
}

/// What a template may name.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    /// `{stream}`: id of the stream.
    pub stream: &'a str,
    /// `{n}`: number of the window, from 1.
    pub n: u64,
    /// `{start}`: PTS of its first frame, `h:mm:ss.mmm`.
    pub start: Duration,
    /// `{end}`: PTS of its last frame.
    pub end: Duration,
    /// `{wallclock}`: time of its first frame since the Unix epoch, shown in UTC.
    pub wallclock: Duration,
    /// `{last}`: the caption before; empty for the first.
    pub last: &'a str,
}

/// Puts values in place of `{stream} {n} {start} {end} {wallclock} {last}`; any other text in
/// braces stays as it is.
pub fn render(template: &str, variables: &Variables<'_>) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        text.push_str(&rest[..open]);
        rest = &rest[open..];
        let Some((name, after)) = rest[1..].split_once('}') else {
            break;
        };
        match value(name, variables) {
            Some(value) => {
                text.push_str(&value);
                rest = after;
            }
            None => {
                text.push('{');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text
}

fn value(name: &str, variables: &Variables<'_>) -> Option<String> {
    Some(match name {
        "stream" => variables.stream.to_owned(),
        "n" => variables.n.to_string(),
        "start" => clock(variables.start),
        "end" => clock(variables.end),
        "wallclock" => iso8601(variables.wallclock),
        "last" => variables.last.to_owned(),
        _ => return None,
    })
}

fn clock(time: Duration) -> String {
    let s = time.as_secs();
    format!(
        "{}:{:02}:{:02}.{:03}",
        s / 3600,
        s / 60 % 60,
        s % 60,
        time.subsec_millis()
    )
}

/// `2026-11-21T07:46:00.250Z`; empty for a time beyond the calendar.
pub fn iso8601(since_epoch: Duration) -> String {
    i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| DateTime::from_timestamp(seconds, since_epoch.subsec_nanos()))
        .map_or_else(String::new, |time| {
            time.to_rfc3339_opts(SecondsFormat::Millis, true)
        })
}

#[cfg(test)]
impl Ask {
    /// A prompt, and nothing else that is special.
    pub(crate) fn plain(prompt: &str) -> Self {
        Self {
            prompt: prompt.into(),
            questions: Vec::new(),
            system_prompt: String::new(),
            history: 0,
            max_tokens: 8,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: None,
            seed: 0,
            stop: Vec::new(),
            emit_partial: false,
            drafts: true,
            evidence: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: Variables<'_> = Variables {
        stream: "cam1",
        n: 3,
        start: Duration::from_millis(3_723_045),
        end: Duration::from_secs(2),
        wallclock: Duration::from_millis(1_795_247_160_250),
        last: "A car.",
    };

    #[test]
    fn known_names_are_replaced_and_others_stay() {
        assert_eq!(
            render(
                "{stream}/{n} {start}-{end} {\"json\": {last}} {oops",
                &VARIABLES
            ),
            "cam1/3 1:02:03.045-0:00:02.000 {\"json\": A car.} {oops"
        );
    }

    #[test]
    fn wallclock_is_iso_8601() {
        assert_eq!(
            render("{wallclock}", &VARIABLES),
            "2026-11-21T07:46:00.250Z"
        );
        assert_eq!(
            iso8601(Duration::from_secs(951_782_400)),
            "2000-02-29T00:00:00.000Z"
        );
        assert_eq!(iso8601(Duration::ZERO), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_hash_tells_prompts_apart() {
        let ask = |system: &str, prompt: &str| Ask {
            system_prompt: system.into(),
            ..Ask::plain(prompt)
        };
        let hash = |ask: Ask| ask.hash(&ask.main());
        assert_eq!(hash(ask("", "a")), hash(ask("", "a")));
        assert_ne!(hash(ask("a", "")), hash(ask("", "a")));
    }
}
