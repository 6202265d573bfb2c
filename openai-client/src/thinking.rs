// SPDX-License-Identifier: MPL-2.0

//! Reasoning that a server leaves in the text, between tags at its beginning.

const OPENS: &str = "<think>";
const CLOSES: &str = "</think>";

/// Tells reasoning from text while both come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Thinking {
    state: State,
    /// What came and may still be part of a tag.
    held: String,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    /// What has come may still be the beginning of a tag.
    #[default]
    Unknown,
    /// Reasoning goes on.
    Thinking,
    /// Its end has come, and no text yet: white space that follows is dropped.
    Closed,
    /// Text.
    Text,
}

impl Thinking {
    /// Takes a piece; gives what is certainly reasoning and what is certainly text.
    pub(crate) fn take(&mut self, piece: &str) -> (String, String) {
        self.held.push_str(piece);
        let mut reasoning = String::new();
        if self.state == State::Unknown {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(OPENS) {
                self.held = rest.to_owned();
                self.state = State::Thinking;
            } else if !OPENS.starts_with(begun) {
                self.state = State::Text;
            }
        }
        if self.state == State::Thinking {
            match self.held.find(CLOSES) {
                Some(at) => {
                    reasoning = self.held[..at].to_owned();
                    self.held.drain(..at + CLOSES.len());
                    self.state = State::Closed;
                }
                None => {
                    let keep = begun_tag(&self.held, CLOSES);
                    let rest = self.held.split_off(self.held.len() - keep);
                    reasoning = std::mem::replace(&mut self.held, rest);
                }
            }
        }
        if self.state == State::Closed {
            self.held = self.held.trim_start().to_owned();
            if !self.held.is_empty() {
                self.state = State::Text;
            }
        }
        let text = match self.state {
            State::Text => std::mem::take(&mut self.held),
            _ => String::new(),
        };
        (reasoning, text)
    }

    /// The answer has ended: text that might have become a tag.
    pub(crate) fn finish(&mut self) -> String {
        match self.state {
            State::Unknown => std::mem::take(&mut self.held),
            _ => String::new(),
        }
    }
}

/// Bytes at the end of `text` that may be the beginning of `tag`.
fn begun_tag(text: &str, tag: &str) -> usize {
    let most = tag.len().min(text.len() + 1) - 1;
    let is_begun = |n: &usize| text.ends_with(&tag[..*n]);
    (1..=most).rev().find(is_begun).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, n: usize) -> (String, String) {
        let mut thinking = Thinking::default();
        let (mut reasoning, mut said) = (String::new(), String::new());
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(n) {
            let (r, s) = thinking.take(&piece.iter().collect::<String>());
            reasoning.push_str(&r);
            said.push_str(&s);
        }
        said.push_str(&thinking.finish());
        (reasoning, said)
    }

    #[test]
    fn however_it_is_cut_reasoning_and_text_are_the_same() {
        for (text, reasoning, said) in [
            ("A car.", "", "A car."),
            ("<think>Ä < b</think>\n\nA car.", "Ä < b", "A car."),
            (" \n<think>a</think>b</think>", "a", "b</think>"),
            ("<think>never ends", "never ends", ""),
            ("<thin", "", "<thin"),
            ("x <think>a</think>", "", "x <think>a</think>"),
            ("", "", ""),
        ] {
            for n in 1..text.len().max(2) {
                assert_eq!(
                    split(text, n),
                    (reasoning.into(), said.into()),
                    "{text:?} by {n}"
                );
            }
        }
    }
}
