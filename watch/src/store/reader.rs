// SPDX-License-Identifier: MPL-2.0

//! Reads what is kept, beside the one writer. Every question says whose cameras it may be about.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::heard::Clip;
use crate::search::Query;
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

/// Captions of a camera that were found close to each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    pub camera: String,
    pub from: Millis,
    pub to: Millis,
    /// How many captions.
    pub count: u32,
    /// The first of them.
    pub caption: Kept,
}

/// Captions of a camera that are this close to each other are one visit.
const VISIT: Duration = Duration::from_secs(60);
/// Answers to one question at most.
pub const MOST: usize = 200;

/// Reads a store.
#[derive(Debug)]
pub struct Reader {
    layout: Layout,
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

    /// The latest captions before a number, the newest first.
    pub fn latest(
        &mut self,
        scope: &Scope,
        camera: Option<&str>,
        before: Option<CaptionId>,
        limit: usize,
    ) -> Result<Vec<Kept>, Error> {
        let mut found = Vec::new();
        let limit = limit.min(MOST);
        for week in self.layout.weeks().into_iter().rev() {
            let high = match before {
                Some(id) if week > id.week => continue,
                Some(id) if week == id.week => id.row - 1,
                _ => i64::MAX,
            };
            self.rows(week, (0, high), Order::Newest, &mut |kept| {
                if scope.has(&kept.camera) && camera.is_none_or(|camera| camera == kept.camera) {
                    found.push(kept);
                }
                Ok(found.len() < limit)
            })?;
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The visits that a query finds, the newest first, from `limit` captions at most.
    pub fn search(
        &mut self,
        scope: &Scope,
        query: &Query,
        limit: usize,
    ) -> Result<Vec<Visit>, Error> {
        let from = query.after.unwrap_or(Millis(0));
        let to = query.before.unwrap_or(Millis(i64::MAX));
        let limit = limit.min(MOST);
        let during = self.during(scope, query)?;
        let wanted = |kept: &Kept| {
            let named = query.cameras.is_empty() || query.cameras.contains(&kept.camera);
            named
                && scope.has(&kept.camera)
                && kept.until >= from
                && kept.start <= to
                && during.as_ref().is_none_or(|events| {
                    events.iter().any(|event| {
                        event.camera == kept.camera
                            && kept.until >= event.start
                            && event.end.is_none_or(|end| kept.start <= end)
                    })
                })
        };
        let mut found: Vec<Kept> = Vec::new();
        for week in self.weeks(from, to).into_iter().rev() {
            let Some((low, high)) = self.ids(week, from, to)? else {
                continue;
            };
            let indexed = if query.is_any() {
                0
            } else {
                self.indexed(week)?
            };
            // What has come since the index was last written is looked through.
            let room = limit - found.len();
            let mut n = 0;
            self.rows(
                week,
                (low.max(indexed + 1), high),
                Order::Newest,
                &mut |kept| {
                    if wanted(&kept) && query.matches(&kept.text) {
                        found.push(kept);
                        n += 1;
                    }
                    Ok(n < room)
                },
            )?;
            if !query.is_any() && found.len() < limit {
                let room = limit - found.len();
                found.extend(self.matching(
                    week,
                    query,
                    (low, high.min(indexed)),
                    room,
                    &wanted,
                )?);
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(visits(found))
    }

    /// The events that a query's captions have to be within, if it speaks of any.
    fn during(&mut self, scope: &Scope, query: &Query) -> Result<Option<Vec<Event>>, Error> {
        if query.alarms.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for alarm in &query.alarms {
            let wanted = Wanted {
                alarm: Some(alarm.clone()),
                from: query.after,
                to: query.before,
                ..Wanted::default()
            };
            found.extend(self.events(scope, &wanted, MOST)?);
        }
        Ok(Some(found))
    }

    /// What became of cameras since a time, the oldest first.
    pub fn phases(&mut self, scope: &Scope, since: Millis) -> Result<Vec<PhaseSpan>, Error> {
        let mut found = Vec::new();
        self.state(
            "SELECT camera, phase, reason, start, end FROM span WHERE end IS NULL OR end >= ?1 ORDER BY id",
            params![since.0],
            &mut |row| {
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
            },
        )?;
        Ok(found)
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

    fn indexed(&mut self, week: Week) -> Result<i64, Error> {
        let path = self.layout.week(week);
        let connection = self.connection(week)?;
        connection
            .query_row("SELECT to_id FROM indexed", [], |row| row.get(0))
            .map_err(Error::sqlite(&path))
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
            if !each(kept(week, row).map_err(fault())?)? {
                break;
            }
        }
        Ok(())
    }

    /// The newest rows of a week that the index finds.
    fn matching(
        &mut self,
        week: Week,
        query: &Query,
        (low, high): (i64, i64),
        limit: usize,
        wanted: &dyn Fn(&Kept) -> bool,
    ) -> Result<Vec<Kept>, Error> {
        let path = self.layout.week(week);
        let connection = self.connection(week)?;
        let sql = format!(
            "{SELECT} JOIN f ON f.rowid = caption.id
             WHERE f MATCH ?1 AND f.rowid BETWEEN ?2 AND ?3 ORDER BY f.rowid DESC"
        );
        let fault = || Error::sqlite(&path);
        let mut statement = connection.prepare_cached(&sql).map_err(fault())?;
        let mut rows = statement
            .query(params![query.expression(), low, high])
            .map_err(fault())?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(fault())? {
            let kept = kept(week, row).map_err(fault())?;
            if wanted(&kept) {
                found.push(kept);
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok(found)
    }

    pub(super) fn connection(&mut self, week: Week) -> Result<&Connection, Error> {
        let path = self.layout.week(week);
        // A week that was deleted or set aside is not read on.
        if !path.exists() {
            self.open.remove(&week);
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

fn kept(week: Week, row: &rusqlite::Row) -> rusqlite::Result<Kept> {
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
        camera: row.get(1)?,
        start: Millis(row.get(2)?),
        end: Millis(row.get(3)?),
        until: Millis(row.get(4)?),
        count: row.get(5)?,
        text: row.get(6)?,
        model: row.get(7)?,
        spot,
    })
}

/// Captions, the newest first, as visits in the same order.
fn visits(found: Vec<Kept>) -> Vec<Visit> {
    let mut visits: Vec<Visit> = Vec::new();
    for kept in found {
        // The latest visit of this camera among those that were begun.
        let near = visits
            .iter_mut()
            .rev()
            .find(|visit| visit.camera == kept.camera);
        match near.filter(|visit| kept.until.plus(VISIT) >= visit.from) {
            Some(visit) => {
                visit.from = kept.start;
                visit.count += kept.count;
                visit.caption = kept;
            }
            None => visits.push(Visit {
                camera: kept.camera.clone(),
                from: kept.start,
                to: kept.until,
                count: kept.count,
                caption: kept,
            }),
        }
    }
    visits
}
