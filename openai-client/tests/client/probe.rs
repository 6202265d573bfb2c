// SPDX-License-Identifier: MPL-2.0

//! What is found out about servers: each mock here answers as the program does that it is named
//! after, as far as a probe asks.

use openai_client::{Cancel, Probe, Problem, ServerTraits, Software, Support};
use serde_json::{Value, json};

use crate::mock::*;

fn probe(ask: bool) -> Probe {
    Probe {
        frames: vec![b"one".to_vec(), b"two".to_vec()],
        ask,
    }
}

/// Serves each request by what `answer` says to its line and body.
fn serving(answer: impl Fn(&str, &Value) -> Vec<u8> + Send + Sync + 'static) -> Mock {
    Mock::start(move |connection| {
        while let Some(request) = connection.request() {
            let body = serde_json::from_slice(&request.body).unwrap_or_default();
            let path = request
                .line
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .to_owned();
            if !connection.send(answer(&path, &body)) {
                break;
            }
        }
    })
}

fn found(mock: &Mock, ask: bool) -> ServerTraits {
    let mut config = mock.config();
    config.model = None;
    client(config)
        .probe(&probe(ask), &Cancel::default())
        .unwrap()
}

fn models(owner: &str) -> Vec<u8> {
    let list = json!({"data": [{"id": "demo", "owned_by": owner, "max_model_len": 4096}]});
    json("200 OK", &list.to_string())
}

