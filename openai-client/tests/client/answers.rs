// SPDX-License-Identifier: MPL-2.0

//! Answers that are whole, in each form in which servers give them.

use openai_client::{Cancel, Finish, Problem, Retry, Usage, shares};

use crate::mock::*;

#[test]
fn a_stream_is_told_in_pieces_and_whole_at_its_end() {
    let mock = Mock::answering(good());
    let (answer, pieces) = ask_for(&mock.client(), &question(), &Cancel::default());
    let answer = answer.unwrap();
    assert_eq!(pieces, ["A ", "car."]);
    assert_eq!(answer.text, "A car.");
    assert_eq!(answer.finish, Finish::Stop);
    assert_eq!(answer.effort.requests, 1);
    assert!(answer.effort.ttft <= answer.effort.total);
}

#[test]
fn a_stream_cut_anywhere_is_the_same_answer() {
    let events = [
        ": hello\r\n\r\n",
        &text("Kä🐞"),
        &finish("stop"),
        "data:[DONE]\r\n\r\n",
    ]
    .concat();
    for size in [1, 2, 3, 7] {
        let mut answer = STREAM.as_bytes().to_vec();
        for piece in events.as_bytes().chunks(size) {
            answer.extend(chunk(piece));
        }
        answer.extend_from_slice(END.as_bytes());
        assert_eq!(ask(&Mock::answering(answer).client()).unwrap().text, "Kä🐞");
    }
}

#[test]
fn a_stream_without_done_is_whole_by_its_finish_reason() {
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n";
    let mock = Mock::answering(stream(&[&text("A car."), &finish("length"), usage]));
    let answer = ask(&mock.client()).unwrap();
    assert_eq!(answer.finish, Finish::Length);
    let expected = Usage {
        prompt: 7,
        cached: 0,
        completion: 2,
    };
    assert_eq!(answer.usage, Some(expected));
}

#[test]
fn a_stream_that_goes_on_forever_after_done_is_whole() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(STREAM);
        connection.send(chunk([&text("A car."), &finish("stop"), DONE].concat()));
        connection.wait_for_close();
    });
    assert_eq!(ask(&mock.client()).unwrap().text, "A car.");
}

#[test]
fn a_stream_that_hangs_after_its_finish_reason_is_whole() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(STREAM);
        connection.send(chunk([text("A car."), finish("stop")].concat()));
        connection.wait_for_close();
    });
    assert_eq!(ask(&mock.client()).unwrap().text, "A car.");
}

#[test]
fn a_server_that_does_not_stream_is_understood() {
    let body = r#"{"model":"m","choices":[{"index":0,"message":{"role":"assistant",
        "content":"A car.","reasoning_content":"Hm."},"finish_reason":"stop"}]}"#;
    let answer = ask(&Mock::answering(json("200 OK", body)).client()).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.reasoning.as_str()),
        ("A car.", "Hm.")
    );
}

#[test]
fn events_under_another_content_type_are_understood() {
    let body = [text("A car."), finish("stop")].concat();
    let mock = Mock::answering(http("200 OK", "content-type: text/plain\r\n", &body));
    assert_eq!(ask(&mock.client()).unwrap().text, "A car.");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_by_its_finish_reason() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
        connection.send([text("A car."), finish("stop")].concat());
    });
    assert_eq!(ask(&mock.client()).unwrap().text, "A car.");
}

#[test]
fn probabilities_of_options_are_read_from_alternatives() {
    let event = r#"data: {"choices":[{"index":0,"delta":{"content":"Yes"},"finish_reason":"stop",
"logprobs":{"content":[{"token":"Yes","logprob":-0.6931471805599453,"top_logprobs":[
{"token":"Yes","logprob":-0.6931471805599453},{"token":"No","logprob":-1.791759469228055}]}]}}]}"#;
    let event = event.replace('\n', "") + "\n\n";
    let answer = ask(&Mock::answering(stream(&[&event, DONE])).client()).unwrap();
    let found = shares(&answer.tokens, &["yes".into(), "no".into()]).unwrap();
    assert!((found.shares[0] - 0.75).abs() < 1e-9, "{found:?}");
}

#[test]
fn bytes_are_counted_in_both_directions() {
    let mock = Mock::answering(good());
    let mut request = question();
    let small = ask_for(&mock.client(), &request, &Cancel::default())
        .0
        .unwrap();
    request.messages[0] = openai_client::Message::user("x".repeat(100_000));
    let large = ask_for(&mock.client(), &request, &Cancel::default())
        .0
        .unwrap();
    let sent = mock.received();
    assert_eq!(small.effort.traffic.received, good().len() as u64);
    let head = small.effort.traffic.sent - sent.body.len() as u64;
    assert!((80..400).contains(&head), "{head}");
    let more = large.effort.traffic.sent - small.effort.traffic.sent;
    // The length itself has more digits.
    assert_eq!(more, 100_000 - "What happens?".len() as u64 + 3);
}

#[test]
fn the_first_listed_model_is_asked_where_none_is_set() {
    let list = r#"{"data":[{"id":"demo","owned_by":"vllm"},{"id":"other"}]}"#;
    let mock = Mock::answering_in_turn(vec![json("200 OK", list), good()]);
    let mut config = mock.config();
    config.model = None;
    let client = client(config);
    ask(&client).unwrap();
    assert_eq!(mock.received().line, "GET /v1/models HTTP/1.1");
    assert_eq!(mock.received().json()["model"], "demo");
    ask(&client).unwrap();
    assert_eq!(
        mock.received().line,
        "POST /v1/chat/completions HTTP/1.1",
        "listed once"
    );
}

#[test]
fn a_server_without_models_is_told() {
    let mock = Mock::answering(json("200 OK", r#"{"data":[]}"#));
    let mut config = mock.config();
    config.model = None;
    assert_eq!(ask(&client(config)).unwrap_err().problem, Problem::NoModel);
}

#[test]
fn a_list_that_is_busy_is_asked_again() {
    let list = json("200 OK", r#"{"data":[{"id":"demo"}]}"#);
    let busy = http("503 Service Unavailable", "", "");
    let mock = Mock::answering_in_turn(vec![busy, list, good()]);
    let mut config = mock.config();
    config.model = None;
    let client = client(config);
    let answer = client.chat(
        &question(),
        &Retry::default(),
        &Cancel::default(),
        &mut |_| (),
    );
    assert_eq!(answer.unwrap().text, "A car.");
}
