// SPDX-License-Identifier: MPL-2.0

//! `check`.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::camera::pipeline::{self, Still};
use crate::camera::session::Playing;
use crate::camera::supervisor::{Heard, Session};
use crate::config::{Camera, Config};

use super::common::{Common, print};

/// Check the configuration file, the plugin and the model; with --connect each camera too
#[derive(Debug, clap::Args)]
pub struct Check {
    #[command(flatten)]
    common: Common,
    /// Connect to each camera, and say what it sends
    #[arg(long)]
    connect: bool,
    /// How long to wait for a camera's picture, in seconds
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    wait: u64,
}

impl Check {
    pub fn run(self) -> Result<(), String> {
        let config = self.common.load()?;
        print(&format!(
            "{}: {} cameras",
            self.common.config.display(),
            config.cameras.len()
        ))?;
        for advice in &config.advice {
            print(&format!("note: {advice}"))?;
        }
        self.common.gstreamer()?;
        model(&config)?;
        print("the model can be opened")?;
        if !self.connect {
            return Ok(());
        }
        let mut failed = 0;
        for camera in config.cameras.iter().filter(|camera| camera.enabled) {
            let line = match connect(camera, &config, Duration::from_secs(self.wait)) {
                Ok(line) => line,
                Err(reason) => {
                    failed += 1;
                    format!("FAILED: {reason}")
                }
            };
            print(&format!(
                "camera {} ({}): {line}",
                camera.id,
                camera.place.shown()
            ))?;
        }
        if failed > 0 {
            Err(format!("{failed} of the cameras do not work"))
        } else {
            Ok(())
        }
    }
}

/// Opens the model as far as can be done without its weights, and checks what is asked of each camera.
fn model(config: &Config) -> Result<(), String> {
    for camera in &config.cameras {
        let element = pipeline::captioner(camera, &config.model)?;
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let ready = element.set_state(gst::State::Ready);
        let _ = element.set_state(gst::State::Null);
        if ready.is_err() {
            let reason = bus.iter().find_map(|message| match message.view() {
                gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
                _ => None,
            });
            let reason = reason.unwrap_or_else(|| "the element does not start".into());
            return Err(format!("camera {}: {reason}", camera.id));
        }
    }
    Ok(())
}

/// Plays a camera until a picture is there and its keyframes were measured, or time is up.
fn connect(camera: &Camera, config: &Config, limit: Duration) -> Result<String, String> {
    let latest = Arc::new(Mutex::new(None::<Still>));
    let seen = latest.clone();
    let on_still = Arc::new(move |still| *seen.lock().unwrap() = Some(still));
    let mut session = Playing::start(camera, &config.model, on_still, None)?;
    let begin = Instant::now();
    let mut first = None;
    let mut failure = None;
    while begin.elapsed() < limit && failure.is_none() {
        failure = session
            .poll(Duration::from_millis(200))
            .into_iter()
            .find_map(|heard| match heard {
                Heard::Failed(reason) => Some(reason),
                _ => None,
            });
        if first.is_none() && latest.lock().unwrap().is_some() {
            first = Some(begin.elapsed());
        }
        let measured = session
            .shared
            .gop
            .lock()
            .unwrap()
            .keyframes_only()
            .is_some();
        let test = matches!(camera.place, crate::config::url::Place::Test(_));
        if first.is_some() && (measured || test) {
            break;
        }
    }
    let line = describe(&session, first, begin.elapsed());
    Box::new(session).close();
    match (failure, first) {
        (Some(reason), _) => Err(reason),
        (None, None) => Err(format!("no picture within {} s", limit.as_secs())),
        (None, Some(_)) => Ok(line),
    }
}

fn describe(session: &Playing, first: Option<Duration>, passed: Duration) -> String {
    let shared = &session.shared;
    let codec = shared.codec.lock().unwrap().clone();
    let (width, height) = shared.size.lock().unwrap().unwrap_or_default();
    let units = shared.units.load(std::sync::atomic::Ordering::Relaxed) as f64;
    let rate = units / passed.as_secs_f64().max(0.001);
    let gop = shared.gop.lock().unwrap();
    let frames = match (gop.keyframes_only(), gop.longest().as_secs_f64()) {
        (_, 0.0) => String::new(),
        (Some(true), longest) => {
            format!(", a keyframe each {longest:.1} s: they alone are decoded")
        }
        (Some(false), longest) => format!(
            ", a keyframe each {longest:.1} s: every frame is decoded; one keyframe a second, set in the camera, would cost a tenth of it"
        ),
        (None, longest) => format!(", a keyframe each {longest:.1} s"),
    };
    let first = first.unwrap_or_default().as_secs_f64();
    format!(
        "{codec}, {width}x{height}, about {rate:.0} frames a second{frames}; first picture after {first:.1} s"
    )
}
