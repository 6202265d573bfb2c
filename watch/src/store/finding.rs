// SPDX-License-Identifier: MPL-2.0

//! Finds captions, the newest first, and says how far back it has looked.
//!
//! A week's captions lie by time, and so does the index of their words: what is wanted is met on the way
//! back, and nothing is sorted. What could be a long way is made short: hours in which none of the wanted
//! cameras spoke, and times without the wanted alarm, are passed over; beginnings of words, for which the
//! index would put all its words together first, are looked for in the newest captions before; and whoever
//! asks says how long he waits. What was not looked at then is where the next question goes on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row, params};

use crate::search::Query;
use crate::time::{Millis, Week};

use super::error::Error;
use super::keeper::LONGEST_ROW;
use super::reader::{CaptionId, Event, Kept, MOST, Reader, Scope, Wanted, kept};
use super::week::SCALES;

/// Captions of a camera that are this close to each other are one visit.
const VISIT: Duration = Duration::from_secs(60);
/// Captions that are looked through for the beginning of a word before the index is asked.
const LOOKED_THROUGH: usize = 4_000;
/// Alarms within which captions are looked for; the newest are.
const MOST_EVENTS: usize = 2_000;
/// Fewer captions than these in an hour are looked for in their minutes.
const SELDOM: i64 = 60;
/// Stretches with fewer captions than these are looked through without the index, which would meet every caption
/// of others that has the words.
const FEW: i64 = 60_000;
/// After how many captions the clock is looked at.
const CLOCK: usize = 256;

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

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// From the captions before this one.
    pub before: Option<CaptionId>,
    /// So many captions at most.
    pub limit: usize,
    /// So long, a little more or less.
    pub patience: Duration,
}

impl Reach {
    /// From the newest on, until it has so many or there are no more.
    pub fn of(limit: usize) -> Self {
        Self {
            before: None,
            limit,
            patience: Duration::MAX,
        }
    }
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The newest first.
    pub visits: Vec<Visit>,
    /// The caption before which it was not looked.
    pub next: Option<CaptionId>,
    /// When that was said.
    pub looked_to: Option<Millis>,
}

/// The columns that [`Names::kept`] reads.
const COLUMNS: &str =
    "caption.id, caption.camera, caption.start, caption.end, caption.until, caption.count,
    caption.text, caption.model, caption.hour, caption.offset, caption.length";

/// A caption, and when it was said.
type Place = (CaptionId, Millis);

/// What is wanted, what was found so far, and when to stop.
struct Hunt<'a> {
    scope: &'a Scope,
    query: &'a Query,
    from: Millis,
    to: Millis,
    during: Option<Vec<Event>>,
    limit: usize,
    begin: Instant,
    patience: Duration,
    looked: usize,
    /// So many captions are looked through that the index knows.
    through: usize,
    found: Vec<Kept>,
    next: Option<Place>,
}

impl Hunt<'_> {
    /// Whether a camera's captions are wanted.
    fn wants(&self, camera: &str) -> bool {
        let named = &self.query.cameras;
        self.scope.has(camera) && (named.is_empty() || named.iter().any(|name| name == camera))
    }

    /// Whether some cameras' captions are not.
    fn is_choosy(&self) -> bool {
        !self.query.cameras.is_empty() || *self.scope != Scope::All
    }

    fn is_within(&self, camera: &str, start: Millis, until: Millis) -> bool {
        let within = |event: &Event| {
            event.camera == camera
                && until >= event.start
                && event.end.is_none_or(|end| start <= end)
        };
        until >= self.from
            && start <= self.to
            && self
                .during
                .as_ref()
                .is_none_or(|events| events.iter().any(within))
    }

    /// One more caption was looked at: whether it was the last.
    fn looked_at(&mut self, id: CaptionId, start: Millis) -> bool {
        self.looked += 1;
        let tired = self.looked.is_multiple_of(CLOCK) && self.begin.elapsed() >= self.patience;
        let over = tired || self.found.len() >= self.limit;
        if over {
            self.next = Some((id, start));
        }
        over
    }
}

/// The names of a week's cameras and models.
struct Names {
    week: Week,
    names: HashMap<i64, String>,
}

impl Names {
    fn of(connection: &Connection, week: Week) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached("SELECT id, text FROM name")?;
        let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self {
            week,
            names: names.collect::<rusqlite::Result<_>>()?,
        })
    }

    fn name(&self, row: &Row, column: usize) -> rusqlite::Result<&str> {
        let id: i64 = row.get(column)?;
        Ok(self.names.get(&id).map_or("", String::as_str))
    }

    fn id(&self, row: &Row) -> rusqlite::Result<CaptionId> {
        Ok(CaptionId {
            week: self.week,
            row: row.get(0)?,
        })
    }

    fn kept(&self, row: &Row) -> rusqlite::Result<Kept> {
        let name = |column| Ok::<_, rusqlite::Error>(self.name(row, column)?.to_owned());
        kept(self.week, row, name(1)?, name(7)?)
    }
}

