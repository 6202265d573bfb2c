// SPDX-License-Identifier: MPL-2.0

//! The connection to a broker. Nothing waits for it: what is known is told anew with each connection,
//! and events wait in the outbox.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, PublishOptions, QoS};
use tokio::sync::{Notify, mpsc};

use crate::camera::supervisor::{Clock, Stop};
use crate::config::out::Broker;
use crate::hub::{Alarm, Hub, Notice, What};
use crate::log;
use crate::secret;
use crate::store::keeper::Status;
use crate::store::outbox::{Due, Moment, Outbox};
use crate::time::Millis;

use super::discovery;
use super::line::{self, Heard};
use super::topics::{self, Message};

use crate::out::choice;
use crate::out::standing::Standing;

/// Messages that may wait for the connection; all that 64 cameras have to say at once.
const MOST: usize = 4_096;
/// How often the outbox is looked at without a reason.
const TURN: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long an answer may take, and how many questions may be open.
const ASKING: Duration = Duration::from_secs(60);
const QUESTIONS: usize = 4;
/// By how much, and how often at most, the likelihood of an open alarm is told anew.
const HIGHER: f64 = 0.01;
const PEAKS: Duration = Duration::from_secs(1);

/// What has changed since it was told.
#[derive(Debug, Default)]
pub struct Changed {
    what: Mutex<BTreeSet<(String, Kind)>>,
    notify: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Status,
    Caption,
    Alarm,
    Event(i64),
    All,
}

impl Changed {
    /// Takes a notice; cheap, and never waits.
    pub fn note(&self, notice: &Notice) {
        let kind = match notice.what {
            What::Caption => Kind::Caption,
            What::Alarm => Kind::Alarm,
            What::Phase => Kind::Status,
            What::Event(event) => Kind::Event(event),
            What::Cameras => Kind::All,
            What::Partial | What::Model | What::Still => return,
        };
        self.what
            .lock()
            .unwrap()
            .insert((notice.camera.clone(), kind));
        self.notify.notify_one();
    }

    /// The end was asked for.
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    fn take(&self) -> BTreeSet<(String, Kind)> {
        std::mem::take(&mut self.what.lock().unwrap())
    }
}

/// All that is needed to tell a broker.
pub struct Teller {
    pub broker: Broker,
    pub hub: Arc<Hub>,
    pub store: Arc<Mutex<Status>>,
    pub outbox: Outbox,
    pub standing: Arc<Standing>,
    pub changed: Arc<Changed>,
    pub stop: Arc<Stop>,
}

/// Tells the broker until the end.
pub fn run(teller: Teller) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(Telling::run(teller)),
        Err(error) => log::error(format!("mqtt: {error}")),
    }
}

/// How likely "yes" was at most, and what of it was told.
struct Peak {
    event: i64,
    most: f64,
    told: f64,
    at: Instant,
}

struct Telling {
    teller: Teller,
    client: AsyncClient,
    hear: mpsc::Sender<Heard>,
    connected: bool,
    /// Events whose acknowledgement is yet to come.
    under_way: HashSet<(i64, Moment)>,
    /// The last event of each alarm.
    last: BTreeMap<(String, String), Due>,
    /// How likely an alarm that is open was at most.
    peaks: BTreeMap<(String, String), Peak>,
    /// When a still of a camera was sent.
    stills: BTreeMap<String, Instant>,
    questions: Arc<tokio::sync::Semaphore>,
    begin: Instant,
}

impl Telling {
    async fn run(teller: Teller) {
        let options = match line::options(&teller.broker) {
            Ok(options) => options,
            Err(reason) => {
                log::error(format!("mqtt: {reason}"));
                teller.standing.ill(&reason, Millis::now());
                return;
            }
        };
        let (client, connection) = AsyncClient::builder(options).capacity(MOST).build();
        let (hear, mut heard) = mpsc::channel(256);
        tokio::spawn(line::poll(connection, hear.clone()));
        let mut telling = Self {
            teller,
            client,
            hear,
            connected: false,
            under_way: HashSet::new(),
            last: BTreeMap::new(),
            peaks: BTreeMap::new(),
            stills: BTreeMap::new(),
            questions: Arc::new(tokio::sync::Semaphore::new(QUESTIONS)),
            begin: Instant::now(),
        };
        let mut turn = tokio::time::interval(TURN);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut minute = tokio::time::interval(MINUTE);
        let changed = telling.teller.changed.clone();
        while !telling.teller.stop.ended() {
            tokio::select! {
                Some(heard) = heard.recv() => telling.heard(heard),
                () = changed.notify.notified() => telling.tell_changes(),
                _ = turn.tick() => telling.turn(),
                _ = minute.tick() => telling.stats(),
            }
        }
        telling.farewell().await;
    }

