// SPDX-License-Identifier: MPL-2.0

//! All cameras and the store at work: started, and ended in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::camera::machine::Policy;
use crate::camera::session::Gst;
use crate::camera::supervisor::{Clock, Command, Heard, Stop, supervise};
use crate::config::{Camera, Config};
use crate::health::Pulse;
use crate::heard::Phase;
use crate::hub::{Hub, Wish};
use crate::log;
use crate::out::Out;
use crate::store::Error;
use crate::store::files::Layout;
use crate::store::keeper::Keeper;
use crate::store::retention::Limits;
use crate::store::writer::Writer;
use crate::time::Millis;
use crate::video::clips::{self, Clips};

/// The end may take this long; what hangs after that is left behind.
const END: Duration = Duration::from_secs(8);
/// How long one that is replaced may take before the next one begins all the same.
const REPLACED: Duration = Duration::from_secs(6);

/// A part of the program that is looked at by its pulse.
struct Beating {
    stop: Arc<Stop>,
    pulse: Arc<Pulse>,
}

impl Clock for Beating {
    fn now(&self) -> Duration {
        self.stop.now()
    }

    fn sleep(&self, time: Duration) {
        self.stop.sleep(time);
    }

    fn ended(&self) -> bool {
        // Asked with each turn.
        self.pulse.beat();
        self.stop.ended()
    }
}

/// A camera at work.
struct Watched {
    asked: Camera,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
}

/// Everything at work.
pub struct Watching {
    pub hub: Arc<Hub>,
    writer: Writer,
    out: Option<Out>,
    clips: Clips,
    cameras: BTreeMap<String, Watched>,
    /// Cameras that were told to end and have not yet.
    ending: Vec<JoinHandle<()>>,
    wishes: Receiver<Wish>,
}

impl Watching {
    /// Opens the store and begins to watch.
    ///
    /// # Errors
    /// What keeps the store from being opened, or a thread from being started.
    pub fn start(config: &Config) -> Result<Self, String> {
        let limits = Limits {
            max_size: config.storage.max_size,
            keep_free: config.storage.keep_free,
            captions: config.storage.keep_captions,
            thumbnails: config.storage.keep_thumbnails,
            clips: config.storage.keep_clips,
        };
        let layout = Layout::new(&config.storage.path);
        let say = |error: Error| error.to_string();
        let mut keeper = Keeper::open(layout.clone(), limits, Millis::now()).map_err(say)?;
        let snoozed = keeper.snoozed(Millis::now()).map_err(say)?;
        let (line, end) = clips::line();
        let told = line.clone();
        keeper.tell(Box::new(move |event| told.tell(event)));
        let writer = Writer::start(keeper).map_err(say)?;
        let hub = Arc::new(Hub::new(config, writer.hand()));
        for (camera, until) in snoozed {
            hub.snooze(&camera, until);
        }
        writer.show(hub.health.pulse("store"));
        let out = Out::start(config, &hub, &writer.status())?;
        hub.health.set_out(out.standings.clone());
        let asked = clips::asked(config);
        let clips = Clips::start((line, end), &layout, asked, hub.rings(), writer.hand())?;
        let mut watching = Self {
            wishes: hub.wishes(),
            hub,
            writer,
            out: Some(out),
            clips,
            cameras: BTreeMap::new(),
            ending: Vec::new(),
        };
        for camera in &config.cameras {
            watching.begin(camera, config)?;
        }
        Ok(watching)
    }

    /// How things stand with the store.
    pub fn store(&self) -> Arc<std::sync::Mutex<crate::store::keeper::Status>> {
        self.writer.status()
    }

