// SPDX-License-Identifier: MPL-2.0

//! Reads what a timeline shows: how much was said when, and what was said at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rusqlite::params;

use crate::time::{Millis, Week};

use super::error::Error;
use super::keeper::LONGEST_ROW;
use super::reader::{CaptionId, Kept, Order, Reader, Scope};
use super::week::SCALES;

/// Up to this each caption is looked at; beyond it the counts of minutes, and then of hours, are.
const EXACT: Duration = Duration::from_secs(3_600);
const BY_MINUTES: Duration = Duration::from_secs(2 * 86_400);

/// How many captions began in each stretch of a time, by camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticks {
    /// How many stretches there are; no more than were asked for, and none shorter than what is known.
    pub n: usize,
    pub cameras: BTreeMap<String, Vec<u32>>,
}

/// What was said of a camera at a moment, and the picture that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    pub caption: Kept,
    pub thumb: Option<CaptionId>,
}

impl Reader {
    /// How much was said between two times, in `n` stretches or fewer.
    pub fn ticks(
        &mut self,
        scope: &Scope,
        (from, to): (Millis, Millis),
        n: usize,
    ) -> Result<Ticks, Error> {
        let span = u64::try_from(to.0.saturating_sub(from.0))
            .unwrap_or(0)
            .max(1);
        let span = Duration::from_millis(span);
        let scale = if span <= EXACT {
            None
        } else if span <= BY_MINUTES {
            Some(SCALES[0])
        } else {
            Some(SCALES[1])
        };
        let shortest = scale.map_or(1_000, |minutes| 60_000 * minutes);
        let most = usize::try_from(span.as_millis() as i64 / shortest).unwrap_or(1);
        let mut ticks = Ticks {
            n: n.min(most).max(1),
            cameras: BTreeMap::new(),
        };
        for week in self.weeks(from, to) {
            match scale {
                None => self.exact(week, scope, (from, to), &mut ticks)?,
                Some(minutes) => self.counted(week, scope, (from, to), minutes, &mut ticks)?,
            }
        }
        Ok(ticks)
    }

    fn exact(
        &mut self,
        week: Week,
        scope: &Scope,
        (from, to): (Millis, Millis),
        ticks: &mut Ticks,
    ) -> Result<(), Error> {
        let Some(ids) = self.ids(week, from, to)? else {
            return Ok(());
        };
        let path = self.layout().week(week);
        let connection = self.connection(week)?;
        let fault = || Error::sqlite(&path);
        let sql = "SELECT name.text, start FROM caption JOIN name ON name.id = caption.camera
                   WHERE caption.id BETWEEN ?1 AND ?2 AND start >= ?3 AND start < ?4";
        let mut statement = connection.prepare_cached(sql).map_err(fault())?;
        let ends = params![ids.0, ids.1, from.0, to.0];
        let mut rows = statement.query(ends).map_err(fault())?;
        while let Some(row) = rows.next().map_err(fault())? {
            let camera: String = row.get(0).map_err(fault())?;
            let start: i64 = row.get(1).map_err(fault())?;
            if scope.has(&camera) {
                ticks.add(camera, (start - from.0, to.0 - from.0), 1);
            }
        }
        Ok(())
    }

    fn counted(
        &mut self,
        week: Week,
        scope: &Scope,
        (from, to): (Millis, Millis),
        minutes: i64,
        ticks: &mut Ticks,
    ) -> Result<(), Error> {
        let path = self.layout().week(week);
        let unit = 60_000 * minutes;
        let connection = self.connection(week)?;
        let fault = || Error::sqlite(&path);
        let sql = "SELECT name.text, t, n FROM tick JOIN name ON name.id = tick.camera
                   WHERE minutes = ?1 AND t BETWEEN ?2 AND ?3";
        let mut statement = connection.prepare_cached(sql).map_err(fault())?;
        let ends = params![minutes, from.0.div_euclid(unit), to.0.div_euclid(unit)];
        let mut rows = statement.query(ends).map_err(fault())?;
        while let Some(row) = rows.next().map_err(fault())? {
            let camera: String = row.get(0).map_err(fault())?;
            let (t, n): (i64, u32) = (row.get(1).map_err(fault())?, row.get(2).map_err(fault())?);
            // The middle, so that a minute is in one stretch however they are cut.
            let middle = t * unit + unit / 2;
            if middle >= from.0 && middle < to.0 && scope.has(&camera) {
                ticks.add(camera, (middle - from.0, to.0 - from.0), n);
            }
        }
        Ok(())
    }

