// SPDX-License-Identifier: MPL-2.0

//! Tells others: a broker and webhooks, each on a thread of its own, each with what it was not told yet
//! in the outbox. A broker that is gone costs nobody anything but its own thread.

pub mod choice;
pub mod hook;
pub mod mqtt;
pub mod signature;
pub mod standing;

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::camera::supervisor::Stop;
use crate::config::Config;
use crate::hub::{Hub, What};
use crate::log;
use crate::store::files::Layout;
use crate::store::keeper::Status;
use crate::store::outbox::Outbox;

use standing::{Bell, Standing};

/// The end may take this long; what hangs after that is left behind.
const END: Duration = Duration::from_secs(4);

/// Everybody who is told.
pub struct Out {
    pub standings: Vec<Arc<Standing>>,
    stop: Arc<Stop>,
    bells: Vec<Arc<Bell>>,
    changed: Option<Arc<mqtt::client::Changed>>,
    threads: Vec<JoinHandle<()>>,
}

impl Out {
    /// Begins to tell.
    ///
    /// # Errors
    /// What keeps the outbox from being opened, or a thread from being started.
    pub fn start(
        config: &Config,
        hub: &Arc<Hub>,
        store: &Arc<Mutex<Status>>,
    ) -> Result<Self, String> {
        let layout = Layout::new(&config.storage.path);
        let stop = Stop::new();
        let mut out = Self {
            standings: Vec::new(),
            stop: stop.clone(),
            bells: Vec::new(),
            changed: None,
            threads: Vec::new(),
        };
        let open = |name: &str| Outbox::open(&layout, name).map_err(|error| error.to_string());
        let instance = config
            .out
            .mqtt
            .as_ref()
            .map_or("watch", |broker| broker.instance.as_str());
        for hook in &config.out.hooks {
            let name = format!("webhook:{}", hook.name);
            let mut outbox = open(&name)?;
            let standing = Arc::new(Standing::new(&name, &hook.shown));
            let bell = Arc::new(Bell::default());
            out.standings.push(standing.clone());
            out.bells.push(bell.clone());
            let (hook, instance) = (hook.clone(), instance.to_owned());
            let (hub, stop) = (hub.clone(), stop.clone());
            let body = move || {
                hook::run(&hook, &instance, &hub, &mut outbox, &standing, &stop, &bell);
            };
            out.spawn("watch-hook", body)?;
        }
        if let Some(broker) = &config.out.mqtt {
            let shown = format!("{}:{}", broker.host, broker.port);
            let standing = Arc::new(Standing::new("mqtt", &shown));
            out.standings.push(standing.clone());
            let changed = Arc::new(mqtt::client::Changed::default());
            out.changed = Some(changed.clone());
            let teller = mqtt::client::Teller {
                broker: broker.clone(),
                hub: hub.clone(),
                store: store.clone(),
                outbox: open("mqtt")?,
                standing,
                changed,
                stop,
            };
            out.spawn("watch-mqtt", move || mqtt::client::run(teller))?;
        }
        let (bells, changed) = (out.bells.clone(), out.changed.clone());
        hub.listen(Box::new(move |notice| {
            if let Some(changed) = &changed {
                changed.note(notice);
            }
            if notice.what == What::Alarm {
                bells.iter().for_each(|bell| bell.ring());
            }
        }));
        Ok(out)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(body);
        self.threads
            .push(thread.map_err(|error| format!("no thread for {name}: {error}"))?);
        Ok(())
    }

    /// Ends it; what was not told waits for the next start.
    pub fn end(self) {
        self.stop.end();
        self.bells.iter().for_each(|bell| bell.ring());
        if let Some(changed) = &self.changed {
            changed.wake();
        }
        let begin = Instant::now();
        while begin.elapsed() < END && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !self.threads.iter().all(JoinHandle::is_finished) {
            log::warning(
                "somebody who is told of alarms did not take it in time; it waits for the next start",
            );
        }
    }
}
