// SPDX-License-Identifier: MPL-2.0

//! What is known of every camera right now: told by supervisors, kept by the store, shown to people.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use crate::camera::pipeline::Still;
use crate::camera::supervisor::{Command, Heard, Model};
use crate::config::{Camera, Config};
use crate::health::Health;
use crate::heard::Phase;
use crate::log;
use crate::lull::Lulls;
use crate::search::Synonyms;
use crate::store::keeper::Item;
use crate::store::writer::Hand;
use crate::time::Millis;
use crate::video::clips::Rings;
use crate::video::format::Codec;
use crate::video::ring::Ring;

/// The longest time for which nobody is told of a camera's alarms, in minutes.
const LONGEST_SNOOZE: u32 = 480;

/// A camera as it is seen right now.
#[derive(Debug, Clone)]
pub struct Seen {
    pub id: String,
    pub name: String,
    pub masked: bool,
    pub phase: Phase,
    pub since: Millis,
    pub reason: String,
    pub caption: Option<Said>,
    /// The caption that is being made, so far.
    pub partial: Option<String>,
    pub alarms: Vec<Alarm>,
    pub model: Model,
    pub still: Option<Still>,
    /// What its video is coded with, if people may see it and some has come; else why not.
    pub video: Result<Codec, &'static str>,
    /// Until when nobody is to be told of its alarms.
    pub snoozed: Option<Millis>,
    /// Captions since the start.
    pub said: u64,
    /// How often it was lost since the start.
    pub times_lost: u64,
    /// Whether nothing is said of it, though it shows something.
    pub lulls: Lulls,
}

impl Seen {
    /// Whether nobody is to be told of its alarms at the moment.
    pub fn is_snoozed(&self, now: Millis) -> bool {
        self.snoozed.is_some_and(|until| now < until)
    }

    /// As the file has it now.
    fn renew(&mut self, camera: &Camera, now: Millis) {
        let fresh = seen(camera, now);
        self.name = fresh.name;
        self.masked = fresh.masked;
        self.video = fresh.video;
        let mut before = std::mem::take(&mut self.alarms);
        self.alarms = fresh.alarms;
        for alarm in &mut self.alarms {
            if let Some(known) = before.iter_mut().find(|known| known.id == alarm.id) {
                alarm.probability = known.probability;
                alarm.open = known.open;
            }
        }
    }
}

/// What was said last.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub text: String,
    pub start: Millis,
    pub end: Millis,
    pub model: String,
    /// Whether it says what the one before it said.
    pub repeat: bool,
}

/// How an alarm stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    pub id: String,
    pub question: String,
    pub on: f64,
    pub off: f64,
    /// How likely "yes" was the last time.
    pub probability: Option<f64>,
    /// Since when it alarms.
    pub open: Option<Millis>,
}

/// Something has changed: which camera, and what.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    pub camera: String,
    pub what: What,
}

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Caption,
    Partial,
    Alarm,
    Phase,
    Model,
    Still,
    /// Somebody said something of this event.
    Event(i64),
    /// There are others than before.
    Cameras,
}

/// What somebody wants of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// That a camera is watched, or not, until the next start.
    Switch(String, bool),
}

type Listener = Box<dyn Fn(&Notice) + Send + Sync>;

/// The cameras, in the order of the file.
type Table = Vec<(String, Arc<Mutex<Seen>>)>;

/// Everything that is known right now.
pub struct Hub {
    pub health: Health,
    config: RwLock<Arc<Config>>,
    table: RwLock<Table>,
    wishes: Mutex<Option<SyncSender<Wish>>>,
    hand: Hand,
    commands: Mutex<BTreeMap<String, SyncSender<Command>>>,
    asking: Mutex<BTreeMap<u64, SyncSender<Result<String, String>>>>,
    next_question: AtomicU64,
    listeners: Mutex<Vec<Listener>>,
    rings: RwLock<Rings>,
}

