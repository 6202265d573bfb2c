// SPDX-License-Identifier: MPL-2.0

//! mosquitto, and somebody who listens to it.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that ends with the test.
pub struct Ends(pub Child);

impl Ends {
    /// Starts a server and waits until it listens on a port of loopback; nothing where it is not installed.
    pub fn listening(command: &mut Command, port: u16) -> Option<Self> {
        let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = Self(quiet.spawn().ok()?);
        until("it listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(child)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// mosquitto on loopback, with a user and a password; nothing where there is none.
pub fn broker(port: u16, folder: &Path) -> Option<Ends> {
    let passwords = folder.join("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-c", "-b"])
        .arg(&passwords)
        .args(["watch", PASSWORD])
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let file = folder.join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\npassword_file {}\nallow_anonymous false\nuser root\npersistence false\n",
        passwords.display()
    );
    std::fs::write(&file, text).unwrap();
    Ends::listening(Command::new("mosquitto").arg("-c").arg(&file), port)
}

pub const PASSWORD: &str = "canary-of-the-broker";

/// What the broker hands to another client.
pub struct Listener {
    _child: Ends,
    pub lines: Receiver<String>,
    pub seen: Vec<(String, String)>,
}

impl Listener {
    pub fn start(port: u16) -> Self {
        let mut child = client("mosquitto_sub", port)
            .args(["-t", "#", "-q", "1", "-F", "%r %t %p"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            _child: Ends(child),
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a message of this topic that fits.
    pub fn wait(&mut self, topic: &str, fits: impl Fn(&str) -> bool) -> String {
        let found = self.wait_for(PATIENCE, topic, fits);
        found.unwrap_or_else(|| panic!("no fitting {topic} in {:#?}", self.seen))
    }

    /// The same, for so long.
    pub fn wait_for(
        &mut self,
        time: Duration,
        topic: &str,
        fits: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let begin = Instant::now();
        loop {
            let left = time.saturating_sub(begin.elapsed());
            let line = self.lines.recv_timeout(left).ok()?;
            let mut parts = line.splitn(3, ' ');
            let _retained = parts.next();
            let of = parts.next().unwrap_or_default().to_owned();
            let payload = parts.next().unwrap_or_default().to_owned();
            self.seen.push((of.clone(), payload.clone()));
            if of == topic && fits(&payload) {
                return Some(payload);
            }
        }
    }
}

/// A program of mosquitto's that logs in to the broker.
fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(program);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-u", "watch", "-P", PASSWORD]);
    command
}

pub fn publish(port: u16, topic: &str, payload: &str) {
    let status = client("mosquitto_pub", port)
        .args(["-t", topic, "-m", payload])
        .status()
        .unwrap();
    assert!(status.success());
}

/// The retained messages of a broker, by topic.
pub fn retained(port: u16) -> Vec<(String, String)> {
    let output = client("mosquitto_sub", port)
        .args(["-t", "#", "--retained-only", "-F", "%t %p", "-W", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pairs = text
        .lines()
        .filter_map(|line| line.split_once(' ').or(Some((line, ""))));
    pairs
        .map(|(topic, payload)| (topic.to_owned(), payload.to_owned()))
        .collect()
}

pub fn until(what: &str, mut fits: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !fits() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
