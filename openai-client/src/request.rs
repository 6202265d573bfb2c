// SPDX-License-Identifier: MPL-2.0

//! A question, and the body that it becomes.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

use crate::extra::ExtraBody;
use crate::message::Message;

/// A question. What is `None` or empty is not sent: some servers refuse fields that they do not
/// know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChatRequest {
    /// Who said what; the last message is the question.
    pub messages: Vec<Message>,
    /// Upper bound of the answer's tokens, those of reasoning included.
    pub max_tokens: Option<u32>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus.
    pub top_p: Option<f32>,
    /// Number of likeliest tokens that are kept; not of OpenAI's own protocol.
    pub top_k: Option<u32>,
    /// Part of the likeliest token's probability; not of OpenAI's own protocol.
    pub min_p: Option<f32>,
    /// Penalty on tokens that are there; not of OpenAI's own protocol.
    pub repetition_penalty: Option<f32>,
    /// Start of the random numbers.
    pub seed: Option<u64>,
    /// Texts that end the answer. OpenAI and vLLM take four at most.
    pub stop: Vec<String>,
    /// How many alternatives of each token are told, with their probabilities: 1..=20.
    pub top_logprobs: Option<u8>,
    /// What the answer is held to.
    pub guide: Option<Guide>,
    /// When the frames of the video were taken; for servers that
    /// [take times](crate::ServerTraits::video_times).
    pub video_times: Option<VideoTimes>,
}

/// What an answer is held to by the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Guide {
    /// JSON that follows a schema (`response_format`).
    Json {
        /// A name for the schema: letters, digits, `_` and `-`.
        name: String,
        /// The schema.
        schema: Value,
    },
    /// Any JSON object (`response_format`).
    JsonObject,
    /// One of these texts (vLLM's `structured_outputs`).
    Choice(Vec<String>),
    /// A text that matches (vLLM's `structured_outputs`).
    Regex(String),
}

/// When frames were taken, in milliseconds from the first one; vLLM's `media_io_kwargs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTimes(Vec<u64>);

impl VideoTimes {
    /// Times of the frames since the first, in their order.
    pub fn new(times: impl IntoIterator<Item = std::time::Duration>) -> Self {
        Self(
            times
                .into_iter()
                .map(|time| time.as_millis() as u64)
                .collect(),
        )
    }

    /// As though the frames were those of a video of 1000 frames a second.
    pub(crate) fn to_json(&self) -> Value {
        // A whole second is left after the last frame; it is in no frame's time.
        let last = self.0.last().copied().unwrap_or_default();
        json!({"video": {
            "fps": 1000,
            "frames_indices": self.0,
            "total_num_frames": last + 1000,
        }})
    }
}

/// The name of the field that bounds an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TokenField {
    /// `max_tokens`, which nearly all servers know.
    #[default]
    MaxTokens,
    /// `max_completion_tokens`, which OpenAI's reasoning models insist on.
    MaxCompletionTokens,
}

impl ChatRequest {
    /// A question about pictures or a text.
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    /// The body, as JSON.
    pub(crate) fn body(&self, model: &str, extra: &ExtraBody, tokens: TokenField) -> Vec<u8> {
        let fields = self.fields(model, extra, tokens);
        let body = Body {
            fields: &fields,
            messages: &self.messages,
        };
        // Texts and numbers: there is nothing that is not JSON.
        serde_json::to_vec(&body).expect("a question is JSON")
    }

    fn fields(&self, model: &str, extra: &ExtraBody, tokens: TokenField) -> Map<String, Value> {
        let mut map = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                map.insert(key.to_owned(), value);
            }
        };
        set("model", Some(model.into()));
        set("stream", Some(true.into()));
        set("stream_options", Some(json!({"include_usage": true})));
        let token_field = match tokens {
            TokenField::MaxTokens => "max_tokens",
            TokenField::MaxCompletionTokens => "max_completion_tokens",
        };
        set(token_field, self.max_tokens.map(Value::from));
        set("temperature", self.temperature.map(decimal));
        set("top_p", self.top_p.map(decimal));
        set("top_k", self.top_k.map(Value::from));
        set("min_p", self.min_p.map(decimal));
        set("repetition_penalty", self.repetition_penalty.map(decimal));
        set("seed", self.seed.map(Value::from));
        set("stop", (!self.stop.is_empty()).then(|| json!(self.stop)));
        set("logprobs", self.top_logprobs.map(|_| true.into()));
        set("top_logprobs", self.top_logprobs.map(Value::from));
        let times = self.video_times.as_ref().map(VideoTimes::to_json);
        set("media_io_kwargs", times);
        if let Some(guide) = &self.guide {
            let (key, value) = guide.to_json();
            set(key, Some(value));
        }
        extra.merge_into(&mut map);
        map
    }
}

