// SPDX-License-Identifier: MPL-2.0

//! `doctor`.

use std::collections::HashMap;

use crate::config::Config;
use crate::config::units;
use crate::store::db;
use crate::store::files::{self, Layout, Lock};
use crate::store::reader::{Reader, Scope};
use crate::store::retention;
use crate::time::Millis;

use super::common::{Common, plugin, print};

/// Say how everything stands, without secrets: to read, or to send to who helps
#[derive(Debug, clap::Args)]
pub struct Doctor {
    #[command(flatten)]
    common: Common,
}

impl Doctor {
    pub fn run(self) -> Result<(), String> {
        print(&format!(
            "vlmcaption-watch {}, SQLite {}",
            env!("CARGO_PKG_VERSION"),
            db::sqlite_version()
        ))?;
        let mut ills = 0;
        let mut look = |what: &str, found: Result<String, String>| {
            let line = match found {
                Ok(text) => format!("ok    {what}: {text}"),
                Err(text) => {
                    ills += 1;
                    format!("WRONG {what}: {text}")
                }
            };
            print(&line)
        };
        let plugin = self.common.gstreamer().map(|()| plugin());
        look("plugin", plugin)?;
        let config = match self.common.load() {
            Ok(config) => {
                look(
                    "configuration",
                    Ok(format!("{} cameras", config.cameras.len())),
                )?;
                Some(config)
            }
            Err(reason) => {
                look("configuration", Err(reason))?;
                None
            }
        };
        if let Some(config) = &config {
            for advice in &config.advice {
                print(&format!("note  {advice}"))?;
            }
            for (what, found) in store(config) {
                look(&what, found)?;
            }
            cameras(config)?;
        }
        if ills > 0 {
            Err(format!("{ills} things are wrong; they are marked above"))
        } else {
            Ok(())
        }
    }
}

/// The findings about the store.
fn store(config: &Config) -> Vec<(String, Result<String, String>)> {
    let layout = Layout::new(&config.storage.path);
    let root = layout.root.display().to_string();
    if !layout.state().exists() {
        return vec![("store".into(), Ok(format!("nothing is in {root} yet")))];
    }
    let mut found = Vec::new();
    let kept = retention::look(&layout, &HashMap::new(), Millis::now());
    let size: u64 = kept.iter().map(|kept| kept.size).sum();
    let free = files::free(&layout.root).unwrap_or(0);
    let room = format!(
        "{root} has {} of {} at most; {} are free, {} are to stay free",
        units::shown(size),
        units::shown(config.storage.max_size),
        units::shown(free),
        units::shown(config.storage.keep_free)
    );
    let short = free < config.storage.keep_free;
    found.push((
        "room".into(),
        if short {
            Err(format!("{room}: make room, pictures are not stored"))
        } else {
            Ok(room)
        },
    ));
    let running = match Lock::take(&layout) {
        Err(crate::store::Error::InUse { .. }) => {
            Ok("it is being written by a running vlmcaption-watch".into())
        }
        Err(error) => Err(error.to_string()),
        Ok(lock) if lock.unclean => {
            Ok("no vlmcaption-watch runs; the last one ended without warning".into())
        }
        Ok(lock) => {
            lock.clean();
            Ok("no vlmcaption-watch runs".into())
        }
    };
    found.push(("store".into(), running));
    let weeks = layout.weeks();
    for path in std::iter::once(layout.state()).chain(weeks.iter().map(|week| layout.week(*week))) {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let sound = match db::damage(&path) {
            None => Ok("sound".into()),
            Some(damage) => Err(format!(
                "{damage}; stop the program and restore a backup, or move the file away"
            )),
        };
        found.push((name, sound));
    }
    found
}

/// What was last heard of each camera.
fn cameras(config: &Config) -> Result<(), String> {
    let mut reader = Reader::new(Layout::new(&config.storage.path));
    let phases = reader
        .phases(&Scope::All, Millis::now())
        .unwrap_or_default();
    for camera in &config.cameras {
        let open = phases
            .iter()
            .rev()
            .find(|span| span.camera == camera.id && span.end.is_none());
        let phase = open.map_or("not watched".into(), |span| {
            let why = if span.reason.is_empty() {
                String::new()
            } else {
                format!(", {}", span.reason)
            };
            format!("{} since {}{why}", span.phase, span.start.local())
        });
        let last = reader
            .latest(&Scope::All, Some(&camera.id), None, 1)
            .unwrap_or_default();
        let last = last.first().map_or("no caption yet".into(), |kept| {
            format!("last caption {}", kept.until.local())
        });
        print(&format!(
            "camera {} ({}): {phase}; {last}",
            camera.id,
            camera.place.shown()
        ))?;
    }
    Ok(())
}
