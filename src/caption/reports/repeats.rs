// SPDX-License-Identifier: MPL-2.0

//! Captions that say the same as the one before.

use std::collections::HashMap;
use std::time::Duration;

/// Questions whose last answer is remembered; beyond, all are forgotten.
const MAX_QUESTIONS: usize = 64;

/// The last answer to each question, and how often it was given in a row.
#[derive(Debug, Default)]
pub struct Repeats {
    runs: HashMap<String, Run>,
}

/// A caption among those before it that say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repeat {
    /// How many captions in a row before this one said the same.
    pub repeats: u64,
    /// PTS of the first frame of the first of them.
    pub first_start: Duration,
}

#[derive(Debug)]
struct Run {
    said: String,
    repeat: Repeat,
}

impl Repeats {
    /// Takes note of an answer to `question` about a window that begins at `start`.
    pub fn say(&mut self, question: &str, text: &str, start: Duration) -> Repeat {
        let said = gist(text);
        if let Some(run) = self.runs.get_mut(question)
            && run.said == said
        {
            run.repeat.repeats += 1;
            return run.repeat;
        }
        if self.runs.len() >= MAX_QUESTIONS {
            self.runs.clear();
        }
        let repeat = Repeat {
            repeats: 0,
            first_start: start,
        };
        self.runs.insert(question.to_owned(), Run { said, repeat });
        repeat
    }

    /// Forgets what was said.
    pub fn reset(&mut self) {
        self.runs.clear();
    }
}

/// A text without what makes no difference: case, white space, punctuation at the end.
fn gist(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ").to_lowercase();
    text.trim_end_matches(['.', '!', '?', '…', '。', '！', '？', ',', ';', ':', ' '])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn case_white_space_and_the_last_point_make_no_difference() {
        let mut repeats = Repeats::default();
        let texts = [
            "A red car.",
            "a red  car",
            "A RED\ncar!",
            "A red cart.",
            "A red car.",
        ];
        let counts: Vec<_> = texts
            .iter()
            .zip(0..)
            .map(|(text, n)| repeats.say("q", text, at(4 * n)))
            .map(|repeat| (repeat.repeats, repeat.first_start.as_secs()))
            .collect();
        assert_eq!(counts, [(0, 0), (1, 0), (2, 0), (0, 12), (0, 16)]);
    }

    #[test]
    fn each_question_has_answers_of_its_own() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.say("a", "yes", at(0)).repeats, 0);
        assert_eq!(repeats.say("b", "yes", at(0)).repeats, 0);
        assert_eq!(repeats.say("a", "Yes.", at(4)).repeats, 1);
        repeats.reset();
        assert_eq!(
            repeats.say("a", "yes", at(8)),
            Repeat {
                repeats: 0,
                first_start: at(8)
            }
        );
    }

    #[test]
    fn questions_without_end_take_no_memory_without_end() {
        let mut repeats = Repeats::default();
        for n in 0..1000 {
            repeats.say(&n.to_string(), "yes", at(n));
        }
        assert!(repeats.runs.len() <= MAX_QUESTIONS);
    }
}
