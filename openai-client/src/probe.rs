// SPDX-License-Identifier: MPL-2.0

//! What a server takes, found out by asking it.
//!
//! That a server answers proves little: many ignore what they do not know. So each trait is shown
//! by its effect: pictures by the tokens that they add to the prompt, a schema by an answer that
//! nothing else explains.

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::cancel::Cancel;
use crate::client::{Call, Client};
use crate::error::{Error, Problem};
use crate::message::{Media, Message};
use crate::models::Model;
use crate::request::{ChatRequest, Guide, VideoTimes};
use crate::retry::Retry;

/// Whether a server takes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    /// Its effect was seen.
    Yes,
    /// It was refused, or had no effect.
    No,
    /// It was not tried, or nothing tells.
    #[default]
    Unknown,
}

/// The program that a server is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Software {
    /// vLLM, also behind a router; with its version where it tells.
    Vllm(Option<String>),
    /// llama.cpp's server.
    LlamaServer,
    /// Another one.
    #[default]
    Other,
}

/// What a server takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerTraits {
    /// The program.
    pub software: Software,
    /// The model that is asked.
    pub model: String,
    /// Tokens that a prompt and its answer may have together, where the server tells.
    pub context: Option<usize>,
    /// Frames as one video ([`Media::jpeg_sequence`]): motion is seen.
    pub video: Support,
    /// Tokens that the video of the probe became, where the server tells.
    pub video_tokens: Option<u64>,
    /// Times of frames ([`VideoTimes`]).
    pub video_times: Support,
    /// Still images.
    pub images: Support,
    /// [`Guide::Json`].
    pub json_schema: Support,
    /// [`Guide::Choice`] and [`Guide::Regex`].
    pub structured_outputs: Support,
    /// Probabilities of tokens.
    pub logprobs: Support,
    /// What an answer cost, in tokens.
    pub usage: Support,
}

/// What a server is probed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// At least two JPEGs of one size: that of the frames that will be sent.
    pub frames: Vec<Vec<u8>>,
    /// Whether questions are asked to find out what cannot be found without: a token or a few each,
    /// which also makes the server ready.
    pub ask: bool,
}

impl Client {
    /// Finds out what the server takes.
    ///
    /// # Errors
    /// Faults of the server or the way to it; what it refuses is a trait and no error.
    pub fn probe(&self, probe: &Probe, cancel: &Cancel) -> Result<ServerTraits, Error> {
        let mut probing = Probing {
            client: self,
            cancel,
            traits: ServerTraits::default(),
        };
        let found = probing.run(probe);
        found.map_err(|problem| self.error(problem))?;
        Ok(probing.traits)
    }
}

/// A probe while it is made.
struct Probing<'a> {
    client: &'a Client,
    cancel: &'a Cancel,
    traits: ServerTraits,
}

