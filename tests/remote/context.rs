// SPDX-License-Identifier: MPL-2.0

//! Questions that are longer than the server's model holds.

use crate::common::{captions, warnings};
use crate::mock;
use crate::server::{FakeServer, Kind, said};
use crate::{push, start, text};

/// vLLM's words.
const TOO_LONG: &str = r#"{"error":{"message":"The decoder prompt (length 4180) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens plus multimodal tokens.","type":"BadRequestError","param":null,"code":400}}"#;

#[test]
fn what_was_said_before_is_left_out_as_far_as_it_has_to_be_the_oldest_first() {
    // It has room for two exchanges before the question.
    let server = FakeServer::start(Kind::Vllm, |connection, request, n| {
        let n_messages = request.json()["messages"].as_array().unwrap().len();
        connection.send(match n_messages > 2 * 2 + 1 {
            true => mock::json("400 Bad Request", TOO_LONG),
            false => said(&format!("Caption {n}.")),
        })
    });
    let run = start(&server, &[("history", "8")]);
    for second in 0..12 {
        push(&run, second);
        run.next_caption();
    }
    let messages = run.finish();
    assert!(warnings(&messages).is_empty(), "{:?}", warnings(&messages));
    let asked: Vec<_> = std::iter::from_fn(|| server.next()).collect();
    assert_eq!(asked.len(), 13, "one is refused, and none after that");
    // The newest are kept.
    let last = asked.last().unwrap().json();
    let said_before = last["messages"].as_array().unwrap();
    assert_eq!(said_before.len(), 5);
    assert_eq!(said_before[1]["content"], "Caption 11.");
    assert_eq!(said_before[3]["content"], "Caption 12.");
}

#[test]
fn a_window_that_does_not_fit_alone_is_told_with_what_to_do_and_the_server_is_not_blamed() {
    let shapes = [
        TOO_LONG,
        r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}"#,
        r#"{"error":{"message":"This model's maximum context length is 4096 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
    ];
    for shape in shapes {
        let server = FakeServer::start(Kind::Vllm, move |connection, _, n| {
            connection.send(match n <= 4 {
                true => mock::json("400 Bad Request", shape),
                false => said("A yard."),
            })
        });
        let run = start(&server, &[("window", "2")]);
        (0..10).for_each(|second| push(&run, second));
        let messages = run.finish();
        let told = warnings(&messages);
        for words in [
            "has more tokens than the server's model holds (400)",
            "lower window, max-pixels",
            "--max-model-len",
            "its model holds 4096 tokens, and this window has 2 frames",
        ] {
            assert!(told[0].contains(words), "{told:?}");
        }
        // It is asked again, and was not probed anew meanwhile.
        let captions = captions(&messages);
        assert_eq!(captions.len(), 1, "{told:?}");
        assert_eq!(text(&captions[0], "text"), "A yard.");
        let lists = server.requests();
        let lists = lists
            .iter()
            .filter(|request| request.line.contains("/models"));
        assert!(lists.count() <= 2);
    }
}
