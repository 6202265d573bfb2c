// SPDX-License-Identifier: MPL-2.0

//! What is still to be told to whom. Nothing is put into it: whatever `state.db` has of the last day and
//! was not acknowledged is due, so that an event that is on the disk is told however this program ends.
//! What was acknowledged is in `out.db`, a database of its own: who sends does not wait for who writes.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::time::Millis;

use super::db::{self, Durability};
use super::error::Error;
use super::files::Layout;

/// How the layout came to be; a released step is never changed.
const LAYOUTS: &[&str] = &["
CREATE TABLE target (name TEXT PRIMARY KEY, after INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE told (
    target TEXT NOT NULL,
    event INTEGER NOT NULL,
    moment TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (target, event, moment)
) WITHOUT ROWID;
CREATE TABLE announced (target TEXT NOT NULL, camera TEXT NOT NULL, PRIMARY KEY (target, camera)) WITHOUT ROWID;
"];

/// Older than this it is of no use to anybody who is told of alarms.
pub const LONGEST: Duration = Duration::from_secs(86_400);
/// For so long is remembered that somebody was told.
const REMEMBERED: Duration = Duration::from_secs(2 * 86_400);

/// Which end of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    Begin,
    End,
}

impl Moment {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

/// Something that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Due {
    pub event: i64,
    pub moment: Moment,
    pub camera: String,
    pub alarm: String,
    pub start: Millis,
    pub end: Option<Millis>,
    pub probability: Option<f64>,
    pub peak: Option<f64>,
    pub reason: Option<String>,
    pub caption: String,
}

impl Due {
    /// When it was.
    pub fn at(&self) -> Millis {
        match self.moment {
            Moment::Begin => self.start,
            Moment::End => self.end.unwrap_or(self.start),
        }
    }
}

/// An event, and what people said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Marked {
    pub due: Due,
    pub acknowledged: bool,
    pub starred: bool,
    pub false_alarm: bool,
}

/// The outbox of one of those who are told.
#[derive(Debug)]
pub struct Outbox {
    target: String,
    path: PathBuf,
    connection: Connection,
    layout: Layout,
    state: Option<Connection>,
}

impl Outbox {
    /// Opens or makes it. Whoever is new is told of what comes from now on.
    pub fn open(layout: &Layout, target: &str) -> Result<Self, Error> {
        layout.make()?;
        let path = layout.root.join("out.db");
        let connection = db::open(&path, Durability::Full, LAYOUTS)?;
        let mut outbox = Self {
            target: target.to_owned(),
            path,
            connection,
            layout: layout.clone(),
            state: None,
        };
        let last: i64 = outbox
            .ask("SELECT coalesce(max(id), 0) FROM event", [], &mut |row| {
                row.get(0)
            })?
            .pop()
            .unwrap_or(0);
        outbox.execute(
            "INSERT OR IGNORE INTO target VALUES (?1, ?2)",
            params![target, last],
        )?;
        // A state.db that was begun anew or brought back counts from an earlier number.
        outbox.execute(
            "UPDATE target SET after = ?2 WHERE name = ?1 AND after > ?2",
            params![target, last],
        )?;
        outbox.execute(
            "DELETE FROM told WHERE target = ?1 AND event > ?2",
            params![target, last],
        )?;
        Ok(outbox)
    }

    /// What is to be told, the oldest first.
    pub fn due(&mut self, now: Millis) -> Result<Vec<Due>, Error> {
        let after: i64 = self
            .connection
            .query_row(
                "SELECT after FROM target WHERE name = ?1",
                [&self.target],
                |row| row.get(0),
            )
            .map_err(Error::sqlite(&self.path))?;
        let oldest = now.minus(LONGEST);
        let mut due = Vec::new();
        let rows = self.ask(
            "SELECT id, camera, alarm, start, end, probability, peak, reason, caption FROM event
             WHERE id > ?1 AND snoozed = 0 AND (end IS NULL OR start >= ?2 OR end >= ?2) ORDER BY id",
            params![after, oldest.0],
            &mut begun,
        )?;
        for begin in rows {
            let end = begin.end.map(|_| Due {
                moment: Moment::End,
                ..begin.clone()
            });
            // A begin is told without what is known only at the end.
            let begin = Due {
                end: None,
                reason: None,
                peak: None,
                ..begin
            };
            for item in std::iter::once(begin).chain(end) {
                if item.at() >= oldest && !self.was_told(&item)? {
                    due.push(item);
                }
            }
        }
        due.sort_by_key(|item| (item.at(), item.event, item.moment));
        Ok(due)
    }