impl Probing<'_> {
    fn run(&mut self, probe: &Probe) -> Result<(), Problem> {
        self.identify()?;
        let video = match probe.frames.len() {
            0 | 1 => None,
            _ => Some(Media::jpeg_sequence(&probe.frames)),
        };
        if let Some(video) = &video {
            self.tokenize(video, probe.frames.len())?;
        }
        if probe.ask {
            let plain = self.ask_plainly()?;
            if let Some(video) = video.filter(|_| self.traits.video == Support::Unknown) {
                (self.traits.video, self.traits.video_tokens) = self.ask_about(video, &plain)?;
            }
            if let Some(frame) = probe.frames.first() {
                let (images, _) = self.ask_about(Media::jpeg(frame), &plain)?;
                self.traits.images = images;
            }
            self.ask_guided()?;
        }
        Ok(())
    }

    /// Which program and which model it is.
    fn identify(&mut self) -> Result<(), Problem> {
        let set = self.client.config().model.clone();
        let list = self.client.list(self.cancel);
        let list = match (list, &set) {
            (Ok(list), _) => list,
            // A server may have no list where the model is known without.
            (Err(Problem::NotFound { .. } | Problem::Garbage { .. }), Some(_)) => Vec::new(),
            (Err(problem), _) => return Err(problem),
        };
        let model = match &set {
            Some(name) => list.into_iter().find(|model| model.id == *name),
            None => Some(list.into_iter().next().ok_or(Problem::NoModel)?),
        };
        let model = model.unwrap_or_else(|| Model {
            id: set.unwrap_or_default(),
            ..Model::default()
        });
        self.traits.software = match model.owner.as_str() {
            "vllm" => Software::Vllm(self.version()?),
            "llamacpp" => Software::LlamaServer,
            _ => Software::Other,
        };
        self.traits.context = model.context;
        self.traits.model = model.id;
        Ok(())
    }

    fn version(&self) -> Result<Option<String>, Problem> {
        let call = Call {
            endpoint: self.client.config().server.beside("/version"),
            body: None,
            model: "",
        };
        let value = refused(self.client.json(&call, self.cancel))?;
        let version = value.as_ref().and_then(|value| value.get("version"));
        Ok(version.and_then(Value::as_str).map(str::to_owned))
    }

    /// Whether a video becomes tokens, and its times do, without an answer being made; vLLM's call.
    fn tokenize(&mut self, video: &Media, n_frames: usize) -> Result<(), Problem> {
        let text = [Message::user("?")];
        let Some(without) = self.count(&text, None)? else {
            return Ok(());
        };
        let about = [Message::about(std::slice::from_ref(video), "?")];
        let with = self.count(&about, None)?;
        let tokens = with.map(|with| with.saturating_sub(without));
        // A video is more than a token for each frame, or it was left out.
        let is_there = tokens.is_some_and(|tokens| tokens as usize >= n_frames);
        (self.traits.video, self.traits.video_tokens) = match is_there {
            true => (Support::Yes, tokens),
            false => (Support::No, None),
        };
        if !is_there {
            return Ok(());
        }
        // Times that are written with more digits are more tokens, where they are written at all.
        let times = (0..n_frames as u64).map(|index| Duration::from_secs(index * 10_000));
        let timed = self.count(&about, Some(&VideoTimes::new(times)))?;
        self.traits.video_times = match (timed, with) {
            (None, _) => Support::No,
            (timed, with) if timed != with => Support::Yes,
            _ => Support::Unknown,
        };
        Ok(())
    }

    /// Tokens of a prompt; `None` if the server has no such call or refuses the prompt.
    fn count(
        &self,
        messages: &[Message],
        times: Option<&VideoTimes>,
    ) -> Result<Option<u64>, Problem> {
        let mut body = json!({"model": self.traits.model, "messages": messages});
        if let Some(times) = times {
            body["media_io_kwargs"] = times.to_json();
        }
        let call = Call {
            endpoint: self.client.config().server.beside("/tokenize"),
            body: Some(body.to_string().into_bytes()),
            model: &self.traits.model,
        };
        let value = refused(self.client.json(&call, self.cancel))?;
        let count = value.as_ref().and_then(|value| value.get("count"));
        Ok(count.and_then(Value::as_u64))
    }

    /// A question without pictures: whether probabilities and usage are told.
    fn ask_plainly(&mut self) -> Result<Answer, Problem> {
        let request = ChatRequest {
            max_tokens: Some(1),
            top_logprobs: Some(2),
            ..ChatRequest::new(vec![Message::user("Say hello.")])
        };
        let (answer, tells) = match refused(self.ask(&request))? {
            Some(answer) => {
                let tells = support(!answer.tokens.is_empty());
                (answer, tells)
            }
            None => {
                let request = ChatRequest {
                    top_logprobs: None,
                    ..request
                };
                (self.ask(&request)?, Support::No)
            }
        };
        self.traits.logprobs = tells;
        self.traits.usage = support(answer.usage.is_some());
        Ok(answer)
    }

    /// Whether pictures make the prompt longer than `plain`'s, and by how many tokens.
    fn ask_about(&self, media: Media, plain: &Answer) -> Result<(Support, Option<u64>), Problem> {
        let request = ChatRequest {
            max_tokens: Some(1),
            ..ChatRequest::new(vec![Message::about(&[media], "Say hello.")])
        };
        let Some(answer) = refused(self.ask(&request))? else {
            return Ok((Support::No, None));
        };
        let (Some(with), Some(without)) = (answer.usage, plain.usage) else {
            return Ok((Support::Unknown, None));
        };
        match with.prompt.saturating_sub(without.prompt) {
            0 => Ok((Support::No, None)),
            more => Ok((Support::Yes, Some(more))),
        }
    }

    /// Whether answers are held to what nothing in the question suggests.
    fn ask_guided(&mut self) -> Result<(), Problem> {
        let guided = |guide| ChatRequest {
            max_tokens: Some(32),
            temperature: Some(0.0),
            guide: Some(guide),
            ..ChatRequest::new(vec![Message::user("Say hello.")])
        };
        let schema = json!({
            "type": "object",
            "properties": {"seen": {"type": "string", "enum": ["purple"]}},
            "required": ["seen"],
            "additionalProperties": false,
        });
        let request = guided(Guide::Json {
            name: "probe".into(),
            schema,
        });
        let answer = refused(self.ask(&request))?;
        self.traits.json_schema = support(answer.is_some_and(|answer| {
            let value: Option<Value> = serde_json::from_str(&answer.text).ok();
            // White space may fill the answer up to its bound.
            let is_begun = answer.text.trim_start().starts_with('{');
            value.map_or(is_begun, |value| value["seen"] == "purple")
        }));
        let answer = refused(self.ask(&guided(Guide::Choice(vec!["purple".into()]))))?;
        let is_held = answer.is_some_and(|answer| answer.text.trim() == "purple");
        self.traits.structured_outputs = support(is_held);
        Ok(())
    }

    fn ask(&self, request: &ChatRequest) -> Result<Answer, Problem> {
        let retry = Retry::never();
        let answer = self.client.chat(request, &retry, self.cancel, &mut |_| ());
        answer.map_err(|error| error.problem)
    }
}