impl Reader {
    /// The latest captions before a number, the newest first.
    pub fn latest(
        &mut self,
        scope: &Scope,
        camera: Option<&str>,
        before: Option<CaptionId>,
        limit: usize,
    ) -> Result<Vec<Kept>, Error> {
        let mut query = Query::default();
        query.cameras.extend(camera.map(str::to_owned));
        let reach = Reach {
            before,
            ..Reach::of(limit)
        };
        Ok(self.hunt(scope, &query, &reach)?.0)
    }

    /// The visits that a query finds, the newest first.
    pub fn search(&mut self, scope: &Scope, query: &Query, reach: &Reach) -> Result<Found, Error> {
        let (found, next) = self.hunt(scope, query, reach)?;
        Ok(Found {
            visits: visits(found),
            next: next.map(|(id, _)| id),
            looked_to: next.map(|(_, at)| at),
        })
    }

    /// The captions, and where to go on.
    fn hunt(
        &mut self,
        scope: &Scope,
        query: &Query,
        reach: &Reach,
    ) -> Result<(Vec<Kept>, Option<Place>), Error> {
        let mut hunt = Hunt {
            scope,
            query,
            from: query.after.unwrap_or(Millis(0)),
            to: query.before.unwrap_or(Millis(i64::MAX)),
            during: self.during(scope, query)?,
            limit: reach.limit.min(MOST),
            begin: Instant::now(),
            patience: reach.patience,
            looked: 0,
            through: if query.has_beginnings() {
                LOOKED_THROUGH
            } else {
                0
            },
            found: Vec::new(),
            next: None,
        };
        for week in self.weeks(hunt.from, hunt.to).into_iter().rev() {
            let high = match reach.before {
                Some(id) if week > id.week => continue,
                Some(id) if week == id.week => id.row - 1,
                _ => i64::MAX,
            };
            self.hunt_in(week, high, &mut hunt)?;
            if hunt.next.is_some() {
                break;
            }
        }
        Ok((hunt.found, hunt.next))
    }

    /// Looks at a week, back from a row.
    fn hunt_in(&mut self, week: Week, high: i64, hunt: &mut Hunt) -> Result<(), Error> {
        let path = self.layout.week(week);
        let connection = self.connection(week)?;
        let run = |hunt: &mut Hunt| -> rusqlite::Result<()> {
            let names = Names::of(connection, week)?;
            let stretches = stretches(connection, &names, hunt, high)?;
            let mut plain = Plain::of(connection, hunt.query)?;
            let n: i64 = stretches.iter().map(|(low, high)| high - low + 1).sum();
            if n <= FEW && (hunt.is_choosy() || hunt.during.is_some()) {
                plain.indexed = 0;
            }
            for stretch in &stretches {
                plain.scan(connection, &names, hunt, *stretch)?;
            }
            let low = stretches.last().map(|(low, _)| *low);
            match plain.rest.zip(low) {
                Some((high, low)) if hunt.next.is_none() => {
                    by_index(connection, &names, hunt, (low, high))
                }
                _ => Ok(()),
            }
        };
        run(hunt).map_err(Error::sqlite(&path))
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
            found.extend(self.events(scope, &wanted, MOST_EVENTS)?);
        }
        Ok(Some(found))
    }
}

/// The numbers of the rows that may be wanted, the newest first.
fn stretches(
    connection: &Connection,
    names: &Names,
    hunt: &Hunt,
    high: i64,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let minutes = |from: Millis, to: Millis| (from.minus(LONGEST_ROW).minute(), to.minute());
    let (first, last) = minutes(hunt.from, hunt.to);
    let times: Vec<(i64, i64)> = if let Some(events) = &hunt.during {
        let wanted = events.iter().filter(|event| hunt.wants(&event.camera));
        wanted
            .map(|event| minutes(event.start, event.end.unwrap_or(Millis(i64::MAX))))
            .map(|(from, to)| (from.max(first), to.min(last)))
            .collect()
    } else if hunt.is_choosy() {
        spoken(connection, names, hunt, (first, last))?
    } else {
        vec![(first, last)]
    };
    let sql = "SELECT min(first), max(last) FROM minute WHERE t BETWEEN ?1 AND ?2";
    let mut look = connection.prepare_cached(sql)?;
    let mut found: Vec<(i64, i64)> = Vec::new();
    for (from, to) in joined(times) {
        let ends = look.query_row(params![from, to], |row| {
            Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?))
        })?;
        if let (Some(first), Some(last)) = ends
            && first <= high
        {
            found.push((first, last.min(high)));
        }
    }
    // A clock that was set back has numbers of two times beside each other.
    Ok(joined(found))
}