    /// An event whose begin was told, with what people said of it.
    pub fn event(&mut self, id: i64) -> Result<Option<Marked>, Error> {
        let found = self.ask(
            "SELECT id, camera, alarm, start, end, probability, peak, reason, caption, acknowledged, starred,
             false_alarm FROM event WHERE id = ?1 AND snoozed = 0",
            [id],
            &mut |row| {
                Ok(Marked {
                    due: begun(row)?,
                    acknowledged: row.get(9)?,
                    starred: row.get(10)?,
                    false_alarm: row.get(11)?,
                })
            },
        )?;
        match found.into_iter().next() {
            Some(marked) if self.was_told(&marked.due)? => Ok(Some(marked)),
            _ => Ok(None),
        }
    }

    /// Somebody has it.
    pub fn told(&self, event: i64, moment: Moment, now: Millis) -> Result<(), Error> {
        let values = params![self.target, event, moment.word(), now.0];
        self.execute(
            "INSERT OR REPLACE INTO told VALUES (?1, ?2, ?3, ?4)",
            values,
        )?;
        self.execute(
            "DELETE FROM told WHERE at < ?1",
            params![now.minus(REMEMBERED).0],
        )
    }

    /// Nobody is to be told of this event, neither of its begin nor of its end.
    pub fn pass_over(&self, event: i64, now: Millis) -> Result<(), Error> {
        self.told(event, Moment::Begin, now)?;
        self.told(event, Moment::End, now)
    }

    /// The cameras that were announced.
    pub fn announced(&self) -> Result<Vec<String>, Error> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let sql = "SELECT camera FROM announced WHERE target = ?1 ORDER BY camera";
            self.connection
                .prepare_cached(sql)?
                .query_map([&self.target], |row| row.get(0))?
                .collect()
        };
        read().map_err(Error::sqlite(&self.path))
    }

    /// A camera is announced, or no longer.
    pub fn announce(&self, camera: &str, there: bool) -> Result<(), Error> {
        let sql = if there {
            "INSERT OR IGNORE INTO announced VALUES (?1, ?2)"
        } else {
            "DELETE FROM announced WHERE target = ?1 AND camera = ?2"
        };
        self.execute(sql, params![self.target, camera])
    }

    fn was_told(&self, item: &Due) -> Result<bool, Error> {
        let look = || {
            self.connection
                .prepare_cached(
                    "SELECT 1 FROM told WHERE target = ?1 AND event = ?2 AND moment = ?3",
                )?
                .exists(params![self.target, item.event, item.moment.word()])
        };
        look().map_err(Error::sqlite(&self.path))
    }

    /// Reads `state.db`.
    fn ask<T>(
        &mut self,
        sql: &str,
        values: impl rusqlite::Params,
        each: &mut dyn FnMut(&rusqlite::Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let path = self.layout.state();
        if !path.exists() {
            self.state = None;
            return Ok(Vec::new());
        }
        let connection = match self.state.take() {
            Some(open) => open,
            None => db::open_to_read(&path)?,
        };
        let read = || -> rusqlite::Result<Vec<T>> {
            connection
                .prepare_cached(sql)?
                .query_map(values, |row| each(row))?
                .collect()
        };
        let rows = read().map_err(Error::sqlite(&path))?;
        // After a fault it is opened anew.
        self.state = Some(connection);
        Ok(rows)
    }

    fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), Error> {
        let run = || self.connection.prepare_cached(sql)?.execute(values);
        run().map(|_| ()).map_err(Error::sqlite(&self.path))
    }
}