fn support(is_there: bool) -> Support {
    match is_there {
        true => Support::Yes,
        false => Support::No,
    }
}

/// `None` for what a server refuses or does not know; some answer with status 500 then.
fn refused<T>(result: Result<T, Problem>) -> Result<Option<T>, Problem> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(
            Problem::Refused { .. }
            | Problem::ContextLength { .. }
            | Problem::NotFound { .. }
            | Problem::ServerFault { .. }
            | Problem::Status { .. }
            | Problem::Garbage { .. },
        ) => Ok(None),
        Err(problem) => Err(problem),
    }
}

impl ServerTraits {
    /// What was found, in a sentence for whoever set the server up.
    pub fn sentence(&self) -> String {
        let software = match &self.software {
            Software::Vllm(Some(version)) => format!("vLLM {version}"),
            Software::Vllm(None) => "vLLM".into(),
            Software::LlamaServer => "llama-server".into(),
            Software::Other => "the server".into(),
        };
        let context = match self.context {
            Some(context) => format!(" ({context} tokens)"),
            None => String::new(),
        };
        let pictures = match (self.video, self.images) {
            (Support::Yes, _) => match self.video_times {
                Support::Yes => "takes frames as a video with their times",
                _ => "takes frames as a video, at one a second whatever their times",
            },
            (_, Support::Yes) => "takes still images only, so motion is lost",
            (Support::No, Support::No) => "takes no pictures; load a vision-language model into it",
            (Support::No, Support::Unknown) => "does not take frames as a video, so motion is lost",
            (Support::Unknown, _) => "does not tell whether it takes frames as a video",
        };
        let mut more = Vec::new();
        let probabilities = "tells no probabilities, so answers have none";
        for (support, words) in [
            (self.logprobs, probabilities),
            (self.json_schema, "does not hold answers to a JSON schema"),
        ] {
            if support == Support::No {
                more.push(words);
            }
        }
        let mut text = format!("{software} with {}{context} {pictures}", self.model);
        for words in more {
            text.push_str("; it ");
            text.push_str(words);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_says_what_matters() {
        let mut traits = ServerTraits {
            software: Software::Vllm(Some("0.32.0".into())),
            model: "demo".into(),
            context: Some(4096),
            video: Support::Yes,
            video_times: Support::Yes,
            ..ServerTraits::default()
        };
        assert_eq!(
            traits.sentence(),
            "vLLM 0.32.0 with demo (4096 tokens) takes frames as a video with their times"
        );
        traits.video = Support::No;
        traits.images = Support::Yes;
        traits.logprobs = Support::No;
        assert_eq!(
            traits.sentence(),
            "vLLM 0.32.0 with demo (4096 tokens) takes still images only, so motion is lost; it tells \
             no probabilities, so answers have none"
        );
    }
}
