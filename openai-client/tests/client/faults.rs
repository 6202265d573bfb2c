// SPDX-License-Identifier: MPL-2.0

//! Everything that servers do wrong.

use std::time::Duration;

use openai_client::{Blame, Bound, Bounds, Cancel, Config, Error, Media, Message, Problem, Retry};

use crate::mock::*;
use crate::tls::of_nobody;

fn fault(answer: impl AsRef<[u8]>) -> Error {
    ask(&Mock::answering(answer).client()).unwrap_err()
}

/// An answer with a status, without words.
fn status(status: &str) -> Error {
    fault(http(status, "", ""))
}

#[test]
fn a_status_says_what_to_do_and_whether_to_ask_again() {
    for (line, words, again, blame) in [
        ("401 Unauthorized", "wants an API key", false, Blame::Server),
        ("403 Forbidden", "may this API key", false, Blame::Server),
        ("404 Not Found", "such as /v1", false, Blame::Server),
        (
            "413 Content Too Large",
            "image-quality",
            false,
            Blame::Request,
        ),
        (
            "400 Bad Request",
            "refuses the request (400)",
            false,
            Blame::Request,
        ),
        ("422 Unprocessable Content", "(422)", false, Blame::Request),
        (
            "429 Too Many Requests",
            "too many requests",
            true,
            Blame::Server,
        ),
        ("500 Internal Server Error", "own log", true, Blame::Server),
        ("502 Bad Gateway", "(502)", true, Blame::Server),
        (
            "503 Service Unavailable",
            "cannot answer now",
            true,
            Blame::Server,
        ),
        ("504 Gateway Timeout", "(504)", true, Blame::Server),
        ("529 Overloaded", "(529)", true, Blame::Server),
        ("418 I'm a teapot", "status 418", false, Blame::Server),
    ] {
        let error = status(line);
        let text = error.to_string();
        assert!(text.contains(words), "{line}: {text}");
        assert_eq!(error.is_retryable(), again, "{line}");
        assert_eq!(error.blame(), blame, "{line}");
        assert!(text.starts_with("127.0.0.1:"), "{text}");
    }
}

