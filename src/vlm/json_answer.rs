// SPDX-License-Identifier: MPL-2.0

//! An answer in JSON that follows a schema: only tokens are chosen with which it still can, within
//! the tokens that are left.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::Error;
use super::grammar::{Schema, State};
use super::interview::{Interview, Prefilled};
use super::request::{Drafts, Generated, Request, StopReason};
use super::sampling::Sampler;
use super::tokenizer::bytes::TokenBytes;
use crate::backend::Next;

/// Of the likeliest tokens so many are tried before all are looked through.
const TRIED: usize = 16;

/// Tokens that are drawn in vain, for want of room for what must follow, before the text is ended.
const DRAWN: usize = 64;

/// A text while it grows.
struct Writer<'a> {
    schema: &'a Schema,
    table: &'a TokenBytes,
    state: State,
    text: Vec<u8>,
    /// Tokens that may still come.
    left: usize,
    /// For want of tokens the text ends with these.
    forced: Option<VecDeque<u32>>,
}

impl Writer<'_> {
    /// The state after a token with which the text can still be whole in time.
    fn after(&self, id: u32) -> Option<State> {
        let bytes = self.table.of(id);
        let mut state = self.state.clone();
        if bytes.is_empty() || !state.push_all(self.schema, bytes) {
            return None;
        }
        self.in_time(&state).then_some(state)
    }

    /// Whether a text can be ended with one token less than there are.
    fn in_time(&self, state: &State) -> bool {
        let ending = state.ending(self.schema);
        // A token is a byte at least.
        ending.len() < self.left || self.table.cover(&ending).len() < self.left
    }

    /// All tokens that may follow, by the grammar alone: tokens with the same beginning are looked
    /// at together.
    fn allowed(&self) -> Vec<u32> {
        let mut allowed = Vec::new();
        // `states[n]` is the state after the first n bytes of `last`.
        let mut states = vec![self.state.clone()];
        let (mut last, mut refused): (&[u8], bool) = (&[], false);
        for &id in self.table.sorted() {
            let bytes = self.table.of(id);
            let same = last.iter().zip(bytes).take_while(|(a, b)| a == b).count();
            if refused && same == last.len() {
                continue;
            }
            let mut depth = same;
            refused = false;
            while depth < bytes.len() {
                if states.len() == depth + 1 {
                    states.push(State::new());
                }
                let (before, after) = states.split_at_mut(depth + 1);
                after[0].clone_from(&before[depth]);
                depth += 1;
                if !after[0].push(self.schema, bytes[depth - 1]) {
                    refused = true;
                    break;
                }
            }
            last = &bytes[..depth];
            if !refused {
                allowed.push(id);
            }
        }
        allowed
    }

    fn choose(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<u32, Error> {
        if self.forced.is_some() {
            return self.force(sampler);
        }
        if sampler.is_greedy() {
            for id in sampler.likeliest(logits, TRIED)? {
                if let Some(state) = self.after(id) {
                    return Ok(self.take(sampler, id, state));
                }
            }
        }
        let mut allowed = self.allowed();
        // What is left when a token's turn comes that would not end in time.
        for _ in 0..DRAWN {
            if allowed.is_empty() {
                break;
            }
            let Ok(id) = sampler.choose_of(logits, &allowed) else {
                break;
            };
            if let Some(state) = self.after(id) {
                return Ok(self.take(sampler, id, state));
            }
            if self.left <= TRIED {
                break;
            }
            allowed.retain(|&other| other != id);
        }
        self.force(sampler)
    }

    /// Goes on the shortest way out.
    fn force(&mut self, sampler: &mut Sampler) -> Result<u32, Error> {
        let (table, schema, state) = (self.table, self.schema, &self.state);
        let way = self
            .forced
            .get_or_insert_with(|| table.cover(&state.ending(schema)).into());
        let id = way.pop_front().ok_or(Error::Logits)?;
        let mut state = self.state.clone();
        if !state.push_all(self.schema, self.table.of(id)) {
            return Err(Error::Logits);
        }
        Ok(self.take(sampler, id, state))
    }

    fn take(&mut self, sampler: &mut Sampler, id: u32, state: State) -> u32 {
        sampler.observe(&[id]);
        self.text.extend_from_slice(self.table.of(id));
        self.state = state;
        self.left -= 1;
        id
    }
}

