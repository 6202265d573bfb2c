// SPDX-License-Identifier: MPL-2.0

//! A record's caption is made again, as it was or with something changed.

use std::sync::Arc;
use std::time::Duration;

use super::compare::Comparison;
use super::entry::{answer, prompt};
use super::reading::Whole;
use super::record::{Answer, Prompt, Record};
use crate::caption::engine::examiner::{Examination, Examiner};
use crate::caption::questions::prompt::Ask;
use crate::caption::questions::question::{Kind, Question};
use crate::caption::reports::caption::Caption;
use crate::caption::reports::evidence::ShownFrame;
use crate::vlm;
use crate::vlm::grammar::Schema;

/// What is asked otherwise than it was; nothing is as it was.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Another question, in place of the record's.
    pub question: Option<Asked>,
    /// Only these frames, counted from 0.
    pub frames: Option<std::ops::Range<usize>>,
}

/// Another question.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Its template.
    pub text: String,
    /// How the answer looks; `None` for as the record's.
    pub kind: Option<Kind>,
    /// Upper bound of the answer's tokens; `None` for as the record's.
    pub max_tokens: Option<usize>,
}

/// A caption that was made again.
#[derive(Debug, Clone, PartialEq)]
pub struct Again {
    /// The answer.
    pub answer: Answer,
    /// The prompt; none of a server.
    pub prompt: Option<Prompt>,
    /// What it took.
    pub took: Duration,
    /// How the answer looks.
    pub kind: Kind,
}

impl Again {
    /// How it stands to the record.
    pub fn compared(&self, with: &Record) -> Comparison {
        Comparison::of(
            (with.prompt.as_ref(), &with.answer),
            (self.prompt.as_ref(), &self.answer),
        )
    }
}

/// Makes a record's caption again.
///
/// # Errors
/// Why there is none.
pub fn again(examiner: &mut Examiner, whole: &Whole, change: &Change) -> Result<Again, String> {
    let frames = chosen(whole, change)?;
    let ask = ask(&whole.record, change)?;
    let kind = ask.questions.first().map(|question| question.kind.clone());
    let record = &whole.record;
    let caption = examiner.ask(Examination {
        frames,
        ask,
        stream: record.stream.clone(),
        sequence: record.sequence,
        last: record.last.clone(),
        history: record
            .history
            .iter()
            .map(|exchange| vlm::Turn {
                user: exchange.user.clone(),
                assistant: exchange.assistant.clone(),
            })
            .collect(),
    })?;
    let Caption {
        evidence, total, ..
    } = caption;
    let evidence = evidence.ok_or("the answer came without evidence")?;
    let kind = kind.unwrap_or(Kind::Caption);
    Ok(Again {
        answer: answer(&evidence.answer, kind.choices()),
        prompt: evidence.prompt.as_ref().map(prompt),
        took: total,
        kind,
    })
}

/// The frames that are asked about.
fn chosen(whole: &Whole, change: &Change) -> Result<Vec<ShownFrame>, String> {
    let Some(range) = &change.frames else {
        return Ok(whole.frames.clone());
    };
    let chosen = whole.frames.get(range.clone());
    let chosen = chosen.filter(|frames| !frames.is_empty());
    let n = whole.frames.len();
    chosen.map(<[_]>::to_vec).ok_or_else(|| {
        let (from, to) = (range.start, range.end);
        format!("the record has {n} frames, counted from 0; there are none in {from}..{to}")
    })
}

/// How it is asked.
fn ask(record: &Record, change: &Change) -> Result<Ask, String> {
    let (asked, generation) = (&record.question, &record.generation);
    let other = change.question.as_ref();
    let kind = match other.and_then(|other| other.kind.clone()) {
        Some(kind) => kind,
        None => kind(record)?,
    };
    let question = Question {
        id: asked.id.clone(),
        text: other.map_or_else(|| asked.template.clone(), |other| other.text.clone()),
        kind,
        max_tokens: Some(
            other
                .and_then(|other| other.max_tokens)
                .unwrap_or(generation.max_tokens),
        ),
        period: Duration::ZERO,
        rule: None,
    };
    Ok(Ask {
        prompt: question.text.clone(),
        questions: vec![Arc::new(question)],
        system_prompt: record.system.template.clone(),
        history: record.history.len(),
        max_tokens: generation.max_tokens,
        temperature: generation.temperature,
        top_p: generation.top_p,
        top_k: generation.top_k,
        min_p: generation.min_p,
        repetition_penalty: Some(generation.repetition_penalty),
        seed: generation.seed,
        stop: generation.stop.clone(),
        emit_partial: false,
        drafts: false,
        evidence: true,
    })
}

/// How the record's answer looks.
fn kind(record: &Record) -> Result<Kind, String> {
    let asked = &record.question;
    Ok(match asked.kind.as_str() {
        "caption" => Kind::Caption,
        "yes-no" => Kind::YesNo,
        "count" => Kind::Count,
        "choice" if !asked.choices.is_empty() => Kind::Choice(asked.choices.clone()),
        "json" => {
            let schema = asked.schema.as_ref().ok_or("the record has no schema")?;
            Kind::Json(Arc::new(Schema::parse(&schema.to_string())?))
        }
        other => return Err(format!("the record asks for {other:?}, which is not known")),
    })
}