impl Hub {
    /// Of these cameras.
    pub fn new(config: &Config, hand: Hand) -> Self {
        let now = Millis::now();
        let cameras = config.cameras.iter();
        let table =
            cameras.map(|camera| (camera.id.clone(), Arc::new(Mutex::new(seen(camera, now)))));
        Self {
            health: Health::default(),
            config: RwLock::new(Arc::new(config.clone())),
            table: RwLock::new(table.collect()),
            wishes: Mutex::default(),
            hand,
            commands: Mutex::default(),
            asking: Mutex::default(),
            next_question: AtomicU64::new(1),
            listeners: Mutex::default(),
            rings: RwLock::new(rings(config, &Rings::new(), None)),
        }
    }

    /// The video of cameras whose video people may see.
    pub fn rings(&self) -> Rings {
        self.rings.read().unwrap().clone()
    }

    fn ring(&self, camera: &str) -> Option<Arc<Ring>> {
        self.rings.read().unwrap().get(camera).cloned()
    }

    /// What is meant by a word as well, when somebody looks for it.
    pub fn synonyms(&self) -> Synonyms {
        self.config().synonyms.clone()
    }

    /// For whoever has something to keep.
    pub fn hand(&self) -> &Hand {
        &self.hand
    }

    /// Another configuration: cameras come and go, and what is asked of them changes. What is known of
    /// those that stay, stays.
    pub fn replace(&self, config: &Config) {
        let now = Millis::now();
        let fresh = config.cameras.iter().map(|camera| {
            let known = self.seen(&camera.id);
            let known = known.unwrap_or_else(|| Arc::new(Mutex::new(seen(camera, now))));
            known.lock().unwrap().renew(camera, now);
            (camera.id.clone(), known)
        });
        let fresh: Table = fresh.collect();
        *self.table.write().unwrap() = fresh;
        let fresh = rings(config, &self.rings(), Some(&self.config()));
        *self.rings.write().unwrap() = fresh;
        *self.config.write().unwrap() = Arc::new(config.clone());
        self.tell("", What::Cameras);
    }

    /// Where wishes go.
    pub fn wishes(&self) -> Receiver<Wish> {
        let (sender, receiver) = mpsc::sync_channel(16);
        *self.wishes.lock().unwrap() = Some(sender);
        receiver
    }

    /// Has a camera watched, or not, until the next start.
    ///
    /// # Errors
    /// That there is no such camera, or nobody who could do it.
    pub fn switch(&self, camera: &str, on: bool) -> Result<(), String> {
        if self.seen(camera).is_none() {
            return Err("there is no such camera".into());
        }
        let wishes = self.wishes.lock().unwrap();
        let line = wishes.as_ref().ok_or("nobody is there who could")?;
        line.try_send(Wish::Switch(camera.to_owned(), on))
            .map_err(|_| "too many wishes wait".to_owned())
    }

    /// Gives a camera's supervisor a command; without one there is nothing to be done.
    pub fn command(&self, camera: &str, command: Command) -> bool {
        let line = self.commands.lock().unwrap().get(camera).cloned();
        line.is_some_and(|line| line.try_send(command).is_ok())
    }

    fn seen(&self, id: &str) -> Option<Arc<Mutex<Seen>>> {
        let table = self.table.read().unwrap();
        let found = table.iter().find(|(known, _)| known == id)?;
        Some(found.1.clone())
    }

    /// Has somebody told of every change; he must not wait.
    pub fn listen(&self, listener: Listener) {
        self.listeners.lock().unwrap().push(listener);
    }

