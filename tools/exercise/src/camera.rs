// SPDX-License-Identifier: MPL-2.0

//! A camera that goes away: a real RTSP server is killed and started again under a pipeline.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gst::prelude::*;

use crate::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(60);

/// Plays, loses and finds the camera again, twice.
///
/// # Errors
/// The step that did not work.
pub fn run(script: &str) -> Result<(), String> {
    let port = free_port()?;
    let mut server = Server::start(script, port)?;
    let uri = server.uri.clone();
    println!("server at {uri}");
    let mut stage = Stage::new(&format!(
        "rtspsrc name=camera location={uri} latency=100 decodebin name=decoder \
         vlmcaption name=captioner window=2 ! fakesink sync=true"
    ))?;
    // `a ! b` links once; a camera that comes back has new pads.
    link_whenever(&stage, "camera", "decoder")?;
    link_whenever(&stage, "decoder", "captioner")?;
    for round in 1..=2 {
        stage
            .go(gst::State::Playing)
            .map_err(|reason| format!("round {round}: {reason}"))?;
        let captions = stage.captions(2, PATIENCE)?;
        println!("round {round}: `{}`", captions[1].text);

        server.kill()?;
        let what = stage.breaks_off(PATIENCE)?;
        println!("round {round}: server killed, the source says `{what}`");
        stage.go(gst::State::Null)?;
        stage.forget();
        println!(
            "round {round}: stopped, slowest state change {} ms",
            stage.slowest().as_millis()
        );
        server = Server::start(script, port)?;
    }
    stage.go(gst::State::Playing)?;
    stage.captions(1, PATIENCE)?;
    stage.go(gst::State::Null)?;
    println!("captions again after the second restart");
    server.kill()
}

/// Links each pad that `from` gets to the sink pad of `to`.
fn link_whenever(stage: &Stage, from: &str, to: &str) -> Result<(), String> {
    let sink = stage.element(to)?;
    let sink = sink.static_pad("sink").ok_or("no sink pad")?;
    stage.element(from)?.connect_pad_added(move |_, pad| {
        // Another stream than the first, sound for example, has no place to go.
        if !sink.is_linked() && pad.link(&sink).is_err() {
            eprintln!("{} does not link", pad.name());
        }
    });
    Ok(())
}

/// A port of loopback that nobody listens on.
fn free_port() -> Result<u16, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no port on loopback: {error}"))
}

/// `pipelines/rtsp-server.py`, killed when it is dropped.
pub struct Server {
    child: Child,
    uri: String,
}

impl Server {
    /// Starts the script on any port, with so many frames a second of a pattern.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_at(script: &str, fps: u32, pattern: &str) -> Result<Self, String> {
        let fps = fps.to_string();
        Self::spawn(
            script,
            free_port()?,
            &["--framerate", &fps, "--pattern", pattern],
        )
    }

    /// Where it listens.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Starts the script and waits until it says where it listens.
    fn start(script: &str, port: u16) -> Result<Self, String> {
        Self::spawn(script, port, &[])
    }

    fn spawn(script: &str, port: u16, more: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(script)
            .args(["--port", &port.to_string()])
            .args(more)
            .stdout(Stdio::piped())
            // Its children are not ours to judge: the tracer and the fatal criticals stay here.
            .env_remove("GST_TRACERS")
            .env_remove("G_DEBUG")
            .spawn()
            .map_err(|error| format!("{script} does not start: {error}"))?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(|error| format!("{script}: {error}"))?;
        }
        let mut server = Self {
            child,
            uri: line.trim().to_owned(),
        };
        if server.uri.starts_with("rtsp://") {
            Ok(server)
        } else {
            server.kill()?;
            Err(format!(
                "{script} said `{}` instead of its address",
                server.uri
            ))
        }
    }

    /// Kills it as a power cut would: no TEARDOWN, no goodbye.
    fn kill(&mut self) -> Result<(), String> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(|_| ())
            .map_err(|error| format!("the server cannot be killed: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already dead in the good case, and then this is an error that means nothing.
        let _ = self.kill();
    }
}
