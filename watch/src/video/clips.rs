// SPDX-License-Identifier: MPL-2.0

//! The thread that makes clips. It is told when alarms begin and end, takes their pictures from the rings,
//! and tells the store what became of each.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Config;
use crate::config::file::ClipAsked;
use crate::heard::Clip;
use crate::log;
use crate::store::files::Layout;
use crate::store::keeper::{Item, Told};
use crate::store::writer::Hand;
use crate::time::Millis;

use super::clip::{self, Growing};
use super::ring::Ring;

/// How often pictures are taken.
const TURN: Duration = Duration::from_millis(500);
/// Pictures that are due and do not come within this time are not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What waits for the thread at most.
const MOST: usize = 256;

/// What the thread knows of alarms: the clip that is asked for, and why it cannot be made.
pub type Asked = HashMap<(String, String), (ClipAsked, Result<(), &'static str>)>;
/// The cameras whose video may be kept.
pub type Rings = BTreeMap<String, Arc<Ring>>;

/// The way to the thread; it never makes anybody wait.
#[derive(Debug, Clone)]
pub struct Line(SyncSender<Message>);

#[derive(Debug)]
enum Message {
    Told(Told),
    /// Other clips are asked for, of other cameras.
    Changed(Asked, Rings),
    End,
}

/// The thread, not started yet or at work.
#[derive(Debug)]
pub struct Clips {
    line: Line,
    thread: JoinHandle<()>,
}

/// The clips that a configuration asks for.
pub fn asked(config: &Config) -> Asked {
    let cameras = config.cameras.iter();
    let pairs = cameras.flat_map(|camera| {
        camera.alarms.iter().filter_map(|alarm| {
            let key = (camera.id.clone(), alarm.id.clone());
            Some((key, (alarm.clip?, camera.video())))
        })
    });
    pairs.collect()
}

/// A line and its end, which the thread is started with.
pub fn line() -> (Line, LineEnd) {
    let (sender, receiver) = sync_channel(MOST);
    (Line(sender), LineEnd(receiver))
}

/// Where a line ends.
#[derive(Debug)]
pub struct LineEnd(Receiver<Message>);

impl Line {
    /// Tells the thread of an alarm.
    pub fn tell(&self, told: &Told) {
        if self.0.try_send(Message::Told(told.clone())).is_err() {
            log::warning("too many alarms at once: one has no clip");
        }
    }
}

impl Clips {
    /// Finishes what a process before this one left, and begins to listen.
    ///
    /// # Errors
    /// Why there is no thread.
    pub fn start(
        (line, end): (Line, LineEnd),
        layout: &Layout,
        asked: Asked,
        rings: Rings,
        hand: Hand,
    ) -> Result<Self, String> {
        let mut work = Work {
            root: layout.clips(),
            asked,
            rings,
            hand,
            open: Vec::new(),
        };
        let body = move || {
            work.left_behind();
            loop {
                match end.0.recv_timeout(TURN) {
                    Ok(Message::Told(told)) => work.told(told, Millis::now()),
                    Ok(Message::Changed(asked, rings)) => (work.asked, work.rings) = (asked, rings),
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => break,
                }
                work.turn(Millis::now());
            }
            work.turn(Millis::now());
            work.end_all();
        };
        let thread = std::thread::Builder::new()
            .name("watch-clips".into())
            .spawn(body)
            .map_err(|error| format!("no thread for clips: {error}"))?;
        Ok(Self { line, thread })
    }

    /// Other clips are asked for, of other cameras; those that are being made are finished.
    pub fn change(&self, asked: Asked, rings: Rings) {
        let _ = self.line.0.send(Message::Changed(asked, rings));
    }

    /// Finishes all clips.
    pub fn end(self) {
        // The thread takes from its queue all the time, so this wait is short.
        let _ = self.line.0.send(Message::End);
        if self.thread.join().is_err() {
            log::error("the thread of clips ended by a fault of this program");
        }
    }
}

/// What the thread does, without the thread and the clock.
struct Work {
    root: PathBuf,
    asked: Asked,
    rings: Rings,
    hand: Hand,
    open: Vec<Open>,
}

struct Open {
    id: i64,
    ring: Arc<Ring>,
    growing: Growing,
    /// How long it goes on after the alarm's end.
    after: Duration,
    /// No longer than until here, and shorter once the alarm has ended.
    until: Millis,
}

impl Work {
    fn told(&mut self, told: Told, now: Millis) {
        match told {
            Told::Began {
                id,
                camera,
                alarm,
                at,
                room,
            } => {
                let key = (camera, alarm);
                let Some((asked, may)) = self.asked.get(&key).copied() else {
                    return;
                };
                let begun = may
                    .map_err(str::to_owned)
                    .and_then(|()| self.begin(id, &key.0, at, asked, room));
                match begun {
                    Ok(open) => self.open.push(open),
                    Err(why) => {
                        log::warning(format!("camera {}: an alarm has no clip: {why}", key.0));
                        self.hand.keep(Item::Clip(id, Err(why)));
                    }
                }
                self.turn(now);
            }
            Told::Ended { id, at } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.id == id) {
                    open.until = open.until.min(at.plus(open.after));
                }
            }
        }
    }

    fn begin(
        &self,
        id: i64,
        camera: &str,
        at: Millis,
        asked: ClipAsked,
        room: bool,
    ) -> Result<Open, String> {
        if !room {
            return Err("the disk has no room for it".into());
        }
        let Some(ring) = self.rings.get(camera) else {
            return Err("the camera is switched off".into());
        };
        let units = ring.since(at.minus(asked.before.0));
        let path = self.root.join(camera).join(format!("{id}.part"));
        let growing = Growing::begin(path, &units).map_err(|error| error.to_string())?;
        let growing = growing.ok_or("no H.264 or H.265 has come from the camera")?;
        let until = growing.from.plus(asked.longest.0);
        Ok(Open {
            id,
            ring: ring.clone(),
            growing,
            after: asked.after.0,
            until,
        })
    }

    /// Takes what has come, and finishes what is long enough.
    fn turn(&mut self, now: Millis) {
        let open = std::mem::take(&mut self.open);
        for mut open in open {
            let units = open.ring.after(open.growing.last);
            let n = units.partition_point(|unit| unit.at <= open.until);
            let goes_on = open.growing.add(&units[..n]);
            let over = n < units.len() || open.until.plus(PATIENCE) <= now;
            match goes_on {
                Ok(true) if !over => self.open.push(open),
                Ok(_) => self.finish(open),
                Err(error) => {
                    log::warning(format!("a clip cannot be written on: {error}"));
                    self.finish(open);
                }
            }
        }
    }

    fn finish(&self, open: Open) {
        let outcome = match open.growing.finish() {
            Ok(Some(clip)) => Ok(clip),
            Ok(None) => Err("it has no picture".to_owned()),
            Err(error) => Err(format!("{error}; it is tried again at the next start")),
        };
        if let Err(why) = &outcome {
            log::warning(format!("the clip of alarm {} is not made: {why}", open.id));
        }
        self.hand.keep(Item::Clip(open.id, outcome));
    }

    fn end_all(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.finish(open);
        }
    }

    /// Finishes clips of a process that was killed.
    fn left_behind(&self) {
        for (id, path) in parts(&self.root) {
            let outcome: Result<Clip, String> = match clip::finish(&path) {
                Ok(Some(clip)) => Ok(clip),
                Ok(None) => Err("the program ended before it had a picture".into()),
                Err(error) => Err(error.to_string()),
            };
            match &outcome {
                Ok(_) => log::info(format!("the clip of alarm {id} is finished now")),
                Err(why) => log::warning(format!("{}: {why}", path.display())),
            }
            self.hand.keep(Item::Clip(id, outcome));
        }
    }
}

/// The files of fragments below a folder, with the numbers of their alarms.
fn parts(root: &Path) -> Vec<(i64, PathBuf)> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries(root).flat_map(|camera| entries(&camera.path()).collect::<Vec<_>>());
    let parts = files.filter_map(|entry| {
        let path = entry.path();
        let id = path.file_name()?.to_str()?.strip_suffix(".part")?;
        Some((id.parse().ok()?, path))
    });
    parts.collect()
}
