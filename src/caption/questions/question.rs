// SPDX-License-Identifier: MPL-2.0

//! One of the questions that are asked about every window.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::alarm::Rule;
use crate::vlm::generate::Form;
use crate::vlm::grammar::Schema;

/// Id of the only question where none are listed.
pub const DEFAULT_ID: &str = "default";

/// A question about a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Names it in captions, answers and events.
    pub id: String,
    /// Prompt template; see [`render`](super::prompt::render).
    pub text: String,
    /// How the answer looks.
    pub kind: Kind,
    /// Upper bound of the answer's tokens; `None` takes [`Ask::max_tokens`](super::prompt::Ask).
    pub max_tokens: Option<usize>,
    /// Windows that end sooner than this after the last one asked about are not asked about; zero
    /// asks about every window.
    pub period: Duration,
    /// When the answer begins and ends an event; `None` for never.
    pub rule: Option<Rule>,
}

/// How an answer looks.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Text.
    Caption,
    /// `yes` or `no`.
    YesNo,
    /// One of several words or phrases.
    Choice(Vec<String>),
    /// A whole number from 0.
    Count,
    /// JSON that follows a schema.
    Json(Arc<Schema>),
}

impl Question {
    /// The question of an element that was given nothing but a prompt.
    pub fn plain(text: &str) -> Self {
        Self {
            id: DEFAULT_ID.to_owned(),
            text: text.to_owned(),
            kind: Kind::Caption,
            max_tokens: None,
            period: Duration::ZERO,
            rule: None,
        }
    }

    /// The form for [`Interview::answer`](crate::vlm::interview::Interview::answer).
    pub(crate) fn form(&self) -> Form<'_> {
        match &self.kind {
            Kind::Caption => Form::Text,
            Kind::YesNo | Kind::Choice(_) => Form::Choice(self.kind.choices()),
            Kind::Count => Form::Count,
            Kind::Json(schema) => Form::Json(schema),
        }
    }
}

impl Kind {
    /// The word for it in properties and captions.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Caption => "caption",
            Kind::YesNo => "yes-no",
            Kind::Choice(_) => "choice",
            Kind::Count => "count",
            Kind::Json(_) => "json",
        }
    }

    /// The answers that there are; empty where they cannot be listed.
    pub fn choices(&self) -> &[String] {
        static YES_NO: LazyLock<[String; 2]> = LazyLock::new(|| ["yes".into(), "no".into()]);
        match self {
            Kind::YesNo => YES_NO.as_slice(),
            Kind::Choice(choices) => choices,
            Kind::Caption | Kind::Count | Kind::Json(_) => &[],
        }
    }

    /// Quick answers are given first: an alarm does not wait for a caption.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Kind::YesNo | Kind::Choice(_) | Kind::Count => 0,
            Kind::Json(_) => 1,
            Kind::Caption => 2,
        }
    }
}

/// Those of `questions` whose answers are due, quick ones first. `last` gives the end of the window
/// that a question was last asked about; `end` is this window's, both PTS.
pub(crate) fn due(
    questions: &[Arc<Question>],
    end: Duration,
    last: impl Fn(&str) -> Option<Duration>,
) -> Vec<Arc<Question>> {
    let due = |question: &&Arc<Question>| match last(&question.id) {
        // A stream that went back in time is asked about at once.
        Some(last) => end < last || end - last >= question.period,
        None => true,
    };
    let mut due: Vec<_> = questions.iter().filter(due).cloned().collect();
    due.sort_by_key(|question| question.kind.rank());
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_with_a_period_skips_windows_and_quick_ones_go_first() {
        let question = |id: &str, kind, period| {
            Arc::new(Question {
                id: id.into(),
                kind,
                period: Duration::from_secs(period),
                ..Question::plain("?")
            })
        };
        let questions = [
            question("a", Kind::Caption, 10),
            question("b", Kind::YesNo, 0),
        ];
        let ids = |end, last: Option<u64>| {
            let due = due(&questions, Duration::from_secs(end), |id| {
                last.filter(|_| id == "a").map(Duration::from_secs)
            });
            due.iter().map(|q| q.id.clone()).collect::<String>()
        };
        assert_eq!(ids(3, None), "ba");
        assert_eq!(ids(12, Some(3)), "b");
        assert_eq!(ids(13, Some(3)), "ba");
        assert_eq!(ids(2, Some(3)), "ba");
    }
}