fn not_found() -> Vec<u8> {
    json("404 Not Found", r#"{"detail":"Not Found"}"#)
}

fn refusal(words: &str) -> Vec<u8> {
    json(
        "400 Bad Request",
        &json!({"error": {"message": words, "code": 400}}).to_string(),
    )
}

/// A whole answer; the prompt's tokens, and whether probabilities are told.
fn answer(text: &str, prompt: u64, logprobs: bool) -> Vec<u8> {
    let tokens = json!({"content": [{"token": text, "logprob": 0.0, "top_logprobs": []}]});
    let mut choice = json!({"index": 0, "message": {"content": text}, "finish_reason": "stop"});
    if logprobs {
        choice["logprobs"] = tokens;
    }
    let usage = json!({"prompt_tokens": prompt, "completion_tokens": 1});
    let value = json!({"model": "demo", "choices": [choice], "usage": usage});
    json("200 OK", &value.to_string())
}

fn has(body: &Value, word: &str) -> bool {
    body.to_string().contains(word)
}

/// vLLM: `trusted` says whether it takes times.
fn vllm(trusted: bool) -> Mock {
    serving(move |path, body| match path {
        "/v1/models" => models("vllm"),
        "/version" => json("200 OK", r#"{"version":"0.32.0"}"#),
        "/tokenize" if has(body, "media_io_kwargs") && !trusted => {
            refusal("Per-request media_io_kwargs are disabled by default")
        }
        "/tokenize" => {
            let times = if has(body, "media_io_kwargs") { 3 } else { 0 };
            let video = if has(body, "video_url") {
                72 + times
            } else {
                0
            };
            json(
                "200 OK",
                &json!({"count": 9 + video, "tokens": []}).to_string(),
            )
        }
        "/v1/chat/completions" if has(body, "response_format") => {
            answer(r#"{"seen": "purple"}"#, 9, false)
        }
        "/v1/chat/completions" if has(body, "structured_outputs") => answer("purple", 9, false),
        "/v1/chat/completions" => {
            let media = if has(body, "image_url") { 36 } else { 0 };
            answer("Hello", 9 + media, has(body, "logprobs"))
        }
        _ => not_found(),
    })
}

#[test]
fn vllm_tells_all_of_itself() {
    let expected = ServerTraits {
        software: Software::Vllm(Some("0.32.0".into())),
        model: "demo".into(),
        context: Some(4096),
        video: Support::Yes,
        video_tokens: Some(72),
        video_times: Support::Yes,
        images: Support::Yes,
        json_schema: Support::Yes,
        structured_outputs: Support::Yes,
        logprobs: Support::Yes,
        usage: Support::Yes,
    };
    assert_eq!(found(&vllm(true), true), expected);
}

#[test]
fn without_questions_only_what_costs_nothing_is_found() {
    let mock = vllm(false);
    let traits = found(&mock, false);
    assert_eq!(
        (traits.video, traits.video_times),
        (Support::Yes, Support::No)
    );
    assert_eq!(
        (traits.logprobs, traits.images),
        (Support::Unknown, Support::Unknown)
    );
    while let Some(request) = mock.next() {
        assert!(!request.line.contains("/chat/"), "{}", request.line);
    }
}

#[test]
fn llama_server_takes_images_alone() {
    let mock = serving(|path, body| match path {
        "/v1/models" => models("llamacpp"),
        // It reads `content`, and finds none.
        "/tokenize" => json("200 OK", r#"{"tokens":[]}"#),
        "/v1/chat/completions" if has(body, "video_url") => {
            refusal("Invalid uri-encoded base64 value")
        }
        "/v1/chat/completions" if has(body, "response_format") => {
            answer(r#"{"seen": "purple"}"#, 9, false)
        }
        "/v1/chat/completions" => {
            let media = if has(body, "image_url") { 36 } else { 0 };
            answer("Hello", 9 + media, has(body, "logprobs"))
        }
        _ => not_found(),
    });
    let traits = found(&mock, true);
    assert_eq!(traits.software, Software::LlamaServer);
    assert_eq!((traits.video, traits.images), (Support::No, Support::Yes));
    assert_eq!(
        (traits.json_schema, traits.structured_outputs),
        (Support::Yes, Support::No)
    );
    assert!(
        traits.sentence().contains("motion is lost"),
        "{}",
        traits.sentence()
    );
}

#[test]
fn transformers_serve_refuses_what_it_does_not_know() {
    let mock = serving(|path, body| match path {
        "/v1/models" => models("organisation"),
        "/v1/chat/completions" if has(body, "video_url") => {
            http("500 Internal Server Error", "", "Internal Server Error")
        }
        "/v1/chat/completions" if has(body, "logprobs") || has(body, "structured_outputs") => {
            let detail = r#"{"detail":"Unexpected keys in the request: {'top_logprobs'}"}"#;
            json("422 Unprocessable Content", detail)
        }
        "/v1/chat/completions" => {
            let media = if has(body, "image_url") { 36 } else { 0 };
            answer("Hello", 9 + media, false)
        }
        _ => not_found(),
    });
    let traits = found(&mock, true);
    assert_eq!((traits.video, traits.images), (Support::No, Support::Yes));
    assert_eq!(
        (traits.logprobs, traits.json_schema),
        (Support::No, Support::No)
    );
}

#[test]
fn a_server_that_ignores_everything_is_not_believed() {
    let mock = serving(|path, _| match path {
        "/v1/models" => models("somebody"),
        "/tokenize" => json("200 OK", r#"{"count":9}"#),
        "/v1/chat/completions" => answer("Hello", 9, false),
        _ => not_found(),
    });
    let traits = found(&mock, true);
    let all = [
        traits.video,
        traits.images,
        traits.json_schema,
        traits.structured_outputs,
    ];
    assert_eq!(all, [Support::No; 4]);
    assert_eq!(traits.logprobs, Support::No);
    assert!(
        traits.sentence().contains("vision-language model"),
        "{}",
        traits.sentence()
    );
}

#[test]
fn a_fault_of_the_server_is_an_error_and_no_trait() {
    for status in ["401 Unauthorized", "503 Service Unavailable"] {
        let mock = Mock::answering(http(status, "", ""));
        let error = mock
            .client()
            .probe(&probe(true), &Cancel::default())
            .unwrap_err();
        let is_it = matches!(
            error.problem,
            Problem::Unauthorized { .. } | Problem::Overloaded { .. }
        );
        assert!(is_it, "{error}");
    }
}
