// SPDX-License-Identifier: MPL-2.0

//! A running pipeline, and what its messages mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::config::Camera as Asked;
use crate::config::file::Model as ModelFile;
use crate::heard::{Answer, Begin, Caption, End};
use crate::log;
use crate::time::Millis;
use crate::video::ring::Ring;

use super::pipeline::{self, CAPTIONER, OnStill, Shared};
use super::supervisor::{Camera, Command, Heard, Model, Session};

/// Messages that are read in one turn.
const MOST: usize = 64;
/// A time of the element further off than this is of another clock.
const CREDIBLE: Duration = Duration::from_secs(600);
/// How often the element's counters are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What this program knows of the element's fields.
const SCHEMA: u32 = 1;

/// Opens pipelines of a camera.
pub struct Gst {
    pub asked: Asked,
    pub model: ModelFile,
    pub on_still: OnStill,
    /// Where its video goes, if people may see it.
    pub ring: Option<Arc<Ring>>,
}

impl Camera for Gst {
    fn open(&mut self) -> Result<Box<dyn Session>, String> {
        let opened = Playing::start(
            &self.asked,
            &self.model,
            self.on_still.clone(),
            self.ring.clone(),
        )?;
        Ok(Box::new(opened))
    }

    fn change(&mut self, asked: &Asked) {
        self.asked = asked.clone();
    }
}

/// A pipeline that plays.
pub struct Playing {
    id: String,
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    pub shared: Arc<Shared>,
    units: u64,
    captioner: Option<gst::Element>,
    /// Windows that were kept from the model, and when it was looked.
    gated: (u64, Instant),
    last_text: String,
    /// Who asked which of the element's questions.
    asked: HashMap<u64, u64>,
    /// That another version of the fields was told of.
    told_schema: bool,
}

impl Playing {
    /// Starts it.
    ///
    /// # Errors
    /// What keeps it from starting, in words.
    pub fn start(
        camera: &Asked,
        model: &ModelFile,
        on_still: OnStill,
        ring: Option<Arc<Ring>>,
    ) -> Result<Self, String> {
        let shared = Shared::new(camera, ring);
        let pipeline = pipeline::build(camera, model, &shared, on_still)?;
        let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
        let started = pipeline.set_state(gst::State::Playing);
        let playing = Self {
            id: camera.id.clone(),
            captioner: pipeline.by_name(CAPTIONER),
            pipeline,
            bus,
            shared,
            units: 0,
            gated: (0, Instant::now()),
            last_text: String::new(),
            asked: HashMap::new(),
            told_schema: false,
        };
        if started.is_err() {
            let filter = [gst::MessageType::Error];
            let reason = playing
                .bus
                .pop_filtered(&filter)
                .and_then(|message| reason(&message));
            return Err(reason.unwrap_or_else(|| "the pipeline does not start".into()));
        }
        Ok(playing)
    }

    fn understand(&mut self, message: &gst::Message) -> Option<Heard> {
        let of_captioner = message
            .src()
            .is_some_and(|source| source.name() == CAPTIONER);
        match message.view() {
            gst::MessageView::Element(_) if of_captioner => self.element(message.structure()?),
            gst::MessageView::Error(_) => Some(Heard::Failed(reason(message)?)),
            gst::MessageView::Eos(_) => Some(Heard::Failed("the camera ended the stream".into())),
            gst::MessageView::Warning(warning) if of_captioner => {
                let text = warning.error().message().to_owned();
                log::warning(format!("camera {}: {text}", self.id));
                Some(Heard::Model(Model::Failing(text)))
            }
            gst::MessageView::Warning(warning) => {
                log::debug(format!("camera {}: {}", self.id, warning.error()));
                None
            }
            gst::MessageView::Info(info) if of_captioner => {
                log::debug(format!("camera {}: {}", self.id, info.error()));
                None
            }
            _ => None,
        }
    }

    fn element(&mut self, fields: &gst::StructureRef) -> Option<Heard> {
        match fields.name().as_str() {
            "vlmcaption/caption" => self.caption(fields),
            "vlmcaption/partial" => Some(Heard::Partial(fields.get("text").ok()?)),
            "vlmcaption/event" => event(fields),
            "vlmcaption/answer" => {
                let number = self.asked.remove(&fields.get::<u64>("id").ok()?)?;
                let answer = match fields.get::<String>("error") {
                    Ok(error) => Err(error),
                    Err(_) => Ok(fields.get("text").ok()?),
                };
                Some(Heard::Asked(number, answer))
            }
            "vlmcaption/loading" => {
                Some(Heard::Model(Model::Loading(fields.get("progress").ok()?)))
            }
            _ => None,
        }
    }

