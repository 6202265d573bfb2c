// SPDX-License-Identifier: MPL-2.0

//! The program with a file and a store of its own, and cameras on loopback.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The folder with the plugin: `VLMCAPTION_PLUGIN_PATH`, or where this build put it.
pub fn plugin() -> PathBuf {
    let named = std::env::var_os("VLMCAPTION_PLUGIN_PATH").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| {
        // target/debug/deps/watch-…
        let exe = std::env::current_exe().unwrap();
        exe.parent().and_then(Path::parent).unwrap().to_owned()
    });
    let file = folder.join("libgstvlmcaption.so");
    assert!(
        file.exists(),
        "{} is not there: run `cargo build -p gst-plugin-vlmcaption` first",
        file.display()
    );
    folder
}

/// GStreamer and the plugin in this process.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gst::Plugin::load_file(plugin().join("libgstvlmcaption.so")).unwrap();
    });
}

/// A folder with a configuration.
pub struct Site {
    pub folder: tempfile::TempDir,
}

impl Site {
    pub fn new(cameras: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("store");
        // Tests run side by side, each with a page of its own or none.
        let server = if cameras.contains("[server]") {
            ""
        } else {
            "[server]\nenabled = false\n"
        };
        // Whatever is free on this machine is enough.
        let text = format!(
            "{server}[storage]\npath = \"{}\"\nkeep-free = \"1MB\"\n[defaults]\nwindow = 2\n{cameras}",
            store.display()
        );
        std::fs::write(folder.path().join("watch.toml"), text).unwrap();
        Self { folder }
    }

    /// Has a script answer in place of a model.
    pub fn mock(&self, script: &serde_json::Value) {
        let path = self.folder.path().join("mock.json");
        std::fs::write(&path, script.to_string()).unwrap();
        let file = self.folder.path().join("watch.toml");
        let model = format!(
            "[model]\nbackend = \"mock\"\npath = \"{}\"\n",
            path.display()
        );
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, model + &text).unwrap();
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vlmcaption-watch"));
        command
            .arg(arguments[0])
            .arg("--config")
            .arg(self.folder.path().join("watch.toml"));
        command.args(&arguments[1..]);
        command.env("GST_PLUGIN_PATH", plugin());
        command.env("WATCH_CANARY", CANARY);
        // What GLib complains of is a fault of this program.
        command.env("G_DEBUG", "fatal-criticals");
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What it prints; it must succeed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

/// A password that must turn up nowhere.
pub const CANARY: &str = "canary-b7Qz";

/// A child that is killed at the end of a test, also of one that fails.
pub struct Running {
    pub child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let pipes: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for pipe in pipes {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(pipe)
                    .lines()
                    .map_while(Result::ok)
                    .all(|line| sender.send(line).is_ok())
            });
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with this in it.
    pub fn wait_for(&mut self, text: &str) {
        self.wait_for_all(&[text]);
    }

    /// Waits for lines with these in them, in any order.
    pub fn wait_for_all(&mut self, texts: &[&str]) {
        let begin = Instant::now();
        let mut missing = texts.to_vec();
        while !missing.is_empty() {
            let left = PATIENCE.saturating_sub(begin.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    missing.retain(|text| !line.contains(text));
                    self.seen.push(line);
                }
                Err(_) => panic!("no {missing:?} in\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Asks it to end as systemd does, and waits until it has.
    pub fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        self.seen.extend(self.lines.iter());
        assert!(status.success(), "{status}: {}", self.seen.join("\n"));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The loopback camera of pipelines/.
pub fn rtsp_camera(port: u16) -> Running {
    rtsp_camera_of(port, "smpte", "h264")
}

/// One that shows this pattern, coded so.
pub fn rtsp_camera_of(port: u16, pattern: &str, codec: &str) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipelines/rtsp-server.py");
    let mut command = Command::new(script);
    command.args([
        "--port",
        &port.to_string(),
        "--pattern",
        pattern,
        "--framerate",
        "10",
        "--codec",
        codec,
    ]);
    let mut camera = Running::start(command);
    camera.wait_for("rtsp://");
    camera
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// All files in a folder and in those in it.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}
