// SPDX-License-Identifier: MPL-2.0

//! What is sent.

use openai_client::{ApiKey, Cancel, ChatRequest, ExtraBody, KeyHeader, Media, Message};
use serde_json::json;

use crate::mock::*;

#[test]
fn a_question_about_frames_is_sent_as_one_video_with_the_question_last() {
    let mock = Mock::answering(good());
    let frames = Media::jpeg_sequence(&[b"one".as_slice(), b"two"]);
    let request = ChatRequest {
        max_tokens: Some(32),
        ..ChatRequest::new(vec![
            Message::system("Be short."),
            Message::about(&[frames], "What happens?"),
        ])
    };
    ask_for(&mock.client(), &request, &Cancel::default())
        .0
        .unwrap();
    let received = mock.received();
    assert_eq!(received.line, "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(received.header("content-type"), Some("application/json"));
    let address = mock.address.to_string();
    assert_eq!(received.header("host"), Some(address.as_str()));
    assert!(
        received
            .header("user-agent")
            .unwrap()
            .starts_with("vlmcaption/")
    );
    assert_eq!(received.header("authorization"), None);
    let body = received.json();
    assert_eq!(body["max_tokens"], 32);
    assert_eq!(body["stream"], true);
    let content = &body["messages"][1]["content"];
    assert_eq!(
        content[0]["video_url"]["url"],
        "data:video/jpeg;base64,b25l,dHdv"
    );
    assert_eq!(content[1], json!({"type": "text", "text": "What happens?"}));
}

#[test]
fn query_and_key_are_sent_under_either_header() {
    for (header, name, value) in [
        (KeyHeader::Bearer, "authorization", "Bearer k-1234"),
        (KeyHeader::ApiKey, "api-key", "k-1234"),
    ] {
        let mock = Mock::answering(good());
        let mut config = config(&format!(
            "http://{}/openai/d?api-version=1&b=c",
            mock.address
        ));
        config.key = Some(ApiKey::new("k-1234").unwrap());
        config.key_header = header;
        ask(&client(config)).unwrap();
        let received = mock.received();
        assert_eq!(
            received.line,
            "POST /openai/d/chat/completions?api-version=1&b=c HTTP/1.1"
        );
        assert_eq!(received.header(name), Some(value));
    }
}

#[test]
fn extra_fields_are_merged_into_the_body() {
    let mock = Mock::answering(good());
    let mut config = mock.config();
    config.extra_body =
        ExtraBody::parse(r#"{"chat_template_kwargs":{"enable_thinking":false}}"#).unwrap();
    ask(&client(config)).unwrap();
    let body = mock.received().json();
    assert_eq!(
        body["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
}

#[test]
fn a_large_request_arrives_whole() {
    let mock = Mock::answering(good());
    let jpegs: Vec<Vec<u8>> = (0..8u8).map(|n| vec![n; 700_000]).collect();
    let request = ChatRequest::new(vec![Message::about(&[Media::jpeg_sequence(&jpegs)], "?")]);
    ask_for(&mock.client(), &request, &Cancel::default())
        .0
        .unwrap();
    let body = mock.received().json();
    let url = body["messages"][0]["content"][0]["video_url"]["url"]
        .as_str()
        .unwrap();
    assert_eq!(url.len(), "data:video/jpeg;base64,".len() + 8 * 933_336 + 7);
}

#[test]
fn a_server_that_wants_another_name_for_max_tokens_gets_it_and_it_is_remembered() {
    let refusal = r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with
        this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error",
        "param":"max_tokens","code":"unsupported_parameter"}}"#;
    let mock = Mock::answering_in_turn(vec![json("400 Bad Request", refusal), good()]);
    let client = mock.client();
    let request = ChatRequest {
        max_tokens: Some(5),
        ..question()
    };
    let answer = ask_for(&client, &request, &Cancel::default()).0.unwrap();
    assert_eq!(answer.effort.requests, 2);
    assert_eq!(mock.received().json()["max_tokens"], 5);
    assert_eq!(mock.received().json()["max_completion_tokens"], 5);
    ask_for(&client, &request, &Cancel::default()).0.unwrap();
    assert_eq!(mock.received().json()["max_completion_tokens"], 5);
}