    /// What was said of each of these cameras at a moment, if it was within ten minutes before it.
    pub fn moment(
        &mut self,
        scope: &Scope,
        cameras: &BTreeSet<String>,
        at: Millis,
    ) -> Result<BTreeMap<String, Moment>, Error> {
        let from = at.minus(LONGEST_ROW);
        let mut found: BTreeMap<String, Moment> = BTreeMap::new();
        let mut missing: BTreeSet<String> =
            cameras.iter().filter(|id| scope.has(id)).cloned().collect();
        for week in self.weeks(from, at).into_iter().rev() {
            let Some(ids) = self.ids(week, from, at)? else {
                continue;
            };
            self.rows(week, ids, Order::Newest, &mut |kept| {
                if kept.start > at || kept.until < from || !missing.contains(&kept.camera) {
                    return Ok(true);
                }
                let id = kept.id;
                let has_picture = kept.spot.is_some();
                let camera = kept.camera.clone();
                let moment = found.entry(camera.clone()).or_insert(Moment {
                    caption: kept,
                    thumb: None,
                });
                if has_picture {
                    moment.thumb = Some(id);
                    missing.remove(&camera);
                }
                Ok(!missing.is_empty())
            })?;
        }
        Ok(found)
    }

    /// The captions of a camera that touch a time, the oldest first.
    pub fn between(
        &mut self,
        scope: &Scope,
        camera: Option<&str>,
        (from, to): (Millis, Millis),
        limit: usize,
    ) -> Result<Vec<Kept>, Error> {
        let mut found = Vec::new();
        for week in self.weeks(from, to) {
            let Some(ids) = self.ids(week, from, to)? else {
                continue;
            };
            self.rows(week, ids, Order::Oldest, &mut |kept| {
                let named = camera.is_none_or(|camera| camera == kept.camera);
                if named && kept.until >= from && kept.start <= to && scope.has(&kept.camera) {
                    found.push(kept);
                }
                Ok(found.len() < limit)
            })?;
        }
        Ok(found)
    }

    /// How likely "yes" to an alarm's question was at least and at most in each minute, in order.
    pub fn answered(
        &mut self,
        camera: &str,
        alarm: &str,
        (from, to): (Millis, Millis),
    ) -> Result<Vec<crate::fires::Minute>, Error> {
        let mut found = Vec::new();
        self.state(
            "SELECT minute, least, most, n FROM answer WHERE minute BETWEEN ?1 AND ?2 AND camera = ?3 AND alarm = ?4
             ORDER BY minute",
            params![from.minute(), to.minute(), camera, alarm],
            &mut |row| {
                found.push(crate::fires::Minute {
                    minute: row.get(0)?,
                    least: row.get(1)?,
                    most: row.get(2)?,
                    n: row.get(3)?,
                });
                Ok(true)
            },
        )?;
        Ok(found)
    }
}

impl Ticks {
    fn add(&mut self, camera: String, (part, whole): (i64, i64), n: u32) {
        let counts = self
            .cameras
            .entry(camera)
            .or_insert_with(|| vec![0; self.n]);
        let at = i128::from(part) * self.n as i128 / i128::from(whole.max(1));
        if let Some(count) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
            *count += n;
        }
    }
}
