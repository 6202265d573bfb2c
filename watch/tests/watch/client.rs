// SPDX-License-Identifier: MPL-2.0

//! Somebody who asks the program what the page asks it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::site::{Running, Site};
use crate::web::Answer;

/// A client of the page.
pub struct Client {
    port: u16,
    cookie: String,
}

impl Client {
    /// Makes the first user with the link that the program has printed.
    pub fn first(running: &mut Running, port: u16) -> Self {
        running.wait_for("#link=");
        let line = running.seen.last().unwrap();
        let link = line
            .split("#link=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        let mut client = Self {
            port,
            cookie: String::new(),
        };
        let body = json!({"link": link, "name": "root", "password": "canary-of-root"}).to_string();
        let (status, head, _) = client.ask("POST", "/api/v1/first", &body);
        assert_eq!(status, 200, "{head}");
        let cookie = head
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap();
        client.cookie = cookie.split(';').next().unwrap().to_owned();
        client
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, Vec<u8>) {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return (0, String::new(), Vec::new());
        };
        stream
            .set_read_timeout(Some(Duration::from_secs(65)))
            .unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nCookie: {}\r\n\r\n{body}",
            self.port,
            body.len(),
            self.cookie
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut part = [0; 8_192];
        // A stream of events does not end by itself.
        let limit = Duration::from_secs(if path.ends_with("/stream") { 2 } else { 70 });
        let begin = Instant::now();
        while begin.elapsed() < limit {
            match stream.read(&mut part) {
                Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
        let Answer { status, head, body } = Answer::of(&bytes);
        (status, head, body)
    }

    pub fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.ask("GET", path, "").2).unwrap_or(Value::Null)
    }

    pub fn camera(&self, id: &str) -> Value {
        self.json(&format!("/api/v1/cameras/{id}"))
    }
}

pub fn server(port: u16) -> String {
    format!("[server]\nlisten = \"127.0.0.1:{port}\"\n")
}

pub fn rewrite(site: &Site, change: impl Fn(&str) -> String) {
    let file = site.folder.path().join("watch.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    // As editors do: the new file takes the old one's place at once.
    let fresh = site.folder.path().join("watch.toml.new");
    std::fs::write(&fresh, change(&text)).unwrap();
    std::fs::rename(&fresh, &file).unwrap();
}