    fn heard(&mut self, heard: Heard) {
        let now = Millis::now();
        match heard {
            Heard::Connected => {
                self.connected = true;
                if self.teller.standing.well(now) {
                    log::info(format!("mqtt: connected to {}", self.teller.standing.shown));
                }
                self.subscribe();
                self.everything();
                self.turn();
            }
            Heard::Lost(reason) => {
                self.connected = false;
                self.under_way.clear();
                if self.teller.standing.ill(&reason, now) {
                    log::warning(format!(
                        "mqtt: {reason}; it is tried again, events wait for a day"
                    ));
                }
            }
            Heard::Message(topic, payload) => self.message(&topic, &payload),
            Heard::Told(event, moment, has_it) => {
                if self.under_way.remove(&(event, moment)) && has_it {
                    match self.teller.outbox.told(event, moment, now) {
                        Ok(()) => self.teller.standing.told(event, moment, now),
                        Err(error) => log::warning(format!("mqtt: {error}")),
                    }
                }
            }
            Heard::Answer(topic, payload) => self.send(Message {
                topic,
                payload,
                retained: false,
                certain: false,
            }),
        }
    }

    fn subscribe(&self) {
        let broker = &self.teller.broker;
        let mut topics = Vec::new();
        if broker.discovery {
            topics.push(format!("{}/status", broker.discovery_prefix));
        }
        if broker.commands {
            topics.push(format!("{}/+/ask", broker.prefix));
            topics.push(format!("{}/+/enabled/set", broker.prefix));
            topics.push(format!("{}/+/snooze/set", broker.prefix));
        }
        for topic in topics {
            if let Err(error) = self.client.try_subscribe(topic, QoS::AtLeastOnce) {
                log::warning(format!("mqtt: {error}"));
            }
        }
    }

    /// Sends a message while there is a connection; all is told anew with the next one.
    fn send(&self, message: Message) {
        if !self.connected {
            return;
        }
        let qos = if message.certain {
            QoS::AtLeastOnce
        } else {
            QoS::AtMostOnce
        };
        let options = PublishOptions::new(qos).retain(message.retained);
        if let Err(error) = self
            .client
            .try_publish(message.topic, message.payload, options)
        {
            log::debug(format!("mqtt: {error}"));
        }
    }

    /// Tells all that is known.
    fn everything(&mut self) {
        let prefix = self.teller.broker.prefix.clone();
        self.announce();
        self.send(Message::state(format!("{prefix}/available"), "online"));
        for seen in self.teller.hub.cameras() {
            for kind in [Kind::Status, Kind::Caption, Kind::Alarm] {
                self.camera(&seen.id, kind);
            }
        }
    }

    /// Tells Home Assistant of every camera, and takes back those that are gone.
    fn announce(&self) {
        let Teller {
            broker,
            hub,
            outbox,
            ..
        } = &self.teller;
        let config = hub.config();
        let gone = match outbox.announced() {
            Ok(before) => before
                .into_iter()
                .filter(|id| {
                    !broker.discovery || !config.cameras.iter().any(|camera| camera.id == *id)
                })
                .collect(),
            Err(error) => {
                log::warning(format!("mqtt: {error}"));
                Vec::new()
            }
        };
        for id in gone {
            self.send(discovery::removed(broker, &id));
            for topic in ["status", "caption", "still", "snoozed"] {
                self.send(Message::state(
                    format!("{}/{id}/{topic}", broker.prefix),
                    "",
                ));
            }
            let _ = outbox.announce(&id, false);
        }
        if broker.discovery {
            for camera in &config.cameras {
                self.send(discovery::announced(broker, camera));
                let _ = outbox.announce(&camera.id, true);
            }
        }
    }

    fn tell_changes(&mut self) {
        for (camera, kind) in self.teller.changed.take() {
            if kind == Kind::All {
                self.everything();
            } else {
                self.camera(&camera, kind);
            }
        }
    }

