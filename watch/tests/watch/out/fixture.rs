// SPDX-License-Identifier: MPL-2.0

//! A store, a hub and those who are told, without cameras.

use std::path::Path;
use std::sync::Arc;

use vlmcaption_watch::camera::supervisor::Heard;
use vlmcaption_watch::config::{Config, Process};
use vlmcaption_watch::heard::{Begin, Caption, End};
use vlmcaption_watch::hub::Hub;
use vlmcaption_watch::out::Out;
use vlmcaption_watch::store::files::Layout;
use vlmcaption_watch::store::keeper::Keeper;
use vlmcaption_watch::store::writer::Writer;
use vlmcaption_watch::time::Millis;

use crate::store::common::NO_LIMITS;

use super::broker::PASSWORD;

/// A store, a hub that no pipeline is behind, and those who are told.
pub struct Fixture {
    pub hub: Arc<Hub>,
    writer: Option<Writer>,
    out: Option<Out>,
    pub folder: Arc<tempfile::TempDir>,
}

impl Fixture {
    pub fn new(folder: &Arc<tempfile::TempDir>, text: &str) -> Self {
        let text = format!(
            "{text}\n[storage]\npath = \"{}\"\n",
            folder.path().join("store").display()
        );
        let config = Config::parse(&text, &Process).unwrap();
        let layout = Layout::new(&config.storage.path);
        let keeper = Keeper::open(layout, NO_LIMITS, Millis::now()).unwrap();
        let writer = Writer::start(keeper).unwrap();
        let hub = Arc::new(Hub::new(&config, writer.hand()));
        let out = Out::start(&config, &hub, &writer.status()).unwrap();
        hub.health.set_out(out.standings.clone());
        Self {
            hub,
            writer: Some(writer),
            out: Some(out),
            folder: folder.clone(),
        }
    }

    pub fn say(&self, camera: &str, text: &str) {
        let now = Millis::now();
        let caption = Caption {
            start: now,
            end: now,
            text: text.into(),
            model: "m".into(),
            thumb: None,
        };
        self.hub.heard(camera, Heard::Caption(caption));
    }

    pub fn begin(&self, number: u64) {
        let begin = Begin {
            number,
            alarm: "lying".into(),
            at: Millis::now(),
            probability: Some(0.9),
        };
        self.hub.heard("front", Heard::Begin(begin));
    }

    pub fn end(&self, number: u64) {
        self.end_of("front", "lying", number);
    }

    pub fn end_of(&self, camera: &str, alarm: &str, number: u64) {
        let end = End {
            number,
            alarm: alarm.into(),
            at: Millis::now(),
            peak: Some(0.95),
            reason: "answer".into(),
        };
        self.hub.heard(camera, Heard::End(end));
    }

    pub fn standing(&self) -> vlmcaption_watch::out::standing::Now {
        self.hub.health.out()[0].now()
    }

    /// Ends it as the program does.
    pub fn stop(mut self) {
        self.writer.take().unwrap().end();
        self.out.take().unwrap().end();
    }
}

pub fn mqtt(port: u16, folder: &Path, more: &str) -> String {
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).unwrap();
    format!(
        "[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nuser = \"watch\"\npassword-file = \"{}\"\ninstance = \"test\"\n{more}\n",
        password.display()
    )
}

pub const CAMERAS: &str = "[[camera]]\nid = \"front\"\nname = \"Front door\"\nurl = \"test:ball\"\n\
    [[camera.alarm]]\nid = \"lying\"\nquestion = \"Is a person lying?\"\ndevice-class = \"safety\"\n\
    [[camera]]\nid = \"back\"\nurl = \"test:ball\"\n";

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub fn hook(port: u16, folder: &Path) -> String {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    format!(
        "[[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:{port}/hook?token=canary-in-url\"\nsecret-file = \"{}\"\n{CAMERAS}",
        secret.display()
    )
}
