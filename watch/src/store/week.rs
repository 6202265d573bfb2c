// SPDX-License-Identifier: MPL-2.0

//! The captions of a week: a database of its own, so that forgetting, damage and copies stay within one.
//!
//! Rows have no index beside their numbers, which grow with time: an index by camera and time costs
//! four times the writes. The table `minute` says which numbers belong to which minute, and `tick` how many
//! captions each camera had in a minute and in an hour.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};

use crate::search;
use crate::time::{Millis, Week};

use super::db::{self, Durability};
use super::error::Error;
use super::pack::Spot;

/// How the layout came to be; a released step is never changed.
const LAYOUTS: &[&str] = &[
    "
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE caption (
    id INTEGER PRIMARY KEY,
    camera INTEGER NOT NULL,
    start INTEGER NOT NULL,
    end INTEGER NOT NULL,
    until INTEGER NOT NULL,
    count INTEGER NOT NULL,
    text TEXT NOT NULL,
    model INTEGER NOT NULL,
    hour INTEGER, offset INTEGER, length INTEGER
);
CREATE TABLE minute (t INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE indexed (one INTEGER PRIMARY KEY CHECK (one = 1), to_id INTEGER NOT NULL);
INSERT INTO indexed VALUES (1, 0);
CREATE VIRTUAL TABLE f USING fts5(text, content = '', contentless_delete = 1,
    tokenize = 'unicode61 remove_diacritics 0');
",
    "
CREATE TABLE tick (
    minutes INTEGER NOT NULL,
    t INTEGER NOT NULL,
    camera INTEGER NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (minutes, t, camera)
) WITHOUT ROWID;
INSERT INTO tick SELECT 1, start / 60000, camera, count(*) FROM caption GROUP BY 2, 3;
INSERT INTO tick SELECT 60, start / 3600000, camera, count(*) FROM caption GROUP BY 2, 3;
",
];

/// How long the stretches are in which captions are counted, in minutes.
pub const SCALES: [i64; 2] = [1, 60];

/// A caption to be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub camera: String,
    pub start: Millis,
    pub end: Millis,
    /// The end of the last caption that said the same.
    pub until: Millis,
    /// How many said the same, this one included.
    pub count: u32,
    pub text: String,
    pub model: String,
    pub spot: Option<Spot>,
}

/// The open file of a week.
#[derive(Debug)]
pub struct WeekFile {
    pub week: Week,
    path: PathBuf,
    connection: Connection,
    names: HashMap<String, i64>,
}

impl WeekFile {
    /// Opens or makes it.
    pub fn open(path: &Path, week: Week) -> Result<Self, Error> {
        let connection = db::open(path, Durability::Normal, LAYOUTS)?;
        Ok(Self {
            week,
            path: path.to_owned(),
            connection,
            names: HashMap::new(),
        })
    }

    /// Adds rows and extends earlier ones, all or none; gives the numbers of the new ones.
    pub fn write(
        &mut self,
        rows: &[Row],
        longer: &HashMap<i64, (Millis, u32)>,
    ) -> Result<Vec<i64>, Error> {
        // Names of a transaction that fails must not be remembered.
        let mut names = self.names.clone();
        let ids = write(&mut self.connection, &mut names, rows, longer)
            .map_err(Error::sqlite(&self.path))?;
        self.names = names;
        Ok(ids)
    }

    /// Puts the words of what has come since the last time into the index.
    pub fn index(&mut self) -> Result<usize, Error> {
        index(&mut self.connection).map_err(Error::sqlite(&self.path))
    }

    /// A sound copy.
    pub fn copy_to(&self, path: &Path) -> Result<(), Error> {
        db::vacuum_into(&self.connection, path).map_err(Error::sqlite(&self.path))
    }

    /// Indexes the rest and folds the log into the file.
    pub fn close(mut self) -> Result<(), Error> {
        self.index()?;
        let fold = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection
            .query_row(fold, [], |_| Ok(()))
            .map_err(Error::sqlite(&self.path))
    }
}

fn write(
    connection: &mut Connection,
    names: &mut HashMap<String, i64>,
    rows: &[Row],
    longer: &HashMap<i64, (Millis, u32)>,
) -> rusqlite::Result<Vec<i64>> {
    let transaction = connection.transaction()?;
    let mut ids = Vec::with_capacity(rows.len());
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO caption (camera, start, end, until, count, text, model, hour, offset, length)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let mut minute = transaction.prepare_cached(
            "INSERT INTO minute VALUES (?1, ?2, ?2) ON CONFLICT (t) DO UPDATE SET last = ?2",
        )?;
        let mut ticks: HashMap<(i64, i64, i64), i64> = HashMap::new();
        for row in rows {
            let camera = name(&transaction, names, &row.camera)?;
            for minutes in SCALES {
                let at = row.start.minute().div_euclid(minutes);
                *ticks.entry((minutes, at, camera)).or_default() += 1;
            }
            let model = name(&transaction, names, &row.model)?;
            let (hour, offset, length) = match row.spot {
                Some(spot) => (
                    Some(spot.hour),
                    Some(spot.offset.cast_signed()),
                    Some(spot.length),
                ),
                None => (None, None, None),
            };
            insert.execute(params![
                camera,
                row.start.0,
                row.end.0,
                row.until.0,
                row.count,
                row.text,
                model,
                hour,
                offset,
                length
            ])?;
            let id = transaction.last_insert_rowid();
            minute.execute(params![row.start.minute(), id])?;
            ids.push(id);
        }
        let mut tick = transaction.prepare_cached(
            "INSERT INTO tick VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET n = n + ?4",
        )?;
        for ((minutes, at, camera), n) in ticks {
            tick.execute(params![minutes, at, camera, n])?;
        }
        let mut extend = transaction
            .prepare_cached("UPDATE caption SET until = ?2, count = ?3 WHERE id = ?1")?;
        for (id, (until, count)) in longer {
            extend.execute(params![id, until.0, count])?;
        }
    }
    transaction.commit()?;
    Ok(ids)
}

/// The number of a name, given when it is first seen.
fn name(
    transaction: &Transaction,
    names: &mut HashMap<String, i64>,
    text: &str,
) -> rusqlite::Result<i64> {
    if let Some(id) = names.get(text) {
        return Ok(*id);
    }
    transaction.execute("INSERT OR IGNORE INTO name (text) VALUES (?1)", [text])?;
    let id = transaction.query_row("SELECT id FROM name WHERE text = ?1", [text], |row| {
        row.get(0)
    })?;
    names.insert(text.to_owned(), id);
    Ok(id)
}

fn index(connection: &mut Connection) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let to: i64 = transaction.query_row("SELECT to_id FROM indexed", [], |row| row.get(0))?;
    let mut n = 0;
    let mut last = to;
    {
        let mut select =
            transaction.prepare_cached("SELECT id, text FROM caption WHERE id > ?1 ORDER BY id")?;
        let mut insert =
            transaction.prepare_cached("INSERT INTO f (rowid, text) VALUES (?1, ?2)")?;
        let mut rows = select.query([to])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let text: String = row.get(1)?;
            insert.execute(params![last, search::indexed(&text)])?;
            n += 1;
        }
    }
    if n > 0 {
        transaction.execute("UPDATE indexed SET to_id = ?1", [last])?;
    }
    transaction.commit()?;
    Ok(n)
}
