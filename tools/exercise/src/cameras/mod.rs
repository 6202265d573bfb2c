// SPDX-License-Identifier: MPL-2.0

//! Live cameras that share an engine or a server: how many captions each gets, how old they are, what
//! is dropped, and what becomes of all that when something is killed.

mod figures;
mod one;
mod options;
mod outage;
mod processes;
mod wire;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use figures::Figures;
use one::{Camera, Event, What};
pub use options::HELP;
use options::parse;
use outage::{Fault, outage, period, shown};
use processes::{command, engine_seconds, pin_engines};
use wire::Wire;

/// Plays cameras as the words say.
///
/// # Errors
/// A word that is no option, a pipeline that breaks, or a caption that says something else.
pub fn run(words: &[&str]) -> Result<(), String> {
    let mut options = parse(words)?;
    let mut wire = match options.cut {
        Some(_) => Some(wire_to(&mut options.properties)?),
        None => None,
    };
    let server = match &options.rtsp {
        Some(script) => Some(crate::camera::Server::start_at(
            script,
            options.fps,
            &options.pattern,
        )?),
        None => None,
    };
    let uri = server.as_ref().map(|server| server.uri().to_owned());
    let (send, events) = channel();
    let mut cameras = Vec::new();
    for number in 0..options.count {
        cameras.push(Camera::start(number, &options, uri.as_deref(), &send)?);
    }
    wait_for_all(&events, options.count)?;
    if let Some(core) = &options.core {
        pin_engines(core)?;
    }
    let began = Instant::now();
    let cpu = engine_seconds();
    cameras.iter_mut().for_each(Camera::begin);
    let mut heard = Vec::new();
    let killed = match options.kill.is_empty() && wire.is_none() {
        true => None,
        false => {
            let third = Duration::from_secs_f64(options.seconds / 3.0);
            listen(&events, began + third, &mut heard);
            cameras.iter().for_each(Camera::forget_gap);
            for pid in &options.kill {
                command("kill", &["-9", pid])?;
            }
            Some(Instant::now())
        }
    };
    let mut cut = None;
    if let (Some(wire), Some(seconds)) = (&mut wire, options.cut) {
        let began = Instant::now();
        wire.cut();
        listen(
            &events,
            began + Duration::from_secs_f64(seconds),
            &mut heard,
        );
        wire.mend()?;
        let ended = Instant::now();
        cut = Some(Fault { began, ended });
    }
    listen(
        &events,
        began + Duration::from_secs_f64(options.seconds),
        &mut heard,
    );
    let figures = Figures::of(&cameras, &heard, began, engine_seconds() - cpu);
    let lost = killed.map(|killed| outage(&heard, began, killed, options.count));
    let errors: Vec<_> = cameras.iter().map(Camera::errors).collect();
    drop(cameras);
    print!("{}{}", figures.text(), lost.unwrap_or_default());
    if let Some(fault) = &cut {
        let period = period(&heard, fault.began, options.count);
        print!("{}", shown(&errors, fault, period)?);
    }
    if let Some(file) = &options.json {
        std::fs::write(file, figures.json()).map_err(|error| format!("{file}: {error}"))?;
    }
    judge(&heard, options.text.as_deref())
}

/// Puts a wire before the server that the properties name.
fn wire_to(properties: &mut String) -> Result<Wire, String> {
    const KEY: &str = "server-uri=http://";
    let no = "--cut is for cameras with server-uri=http://HOST:PORT/...";
    let start = properties.find(KEY).ok_or(no)? + KEY.len();
    let rest = &properties[start..];
    let end = start + rest.find('/').ok_or(no)?;
    let wire = Wire::to(&properties[start..end])?;
    properties.replace_range(start..end, &wire.address().to_string());
    Ok(wire)
}

fn wait_for_all(events: &Receiver<Event>, count: usize) -> Result<(), String> {
    const PATIENCE: Duration = Duration::from_secs(120);
    let deadline = Instant::now() + PATIENCE;
    let mut seen = vec![false; count];
    let mut last = String::new();
    while seen.contains(&false) {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(event) = events.recv_timeout(left) else {
            let missing = seen.iter().filter(|seen| !**seen).count();
            return Err(format!(
                "{missing} of {count} cameras have no caption. {last}"
            ));
        };
        match event.what {
            What::Caption { .. } => seen[event.camera] = true,
            What::Failed(reason) => last = reason,
        }
    }
    Ok(())
}

/// Keeps what is heard until `deadline`.
fn listen(events: &Receiver<Event>, deadline: Instant, heard: &mut Vec<Event>) {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left) {
            Ok(event) => heard.push(event),
            Err(_) => return,
        }
    }
}

/// Whether every caption says what it has to, whole.
fn judge(heard: &[Event], want: Option<&str>) -> Result<(), String> {
    let Some(want) = want else { return Ok(()) };
    let mut said = 0;
    for event in heard {
        if let What::Caption {
            text, truncated, ..
        } = &event.what
        {
            said += 1;
            if text != want || *truncated {
                return Err(format!(
                    "camera {} says `{text}`, not `{want}`",
                    event.camera
                ));
            }
        }
    }
    println!("all {said} captions say `{want}`");
    match said {
        0 => Err("there was no caption".to_owned()),
        _ => Ok(()),
    }
}
