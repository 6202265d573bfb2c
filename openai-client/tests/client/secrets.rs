// SPDX-License-Identifier: MPL-2.0

//! The key, the query and the proxy's password are nowhere but in what is sent: a canary is looked
//! for in every text that comes out of the client, and in everything that its libraries log.

use std::sync::Mutex;

use openai_client::{ApiKey, Cancel, Config, Proxy, Retry};

use crate::connections::closed_port;
use crate::mock::*;

const KEY: &str = "sk-canary-0123456789";
const QUERY: &str = "canary-in-the-query";
const PASSWORD: &str = "canary-of-the-proxy";

/// Others for what is looked for in the log, which all tests of the process share: a server's answer
/// may be logged, and some servers here send back what they were sent. No part of theirs is in them.
const LOGGED: [&str; 3] = ["sk-Qz7vK2mXw9RtB4", "wT5nYc8LpD3hVjUe", "Gf6xSo1AkZqMb0Ir"];

/// Keeps everything that is logged, at the finest level.
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{}: {}\n", record.target(), record.args());
        self.0.lock().unwrap().push_str(&line);
    }

    fn flush(&self) {}
}

/// Everything is logged while this is there. Other tests of the process run meanwhile, so that it
/// is not there for longer than it must.
struct Logging;

impl Logging {
    fn begin() -> Self {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        Self
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        log::set_max_level(log::LevelFilter::Off);
    }
}

fn secret(mock: &Mock) -> Config {
    let mut config = config(&format!(
        "http://{}/v1?api-version=1&token={QUERY}",
        mock.address
    ));
    config.key = Some(ApiKey::new(KEY).unwrap());
    config
}

/// What can be seen of a text that a log may have cut into bytes.
fn assert_no_canary(what: &str, text: &str) {
    assert_none_of(&[KEY, QUERY, PASSWORD], what, text);
}

fn assert_none_of(canaries: &[&str], what: &str, text: &str) {
    for canary in canaries {
        assert!(!text.contains(canary), "{what}: {text}");
        // Logs of bytes: in hexadecimal, perhaps with spaces, and in rows of sixteen characters.
        let bare: String = text.chars().filter(|c| *c != ' ').collect();
        let bare = bare.to_lowercase();
        let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(
            !bare.to_lowercase().contains(&hex),
            "{what} has it in hexadecimal"
        );
        for row in canary.as_bytes().windows(8) {
            let part = std::str::from_utf8(row).unwrap();
            assert!(!text.contains(part), "{what} has {part:?}");
            let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!bare.contains(&hex), "{what} has {part:?} in hexadecimal");
        }
    }
}

#[test]
fn they_are_in_no_debug_text() {
    let mock = Mock::answering(good());
    let mut config = secret(&mock);
    config.proxy = Proxy::Uri(format!("http://user:{PASSWORD}@127.0.0.1:1"));
    assert_no_canary("Config", &format!("{config:?} {config:#?}"));
    assert_no_canary("Client", &format!("{:?}", client(config)));
}

#[test]
fn they_are_in_no_log_though_they_are_sent() {
    let logging = Logging::begin();
    let [key, query, password] = LOGGED;
    let mock = Mock::answering(good());
    let mut config = config(&format!("http://{}/v1?token={query}", mock.address));
    config.key = Some(ApiKey::new(key).unwrap());
    for _ in 0..2 {
        ask(&client(config.clone())).unwrap();
        let received = mock.received();
        assert!(received.line.contains(query), "{}", received.line);
        assert_eq!(
            received.header("authorization"),
            Some(&*format!("Bearer {key}"))
        );
    }
    let proxy = Mock::answering(http("407 Proxy Authentication Required", "", ""));
    config.proxy = Proxy::Uri(format!("http://user:{password}@{}", proxy.address));
    let error = ask(&client(config)).unwrap_err();
    assert_none_of(&LOGGED, "the error", &format!("{error} {error:?}"));
    assert!(proxy.received().header("proxy-authorization").is_some());
    drop(logging);
    let log = LOG.0.lock().unwrap();
    assert!(log.contains("ureq_proto::util: "), "bytes are logged");
    assert_none_of(&LOGGED, "the log", &log);
}

#[test]
fn a_server_that_sends_them_back_does_not_get_them_into_an_error() {
    let echo = format!("bad key {KEY} in {QUERY}");
    let object = format!(r#"{{"error":{{"message":"{echo}","type":"{KEY}","param":"{KEY}"}}}}"#);
    let text = format!(r#"{{"error":"{echo}"}}"#);
    let detail = format!(r#"{{"detail":[{{"loc":["{KEY}"],"msg":"{echo}","type":"{KEY}"}}]}}"#);
    // So long that it is cut in the middle of the key.
    let long = format!("{}{KEY}", "x".repeat(290));
    let page = format!("<html><title>{echo}</title></html>");
    let mut answers = Vec::new();
    for body in [&object, &text, &detail, &echo, &long, &page] {
        for status in [
            "400 Bad Request",
            "401 Unauthorized",
            "403 Forbidden",
            "404 Not Found",
            "413 Too Large",
            "422 No",
            "429 Slow",
            "500 Oops",
            "503 Busy",
            "418 Tea",
            "200 OK",
        ] {
            answers.push(json(status, body));
        }
        answers.push(stream(&[&format!("data: {body}\n\n")]));
        answers.push(stream(&[&format!("event: error\ndata: {body}\n\n")]));
        answers.push(stream(&[&format!("error: {body}\n\n")]));
    }
    answers.push(http(
        "302 Found",
        &format!("location: http://{KEY}@h/{KEY}?{KEY}\r\n"),
        "",
    ));
    answers.push(stream(&[&finish(&format!("stop-{KEY}"))]));
    answers.push(format!("HTTP/1.1 {KEY}\r\n\r\n").into_bytes());
    answers.push(format!("{KEY}\r\n\r\n").into_bytes());
    for answer in answers {
        let mock = Mock::answering(&answer);
        let mut config = secret(&mock);
        config.bounds.whole = LONG;
        match ask(&client(config)) {
            Ok(answer) => assert_no_canary("the answer's end", &format!("{:?}", answer.finish)),
            Err(error) => assert_no_canary("the error", &format!("{error} {error:?} {error:#?}")),
        }
    }
}

#[test]
fn they_are_in_no_error_of_the_way_there() {
    let mut config = config(&format!("http://{}/v1?token={QUERY}", closed_port()));
    config.key = Some(ApiKey::new(KEY).unwrap());
    let client = client(config);
    let answer = client.chat(
        &question(),
        &Retry::default(),
        &Cancel::default(),
        &mut |_| (),
    );
    let error = answer.unwrap_err();
    assert_no_canary("the error", &format!("{error} {error:?}"));
}