    /// The configuration as it is used.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap().clone()
    }

    /// The line to a camera's supervisor.
    pub fn line(&self, camera: &str) -> Receiver<Command> {
        let (sender, receiver) = mpsc::sync_channel(8);
        self.commands
            .lock()
            .unwrap()
            .insert(camera.to_owned(), sender);
        receiver
    }

    /// All cameras, in the order of the file.
    pub fn cameras(&self) -> Vec<Seen> {
        let ids: Vec<String> = {
            let table = self.table.read().unwrap();
            table.iter().map(|(id, _)| id.clone()).collect()
        };
        ids.iter().filter_map(|id| self.camera(id)).collect()
    }

    /// One camera.
    pub fn camera(&self, id: &str) -> Option<Seen> {
        let mut seen = self.seen(id)?.lock().unwrap().clone();
        if let Some(ring) = self.ring(id) {
            let format = ring.format();
            seen.video = format.map_or(Err("none has come yet"), |format| Ok(format.codec));
        }
        Some(seen)
    }

    /// Nobody is to be told of a camera's alarms until then.
    pub fn snooze(&self, camera: &str, until: Millis) {
        if let Some(seen) = self.seen(camera) {
            seen.lock().unwrap().snoozed = Some(until);
            self.tell(camera, What::Alarm);
        }
    }

    /// The same from now on and for so many minutes, and after a restart too; 0 ends it.
    ///
    /// # Errors
    /// That there is no such camera, or that it is too long.
    pub fn rest(&self, camera: &str, minutes: u32) -> Result<(), String> {
        if self.seen(camera).is_none() {
            return Err("there is no such camera".into());
        }
        if minutes > LONGEST_SNOOZE {
            return Err(format!(
                "minutes is a whole number up to {LONGEST_SNOOZE}; 0 ends it"
            ));
        }
        let until = Millis::now().plus(Duration::from_secs(60 * u64::from(minutes)));
        self.hand.keep(Item::Snooze(camera.to_owned(), until));
        self.snooze(camera, until);
        Ok(())
    }

    /// Somebody said something of an event of this camera, and it is kept.
    pub fn said_of(&self, camera: &str, event: i64) {
        self.tell(camera, What::Event(event));
    }

    /// Asks about the moment, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn ask(&self, camera: &str, text: &str, limit: Duration) -> Result<String, String> {
        let line = self.commands.lock().unwrap().get(camera).cloned();
        let line = line.ok_or("the camera is switched off")?;
        let number = self.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::sync_channel(1);
        self.asking.lock().unwrap().insert(number, sender);
        let sent = line.try_send(Command::Ask(number, text.to_owned()));
        let answer = match sent {
            Ok(()) => receiver
                .recv_timeout(limit)
                .unwrap_or_else(|_| Err("the model did not answer in time".into())),
            Err(_) => Err("too many questions wait for this camera".into()),
        };
        self.asking.lock().unwrap().remove(&number);
        answer
    }

    /// A still came.
    pub fn still(&self, camera: &str, still: Still) {
        if let Some(seen) = self.seen(camera) {
            seen.lock().unwrap().still = Some(still);
            self.tell(camera, What::Still);
        }
    }

    /// A supervisor heard something.
    pub fn heard(&self, camera: &str, heard: Heard) {
        let Some(seen) = self.seen(camera) else {
            return;
        };
        if let Heard::Asked(number, answer) = heard {
            if let Some(sender) = self.asking.lock().unwrap().remove(&number) {
                let _ = sender.try_send(answer);
            }
            return;
        }
        let now = Millis::now();
        // How late answers come is how much video has to wait for them.
        if let (Heard::Answer(answer), Some(ring)) = (&heard, self.ring(camera)) {
            let lag = u64::try_from(now.0.saturating_sub(answer.at.0)).unwrap_or(0);
            ring.late(Duration::from_millis(lag));
        }
        let (what, lull) = {
            let mut seen = seen.lock().unwrap();
            let before = seen.lulls.now();
            let what = note(&mut seen, &heard, now);
            let lull = seen.lulls.hear(&heard, now);
            let changed = (seen.lulls.now() != before).then_some(What::Model);
            (what.or(changed), lull)
        };
        if let Some(lull) = lull {
            self.hand.keep(Item::Lull(camera.to_owned(), lull));
        }
        if let Some(item) = item(camera, heard, now) {
            self.hand.keep(item);
        }
        if let Some(what) = what {
            self.tell(camera, what);
        }
    }

    fn tell(&self, camera: &str, what: What) {
        let notice = Notice {
            camera: camera.to_owned(),
            what,
        };
        self.listeners
            .lock()
            .unwrap()
            .iter()
            .for_each(|listener| listener(&notice));
    }
}

