// SPDX-License-Identifier: MPL-2.0

//! An answer, put together from the pieces in which it comes.

use std::time::Duration;

use serde_json::Value;

use crate::logprobs::{self, Token};
use crate::thinking::Thinking;

/// An answer that is whole: the server said why it ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Its text, as it came, without reasoning.
    pub text: String,
    /// What the model thought before it; empty if the server does not tell.
    pub reasoning: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its tokens with their alternatives, where these were asked for and told.
    pub tokens: Vec<Token>,
    /// What it cost, where the server tells.
    pub usage: Option<Usage>,
    /// The model, as the server names it.
    pub model: String,
    /// How long it took, and what went over the network.
    pub effort: Effort,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Finish {
    /// The model ended it, or a stop text did.
    #[default]
    Stop,
    /// `max_tokens` or the context was reached: the text may be cut.
    Length,
    /// The server's filter took it away.
    Filtered,
    /// Another reason, in the server's word.
    Other(String),
}

/// What an answer cost, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt, those of pictures included.
    pub prompt: u64,
    /// Of these, tokens that the server had in its cache.
    pub cached: u64,
    /// Of the answer, those of reasoning included.
    pub completion: u64,
}

/// How long an answer took, and what went over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// From the call to the first piece of text or reasoning; zero if none came.
    pub ttft: Duration,
    /// From the call to the end.
    pub total: Duration,
    /// What went over the network, TLS and headers included.
    pub traffic: Traffic,
    /// Requests that were made: more than one if some were repeated.
    pub requests: u32,
}

/// Bytes over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// To the server.
    pub sent: u64,
    /// From the server.
    pub received: u64,
}