impl Interview<'_> {
    /// JSON that follows `schema`. From a program that gives tokens and no logits it is what the
    /// model says, if that follows the schema.
    pub(super) fn json(
        &mut self,
        request: &Request<'_>,
        schema: &Schema,
    ) -> Result<Generated, Error> {
        let tokenizer = self.tokenizer;
        let table = tokenizer.token_bytes().ok_or_else(|| {
            Error::Answer("answers in JSON need a byte-level tokenizer; this model has none".into())
        })?;
        let room = (self.context() + 1).saturating_sub(request.prompt.n_rows());
        let mut writer = Writer {
            schema,
            table,
            state: State::new(),
            text: Vec::new(),
            left: request.options.max_tokens.min(room),
            forced: None,
        };
        let shortest = table.cover(&writer.state.ending(schema)).len();
        if shortest > writer.left {
            return Err(Error::Answer(format!(
                "the shortest answer that follows the schema takes {shortest} tokens, and there is \
                 room for {}; raise max-tokens",
                writer.left
            )));
        }
        let mut sampler = Sampler::new(&request.options.sampling);
        let Prefilled { next, reused } =
            self.prefill(request.prompt, &mut sampler, request.cancel)?;
        let ttft = request.started.elapsed();
        let first = match next {
            Next::Logits(logits) => Ok(writer.choose(&mut sampler, logits)?),
            Next::Token(token) => Err(token),
        };
        let (tokens_out, tokens, drafts) = match first {
            Err(token) => {
                let (said, n_tokens) = self.continued(request, token)?;
                writer.text = object_in(&said).as_bytes().to_vec();
                (n_tokens, Vec::new(), Drafts::default())
            }
            Ok(first) => {
                let (tokens, drafts) = self.write(request, first, &mut writer, &mut sampler)?;
                (tokens.len(), tokens, drafts)
            }
        };
        let stop_reason = match writer.forced {
            Some(_) => StopReason::MaxTokens,
            None => StopReason::Complete,
        };
        let text = String::from_utf8_lossy(&writer.text).into_owned();
        let parsed = serde_json::from_str(&text).map_err(|error| error.to_string());
        if let Err(reason) = parsed.and_then(|value| schema.validate(&value)) {
            return Err(Error::Answer(format!(
                "the model said {text:?}, which does not follow the schema ({reason}); its backend \
                 gives no logits, so its answers cannot be guided"
            )));
        }
        Ok(Generated {
            reused,
            drafts,
            tokens_out,
            tokens,
            ttft,
            ..request.generated(text, stop_reason)
        })
    }

    /// Goes on from the first token until the text is whole: its tokens.
    fn write(
        &mut self,
        request: &Request<'_>,
        first: u32,
        writer: &mut Writer<'_>,
        sampler: &mut Sampler,
    ) -> Result<(Vec<u32>, Drafts), Error> {
        let mut tokens = vec![first];
        if writer.state.is_complete() {
            return Ok((tokens, Drafts::default()));
        }
        let drafts = self.decode(request, first, &mut |next| {
            let Next::Logits(logits) = next else {
                return Err(Error::Logits);
            };
            let token = writer.choose(sampler, logits)?;
            tokens.push(token);
            Ok(match writer.state.is_complete() {
                true => ControlFlow::Break(token),
                false => ControlFlow::Continue(token),
            })
        })?;
        Ok((tokens, drafts))
    }
}