    fn camera(&mut self, id: &str, kind: Kind) {
        let Some(seen) = self.teller.hub.camera(id) else {
            return;
        };
        let prefix = self.teller.broker.prefix.clone();
        match kind {
            Kind::Status => self.send(topics::camera_status(&prefix, &seen)),
            Kind::Caption => {
                if let Some(message) = topics::caption(&prefix, &seen, Millis::now()) {
                    self.send(message);
                }
            }
            Kind::Event(event) => self.update(event),
            Kind::Alarm | Kind::All => {
                self.send(topics::snoozed(&prefix, &seen, Millis::now()));
                let config = self.teller.hub.config();
                let asked = config.cameras.iter().find(|camera| camera.id == id);
                let told: HashSet<&str> = asked
                    .iter()
                    .flat_map(|camera| &camera.alarms)
                    .filter(|alarm| discovery::told(alarm))
                    .map(|alarm| alarm.id.as_str())
                    .collect();
                for alarm in seen
                    .alarms
                    .iter()
                    .filter(|alarm| told.contains(alarm.id.as_str()))
                {
                    let last = self.last.get(&(id.to_owned(), alarm.id.clone()));
                    self.send(topics::attributes(&prefix, &seen, alarm, last));
                    self.send(topics::alarm(&prefix, id, alarm));
                }
                for alarm in &seen.alarms {
                    self.peak(id, alarm);
                }
            }
        }
    }

    /// Looks whether an alarm that is open has become more likely than was told.
    fn peak(&mut self, camera: &str, alarm: &Alarm) {
        let key = (camera.to_owned(), alarm.id.clone());
        let last = self.last.get(&key).filter(|due| due.end.is_none());
        let (Some(_), Some(now), Some(last)) = (alarm.open, alarm.probability, last) else {
            self.peaks.remove(&key);
            return;
        };
        let (event, begin) = (last.event, last.probability.unwrap_or(now));
        let fresh = Peak {
            event,
            most: begin,
            told: begin,
            at: Instant::now(),
        };
        // One after the other: the next event begins from its own.
        self.peaks
            .retain(|of, peak| *of != key || peak.event == event);
        let peak = self.peaks.entry(key).or_insert(fresh);
        peak.most = peak.most.max(now);
        if peak.most >= peak.told + HIGHER && peak.at.elapsed() >= PEAKS {
            peak.told = peak.most;
            peak.at = Instant::now();
            self.update(event);
        }
    }

    /// Tells how an event stands that was told of; of what is missed while nobody is there, its end tells.
    fn update(&mut self, event: i64) {
        if !self.connected {
            return;
        }
        let config = self.teller.hub.config();
        match self.teller.outbox.event(event) {
            Ok(Some(mut marked)) if choice::wanted("mqtt", &config, &marked.due) => {
                let open = self.peaks.values().find(|peak| peak.event == event);
                // Of an open event the store has what it began with.
                if let Some(peak) = open {
                    marked.due.peak = Some(peak.most.max(marked.due.peak.unwrap_or(0.0)));
                }
                self.send(topics::update(&self.teller.broker.prefix, &marked));
            }
            Ok(_) => {}
            Err(error) => log::debug(format!("mqtt: {error}")),
        }
    }

    /// Looks whether events are to be told, and whether stills are due.
    fn turn(&mut self) {
        let now = Millis::now();
        let hub = self.teller.hub.clone();
        let Teller {
            outbox, standing, ..
        } = &mut self.teller;
        let due = match choice::due(outbox, &hub, standing, now) {
            Ok(due) => due,
            Err(error) => {
                log::debug(format!("mqtt: {error}"));
                return;
            }
        };
        if !self.connected {
            return;
        }
        for item in due {
            if !self.under_way.contains(&(item.event, item.moment)) {
                self.event(item);
            }
        }
        if let Some(period) = self.teller.broker.still_period {
            for seen in hub.cameras() {
                let sent = self.stills.get(&seen.id);
                if sent.is_none_or(|sent| sent.elapsed() >= period) {
                    self.still(&seen.id);
                }
            }
        }
    }

