// SPDX-License-Identifier: MPL-2.0

//! Live cameras that share an engine or a server: how many captions each gets, how old they are, what
//! is dropped, and what becomes of all that when something is killed.

mod figures;
mod one;
mod options;
mod outage;
mod processes;

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use figures::Figures;
use one::{Camera, Event, What};
pub use options::HELP;
use options::parse;
use outage::outage;
use processes::{command, engine_seconds, pin_engines};

/// Plays cameras as the words say.
///
/// # Errors
/// A word that is no option, a pipeline that breaks, or a caption that says something else.
pub fn run(words: &[&str]) -> Result<(), String> {
    let options = parse(words)?;
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
    let killed = match options.kill.is_empty() {
        true => None,
        false => {
            listen(
                &events,
                began + Duration::from_secs_f64(options.seconds / 3.0),
                &mut heard,
            );
            cameras.iter().for_each(Camera::forget_gap);
            for pid in &options.kill {
                command("kill", &["-9", pid])?;
            }
            Some(Instant::now())
        }
    };
    listen(
        &events,
        began + Duration::from_secs_f64(options.seconds),
        &mut heard,
    );
    let figures = Figures::of(&cameras, &heard, began, engine_seconds() - cpu);
    let lost = killed.map(|killed| outage(&heard, began, killed, options.count));
    drop(cameras);
    print!("{}{}", figures.text(), lost.unwrap_or_default());
    if let Some(file) = &options.json {
        std::fs::write(file, figures.json()).map_err(|error| format!("{file}: {error}"))?;
    }
    judge(&heard, options.text.as_deref())
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
