// SPDX-License-Identifier: MPL-2.0

//! Connections: kept, dropped, made anew, through a proxy, by IPv6.

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use openai_client::{Bound, Client, Problem, Proxy, Surroundings};

use crate::mock::*;

#[test]
fn a_connection_is_used_again() {
    let mock = Mock::answering(good());
    let client = mock.client();
    for _ in 0..3 {
        ask(&client).unwrap();
        assert_eq!(mock.received().connection, 0);
    }
}

#[test]
fn a_connection_that_was_idle_too_long_is_not_used_again() {
    let mock = Mock::answering(good());
    let mut config = mock.config();
    config.bounds.idle = Duration::ZERO;
    let client = client(config);
    for number in 0..2 {
        ask(&client).unwrap();
        assert_eq!(mock.received().connection, number);
    }
}

#[test]
fn a_connection_that_the_server_closed_is_made_anew() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(good());
    });
    let client = mock.client();
    for _ in 0..3 {
        assert_eq!(ask(&client).unwrap().text, "A car.");
    }
}

#[test]
fn a_request_over_a_connection_that_closes_at_that_moment_is_made_once_more() {
    // The first connection takes a second request and closes without an answer.
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(good());
        if connection.number() == 0 {
            connection.request();
            return;
        }
        connection.wait_for_close();
    });
    let client = mock.client();
    ask(&client).unwrap();
    let answer = ask(&client).unwrap();
    assert_eq!(
        (answer.text.as_str(), answer.effort.requests),
        ("A car.", 2)
    );
    let connections: Vec<usize> = (0..3).map(|_| mock.received().connection).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[test]
fn a_new_connection_that_closes_without_an_answer_is_an_error() {
    let mock = Mock::start(|connection| {
        connection.request();
    });
    let error = ask(&mock.client()).unwrap_err();
    assert!(matches!(error.problem, Problem::Broken { .. }), "{error}");
    assert!(error.is_retryable());
    mock.received();
    assert!(mock.is_idle(), "it was asked once");
}

#[test]
fn a_connection_that_breaks_in_an_answer_is_not_asked_again() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.send(good());
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n");
    });
    let client = mock.client();
    ask(&client).unwrap();
    assert!(ask(&client).is_err());
    mock.received();
    mock.received();
    assert!(mock.is_idle());
}

#[test]
fn threads_ask_at_once_each_over_a_connection_of_its_own() {
    let barrier = Arc::new(std::sync::Barrier::new(4));
    let mock = Mock::start(move |connection| {
        connection.request();
        // Nobody is answered before all have asked.
        barrier.wait();
        connection.send(good());
        connection.wait_for_close();
    });
    let client = mock.client();
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| ask(&client))).collect();
        for thread in asking {
            assert_eq!(thread.join().unwrap().unwrap().text, "A car.");
        }
    });
}

#[test]
fn a_proxy_is_asked_for_the_server_and_does_not_see_the_key() {
    let server = Mock::answering(good());
    let target = server.address;
    let proxy = Mock::start(move |connection| {
        connection.request();
        let Ok(upstream) = TcpStream::connect(target) else {
            return;
        };
        connection.send("HTTP/1.1 200 Connection established\r\n\r\n");
        connection.tunnel(&upstream);
    });
    let mut config = config("http://gpu.example:8000/v1");
    config.key = Some(openai_client::ApiKey::new("canary-key").unwrap());
    config.proxy = Proxy::Uri(format!("http://user:pass@{}", proxy.address));
    assert_eq!(ask(&client(config)).unwrap().text, "A car.");
    let connect = proxy.received();
    assert_eq!(connect.line, "CONNECT gpu.example:8000 HTTP/1.1");
    assert_eq!(
        connect.header("proxy-authorization"),
        Some("Basic dXNlcjpwYXNz")
    );
    assert_eq!(connect.header("authorization"), None);
    let asked = server.received();
    assert_eq!(asked.header("authorization"), Some("Bearer canary-key"));
    assert_eq!(asked.header("proxy-authorization"), None);
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_named() {
    let proxy = Mock::answering(http("403 Forbidden", "", "no"));
    let mut config = config("http://gpu.example:8000/v1");
    config.proxy = Proxy::Uri(format!("http://{}", proxy.address));
    let error = ask(&client(config.clone())).unwrap_err();
    assert!(matches!(error.problem, Problem::Proxy { .. }), "{error}");
    assert!(
        error.to_string().contains(&proxy.address.to_string()),
        "{error}"
    );
    config.proxy = Proxy::Uri(format!("http://{}", closed_port()));
    let error = ask(&client(config)).unwrap_err();
    assert!(matches!(error.problem, Problem::Proxy { .. }), "{error}");
}

#[test]
fn a_server_is_reached_by_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        // Containers without IPv6 cannot show it.
        return;
    };
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(&good()).unwrap();
    });
    assert_eq!(
        ask(&client(config(&format!("http://{address}/v1"))))
            .unwrap()
            .text,
        "A car."
    );
}

#[test]
fn nothing_that_listens_is_said_with_the_address() {
    let address = closed_port();
    let error = ask(&client(config(&format!("http://{address}/v1")))).unwrap_err();
    assert!(matches!(error.problem, Problem::Connect { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{address}: cannot connect")),
        "{text}"
    );
    assert!(error.is_retryable());
}

#[test]
fn addresses_are_tried_in_turn() {
    let mock = Mock::answering(good());
    let addresses = [closed_port(), mock.address];
    let client = looking_up(move || Ok(addresses.to_vec()));
    assert_eq!(ask(&client).unwrap().text, "A car.");
}

#[test]
fn a_host_without_an_address_is_named() {
    let client = looking_up(|| Err(std::io::Error::other("Name or service not known")));
    let error = ask(&client).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("gpu.example cannot be looked up"),
        "{error}"
    );
    assert!(ask(&looking_up(|| Ok(vec![]))).is_err());
}

#[test]
fn a_look_up_that_hangs_is_bounded_and_so_is_their_number() {
    let client = hanging_look_up(Duration::from_millis(1));
    for _ in 0..16 {
        let error = ask(&client).unwrap_err();
        let bound = Bound::Lookup;
        assert!(
            matches!(error.problem, Problem::Timeout { bound: b, .. } if b == bound),
            "{error}"
        );
    }
    let error = ask(&client).unwrap_err();
    assert!(matches!(error.problem, Problem::Lookup { .. }), "{error}");
}

/// A port that nothing listens at.
pub fn closed_port() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// A client whose host's look-up never ends.
pub fn hanging_look_up(bound: Duration) -> Client {
    let mut config = config("http://gpu.example:8000/v1");
    config.bounds.lookup = bound;
    let around = Surroundings {
        lookup: Arc::new(|_, _| {
            loop {
                std::thread::park();
            }
        }),
        ..Surroundings::default()
    };
    Client::with(config, around).unwrap()
}

fn looking_up(
    found: impl Fn() -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
) -> Client {
    let around = Surroundings {
        lookup: Arc::new(move |_, _| found()),
        ..Surroundings::default()
    };
    Client::with(config("http://gpu.example:8000/v1"), around).unwrap()
}