fn seen(camera: &Camera, now: Millis) -> Seen {
    let alarm = |alarm: &crate::config::file::Alarm| Alarm {
        id: alarm.id.clone(),
        question: alarm.question.clone(),
        on: alarm.on,
        off: alarm.off,
        probability: None,
        open: None,
    };
    Seen {
        id: camera.id.clone(),
        name: camera.name.clone(),
        masked: !camera.masks.is_empty(),
        phase: if camera.enabled {
            Phase::Connecting
        } else {
            Phase::Disabled
        },
        since: now,
        reason: String::new(),
        caption: None,
        partial: None,
        alarms: camera.alarms.iter().map(alarm).collect(),
        model: Model::Well,
        still: None,
        video: Err(camera.video().err().unwrap_or("none has come yet")),
        snoozed: None,
        said: 0,
        times_lost: 0,
        lulls: Lulls::default(),
    }
}

/// A ring for each camera whose video people may see; those of cameras that play on are kept.
fn rings(config: &Config, known: &Rings, before: Option<&Config>) -> Rings {
    let cameras = config.cameras.iter();
    let seen = cameras.filter(|camera| camera.enabled && camera.video().is_ok());
    seen.map(|camera| {
        let was = before.and_then(|config| config.cameras.iter().find(|was| was.id == camera.id));
        let kept = known
            .get(&camera.id)
            .filter(|_| was.is_some_and(|was| was.plays_on(camera)));
        let ring = kept.cloned().unwrap_or_else(|| Ring::new(camera.before()));
        (camera.id.clone(), ring)
    })
    .collect()
}

/// Changes what is seen of a camera; says what has changed, and logs what people want to know.
fn note(seen: &mut Seen, heard: &Heard, now: Millis) -> Option<What> {
    Some(match heard {
        Heard::Caption(caption) => {
            seen.partial = None;
            seen.model = Model::Well;
            seen.said += 1;
            let before = seen.caption.take();
            seen.caption = Some(Said {
                repeat: before.is_some_and(|before| before.text == caption.text),
                text: caption.text.clone(),
                start: caption.start,
                end: caption.end,
                model: caption.model.clone(),
            });
            What::Caption
        }
        Heard::Partial(text) => {
            seen.partial = Some(text.clone());
            What::Partial
        }
        Heard::Answer(answer) => {
            let alarm = seen
                .alarms
                .iter_mut()
                .find(|alarm| alarm.id == answer.alarm)?;
            alarm.probability = Some(answer.probability);
            What::Alarm
        }
        Heard::Begin(begin) => {
            log::info(format!("camera {}: alarm {} begins", seen.id, begin.alarm));
            let alarm = seen
                .alarms
                .iter_mut()
                .find(|alarm| alarm.id == begin.alarm)?;
            alarm.open = Some(begin.at);
            What::Alarm
        }
        Heard::End(end) => {
            log::info(format!(
                "camera {}: alarm {} ends ({})",
                seen.id, end.alarm, end.reason
            ));
            let alarm = seen.alarms.iter_mut().find(|alarm| alarm.id == end.alarm)?;
            alarm.open = None;
            What::Alarm
        }
        Heard::Model(model) => {
            seen.model = model.clone();
            What::Model
        }
        Heard::Phase(phase, reason) => {
            let why = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            log::info(format!("camera {}: {phase}{why}", seen.id));
            let lost = matches!(phase, Phase::Stalled) && seen.phase == Phase::Live;
            seen.times_lost += u64::from(lost);
            seen.phase = *phase;
            seen.reason.clone_from(reason);
            seen.since = now;
            What::Phase
        }
        Heard::Over => {
            seen.partial = None;
            seen.alarms.iter_mut().for_each(|alarm| alarm.open = None);
            What::Alarm
        }
        Heard::Alive | Heard::Gated | Heard::Asked(..) | Heard::Failed(_) => return None,
    })
}

/// What of it is kept.
fn item(camera: &str, heard: Heard, now: Millis) -> Option<Item> {
    let camera = camera.to_owned();
    Some(match heard {
        Heard::Caption(caption) => Item::Caption(camera, caption),
        Heard::Answer(answer) => Item::Answer(camera, answer),
        Heard::Begin(begin) => Item::Begin(camera, begin),
        Heard::End(end) => Item::End(camera, end),
        Heard::Phase(phase, reason) => Item::Phase(camera, phase, reason, now),
        Heard::Over => Item::Over(camera, now),
        Heard::Alive
        | Heard::Gated
        | Heard::Partial(_)
        | Heard::Model(_)
        | Heard::Asked(..)
        | Heard::Failed(_) => return None,
    })
}