    /// Tells of an event, and waits for the broker to have it.
    fn event(&mut self, due: Due) {
        let message = topics::event(&self.teller.broker.prefix, &due);
        let options = PublishOptions::new(QoS::AtLeastOnce);
        let Ok(notice) = self
            .client
            .try_publish_tracked(message.topic, message.payload, options)
        else {
            return;
        };
        let (event, moment) = (due.event, due.moment);
        self.under_way.insert((event, moment));
        let hear = self.hear.clone();
        tokio::spawn(async move {
            let has_it = notice.wait_async().await.is_ok();
            let _ = hear.send(Heard::Told(event, moment, has_it)).await;
        });
        let (camera, alarm) = (due.camera.clone(), due.alarm.clone());
        self.last.insert((camera.clone(), alarm), due);
        if moment == Moment::Begin {
            self.still(&camera);
        }
        self.camera(&camera, Kind::Alarm);
    }

    fn still(&mut self, camera: &str) {
        let prefix = &self.teller.broker.prefix;
        if let Some(message) = self
            .teller
            .hub
            .camera(camera)
            .and_then(|seen| topics::still(prefix, &seen))
        {
            self.send(message);
            self.stills.insert(camera.to_owned(), Instant::now());
        }
    }

    fn stats(&self) {
        let store = self.teller.store.lock().unwrap().clone();
        let cameras = self.teller.hub.cameras();
        let uptime = self.begin.elapsed().as_secs();
        self.send(topics::stats(
            &self.teller.broker.prefix,
            &cameras,
            &store,
            uptime,
        ));
    }

    /// Somebody says something: Home Assistant that it is there, or, if that is allowed, a wish.
    fn message(&mut self, topic: &str, payload: &[u8]) {
        let broker = &self.teller.broker;
        if topic == format!("{}/status", broker.discovery_prefix) {
            if payload == b"online" {
                self.everything();
            }
            return;
        }
        let wish = topic
            .strip_prefix(&format!("{}/", broker.prefix))
            .and_then(|rest| rest.split_once('/'));
        let Some((camera, wish)) = wish.filter(|_| broker.commands) else {
            return;
        };
        let text = String::from_utf8_lossy(payload).trim().to_owned();
        match wish {
            "ask" => self.ask(camera, text),
            "enabled/set" if text == "ON" || text == "OFF" => {
                if let Err(reason) = self.teller.hub.switch(camera, text == "ON") {
                    log::warning(format!("mqtt: a camera cannot be switched: {reason}"));
                }
            }
            "snooze/set" => {
                // What is not a number is too long.
                let minutes = text.parse().unwrap_or(u32::MAX);
                match self.teller.hub.rest(camera, minutes) {
                    Ok(()) => log::info(format!(
                        "mqtt: camera {camera} is snoozed for {minutes} minutes"
                    )),
                    Err(reason) => {
                        log::warning(format!("mqtt: a camera cannot be snoozed: {reason}"));
                    }
                }
            }
            _ => log::debug(format!("mqtt: nothing is known of {wish}")),
        }
    }

    fn ask(&self, camera: &str, text: String) {
        let Ok(permit) = self.questions.clone().try_acquire_owned() else {
            return log::debug("mqtt: too many questions at once");
        };
        if self.teller.hub.camera(camera).is_none() || !(1..=500).contains(&text.chars().count()) {
            return;
        }
        let (hub, hear) = (self.teller.hub.clone(), self.hear.clone());
        let (camera, topic) = (
            camera.to_owned(),
            format!("{}/{camera}/answer", self.teller.broker.prefix),
        );
        tokio::spawn(async move {
            let question = text.clone();
            let answer = tokio::task::spawn_blocking(move || hub.ask(&camera, &text, ASKING)).await;
            let payload = match answer {
                Ok(Ok(answer)) => {
                    serde_json::json!({"question": question, "answer": secret::redact(&answer)})
                }
                Ok(Err(reason)) => serde_json::json!({"question": question, "error": reason}),
                Err(error) => serde_json::json!({"question": question, "error": error.to_string()}),
            };
            let _ = hear
                .send(Heard::Answer(topic, payload.to_string().into()))
                .await;
            drop(permit);
        });
    }

    /// Says that it stops, so that the will need not.
    async fn farewell(self) {
        if !self.connected {
            return;
        }
        let options = PublishOptions::new(QoS::AtLeastOnce).retained();
        let topic = format!("{}/available", self.teller.broker.prefix);
        let said = self.client.try_publish_tracked(topic, "stopped", options);
        if let Ok(notice) = said {
            let _ = tokio::time::timeout(FAREWELL, notice.wait_async()).await;
        }
        let _ = self.client.try_disconnect();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