impl Guide {
    fn to_json(&self) -> (&'static str, Value) {
        match self {
            Self::Json { name, schema } => (
                "response_format",
                json!({"type": "json_schema", "json_schema": {
                    "name": name, "strict": true, "schema": schema,
                }}),
            ),
            Self::JsonObject => ("response_format", json!({"type": "json_object"})),
            Self::Choice(choices) => ("structured_outputs", json!({"choice": choices})),
            Self::Regex(regex) => ("structured_outputs", json!({"regex": regex})),
        }
    }
}

/// A number as it was written: 0.7 and not 0.699999988079071.
fn decimal(number: f32) -> Value {
    let number: f64 = number.to_string().parse().unwrap_or_default();
    number.into()
}

struct Body<'a> {
    fields: &'a Map<String, Value>,
    messages: &'a [Message],
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len() + 1))?;
        for (key, value) in self.fields {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("messages", self.messages)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn body(request: &ChatRequest, extra: &str, tokens: TokenField) -> Value {
        let extra = ExtraBody::parse(extra).unwrap();
        serde_json::from_slice(&request.body("m", &extra, tokens)).unwrap()
    }

    #[test]
    fn nothing_is_sent_that_was_not_set() {
        let request = ChatRequest::new(vec![Message::user("Hi")]);
        assert_eq!(
            body(&request, "", TokenField::MaxTokens),
            json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": "Hi"}]})
        );
    }

    #[test]
    fn what_is_set_is_sent_as_it_was_written() {
        let request = ChatRequest {
            max_tokens: Some(64),
            temperature: Some(0.7),
            top_p: Some(0.95),
            seed: Some(7),
            stop: vec!["\n".into()],
            top_logprobs: Some(20),
            guide: Some(Guide::Choice(vec!["yes".into(), "no".into()])),
            ..ChatRequest::new(vec![Message::user("Hi")])
        };
        let body = body(
            &request,
            r#"{"top_k": 5, "seed": null}"#,
            TokenField::MaxCompletionTokens,
        );
        assert_eq!(body["max_completion_tokens"], 64);
        assert_eq!(body["temperature"], json!(0.7));
        assert_eq!(body["logprobs"], true);
        assert_eq!(body["top_logprobs"], 20);
        assert_eq!(body["structured_outputs"], json!({"choice": ["yes", "no"]}));
        assert_eq!(body["top_k"], 5);
        assert!(body.get("seed").is_none() && body.get("max_tokens").is_none());
    }

    #[test]
    fn a_schema_is_a_response_format() {
        let schema = json!({"type": "object"});
        let request = ChatRequest {
            guide: Some(Guide::Json {
                name: "answer".into(),
                schema: schema.clone(),
            }),
            ..ChatRequest::new(vec![])
        };
        let format = &body(&request, "", TokenField::MaxTokens)["response_format"];
        assert_eq!(format["type"], "json_schema");
        assert_eq!(format["json_schema"]["schema"], schema);
    }

    #[test]
    fn times_of_frames_are_milliseconds_of_a_video() {
        let times = [0, 1000, 2500].map(Duration::from_millis);
        let request = ChatRequest {
            video_times: Some(VideoTimes::new(times)),
            ..ChatRequest::new(vec![])
        };
        assert_eq!(
            body(&request, "", TokenField::MaxTokens)["media_io_kwargs"],
            json!({"video": {
                "fps": 1000, "frames_indices": [0, 1000, 2500], "total_num_frames": 3500,
            }})
        );
    }
}