/// The minutes in which cameras spoke that are wanted: of hours in which they spoke seldom one by one, since
/// others may have said much in between.
fn spoken(
    connection: &Connection,
    names: &Names,
    hunt: &Hunt,
    (first, last): (i64, i64),
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let [short, long] = SCALES;
    let sql = "SELECT t, camera, n FROM tick WHERE minutes = ?1 AND t BETWEEN ?2 AND ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut said = |scale: i64, from: i64, to: i64| -> rusqlite::Result<Vec<(i64, i64)>> {
        let mut rows = statement.query(params![scale, from, to])?;
        let mut found: Vec<(i64, i64)> = Vec::new();
        while let Some(row) = rows.next()? {
            if !hunt.wants(names.name(row, 1)?) {
                continue;
            }
            let (t, n) = (row.get(0)?, row.get(2)?);
            match found.last_mut().filter(|(of, _)| *of == t) {
                Some((_, sum)) => *sum += n,
                None => found.push((t, n)),
            }
        }
        Ok(found)
    };
    let mut times = Vec::new();
    for (hour, n) in said(long, first.div_euclid(long), last.div_euclid(long))? {
        let (from, to) = ((long * hour).max(first), (long * hour + long - 1).min(last));
        if n > SELDOM {
            times.push((from, to));
        } else {
            times.extend(said(short, from, to)?.into_iter().map(|(t, _)| (t, t)));
        }
    }
    Ok(times)
}

/// Stretches in any order as stretches apart from each other, the last one first.
fn joined(mut stretches: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    stretches.retain(|(low, high)| low <= high);
    stretches.sort_by_key(|(_, high)| std::cmp::Reverse(*high));
    let mut apart: Vec<(i64, i64)> = Vec::new();
    for (low, high) in stretches {
        match apart.last_mut() {
            Some(last) if high + 1 >= last.0 => last.0 = last.0.min(low),
            _ => apart.push((low, high)),
        }
    }
    apart
}

/// Looks through captions one by one: what is not in the index, and the newest for beginnings of words.
struct Plain {
    /// Up to this row the index knows all words.
    indexed: i64,
    /// The row from which on the index is to be asked.
    rest: Option<i64>,
}

impl Plain {
    fn of(connection: &Connection, query: &Query) -> rusqlite::Result<Self> {
        let indexed = if query.is_any() {
            0
        } else {
            connection.query_row("SELECT to_id FROM indexed", [], |row| row.get(0))?
        };
        Ok(Self {
            indexed,
            rest: None,
        })
    }

    fn scan(
        &mut self,
        connection: &Connection,
        names: &Names,
        hunt: &mut Hunt,
        (low, high): (i64, i64),
    ) -> rusqlite::Result<()> {
        if self.rest.is_some() || hunt.next.is_some() {
            return Ok(());
        }
        if hunt.through == 0 && high <= self.indexed {
            self.rest = Some(high);
            return Ok(());
        }
        let sql =
            format!("SELECT {COLUMNS} FROM caption WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![low, high])?;
        while let Some(row) = rows.next()? {
            let id = names.id(row)?;
            if id.row <= self.indexed && hunt.through == 0 {
                self.rest = Some(id.row);
                break;
            }
            let matches = |text: &str| hunt.query.is_any() || hunt.query.matches(text);
            if hunt.wants(names.name(row, 1)?) {
                if id.row <= self.indexed {
                    hunt.through -= 1;
                }
                if is_wanted(names, hunt, row)? && matches(row.get_ref(6)?.as_str()?) {
                    hunt.found.push(names.kept(row)?);
                }
            }
            if hunt.looked_at(id, Millis(row.get(2)?)) {
                break;
            }
        }
        Ok(())
    }
}

/// Asks the index. It is read in the order of rows from the newest on, as far as anybody wants to know.
fn by_index(
    connection: &Connection,
    names: &Names,
    hunt: &mut Hunt,
    (low, high): (i64, i64),
) -> rusqlite::Result<()> {
    // CROSS: the index first, whatever SQLite thinks of it.
    let sql = format!(
        "SELECT {COLUMNS} FROM f CROSS JOIN caption ON caption.id = f.rowid
         WHERE f MATCH ?1 AND f.rowid BETWEEN ?2 AND ?3 ORDER BY f.rowid DESC"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![hunt.query.expression(), low, high])?;
    while let Some(row) = rows.next()? {
        if is_wanted(names, hunt, row)? {
            hunt.found.push(names.kept(row)?);
        }
        if hunt.looked_at(names.id(row)?, Millis(row.get(2)?)) {
            break;
        }
    }
    Ok(())
}

fn is_wanted(names: &Names, hunt: &Hunt, row: &Row) -> rusqlite::Result<bool> {
    let camera = names.name(row, 1)?;
    let times = (Millis(row.get(2)?), Millis(row.get(4)?));
    Ok(hunt.wants(camera) && hunt.is_within(camera, times.0, times.1))
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
