// SPDX-License-Identifier: MPL-2.0

//! Reads what is kept, beside the one writer. Every question says whose cameras it may be about.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};

use crate::heard::Clip;
use crate::time::{Millis, Week};

use super::db;
use super::error::Error;
use super::files::Layout;
use super::keeper::LONGEST_ROW;
use super::pack::{self, Spot};

/// Whose cameras somebody may know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    Cameras(BTreeSet<String>),
}

impl Scope {
    /// Whether this camera is among them.
    pub fn has(&self, camera: &str) -> bool {
        match self {
            Self::All => true,
            Self::Cameras(cameras) => cameras.contains(camera),
        }
    }
}

/// A caption's number among all weeks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CaptionId {
    pub week: Week,
    pub row: i64,
}

impl CaptionId {
    /// As one number.
    pub fn number(self) -> i64 {
        (i64::from(self.week.0) << 32) | self.row
    }

    /// Of one number.
    pub fn of(number: i64) -> Option<Self> {
        let week = u32::try_from(number >> 32).ok()?;
        Some(Self {
            week: Week(week),
            row: number & 0xffff_ffff,
        })
    }
}

/// A caption as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    pub id: CaptionId,
    pub camera: String,
    pub start: Millis,
    pub end: Millis,
    pub until: Millis,
    pub count: u32,
    pub text: String,
    pub model: String,
    pub spot: Option<Spot>,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: i64,
    pub camera: String,
    pub alarm: String,
    pub start: Millis,
    pub end: Option<Millis>,
    pub peak: Option<f64>,
    pub reason: Option<String>,
    pub caption: String,
    pub acknowledged: bool,
    pub starred: bool,
    pub false_alarm: bool,
    pub note: String,
    /// The clip, if it is there still.
    pub clip: Option<Clip>,
    /// Why there is none.
    pub clip_why: Option<String>,
}

/// Which events are meant; all that is not spoken of is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those with a smaller number.
    pub before: Option<i64>,
    pub camera: Option<String>,
    pub alarm: Option<String>,
    /// Open ones alone.
    pub open: bool,
    /// Those that nobody has acknowledged.
    pub to_do: bool,
    pub false_alarms: bool,
    /// Those that touch these times.
    pub from: Option<Millis>,
    pub to: Option<Millis>,
}

/// What became of a camera for a time.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseSpan {
    pub camera: String,
    pub phase: String,
    pub reason: String,
    pub start: Millis,
    pub end: Option<Millis>,
}

/// Answers to one question at most.
pub const MOST: usize = 200;
/// Weeks that are open at the same time; each has a cache.
const MOST_OPEN: usize = 4;

/// Reads a store.
#[derive(Debug)]
pub struct Reader {
    pub(super) layout: Layout,
    /// Open weeks; a file that is deleted meanwhile is read to its end all the same.
    open: HashMap<Week, Connection>,
}

/// The order in which rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Oldest,
    Newest,
}

