// SPDX-License-Identifier: MPL-2.0

//! A mock of a chat server on loopback, and what tests ask it with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openai_client::{
    Answer, Bounds, Cancel, ChatRequest, Client, Clock, Config, Error, Message, Piece, Proxy,
    Random, Retry, ServerUri, Surroundings,
};
use serde_json::Value;

/// Nothing on loopback takes this long: a test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// What a mock reads and writes: a socket, or TLS over one.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// A request that the mock was sent.
#[derive(Debug, Clone)]
pub struct Received {
    /// Method and target, as they stand in the request line.
    pub line: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Number of the connection, from 0.
    pub connection: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// One connection to the mock, as its script sees it.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    socket: TcpStream,
    number: usize,
    requests: Sender<Received>,
}

/// A mock server. Its script plays once for each connection, on a thread of its own.
pub struct Mock {
    pub address: SocketAddr,
    requests: Mutex<Receiver<Received>>,
}

impl Mock {
    /// Plays `script` on each connection.
    pub fn start(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::start_over(|stream| Some(Box::new(stream)), script)
    }

    /// The same over what `wrap` makes of a socket; `None` if it came to nothing.
    pub fn start_over(
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(any, wrap, script)
    }

    /// The same at an address, which was another's before.
    pub fn start_at(
        address: SocketAddr,
        wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, received) = channel();
        let play = Arc::new((wrap, script));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (play, requests) = (play.clone(), requests.clone());
                std::thread::spawn(move || {
                    let stream = stream.unwrap();
                    let socket = stream.try_clone().unwrap();
                    let Some(stream) = play.0(stream) else {
                        return;
                    };
                    let mut connection = Connection {
                        stream: BufReader::new(stream),
                        socket,
                        number,
                        requests,
                    };
                    play.1(&mut connection);
                });
            }
        });
        Self {
            address,
            requests: Mutex::new(received),
        }
    }

    /// A mock that gives each request the same answer, also several over one connection.
    pub fn answering(answer: impl AsRef<[u8]>) -> Self {
        let answer = answer.as_ref().to_vec();
        Self::start(
            move |connection| {
                while connection.request().is_some() && connection.send(&answer) {}
            },
        )
    }

    /// A mock that answers one request after another, whatever connections they come over, and the
    /// last answer ever after.
    pub fn answering_in_turn(answers: Vec<Vec<u8>>) -> Self {
        let next = Mutex::new(0);
        Self::start(move |connection| {
            while connection.request().is_some() {
                let answer = {
                    let mut next = next.lock().unwrap();
                    *next += 1;
                    answers[(*next - 1).min(answers.len() - 1)].clone()
                };
                if !connection.send(&answer) {
                    break;
                }
            }
        })
    }

    /// The next request that it was sent.
    pub fn received(&self) -> Received {
        self.requests
            .lock()
            .unwrap()
            .recv_timeout(LONG)
            .expect("a request")
    }

    /// A request that it was sent already and that was not looked at.
    pub fn next(&self) -> Option<Received> {
        self.requests.lock().unwrap().try_recv().ok()
    }

    /// Whether there is none.
    pub fn is_idle(&self) -> bool {
        self.next().is_none()
    }

    pub fn config(&self) -> Config {
        config(&format!("http://{}/v1", self.address))
    }

    pub fn client(&self) -> Client {
        client(self.config())
    }
}

impl Connection {
    /// The next request; `None` at the connection's end.
    pub fn request(&mut self) -> Option<Received> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            self.stream.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut received = Received {
            line: line.trim_end().to_owned(),
            headers,
            body: Vec::new(),
            connection: self.number,
        };
        let length = received
            .header("content-length")
            .map_or(0, |n| n.parse().unwrap());
        received.body = vec![0; length];
        self.stream.read_exact(&mut received.body).ok()?;
        let _ = self.requests.send(received.clone());
        Some(received)
    }

    /// Writes; whether the other side takes it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref()).is_ok() && stream.flush().is_ok()
    }

    /// Waits for the other side to close.
    pub fn wait_for_close(&mut self) {
        let _ = std::io::copy(&mut self.stream, &mut std::io::sink());
    }

    /// Reads a few bytes, whatever they are.
    pub fn read_some(&mut self, n: usize) {
        let _ = self.stream.read_exact(&mut vec![0; n]);
    }

    /// Passes bytes on in both directions, as a proxy does, until one side closes.
    pub fn tunnel(&mut self, upstream: &TcpStream) {
        let (mut from, mut to) = (
            upstream.try_clone().unwrap(),
            self.socket.try_clone().unwrap(),
        );
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Both);
        });
        let _ = std::io::copy(&mut self.stream, &mut &*upstream);
        let _ = upstream.shutdown(std::net::Shutdown::Both);
    }

    /// Number of the connection, from 0.
    pub fn number(&self) -> usize {
        self.number
    }
}