/// The begin of an event, with all that is known of it.
fn begun(row: &rusqlite::Row) -> rusqlite::Result<Due> {
    Ok(Due {
        event: row.get(0)?,
        moment: Moment::Begin,
        camera: row.get(1)?,
        alarm: row.get(2)?,
        start: Millis(row.get(3)?),
        end: row.get::<_, Option<i64>>(4)?.map(Millis),
        probability: row.get(5)?,
        peak: row.get(6)?,
        reason: row.get(7)?,
        caption: row.get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heard::{Begin, End};
    use crate::store::state::State;

    fn begin(state: &State, at: Millis) -> i64 {
        let begin = Begin {
            number: 1,
            alarm: "a".into(),
            at,
            probability: Some(0.9),
        };
        state.begin("front", &begin, "A man.").unwrap()
    }

    fn end(state: &State, id: i64, at: Millis) {
        let end = End {
            number: 1,
            alarm: "a".into(),
            at,
            peak: Some(0.95),
            reason: "answer".into(),
        };
        state.end(id, &end).unwrap();
    }

    #[test]
    fn what_was_not_acknowledged_is_due_and_comes_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make().unwrap();
        let state = State::open(&layout.state()).unwrap();
        let (now, s) = (Millis(1_000_000_000), Duration::from_secs);
        begin(&state, now);
        let mut outbox = Outbox::open(&layout, "mqtt").unwrap();
        assert_eq!(outbox.due(now).unwrap(), [], "from before it was asked for");
        let id = begin(&state, now.plus(s(1)));
        let due = outbox.due(now).unwrap();
        assert_eq!(
            (due.len(), due[0].event, due[0].moment),
            (1, id, Moment::Begin)
        );
        end(&state, id, now.plus(s(2)));
        // The program ends and begins anew: it is still due.
        let mut outbox = Outbox::open(&layout, "mqtt").unwrap();
        let moments = |outbox: &mut Outbox, at| -> Vec<Moment> {
            outbox
                .due(at)
                .unwrap()
                .iter()
                .map(|due| due.moment)
                .collect()
        };
        assert_eq!(moments(&mut outbox, now), [Moment::Begin, Moment::End]);
        outbox.told(id, Moment::Begin, now).unwrap();
        assert_eq!(moments(&mut outbox, now), [Moment::End]);
        let mut other = Outbox::open(&layout, "webhook:ops").unwrap();
        assert_eq!(moments(&mut other, now), []);
        assert_eq!(
            moments(&mut outbox, now.plus(LONGEST + s(60))),
            [],
            "a day has passed"
        );
    }

    #[test]
    fn what_began_while_its_camera_was_snoozed_is_told_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make().unwrap();
        let now = Millis(1_000_000_000);
        let state = State::open(&layout.state()).unwrap();
        let mut outbox = Outbox::open(&layout, "mqtt").unwrap();
        let minutes = |n: u64| now.plus(Duration::from_secs(60 * n));
        state.snooze("front", minutes(10)).unwrap();
        let during = begin(&state, minutes(9));
        end(&state, during, minutes(11));
        assert_eq!(outbox.due(minutes(12)).unwrap(), []);
        let after = begin(&state, minutes(12));
        assert_eq!(outbox.due(minutes(12)).unwrap()[0].event, after);
    }

    #[test]
    fn a_state_that_began_anew_is_told_of_too() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make().unwrap();
        let now = Millis(1_000_000_000);
        let state = State::open(&layout.state()).unwrap();
        for _ in 0..5 {
            begin(&state, now);
        }
        drop(Outbox::open(&layout, "mqtt").unwrap());
        drop(state);
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("state.db{end}")));
        }
        let state = State::open(&layout.state()).unwrap();
        let mut outbox = Outbox::open(&layout, "mqtt").unwrap();
        begin(&state, now);
        assert_eq!(outbox.due(now).unwrap().len(), 1);
    }
}