    /// A caption, or an answer to an alarm's question.
    fn caption(&mut self, fields: &gst::StructureRef) -> Option<Heard> {
        let schema = fields.get::<u32>("schema-version").unwrap_or(0);
        if schema != SCHEMA && !self.told_schema {
            self.told_schema = true;
            log::warning(format!(
                "the element's fields have version {schema}, this program knows {SCHEMA}: update the older one of the two"
            ));
        }
        // By this machine's clock: cameras' own clocks differ.
        let age = fields
            .get::<u64>("age")
            .map_or(Duration::ZERO, Duration::from_nanos);
        let end = Millis::now().minus(age);
        if fields
            .get::<String>("kind")
            .is_ok_and(|kind| kind == "yes-no")
        {
            return Some(Heard::Answer(Answer {
                alarm: prompt(fields),
                at: end,
                probability: yes(fields)?,
            }));
        }
        let text: String = fields.get("text").ok()?;
        let (first, last) = (
            fields.get::<u64>("start").ok()?,
            fields.get::<u64>("end").ok()?,
        );
        let start = end.minus(Duration::from_nanos(last.saturating_sub(first)));
        let changed = text != self.last_text;
        text.clone_into(&mut self.last_text);
        let thumb = self.shared.thumb(gst::ClockTime::from_nseconds(last));
        let thumb = thumb.filter(|_| changed);
        let model = fields.get("model").unwrap_or_default();
        Some(Heard::Caption(Caption {
            start,
            end,
            text,
            model,
            thumb,
        }))
    }
}

impl Playing {
    /// Whether windows were kept from the model of late: no message tells, a counter does.
    fn gated(&mut self) -> Option<Heard> {
        if self.gated.1.elapsed() < LOOK {
            return None;
        }
        let stats = self.captioner.as_ref()?.property::<gst::Structure>("stats");
        let gated = stats.get::<u64>("gated-windows").unwrap_or(0);
        let more = gated > self.gated.0;
        self.gated = (gated, Instant::now());
        more.then_some(Heard::Gated)
    }
}

impl Session for Playing {
    fn poll(&mut self, wait: Duration) -> Vec<Heard> {
        let mut heard = Vec::new();
        let wait = gst::ClockTime::from_mseconds(u64::try_from(wait.as_millis()).unwrap_or(200));
        let mut next = self.bus.timed_pop(wait);
        while let Some(message) = next {
            heard.extend(self.understand(&message));
            next = if heard.len() < MOST {
                self.bus.pop()
            } else {
                None
            };
        }
        heard.extend(self.gated());
        let units = self.shared.units.load(Ordering::Relaxed);
        if units != self.units {
            self.units = units;
            // First, so that a failure that follows is one of a camera that was alive.
            heard.insert(0, Heard::Alive);
        }
        heard
    }

    fn command(&mut self, command: Command) -> Option<Heard> {
        let (number, text) = match command {
            Command::Ask(number, text) => (number, text),
            Command::Change(asked) => {
                if let Some(captioner) = &self.captioner {
                    pipeline::ask(captioner, &asked);
                    self.shared.set_masks(&asked.masks);
                }
                return None;
            }
        };
        let refused = |reason: &str| Some(Heard::Asked(number, Err(reason.to_owned())));
        let Some(captioner) = &self.captioner else {
            return refused("there is no captioner");
        };
        let question = captioner.emit_by_name::<u64>("ask", &[&text, &0_u64]);
        if question == 0 {
            return refused("the camera shows nothing yet");
        }
        self.asked.insert(question, number);
        None
    }

    fn close(self: Box<Self>) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn prompt(fields: &gst::StructureRef) -> String {
    fields.get("prompt-id").unwrap_or_default()
}

/// How likely "yes" is; an answer without probabilities counts as 1 or 0.
fn yes(fields: &gst::StructureRef) -> Option<f64> {
    let text: String = fields.get("text").ok()?;
    let is_yes = text.eq_ignore_ascii_case("yes");
    Some(match fields.get::<f64>("probability") {
        Ok(probability) if is_yes => probability,
        Ok(probability) => 1.0 - probability,
        Err(_) => f64::from(u8::from(is_yes)),
    })
}

fn event(fields: &gst::StructureRef) -> Option<Heard> {
    let now = Millis::now();
    let said = fields
        .get::<String>("wallclock")
        .ok()
        .and_then(|text| Millis::parse(&text));
    let credible = |time: &Millis| now.0.abs_diff(time.0) <= CREDIBLE.as_millis() as u64;
    let at = said.filter(credible).unwrap_or(now);
    let number = fields.get("event-id").ok()?;
    let alarm = fields.get("id").ok()?;
    if fields.get::<String>("kind").ok()? == "begin" {
        let probability = fields.get("probability").ok();
        return Some(Heard::Begin(Begin {
            number,
            alarm,
            at,
            probability,
        }));
    }
    let reason = fields.get("reason").unwrap_or_else(|_| "answer".to_owned());
    Some(Heard::End(End {
        number,
        alarm,
        at,
        peak: fields.get("peak").ok(),
        reason,
    }))
}

/// What an error means for whoever looks after cameras.
fn reason(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Error(error) = message.view() else {
        return None;
    };
    let glib = error.error();
    let of_captioner = error.src().is_some_and(|source| source.name() == CAPTIONER);
    if !of_captioner && let Some(kind) = glib.kind::<gst::ResourceError>() {
        return Some(match kind {
            gst::ResourceError::NotAuthorized => "user or password is wrong".into(),
            gst::ResourceError::NotFound => {
                "the camera has no such stream: the path of the url is wrong".into()
            }
            gst::ResourceError::OpenRead
            | gst::ResourceError::OpenWrite
            | gst::ResourceError::OpenReadWrite => {
                "no connection: the address is wrong, or the camera is off".into()
            }
            _ => glib.message().to_owned(),
        });
    }
    Some(glib.message().to_owned())
}
