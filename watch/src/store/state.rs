// SPDX-License-Identifier: MPL-2.0

//! `state.db`: what must not be lost. Events and what became of cameras are on the disk before anybody
//! is told that they are kept.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use crate::heard::{Begin, Clip, End, Lull, Phase};
use crate::time::Millis;

use super::db::{self, Durability};
use super::error::Error;

/// How the layout came to be; a released step is never changed.
const LAYOUTS: &[&str] = &[
    "
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
",
    "
ALTER TABLE event ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE event ADD COLUMN snoozed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE event ADD COLUMN clip_from INTEGER;
ALTER TABLE event ADD COLUMN clip_to INTEGER;
ALTER TABLE event ADD COLUMN clip_size INTEGER;
ALTER TABLE event ADD COLUMN clip_why TEXT;
CREATE INDEX event_to_do ON event (id) WHERE acknowledged = 0;
CREATE TABLE trace (
    event INTEGER NOT NULL,
    at INTEGER NOT NULL,
    probability REAL NOT NULL,
    PRIMARY KEY (event, at)
) WITHOUT ROWID;
CREATE TABLE snooze (camera TEXT PRIMARY KEY, until INTEGER NOT NULL);
",
    "
CREATE TABLE lull (
    camera TEXT NOT NULL,
    start INTEGER NOT NULL,
    why TEXT NOT NULL,
    end INTEGER,
    PRIMARY KEY (camera, start)
) WITHOUT ROWID;
",
];

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

/// What somebody says of an event; what he does not speak of stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark {
    pub acknowledged: Option<bool>,
    pub starred: Option<bool>,
    pub false_alarm: Option<bool>,
    pub note: Option<String>,
}

/// What was said of an event, for whoever makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    ToDo,
    Acknowledged,
    Starred,
}

/// An answer near an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub event: i64,
    pub at: Millis,
    pub probability: f64,
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

    /// An event begins; gives its number. Of one that begins while its camera is snoozed nobody is told.
    pub fn begin(&self, camera: &str, begin: &Begin, caption: &str) -> Result<i64, Error> {
        let sql = "INSERT INTO event (camera, alarm, start, probability, peak, caption, snoozed)
                   VALUES (?1, ?2, ?3, ?4, ?4, ?5, EXISTS (SELECT 1 FROM snooze WHERE camera = ?1 AND until > ?3))";
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

    /// What became of an event's clip: it is on the disk, or why there is none.
    pub fn clip(&self, id: i64, outcome: &Result<Clip, String>) -> Result<(), Error> {
        match outcome {
            Ok(clip) => self.execute(
                "UPDATE event SET clip_from = ?2, clip_to = ?3, clip_size = ?4, clip_why = NULL WHERE id = ?1",
                params![id, clip.from.0, clip.to.0, clip.size.cast_signed()],
            ),
            Err(why) => self.execute(
                "UPDATE event SET clip_why = ?2 WHERE id = ?1",
                params![id, why],
            ),
        }
    }

    /// Changes what people say of an event; false if there is none of this number.
    pub fn mark(&self, id: i64, mark: &Mark) -> Result<bool, Error> {
        let sql = "UPDATE event SET acknowledged = coalesce(?2, acknowledged), starred = coalesce(?3, starred),
                   false_alarm = coalesce(?4, false_alarm), note = coalesce(?5, note) WHERE id = ?1";
        let values = params![
            id,
            mark.acknowledged,
            mark.starred,
            mark.false_alarm,
            mark.note
        ];
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        Ok(run().map_err(Error::sqlite(&self.path))? > 0)
    }

    /// Nobody is to be told of a camera's alarms until then.
    pub fn snooze(&self, camera: &str, until: Millis) -> Result<(), Error> {
        self.execute(
            "INSERT OR REPLACE INTO snooze VALUES (?1, ?2)",
            params![camera, until.0],
        )
    }

    /// The cameras of whose alarms nobody is told, and until when.
    pub fn snoozed(&self, now: Millis) -> Result<Vec<(String, Millis)>, Error> {
        self.rows(
            "SELECT camera, until FROM snooze WHERE until > ?1",
            params![now.0],
            |row| Ok((row.get(0)?, Millis(row.get(1)?))),
        )
    }

    /// What people said of events that may have a clip.
    pub fn standings(&self) -> Result<HashMap<i64, Standing>, Error> {
        let rows = self.rows("SELECT id, acknowledged, starred FROM event", [], |row| {
            let (acknowledged, starred) = (row.get(1)?, row.get(2)?);
            let standing = match (starred, acknowledged) {
                (true, _) => Standing::Starred,
                (false, true) => Standing::Acknowledged,
                (false, false) => Standing::ToDo,
            };
            Ok((row.get(0)?, standing))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Adds answers to the traces of events.
    pub fn trace(&mut self, points: &[Point]) -> Result<(), Error> {
        let path = self.path.clone();
        let fault = || Error::sqlite(&path);
        let transaction = self.connection.transaction().map_err(fault())?;
        {
            let sql = "INSERT OR IGNORE INTO trace VALUES (?1, ?2, ?3)";
            let mut add = transaction.prepare_cached(sql).map_err(fault())?;
            for point in points {
                add.execute(params![point.event, point.at.0, point.probability])
                    .map_err(fault())?;
            }
        }
        transaction.commit().map_err(fault())
    }

    /// Ends every event and span that a process before this one left open.
    pub fn end_all(&self, at: Millis, reason: &str) -> Result<usize, Error> {
        let fault = || Error::sqlite(&self.path);
        let events = "UPDATE event SET end = max(start, ?1), reason = ?2 WHERE end IS NULL";
        let n = self
            .connection
            .execute(events, params![at.0, reason])
            .map_err(fault())?;
        for table in ["span", "lull"] {
            let sql = format!("UPDATE {table} SET end = max(start, ?1) WHERE end IS NULL");
            self.execute(&sql, params![at.0])?;
        }
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

    /// Nothing is said of a camera from then on, or until then.
    pub fn lull(&self, camera: &str, lull: &Lull) -> Result<(), Error> {
        let sql =
            "INSERT INTO lull VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET why = ?3, end = ?4";
        let end = lull.end.map(|end| end.0.max(lull.start.0));
        self.execute(sql, params![camera, lull.start.0, lull.why.word(), end])
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
        self.execute(
            "DELETE FROM trace WHERE event NOT IN (SELECT id FROM event)",
            [],
        )?;
        self.execute("DELETE FROM span WHERE end < ?1", params![time.0])?;
        self.execute("DELETE FROM lull WHERE end < ?1", params![time.0])?;
        self.execute(
            "DELETE FROM answer WHERE minute < ?1",
            params![time.minute()],
        )
    }

    /// A sound copy.
    pub fn copy_to(&self, path: &Path) -> Result<(), Error> {
        db::vacuum_into(&self.connection, path).map_err(Error::sqlite(&self.path))
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        each: impl FnMut(&rusqlite::Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let run = || -> rusqlite::Result<Vec<T>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(values, each)?.collect()
        };
        run().map_err(Error::sqlite(&self.path))
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map(|_| ()).map_err(Error::sqlite(&self.path))
    }
}