/// A text without the fence that models like to put around JSON.
fn object_in(text: &str) -> &str {
    let inner = text.strip_prefix("```json").or(text.strip_prefix("```"));
    let inner = inner.and_then(|text| text.strip_suffix("```"));
    inner.unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::*;
    use crate::backend::{
        self, Cancel, Limits, Patches, Position, Program, Segment, SequenceId, VisualTokens,
    };
    use crate::vlm::generate::{Form, GenerateOptions};
    use crate::vlm::sampling::Sampling;
    use crate::vlm::tokenizer::demo;
    use crate::vlm::{Prompt, PromptRun};

    const VOCAB: usize = 512;

    /// Gives random logits; `likes` is a token that it likes above all.
    struct Random {
        limits: Limits,
        random: ChaCha8Rng,
        likes: Option<u32>,
        logits: Vec<f32>,
    }

    impl Program for Random {
        fn limits(&self) -> &Limits {
            &self.limits
        }

        fn encode(&mut self, _: &Patches, _: &Cancel) -> Result<VisualTokens, backend::Error> {
            Err(backend::Error::Cancelled)
        }

        fn open(&mut self) -> Result<SequenceId, backend::Error> {
            Ok(SequenceId(0))
        }

        fn extend(
            &mut self,
            _: SequenceId,
            _: &[Segment<'_>],
            _: &[Position],
            _: &Cancel,
        ) -> Result<Next<'_>, backend::Error> {
            let random = &mut self.random;
            let logit = |_| (random.next_u32() % 2000) as f32 / 100.0;
            self.logits = (0..VOCAB).map(logit).collect();
            if let Some(id) = self.likes {
                self.logits[id as usize] = 100.0;
            }
            Ok(Next::Logits(&self.logits))
        }

        fn truncate(&mut self, _: SequenceId, _: usize) {}

        fn close(&mut self, _: SequenceId) {}
    }

    fn said(
        schema: &Schema,
        seed: u64,
        likes: Option<u32>,
        temperature: f32,
        max_tokens: usize,
    ) -> Result<Generated, Error> {
        let mut program = Random {
            limits: Limits {
                context: 10_000,
                prompt: 100,
                vocab_size: VOCAB,
                weight_bytes: 0,
            },
            random: ChaCha8Rng::seed_from_u64(seed),
            likes,
            logits: Vec::new(),
        };
        let prompt = Prompt {
            runs: vec![PromptRun::Tokens(vec![64, 65])],
            positions: vec![[0; 3], [1; 3]],
            next_position: 2,
            placeholder: None,
        };
        let options = GenerateOptions {
            max_tokens,
            sampling: Sampling {
                temperature,
                seed,
                ..Sampling::greedy()
            },
            eos: vec![506],
            stop: vec![],
        };
        let mut interview = Interview::new(&mut program, demo(), &[]);
        let cancel = Cancel::default();
        interview.answer(&prompt, Form::Json(schema), &options, &cancel, &mut |_| {})
    }

    /// Schemas of every kind of value, nested.
    fn schemas() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::json;
        let bounds = (any::<bool>(), -2000i32..2000, 0i32..3000);
        let leaf = prop_oneof![
            (0u32..12).prop_map(|n| json!({"type": "string", "maxLength": n})),
            Just(json!({"type": "string"})),
            Just(json!({"enum": ["red", "redder", "gr\"een", "blåu"]})),
            Just(json!({"type": "boolean"})),
            Just(json!({"type": "null"})),
            Just(json!({"type": "integer"})),
            bounds.clone().prop_map(|(_, min, span)| {
                json!({"type": "integer", "minimum": min, "maximum": min + span})
            }),
            bounds.prop_map(|(whole, min, span)| {
                let unit = if whole { 1.0 } else { 1000.0 };
                let (min, span) = (f64::from(min), f64::from(span));
                json!({"type": "number", "minimum": min / unit, "maximum": (min + span) / unit})
            }),
        ];
        let part = leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                objects(inner.clone()),
                (inner, 0usize..3, 0usize..3).prop_map(|(items, min, more)| {
                    json!({"type": "array", "items": items, "minItems": min,
                           "maxItems": min + more})
                }),
            ]
        });
        objects(part)
    }

    fn objects(
        part: impl Strategy<Value = serde_json::Value>,
    ) -> impl Strategy<Value = serde_json::Value> {
        prop::collection::vec((part, any::<bool>()), 0..4).prop_map(|parts| {
            // Names that begin alike, and one that is escaped.
            let names = ["a", "ab", "a\"", "b"];
            let mut properties = serde_json::Map::new();
            let mut required = Vec::new();
            for (name, (part, must)) in names.into_iter().zip(parts) {
                properties.insert(name.to_owned(), part);
                if must {
                    required.push(name);
                }
            }
            serde_json::json!({
                "type": "object", "properties": properties, "required": required,
                "additionalProperties": false
            })
        })
    }

    #[test]
    fn the_likeliest_tokens_that_follow_the_schema_are_taken() {
        let schema = r#"{"type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer", "minimum": 7, "maximum": 7}}}"#;
        let schema = Schema::parse(schema).unwrap();
        let answer = said(&schema, 1, None, 0.0, 100).unwrap();
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(value, serde_json::json!({"n": 7}));
        assert_eq!(answer.stop_reason, StopReason::Complete);
    }

    #[test]
    fn a_text_that_would_not_end_is_ended_in_time() {
        let schema = r#"{"type": "object", "required": ["text", "ok"],
            "properties": {"text": {"type": "string"}, "ok": {"type": "boolean"}}}"#;
        let schema = Schema::parse(schema).unwrap();
        let a = demo().encode("a").unwrap()[0];
        for temperature in [0.0, 1.0] {
            let answer = said(&schema, 3, Some(a), temperature, 60).unwrap();
            let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
            schema.validate(&value).unwrap();
            assert!(answer.tokens_out <= 60, "{}", answer.tokens_out);
            assert!(answer.text.contains("aaaaaaaa"), "{}", answer.text);
        }
        let error = said(&schema, 3, Some(a), 0.0, 5).unwrap_err().to_string();
        assert!(error.contains("room for 5; raise max-tokens"), "{error}");
    }

    #[test]
    fn schemas_that_cannot_be_followed_are_refused_by_place_and_keyword() {
        for (schema, want) in [
            ("{", "is no JSON"),
            (r#"{"type": "string"}"#, "an object or an array at its root"),
            (
                r#"{"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}"#,
                "at .a: pattern is not supported for type string; supported are maxLength, enum",
            ),
            (
                r#"{"type": "object", "properties": {"a": {"type": "integer", "minimum": 0.2,
                    "maximum": 0.8}}}"#,
                "at .a: no number lies in",
            ),
            (
                r#"{"type": "object", "properties": {}, "required": ["a"]}"#,
                "at the root: required names \"a\"",
            ),
            (
                r#"{"type": "array", "items": {"type": "date"}}"#,
                "at []: type \"date\" is not one of JSON schema",
            ),
        ] {
            let got = Schema::parse(schema).unwrap_err();
            assert!(got.contains(want), "{got}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

        #[test]
        fn what_is_said_under_random_logits_parses_and_follows_the_schema(
            schema in schemas(),
            seed in any::<u64>(),
            likes in prop::option::of(0u32..VOCAB as u32),
            temperature in prop_oneof![Just(0.0f32), Just(1.0f32)],
            max_tokens in 1usize..150,
        ) {
            let schema = Schema::parse(&schema.to_string()).unwrap();
            match said(&schema, seed, likes, temperature, max_tokens) {
                Ok(answer) => {
                    let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
                    prop_assert_eq!(schema.validate(&value), Ok(()), "{}", answer.text);
                    prop_assert!(answer.tokens_out <= max_tokens);
                }
                Err(error) => {
                    prop_assert!(error.to_string().contains("raise max-tokens"), "{error}");
                    let table = demo().token_bytes().unwrap();
                    let shortest = State::new().ending(&schema);
                    prop_assert!(table.cover(&shortest).len() > max_tokens);
                }
            }
        }

        #[test]
        fn from_every_place_the_ending_makes_a_whole_text(
            schema in schemas(),
            bytes in prop::collection::vec(any::<prop::sample::Index>(), 0..80),
        ) {
            let schema = Schema::parse(&schema.to_string()).unwrap();
            let (mut state, mut text) = (State::new(), Vec::new());
            for index in bytes {
                let begun = text.clone();
                let mut whole: Vec<u8> = begun;
                whole.extend(state.ending(&schema));
                let value: serde_json::Value = serde_json::from_slice(&whole).unwrap();
                prop_assert_eq!(schema.validate(&value), Ok(()));
                let next: Vec<u8> = (0..=255)
                    .filter(|&byte| state.clone().push(&schema, byte))
                    .collect();
                prop_assert_eq!(next.is_empty(), state.is_complete());
                if next.is_empty() {
                    break;
                }
                let byte = *index.get(&next);
                state.push(&schema, byte);
                text.push(byte);
            }
        }
    }
}
