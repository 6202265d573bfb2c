// SPDX-License-Identifier: MPL-2.0

//! A cancel ends a request wherever it is. Each test is in that place when it cancels, and every
//! bound is far longer than a test may take.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use openai_client::{Cancel, ChatRequest, Client, Error, Media, Message, Piece, Retry};

use crate::connections::hanging_look_up;
use crate::mock::*;
use crate::tls::of_nobody;

/// Asks on a thread, cancels once `is_there` returns, and gives what came of it.
fn cancelled(client: &Client, request: &ChatRequest, is_there: impl FnOnce()) -> Result<(), Error> {
    let cancel = Cancel::default();
    let (ended, end) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let answer = client.chat(request, &Retry::default(), &cancel, &mut |_| ());
            let _ = ended.send(answer.map(drop));
        });
        is_there();
        cancel.cancel();
        end.recv_timeout(LONG).expect("the cancel to end it")
    })
}

fn assert_cancelled(result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn before_it_begins() {
    let mock = Mock::answering(good());
    let cancel = Cancel::default();
    cancel.cancel();
    let (answer, _) = ask_for(&mock.client(), &question(), &cancel);
    assert!(answer.unwrap_err().is_cancelled());
    assert!(mock.is_idle());
}

#[test]
fn while_the_host_is_looked_up() {
    let client = hanging_look_up(LONG * 10);
    // There is no telling from outside that the look-up has begun; a little earlier is as good.
    assert_cancelled(cancelled(&client, &question(), || ()));
}

#[test]
fn while_connecting() {
    let (listener, fillers) = full_listener();
    let address = listener.local_addr().unwrap();
    let mut config = config(&format!("http://{address}/v1"));
    config.bounds.connect = LONG * 10;
    let is_there = || std::thread::yield_now();
    assert_cancelled(cancelled(&client(config), &question(), is_there));
    drop(fillers);
}

#[test]
fn while_shaking_hands() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut config = config(&format!("https://{address}/v1"));
    let (_folder, tls) = of_nobody();
    config.tls = tls;
    let client = client(config);
    let mut held = None;
    let is_there = || held = Some(listener.accept().unwrap());
    assert_cancelled(cancelled(&client, &question(), is_there));
}

#[test]
fn while_the_request_is_written() {
    let (accepted, is_accepted) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || accepted.send(listener.accept().unwrap()));
    // More than the buffers of both sides hold.
    let media = Media::mp4(&vec![0; 32 << 20]);
    let request = ChatRequest::new(vec![Message::about(&[media], "?")]);
    let client = client(config(&format!("http://{address}/v1")));
    let mut held = None;
    let is_there = || {
        use std::io::Read;
        let (mut stream, _) = is_accepted.recv().unwrap();
        stream.read_exact(&mut [0; 100]).unwrap();
        held = Some(stream);
    };
    assert_cancelled(cancelled(&client, &request, is_there));
}

#[test]
fn while_the_answer_is_waited_for_and_the_server_sees_it() {
    let (closed, is_closed) = channel();
    let mock = Mock::start(move |connection| {
        connection.request();
        connection.wait_for_close();
        let _ = closed.send(());
    });
    let client = mock.client();
    let is_there = || drop(mock.received());
    assert_cancelled(cancelled(&client, &question(), is_there));
    is_closed
        .recv_timeout(LONG)
        .expect("the server to see the connection close");
}

#[test]
fn in_the_middle_of_a_stream_and_the_next_question_is_answered() {
    let mock = Mock::start(|connection| {
        if connection.number() > 0 {
            connection.request();
            connection.send(good());
        }
        connection.request();
        connection.send(STREAM);
        connection.send(chunk(text("A ")));
        connection.wait_for_close();
    });
    let client = mock.client();
    let cancel = Cancel::default();
    // It cancels itself once it has heard the first piece.
    let mut on = |_: Piece<'_>| cancel.cancel();
    let answer = client.chat(&question(), &Retry::default(), &cancel, &mut on);
    assert!(answer.unwrap_err().is_cancelled());
    assert_eq!(ask(&client).unwrap().text, "A car.");
}

#[test]
fn in_a_pause_between_requests() {
    let mock = Mock::answering(http("503 Service Unavailable", "retry-after: 25\r\n", ""));
    // A client whose pauses take their time.
    let client = Client::new(mock.config()).unwrap();
    let is_there = || drop(mock.received());
    assert_cancelled(cancelled(&client, &question(), is_there));
}

#[test]
fn one_cancel_ends_all_requests_that_it_was_given_to() {
    let mock = Mock::start(|connection| {
        connection.request();
        connection.wait_for_close();
    });
    let client = mock.client();
    let cancel = Cancel::default();
    std::thread::scope(|scope| {
        let ask = || ask_for(&client, &question(), &cancel).0;
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        for _ in 0..3 {
            mock.received();
        }
        cancel.cancel();
        for thread in asking {
            assert!(thread.join().unwrap().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_cancel_after_the_answer_does_not_touch_the_connection() {
    let mock = Mock::answering(good());
    let client = mock.client();
    let cancel = Cancel::default();
    ask_for(&client, &question(), &cancel).0.unwrap();
    cancel.cancel();
    ask(&client).unwrap();
    assert_eq!(mock.received().connection, 0);
    assert_eq!(mock.received().connection, 0);
}

/// A listener that accepts nobody and whose queue is full, so that connecting to it hangs; and what
/// fills it.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut fillers = Vec::new();
    let patience = Duration::from_millis(300);
    while let Ok(stream) = TcpStream::connect_timeout(&address, patience) {
        fillers.push(stream);
        assert!(fillers.len() < 10_000, "a queue without an end");
    }
    (listener, fillers)
}