#[test]
fn what_the_server_says_is_passed_on_in_each_of_its_shapes() {
    for (body, words) in [
        (
            r#"{"error":{"message":"At most 16 image(s)","type":"BadRequestError","code":400}}"#,
            "At most 16",
        ),
        (r#"{"error":"Nope"}"#, "Nope"),
        (r#"{"detail":"Nope"}"#, "Nope"),
        (
            r#"{"detail":[{"loc":["body","top_k"],"msg":"Extra inputs","type":"x"}]}"#,
            "top_k: Extra inputs",
        ),
        ("No available workers", "No available workers"),
        (
            "<html><head><title>400 The plain request</title></head></html>",
            "400 The plain request",
        ),
    ] {
        let text = fault(json("400 Bad Request", body)).to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let body = r#"{"error":{"message":"The model `m` does not exist.","code":404}}"#;
    let text = fault(json("404 Not Found", body)).to_string();
    assert!(
        text.contains("no model \"m\"") && text.contains("model-name"),
        "{text}"
    );
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    let after = |header: &str| {
        fault(http(
            "429 Too Many Requests",
            &format!("retry-after: {header}\r\n"),
            "",
        ))
        .retry_after()
    };
    assert_eq!(after("7"), Some(Duration::from_secs(7)));
    assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert!(after("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(86_400));
    assert_eq!(after("soon"), None);
    assert_eq!(status("503 Service Unavailable").retry_after(), None);
}

#[test]
fn a_busy_server_is_asked_again_after_as_long_as_it_wants() {
    let busy = |header: &str| http("503 Service Unavailable", header, "");
    let mock = Mock::answering_in_turn(vec![busy("retry-after: 3\r\n"), busy(""), good()]);
    let clock = Impatient::default();
    let client = client_with(mock.config(), clock.clone());
    let answer = client.chat(
        &question(),
        &Retry::default(),
        &Cancel::default(),
        &mut |_| (),
    );
    assert_eq!(answer.unwrap().effort.requests, 3);
    let waited: Vec<u128> = clock
        .0
        .lock()
        .unwrap()
        .iter()
        .map(Duration::as_millis)
        .collect();
    assert_eq!(
        waited,
        [3500, 1000],
        "the wish, the jitter of 500 ms, then 1 s of our own"
    );
}

#[test]
fn a_request_that_is_refused_is_made_once() {
    let mock = Mock::answering(json("422 Unprocessable Content", r#"{"detail":"no"}"#));
    let answer = mock.client().chat(
        &question(),
        &Retry::default(),
        &Cancel::default(),
        &mut |_| (),
    );
    assert!(answer.is_err());
    mock.received();
    assert!(mock.is_idle());
}

#[test]
fn an_answer_of_which_a_piece_was_told_is_not_asked_for_again() {
    let mock = Mock::answering(stream(&[&text("A ")]));
    let answer = mock.client().chat(
        &question(),
        &Retry::default(),
        &Cancel::default(),
        &mut |_| (),
    );
    assert!(matches!(
        answer.unwrap_err().problem,
        Problem::Truncated { n_bytes: 2 }
    ));
    mock.received();
    assert!(mock.is_idle());
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_one() {
    for (event, words) in [
        (
            r#"data: {"error":{"message":"CUDA error","code":500}}"#,
            "failed (500): CUDA error",
        ),
        (
            r#"data: {"error":{"message":"x","code":"429"},"choices":[]}"#,
            "too many requests",
        ),
        (r#"data: {"error":"died"}"#, "while it answered: died"),
        (
            "event: error\ndata: {\"message\":\"died\"}",
            "while it answered: died",
        ),
        ("event: error\ndata: died", "while it answered: died"),
        (
            r#"error: {"code":500,"message":"died"}"#,
            "failed (500): died",
        ),
        (
            r#"data: {"object":"error","message":"died","type":"overloaded_error"}"#,
            "(503): died",
        ),
        (r#"data: {"detail":"died"}"#, "died"),
    ] {
        let events = [&text("A "), &format!("{event}\n\n")];
        let text = fault(stream(&events.map(String::as_str))).to_string();
        assert!(text.contains(words), "{event}: {text}");
    }
}

#[test]
fn an_error_inside_a_status_of_200_is_one() {
    for (body, words) in [
        (
            r#"{"error":{"message":"no model loaded","type":"invalid_request_error"}}"#,
            "(400): no model",
        ),
        (r#"{"error":"no model loaded"}"#, "no model loaded"),
        (
            r#"{"id":"x","choices":null,"error":{"message":"busy","code":503}}"#,
            "(503): busy",
        ),
    ] {
        let text = fault(json("200 OK", body)).to_string();
        assert!(text.contains(words), "{body}: {text}");
    }
}

#[test]
fn a_stream_that_ends_without_a_reason_is_not_an_answer_however_clean_its_end() {
    for events in [
        vec![text("A car.")],
        vec![text("A car."), DONE.to_owned()],
        vec![],
        vec![text("A car."), finish("abort")],
        vec![text("A car."), "data: {\"choices\":[{\"del".to_owned()],
    ] {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let error = fault(stream(&events));
        assert!(
            matches!(error.problem, Problem::Truncated { .. }),
            "{error}"
        );
        assert!(error.is_retryable());
    }
}

#[test]
fn a_body_that_breaks_off_is_truncated() {
    // In the middle of a chunk, of a JSON text, of a length.
    let cut = |bytes: Vec<u8>, n: usize| {
        let mock = Mock::start(move |connection| {
            connection.request();
            connection.send(&bytes[..bytes.len() - n]);
        });
        ask(&mock.client()).unwrap_err()
    };
    let error = cut(stream(&[&text("A "), &text("car.")]), 30);
    assert!(
        matches!(error.problem, Problem::Truncated { n_bytes: 2 }),
        "{error}"
    );
    let body = r#"{"choices":[{"message":{"content":"A car."},"finish_reason":"stop"}]}"#;
    let error = cut(json("200 OK", body), 10);
    assert!(matches!(error.problem, Problem::Broken { .. }), "{error}");
    let body = &body[..40];
    let error = fault(json("200 OK", body));
    assert!(
        matches!(error.problem, Problem::Truncated { .. }),
        "{error}"
    );
}

#[test]
fn what_is_no_answer_is_garbage_and_shown_shortly() {
    for (answer, words) in [
        (
            http(
                "200 OK",
                "content-type: text/html\r\n",
                "<html><title>Welcome to nginx!</title>",
            ),
            "Welcome to nginx!",
        ),
        (json("200 OK", r#"{"status":"ok"}"#), "without choices"),
        (stream(&["data: hello\n\n"]), "hello"),
        (stream(&["data: [1]\n\n"]), "no JSON object"),
        (json("200 OK", "\u{0}\u{1}\u{2}"), "OpenAI's protocol"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "OpenAI's protocol"),
        (b"HTTP/1.1 abc\r\n\r\n".to_vec(), "OpenAI's protocol"),
    ] {
        let error = fault(answer);
        assert!(matches!(error.problem, Problem::Garbage { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn text_without_an_end_is_bounded() {
    let piece = text(&"x".repeat(100_000));
    let events: Vec<&str> = std::iter::repeat_n(piece.as_str(), 100).collect();
    let error = fault(stream(&events));
    assert!(
        matches!(error.problem, Problem::TooLong { bound: 1_048_576 }),
        "{error}"
    );
    assert_eq!(error.blame(), Blame::Request);
}

#[test]
fn an_event_a_body_and_comments_without_an_end_are_bounded() {
    let endless = |head: &'static str, piece: String| {
        let mock = Mock::start(move |connection| {
            connection.request();
            connection.send(head);
            while connection.send(chunk(&piece)) {}
        });
        let mut config = mock.config();
        config.bounds.text = 1000;
        ask(&client(config)).unwrap_err()
    };
    const JSON: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for error in [
        endless(STREAM, "x".repeat(1 << 20)),
        endless(JSON, format!("{{{}", " ".repeat(1 << 20))),
        endless(STREAM, ": ping\n\n".repeat(100_000)),
    ] {
        assert!(matches!(error.problem, Problem::TooLong { .. }), "{error}");
    }
}

#[test]
fn a_redirect_is_not_followed_and_says_where_to_without_its_query() {
    let headers = "location: https://else.example/v1/chat/completions?token=canary\r\n";
    let text = fault(http("307 Temporary Redirect", headers, "")).to_string();
    assert!(
        text.contains("https://else.example/v1/chat/completions"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn a_refusal_that_comes_before_the_request_was_read_is_read() {
    let mock = Mock::start(|connection| {
        // Nothing of the body is read, as nginx does with what is too large.
        connection.send(http(
            "413 Content Too Large",
            "connection: close\r\n",
            "too large",
        ));
        connection.read_some(1000);
    });
    let media = Media::mp4(&vec![0; 32 << 20]);
    let request = openai_client::ChatRequest::new(vec![Message::about(&[media], "?")]);
    let error = ask_for(&mock.client(), &request, &Cancel::default())
        .0
        .unwrap_err();
    assert!(matches!(error.problem, Problem::TooLarge { .. }), "{error}");
}

/// Bounds of which one is short.
fn bounded(mock: &Mock, set: impl FnOnce(&mut Bounds)) -> Config {
    let mut config = mock.config();
    set(&mut config.bounds);
    config
}

const SHORT: Duration = Duration::from_millis(30);

fn timed_out(config: Config) -> Bound {
    let error = ask(&client(config)).unwrap_err();
    match error.problem {
        Problem::Timeout { bound, after } => {
            assert_eq!(after, SHORT);
            assert!(!error.is_retryable(), "it will not have more time: {error}");
            bound
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn a_server_that_does_not_begin_to_answer_is_given_up() {
    for head in ["", "HTTP/1.1 200 OK\r\n", STREAM] {
        let mock = Mock::start(move |connection| {
            connection.request();
            connection.send(head);
            connection.wait_for_close();
        });
        assert_eq!(
            timed_out(bounded(&mock, |b| b.first_byte = SHORT)),
            Bound::FirstByte
        );
    }
}

#[test]
fn comments_do_not_count_as_the_beginning_of_an_answer() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(STREAM);
        while connection.send(chunk(": PROCESSING\n\n")) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(
        timed_out(bounded(&mock, |b| b.first_byte = SHORT)),
        Bound::FirstByte
    );
}

#[test]
fn a_server_that_stops_in_the_middle_is_given_up() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(STREAM);
        connection.send(chunk(text("A ")));
        connection.wait_for_close();
    });
    assert_eq!(
        timed_out(bounded(&mock, |b| b.between = SHORT)),
        Bound::Between
    );
}

#[test]
fn a_server_that_answers_without_an_end_is_given_up() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(STREAM);
        while connection.send(chunk(text("A "))) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let config = bounded(&mock, |b| b.whole = SHORT);
    assert_eq!(timed_out(config.clone()), Bound::Whole);
    let error = ask(&client(config)).unwrap_err();
    assert!(!error.is_retryable(), "it took all the time there was");
}

#[test]
fn a_server_that_does_not_take_the_request_is_given_up() {
    let mock = Mock::start(|connection| {
        connection.read_some(100);
        std::thread::park();
    });
    let config = bounded(&mock, |b| b.between = SHORT);
    let media = Media::mp4(&vec![0; 32 << 20]);
    let request = openai_client::ChatRequest::new(vec![Message::about(&[media], "?")]);
    let error = ask_for(&client(config), &request, &Cancel::default())
        .0
        .unwrap_err();
    assert!(
        matches!(
            error.problem,
            Problem::Timeout {
                bound: Bound::Send,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_handshake_that_hangs_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&format!("https://{}/v1", listener.local_addr().unwrap()));
    let (_folder, tls) = of_nobody();
    config.tls = tls;
    config.bounds.connect = SHORT;
    assert_eq!(timed_out(config), Bound::Connect);
}