/// A piece of an answer, as it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text.
    Text(&'a str),
    /// Reasoning.
    Reasoning(&'a str),
}

/// What is wrong with a piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// More text than may be.
    TooLong,
    /// The server gave up: it says so by a `finish_reason`.
    Aborted,
    /// Not what the protocol wants.
    Garbage(&'static str),
}

/// Puts an answer together.
#[derive(Debug)]
pub(crate) struct Assembly {
    answer: Answer,
    finish: Option<Finish>,
    thinking: Thinking,
    limit: usize,
}

impl Assembly {
    /// For an answer of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            answer: Answer::default(),
            finish: None,
            thinking: Thinking::default(),
            limit,
        }
    }

    /// Takes a chunk of a stream or a whole completion, and tells the pieces in it.
    pub(crate) fn take(
        &mut self,
        value: &Value,
        on: &mut dyn FnMut(Piece<'_>),
    ) -> Result<(), Flaw> {
        let Value::Object(chunk) = value else {
            return Err(Flaw::Garbage("a piece of the answer is no JSON object"));
        };
        if let Some(model) = chunk.get("model").and_then(Value::as_str) {
            self.answer.model = model.to_owned();
        }
        let groq = chunk.get("x_groq").and_then(|groq| groq.get("usage"));
        self.take_usage(chunk.get("usage").or(groq));
        let choices = match chunk.get("choices") {
            Some(Value::Array(choices)) => choices.as_slice(),
            None | Some(Value::Null) => &[],
            Some(_) => return Err(Flaw::Garbage("choices is no list")),
        };
        for choice in choices {
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0 {
                self.take_choice(choice, on)?;
            }
        }
        Ok(())
    }

    fn take_choice(&mut self, choice: &Value, on: &mut dyn FnMut(Piece<'_>)) -> Result<(), Flaw> {
        self.take_usage(choice.get("usage"));
        let said = ["delta", "message"].iter().find_map(|key| choice.get(*key));
        if let Some(said) = said {
            for key in ["reasoning", "reasoning_content"] {
                if let Some(text) = text_of(said.get(key)) {
                    self.add_reasoning(&text, on)?;
                    break;
                }
            }
            if let Some(text) = text_of(said.get("content")) {
                let (reasoning, text) = self.thinking.take(&text);
                self.add_reasoning(&reasoning, on)?;
                self.add_text(&text, on)?;
            }
        }
        if let Some(tokens) = choice.get("logprobs").and_then(|l| l.get("content")) {
            let tokens = logprobs::tokens(tokens);
            // Told text is bounded; so are the alternatives to it.
            if self.answer.tokens.len() + tokens.len() > self.limit {
                return Err(Flaw::TooLong);
            }
            self.answer.tokens.extend(tokens);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            let text = self.thinking.finish();
            self.add_text(&text, on)?;
            self.finish = Some(match reason {
                "stop" | "eos" | "eos_token" | "end_turn" => Finish::Stop,
                "length" | "max_tokens" => Finish::Length,
                "content_filter" => Finish::Filtered,
                "error" | "abort" | "cancelled" => return Err(Flaw::Aborted),
                other => Finish::Other(other.to_owned()),
            });
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str, on: &mut dyn FnMut(Piece<'_>)) -> Result<(), Flaw> {
        if text.is_empty() {
            return Ok(());
        }
        self.answer.text.push_str(text);
        self.check_length()?;
        on(Piece::Text(text));
        Ok(())
    }

    fn add_reasoning(&mut self, text: &str, on: &mut dyn FnMut(Piece<'_>)) -> Result<(), Flaw> {
        if text.is_empty() {
            return Ok(());
        }
        self.answer.reasoning.push_str(text);
        self.check_length()?;
        on(Piece::Reasoning(text));
        Ok(())
    }

    fn check_length(&self) -> Result<(), Flaw> {
        match self.n_bytes() > self.limit {
            true => Err(Flaw::TooLong),
            false => Ok(()),
        }
    }

    /// Takes what an answer cost; some servers tell it in every chunk, so the last word counts.
    fn take_usage(&mut self, usage: Option<&Value>) {
        let Some(Value::Object(usage)) = usage else {
            return;
        };
        let number = |key: &str| usage.get(key).and_then(Value::as_u64);
        let cached = usage
            .get("prompt_tokens_details")
            .and_then(|details| details.get("cached_tokens"))
            .and_then(Value::as_u64);
        self.answer.usage = Some(Usage {
            prompt: number("prompt_tokens").unwrap_or_default(),
            cached: cached.unwrap_or_default(),
            completion: number("completion_tokens").unwrap_or_default(),
        });
    }

    /// Bytes of text and reasoning so far.
    pub(crate) fn n_bytes(&self) -> usize {
        self.answer.text.len() + self.answer.reasoning.len()
    }

    /// Whether the server has said why the answer ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// The answer, if it is whole.
    pub(crate) fn finish(self) -> Option<Answer> {
        let finish = self.finish?;
        Some(Answer {
            finish,
            ..self.answer
        })
    }
}

/// A text, or the texts of a list of parts; `None` if there is none.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part.get("text").and_then(Value::as_str))
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assemble(chunks: &[Value]) -> Assembly {
        let mut assembly = Assembly::new(1000);
        for chunk in chunks {
            assembly.take(chunk, &mut |_| ()).unwrap();
        }
        assembly
    }

    fn delta(delta: Value, finish: Value) -> Value {
        json!({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    #[test]
    fn pieces_make_an_answer_that_is_whole_once_it_has_a_reason() {
        let mut chunks = vec![
            delta(json!({"role": "assistant", "content": null}), Value::Null),
            delta(json!({"content": "A "}), Value::Null),
            delta(json!({"content": "car."}), Value::Null),
        ];
        assert_eq!(assemble(&chunks).finish(), None);
        chunks.push(delta(json!({}), json!("stop")));
        let answer = assemble(&chunks).finish().unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.model.as_str()),
            ("A car.", "m")
        );
        assert_eq!(answer.finish, Finish::Stop);
    }

    #[test]
    fn usage_is_found_wherever_it_stands() {
        let usage = json!({"prompt_tokens": 9, "completion_tokens": 2,
            "prompt_tokens_details": {"cached_tokens": 4}});
        let expected = Some(Usage {
            prompt: 9,
            cached: 4,
            completion: 2,
        });
        for chunk in [
            json!({"choices": [], "usage": usage}),
            json!({"usage": usage}),
            json!({"choices": [{"delta": {}, "usage": usage}]}),
            json!({"choices": [], "x_groq": {"usage": usage}}),
        ] {
            assert_eq!(assemble(&[chunk]).answer.usage, expected);
        }
        assert_eq!(
            assemble(&[json!({"choices": [], "usage": null})])
                .answer
                .usage,
            None
        );
    }

    #[test]
    fn reasoning_is_kept_apart_under_each_of_its_names() {
        let answer = assemble(&[
            delta(json!({"reasoning": "Hm. "}), Value::Null),
            delta(json!({"reasoning_content": "Well."}), Value::Null),
            delta(
                json!({"reasoning": "!", "reasoning_content": "!"}),
                Value::Null,
            ),
            delta(json!({"content": "A car."}), json!("stop")),
        ]);
        let answer = answer.finish().unwrap();
        assert_eq!(answer.reasoning, "Hm. Well.!");
        assert_eq!(answer.text, "A car.");
    }

    #[test]
    fn thoughts_in_the_text_are_reasoning() {
        let answer = assemble(&[
            delta(json!({"content": "<thi"}), Value::Null),
            delta(
                json!({"content": "nk>Hm.</think>\n\nA car."}),
                json!("stop"),
            ),
        ]);
        let answer = answer.finish().unwrap();
        assert_eq!(
            (answer.reasoning.as_str(), answer.text.as_str()),
            ("Hm.", "A car.")
        );
    }

    #[test]
    fn a_whole_completion_is_an_answer_too_and_parts_are_joined() {
        let answer = assemble(&[json!({"choices": [{"index": 0, "finish_reason": "length",
            "message": {"content": [{"type": "text", "text": "A "}, {"type": "text", "text": "c"}]}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2}})]);
        let answer = answer.finish().unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.finish),
            ("A c", Finish::Length)
        );
    }

    #[test]
    fn other_choices_are_not_mixed_in() {
        let answer = assemble(&[
            json!({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "stop"}]}),
        ]);
        assert!(!answer.is_finished() && answer.n_bytes() == 0);
    }

    #[test]
    fn text_beyond_the_limit_and_a_server_that_gave_up_are_flaws() {
        let mut assembly = Assembly::new(10);
        let long = delta(json!({"content": "x".repeat(11)}), Value::Null);
        assert_eq!(assembly.take(&long, &mut |_| ()), Err(Flaw::TooLong));
        for reason in ["error", "abort"] {
            let chunk = delta(json!({}), json!(reason));
            assert_eq!(
                Assembly::new(10).take(&chunk, &mut |_| ()),
                Err(Flaw::Aborted)
            );
        }
    }
}