/// A whole answer of HTTP's.
pub fn http(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}").into_bytes()
}

pub fn json(status: &str, body: &str) -> Vec<u8> {
    http(status, "content-type: application/json\r\n", body)
}

/// The head of a stream of events, whose body is in chunks.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
     transfer-encoding: chunked\r\n\r\n";

/// One chunk.
pub fn chunk(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The end of a body in chunks.
pub const END: &str = "0\r\n\r\n";

/// An event with a piece of text.
pub fn text(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"data: {{"model":"m","choices":[{{"index":0,"delta":{{"content":{text}}}}}]}}"#)
        + "\n\n"
}

/// The event that ends an answer.
pub fn finish(reason: &str) -> String {
    format!(r#"data: {{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}]}}"#)
        + "\n\n"
}

pub const DONE: &str = "data: [DONE]\n\n";

/// A stream of events, each in a chunk of its own.
pub fn stream(events: &[&str]) -> Vec<u8> {
    let mut answer = STREAM.as_bytes().to_vec();
    for event in events {
        answer.extend(chunk(event));
    }
    answer.extend_from_slice(END.as_bytes());
    answer
}

/// The stream of a good answer.
pub fn good() -> Vec<u8> {
    stream(&[&text("A "), &text("car."), &finish("stop"), DONE])
}

/// A clock that never waits, and notes what it was to wait.
#[derive(Clone, Default)]
pub struct Impatient(pub Arc<Mutex<Vec<Duration>>>);

impl Clock for Impatient {
    fn now(&self) -> std::time::Instant {
        std::time::Instant::now()
    }

    fn wait(&self, how_long: Duration, cancel: &Cancel) -> bool {
        self.0.lock().unwrap().push(how_long);
        cancel.is_cancelled()
    }
}

/// The same number every time.
pub struct Always(pub f64);

impl Random for Always {
    fn unit(&self) -> f64 {
        self.0
    }
}

pub fn config(server: &str) -> Config {
    let bounds = Bounds {
        connect: LONG,
        ..Bounds::default()
    };
    Config {
        model: Some("m".into()),
        proxy: Proxy::None,
        bounds,
        ..Config::new(ServerUri::parse(server).unwrap())
    }
}

/// A client whose pauses take no time and are as long as they can be.
pub fn client(config: Config) -> Client {
    client_with(config, Impatient::default())
}

pub fn client_with(config: Config, clock: Impatient) -> Client {
    let around = Surroundings {
        clock: Box::new(clock),
        random: Box::new(Always(1.0)),
        variable: Box::new(|_| None),
        ..Surroundings::default()
    };
    Client::with(config, around).unwrap()
}

pub fn question() -> ChatRequest {
    ChatRequest::new(vec![Message::user("What happens?")])
}

/// Asks once.
pub fn ask(client: &Client) -> Result<Answer, Error> {
    ask_for(client, &question(), &Cancel::default()).0
}

/// Asks once; also gives the pieces of text that were told.
pub fn ask_for(
    client: &Client,
    request: &ChatRequest,
    cancel: &Cancel,
) -> (Result<Answer, Error>, Vec<String>) {
    let mut pieces = Vec::new();
    let mut on = |piece: Piece<'_>| {
        if let Piece::Text(text) = piece {
            pieces.push(text.to_owned());
        }
    };
    let answer = client.chat(request, &Retry::never(), cancel, &mut on);
    (answer, pieces)
}
