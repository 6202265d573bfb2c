// SPDX-License-Identifier: MPL-2.0

//! `state.db`: what must not be lost. Events and what became of cameras are on the disk before anybody
//! is told that they are kept.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::heard::{Begin, End, Phase};
use crate::time::Millis;

use super::db::{self, Durability};
use super::error::Error;

/// How the layout came to be; a released step is never changed.
const LAYOUTS: &[&str] = &["
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    camera TEXT NOT NULL,
    alarm TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER,
    probability REAL,
    peak REAL,
    reason TEXT,
    caption TEXT NOT NULL,
    starred INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0,
    false_alarm INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX event_open ON event (id) WHERE end IS NULL;
CREATE TABLE span (
    id INTEGER PRIMARY KEY,
    camera TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER
);
CREATE INDEX span_open ON span (camera) WHERE end IS NULL;
CREATE TABLE answer (
    minute INTEGER NOT NULL,
    camera TEXT NOT NULL,
    alarm TEXT NOT NULL,
    n INTEGER NOT NULL,
    sum REAL NOT NULL,
    least REAL NOT NULL,
    most REAL NOT NULL,
    PRIMARY KEY (minute, camera, alarm)
) WITHOUT ROWID;
"];

/// The answers to an alarm's question within a minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    pub n: u32,
    pub sum: f64,
    pub least: f64,
    pub most: f64,
}

impl Minute {
    /// One answer.
    pub fn of(probability: f64) -> Self {
        Self {
            n: 1,
            sum: probability,
            least: probability,
            most: probability,
        }
    }

    /// With another one.
    pub fn add(&mut self, probability: f64) {
        self.n += 1;
        self.sum += probability;
        self.least = self.least.min(probability);
        self.most = self.most.max(probability);
    }
}

/// What an answer was to: minute, camera and alarm.
pub type MinuteKey = (i64, String, String);

/// The open `state.db`.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    connection: Connection,
}

impl State {
    /// Opens or makes it.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let connection = db::open(path, Durability::Full, LAYOUTS)?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// An event begins; gives its number.
    pub fn begin(&self, camera: &str, begin: &Begin, caption: &str) -> Result<i64, Error> {
        let sql = "INSERT INTO event (camera, alarm, start, probability, peak, caption) VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
        let values = params![camera, begin.alarm, begin.at.0, begin.probability, caption];
        self.connection
            .execute(sql, values)
            .map_err(Error::sqlite(&self.path))?;
        Ok(self.connection.last_insert_rowid())
    }

    /// An event ends, not before it began.
    pub fn end(&self, id: i64, end: &End) -> Result<(), Error> {
        let sql = "UPDATE event SET end = max(?2, start), peak = coalesce(?3, peak), reason = ?4 WHERE id = ?1 AND end IS NULL";
        self.execute(sql, params![id, end.at.0, end.peak, end.reason])
    }

    /// Ends every event and span that a process before this one left open.
    pub fn end_all(&self, at: Millis, reason: &str) -> Result<usize, Error> {
        let fault = || Error::sqlite(&self.path);
        let events = "UPDATE event SET end = max(start, ?1), reason = ?2 WHERE end IS NULL";
        let n = self
            .connection
            .execute(events, params![at.0, reason])
            .map_err(fault())?;
        let spans = "UPDATE span SET end = max(start, ?1) WHERE end IS NULL";
        self.connection
            .execute(spans, params![at.0])
            .map_err(fault())?;
        Ok(n)
    }

    /// Another phase of a camera begins, and the one before ends.
    pub fn phase(&self, camera: &str, phase: Phase, reason: &str, at: Millis) -> Result<(), Error> {
        self.execute(
            "UPDATE span SET end = max(start, ?2) WHERE camera = ?1 AND end IS NULL",
            params![camera, at.0],
        )?;
        let sql = "INSERT INTO span (camera, phase, reason, start) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![camera, phase.word(), reason, at.0])
    }

    /// Adds answers to their minutes, all or none.
    pub fn answers(
        &mut self,
        minutes: &std::collections::BTreeMap<MinuteKey, Minute>,
    ) -> Result<(), Error> {
        let fault = || Error::sqlite(&self.path);
        let transaction = self.connection.transaction().map_err(fault())?;
        {
            let mut add = transaction
                .prepare_cached(
                    "INSERT INTO answer VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
                     n = n + ?4, sum = sum + ?5, least = min(least, ?6), most = max(most, ?7)",
                )
                .map_err(fault())?;
            for ((minute, camera, alarm), value) in minutes {
                let values = params![
                    minute,
                    camera,
                    alarm,
                    value.n,
                    value.sum,
                    value.least,
                    value.most
                ];
                add.execute(values).map_err(fault())?;
            }
        }
        transaction.commit().map_err(fault())
    }

    /// Forgets what ended before a time; starred events stay.
    pub fn forget_before(&self, time: Millis) -> Result<(), Error> {
        self.execute(
            "DELETE FROM event WHERE end < ?1 AND starred = 0",
            params![time.0],
        )?;
        self.execute("DELETE FROM span WHERE end < ?1", params![time.0])?;
        self.execute(
            "DELETE FROM answer WHERE minute < ?1",
            params![time.minute()],
        )
    }

    /// A sound copy.
    pub fn copy_to(&self, path: &Path) -> Result<(), Error> {
        db::vacuum_into(&self.connection, path).map_err(Error::sqlite(&self.path))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map(|_| ()).map_err(Error::sqlite(&self.path))
    }
}