    /// Another configuration: cameras that changed are begun anew, what is asked of the others is
    /// changed while they play. Gives what takes a restart of the program.
    ///
    /// # Errors
    /// What keeps a thread from being started; the others go on.
    pub fn change(&mut self, config: &Config) -> Result<Vec<&'static str>, String> {
        let before = self.hub.config();
        let all = config.model != before.model;
        let stays = |watched: &Watched| {
            let now = config
                .cameras
                .iter()
                .find(|camera| camera.id == watched.asked.id);
            !all && now.is_some_and(|now| now.enabled && watched.asked.plays_on(now))
        };
        let gone: Vec<String> = self
            .cameras
            .iter()
            .filter(|(_, watched)| !stays(watched))
            .map(|(id, _)| id.clone())
            .collect();
        gone.iter().for_each(|id| self.stop(id));
        // What the old one of a camera has to say last is not to be taken for the new one's.
        self.wait_for_ending(REPLACED);
        self.hub.replace(config);
        self.clips.change(clips::asked(config), self.hub.rings());
        for camera in &config.cameras {
            match self.cameras.get_mut(&camera.id) {
                None => self.begin(camera, config)?,
                Some(watched) if watched.asked != *camera => {
                    watched.asked = camera.clone();
                    self.hub
                        .command(&camera.id, Command::Change(Box::new(camera.clone())));
                    log::info(format!(
                        "camera {}: it is asked something else from now on",
                        camera.id
                    ));
                }
                Some(_) => {}
            }
        }
        if config.out != before.out {
            if let Some(out) = self.out.take() {
                out.end();
            }
            let out = Out::start(config, &self.hub, &self.writer.status())?;
            self.hub.health.set_out(out.standings.clone());
            self.out = Some(out);
        }
        let mut later = Vec::new();
        if config.storage != before.storage {
            later.push("[storage]");
        }
        if config.listen != before.listen {
            later.push("listen");
        }
        if config.door.path != before.door.path {
            later.push("path");
        }
        Ok(later)
    }

    /// Does what somebody wished for.
    pub fn turn(&mut self) {
        self.ending.retain(|thread| !thread.is_finished());
        while let Ok(Wish::Switch(id, on)) = self.wishes.try_recv() {
            let config = self.hub.config();
            let Some(camera) = config.cameras.iter().find(|camera| camera.id == id) else {
                continue;
            };
            if on && !self.cameras.contains_key(&id) {
                log::info(format!("camera {id}: switched on"));
                let camera = Camera {
                    enabled: true,
                    ..camera.clone()
                };
                if let Err(error) = self.begin(&camera, &config) {
                    log::error(error);
                }
            } else if !on && self.cameras.contains_key(&id) {
                log::info(format!("camera {id}: switched off"));
                self.stop(&id);
                self.hub
                    .heard(&id, Heard::Phase(Phase::Disabled, String::new()));
            }
        }
    }

    /// Begins to watch a camera, if it is to be.
    fn begin(&mut self, camera: &Camera, config: &Config) -> Result<(), String> {
        if !camera.enabled {
            self.hub
                .heard(&camera.id, Heard::Phase(Phase::Disabled, String::new()));
            return Ok(());
        }
        let stop = Stop::new();
        let thread = watch(camera, config, &self.hub, &stop)?;
        let asked = camera.clone();
        self.cameras.insert(
            camera.id.clone(),
            Watched {
                asked,
                stop,
                thread,
            },
        );
        Ok(())
    }

    /// Has a camera end, and does not wait for it.
    fn stop(&mut self, id: &str) {
        if let Some(watched) = self.cameras.remove(id) {
            watched.stop.end();
            self.hub.health.gone(&part(id));
            self.ending.push(watched.thread);
        }
    }

    fn wait_for_ending(&mut self, limit: Duration) {
        let begin = Instant::now();
        self.ending.retain(|thread| !thread.is_finished());
        while begin.elapsed() < limit && !self.ending.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
            self.ending.retain(|thread| !thread.is_finished());
        }
    }

    /// Ends the cameras, then the store, so that nothing that was said is lost.
    pub fn end(mut self) {
        let ids: Vec<String> = self.cameras.keys().cloned().collect();
        ids.iter().for_each(|id| self.stop(id));
        self.wait_for_ending(END);
        let hanging = self.ending.len();
        if hanging > 0 {
            log::warning(format!(
                "{hanging} cameras did not end in time and are left behind"
            ));
        }
        // Clips say of themselves what became of them, so the store is the last to end.
        self.clips.end();
        self.writer.end();
        // What ended just now is told, if somebody takes it, and else at the next start.
        if let Some(out) = self.out.take() {
            out.end();
        }
    }
}

/// The name of a camera among the parts that are to move.
fn part(id: &str) -> String {
    format!("camera {id}")
}

/// The thread of a camera.
fn watch(
    camera: &Camera,
    config: &Config,
    hub: &Arc<Hub>,
    stop: &Arc<Stop>,
) -> Result<JoinHandle<()>, String> {
    let id = camera.id.clone();
    let stills = hub.clone();
    let still_of = id.clone();
    let mut gst = Gst {
        asked: camera.clone(),
        model: config.model.clone(),
        on_still: Arc::new(move |still| stills.still(&still_of, still)),
        ring: hub.rings().get(&camera.id).cloned(),
    };
    let policy = Policy::new(camera.offline_after);
    let commands = hub.line(&id);
    let pulse = hub.health.pulse(&part(&id));
    let clock = Beating {
        stop: stop.clone(),
        pulse,
    };
    let hub = hub.clone();
    let name = format!("watch-{id}");
    let body = move || {
        supervise(&id, &mut gst, policy, &clock, &commands, &mut |heard| {
            // What the end of one that was replaced has to say is no news of the one after it.
            if !clock.stop.ended()
                || matches!(
                    heard,
                    Heard::Begin(_) | Heard::End(_) | Heard::Over | Heard::Caption(_)
                )
            {
                hub.heard(&id, heard);
            }
        })
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| format!("no thread for camera {}: {error}", camera.id))
}