impl Reader {
    /// Of the store in this folder, which need not exist yet.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            open: HashMap::new(),
        }
    }

    /// Calls `each` with every caption between two times, the oldest first.
    pub fn each_caption(
        &mut self,
        scope: &Scope,
        from: Millis,
        to: Millis,
        each: &mut dyn FnMut(Kept) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for week in self.weeks(from, to) {
            let Some((low, high)) = self.ids(week, from, to)? else {
                continue;
            };
            self.rows(week, (low, high), Order::Oldest, &mut |kept| {
                if kept.until >= from && kept.start <= to && scope.has(&kept.camera) {
                    each(kept)?;
                }
                Ok(true)
            })?;
        }
        Ok(())
    }

    /// What became of cameras since a time, the oldest first.
    pub fn phases(&mut self, scope: &Scope, since: Millis) -> Result<Vec<PhaseSpan>, Error> {
        self.spans(
            scope,
            since,
            "SELECT camera, phase, reason, start, end FROM span WHERE end IS NULL OR end >= ?1 ORDER BY id",
        )
    }

    fn spans(&mut self, scope: &Scope, since: Millis, sql: &str) -> Result<Vec<PhaseSpan>, Error> {
        let mut found = Vec::new();
        self.state(sql, params![since.0], &mut |row| {
            let span = PhaseSpan {
                camera: row.get(0)?,
                phase: row.get(1)?,
                reason: row.get(2)?,
                start: Millis(row.get(3)?),
                end: row.get::<_, Option<i64>>(4)?.map(Millis),
            };
            if scope.has(&span.camera) {
                found.push(span);
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// When nothing was said of cameras that showed something since a time, the oldest first; as phases, the
    /// reason for it being one.
    pub fn lulls(&mut self, scope: &Scope, since: Millis) -> Result<Vec<PhaseSpan>, Error> {
        self.spans(
            scope,
            since,
            "SELECT camera, why, '', start, end FROM lull WHERE end IS NULL OR end >= ?1 ORDER BY start",
        )
    }

    /// The picture of a caption.
    pub fn thumb(&mut self, scope: &Scope, id: CaptionId) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        if self.layout.week(id.week).exists() {
            self.rows(id.week, (id.row, id.row), Order::Oldest, &mut |kept| {
                found = Some(kept);
                Ok(false)
            })?;
        }
        let kept = found.filter(|kept| scope.has(&kept.camera));
        Ok(kept.and_then(|kept| pack::read(&self.layout.thumbs(), &kept.camera, kept.spot?)))
    }

    /// The weeks that may hold captions between two times: rows lie in the week in which they were
    /// written, a little after what they tell of.
    pub(super) fn weeks(&self, from: Millis, to: Millis) -> Vec<Week> {
        let slack = LONGEST_ROW * 6;
        let first = Week::of(from.minus(slack));
        let last = Week::of(to.plus(slack));
        self.layout
            .weeks()
            .into_iter()
            .filter(|week| (first..=last).contains(week))
            .collect()
    }

    /// The numbers of the rows that may touch a time.
    pub(super) fn ids(
        &mut self,
        week: Week,
        from: Millis,
        to: Millis,
    ) -> Result<Option<(i64, i64)>, Error> {
        let path = self.layout.week(week);
        let connection = self.connection(week)?;
        let sql = "SELECT min(first), max(last) FROM minute WHERE t BETWEEN ?1 AND ?2";
        let ends = params![from.minus(LONGEST_ROW).minute(), to.minute()];
        let pair = |row: &rusqlite::Row| Ok((row.get(0)?, row.get(1)?));
        let found: (Option<i64>, Option<i64>) = connection
            .query_row(sql, ends, pair)
            .map_err(Error::sqlite(&path))?;
        Ok(found.0.zip(found.1))
    }

    /// Calls `each` with rows of a week until it says that it has enough.
    pub(super) fn rows(
        &mut self,
        week: Week,
        (low, high): (i64, i64),
        order: Order,
        each: &mut dyn FnMut(Kept) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let path = self.layout.week(week);
        let connection = self.connection(week)?;
        let order = if order == Order::Oldest {
            "ASC"
        } else {
            "DESC"
        };
        let sql =
            format!("{SELECT} WHERE caption.id BETWEEN ?1 AND ?2 ORDER BY caption.id {order}");
        let fault = || Error::sqlite(&path);
        let mut statement = connection.prepare_cached(&sql).map_err(fault())?;
        let mut rows = statement.query(params![low, high]).map_err(fault())?;
        while let Some(row) = rows.next().map_err(fault())? {
            let kept = |row| kept(week, row, row.get(1)?, row.get(7)?);
            if !each(kept(row).map_err(fault())?)? {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn connection(&mut self, week: Week) -> Result<&Connection, Error> {
        let path = self.layout.week(week);
        // A week that was deleted or set aside is not read on.
        if !path.exists() {
            self.open.remove(&week);
        }
        if self.open.len() >= MOST_OPEN && !self.open.contains_key(&week) {
            self.open.clear();
        }
        match self.open.entry(week) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(db::open_to_read(&path)?)),
        }
    }

    /// Where all lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Calls `each` with rows of `state.db` until it says that it has enough.
    pub(super) fn state(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        each: &mut dyn FnMut(&rusqlite::Row) -> rusqlite::Result<bool>,
    ) -> Result<(), Error> {
        let path = self.layout.state();
        if !path.exists() {
            return Ok(());
        }
        let connection = db::open_to_read(&path)?;
        let read = || -> rusqlite::Result<()> {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query(values)?;
            while let Some(row) = rows.next()? {
                if !each(row)? {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(Error::sqlite(&path))
    }
}

const SELECT: &str = "SELECT caption.id, camera.text, start, end, until, count, caption.text, model.text,
    hour, offset, length FROM caption
    JOIN name AS camera ON camera.id = caption.camera JOIN name AS model ON model.id = caption.model";

/// A row of a week's captions in the order of [`SELECT`], with the names that it has of camera and model.
pub(super) fn kept(
    week: Week,
    row: &rusqlite::Row,
    camera: String,
    model: String,
) -> rusqlite::Result<Kept> {
    let hour: Option<i64> = row.get(8)?;
    let spot = match hour {
        Some(hour) => Some(Spot {
            hour,
            offset: row.get::<_, i64>(9)?.cast_unsigned(),
            length: row.get(10)?,
        }),
        None => None,
    };
    Ok(Kept {
        id: CaptionId {
            week,
            row: row.get(0)?,
        },
        camera,
        start: Millis(row.get(2)?),
        end: Millis(row.get(3)?),
        until: Millis(row.get(4)?),
        count: row.get(5)?,
        text: row.get(6)?,
        model,
        spot,
    })
}
