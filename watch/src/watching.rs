// SPDX-License-Identifier: MPL-2.0

//! All cameras and the store at work: started, and ended in order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::camera::machine::Policy;
use crate::camera::session::Gst;
use crate::camera::supervisor::{Heard, Stop, supervise};
use crate::config::{Camera, Config};
use crate::heard::Phase;
use crate::hub::Hub;
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

/// Everything at work.
pub struct Watching {
    pub hub: Arc<Hub>,
    writer: Writer,
    out: Out,
    clips: Clips,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
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
        let rings = hub.rings().clone();
        let asked = clips::asked(config);
        let clips = Clips::start((line, end), &layout, asked, rings, writer.hand())?;
        let stop = Stop::new();
        let mut threads = Vec::new();
        for camera in &config.cameras {
            if camera.enabled {
                threads.push(watch(camera, config, &hub, &stop)?);
            } else {
                hub.heard(&camera.id, Heard::Phase(Phase::Disabled, String::new()));
            }
        }
        Ok(Self {
            hub,
            writer,
            out,
            clips,
            stop,
            threads,
        })
    }

    /// How things stand with the store.
    pub fn store(&self) -> Arc<std::sync::Mutex<crate::store::keeper::Status>> {
        self.writer.status()
    }

    /// Ends the cameras, then the store, so that nothing that was said is lost.
    pub fn end(self) {
        self.stop.end();
        let begin = Instant::now();
        while begin.elapsed() < END && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let hanging = self
            .threads
            .iter()
            .filter(|thread| !thread.is_finished())
            .count();
        if hanging > 0 {
            log::warning(format!(
                "{hanging} cameras did not end in time and are left behind"
            ));
        }
        // Clips say of themselves what became of them, so the store is the last to end.
        self.clips.end();
        self.writer.end();
        // What ended just now is told, if somebody takes it, and else at the next start.
        self.out.end();
    }
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
    let (hub, stop) = (hub.clone(), stop.clone());
    let name = format!("watch-{id}");
    let body = move || {
        supervise(&id, &mut gst, policy, &stop, &commands, &mut |heard| {
            hub.heard(&id, heard)
        })
    };
    std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|error| format!("no thread for camera {}: {error}", camera.id))
}
