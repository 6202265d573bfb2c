// SPDX-License-Identifier: MPL-2.0

//! Reads events, and the answers that belong to them.

use rusqlite::{Row, params};

use crate::heard::Clip;
use crate::time::Millis;

use super::error::Error;
use super::reader::{Event, Reader, Scope, Wanted};

const SELECT: &str =
    "SELECT id, camera, alarm, start, end, peak, reason, caption, acknowledged, starred,
    false_alarm, note, clip_from, clip_to, clip_size, clip_why FROM event";

impl Reader {
    /// The latest events, the newest first.
    pub fn events(
        &mut self,
        scope: &Scope,
        wanted: &Wanted,
        limit: usize,
    ) -> Result<Vec<Event>, Error> {
        let mut found = Vec::new();
        let sql = format!(
            "{SELECT} WHERE id < ?1 AND (?2 IS NULL OR camera = ?2) AND (?3 IS NULL OR alarm = ?3)
             AND (?4 = 0 OR end IS NULL) AND (?5 = 0 OR acknowledged = 0) AND (?6 = 0 OR false_alarm = 1)
             AND start <= ?7 AND (end IS NULL OR end >= ?8) ORDER BY id DESC"
        );
        let values = params![
            wanted.before.unwrap_or(i64::MAX),
            wanted.camera,
            wanted.alarm,
            wanted.open,
            wanted.to_do,
            wanted.false_alarms,
            wanted.to.map_or(i64::MAX, |to| to.0),
            wanted.from.map_or(i64::MIN, |from| from.0),
        ];
        self.state(&sql, values, &mut |row| {
            let event = event(row)?;
            if scope.has(&event.camera) {
                found.push(event);
            }
            Ok(found.len() < limit)
        })?;
        for event in &mut found {
            self.look_for_clip(event);
        }
        Ok(found)
    }

    /// One event.
    pub fn event(&mut self, scope: &Scope, id: i64) -> Result<Option<Event>, Error> {
        let mut found = None;
        let sql = format!("{SELECT} WHERE id = ?1");
        self.state(&sql, params![id], &mut |row| {
            found = Some(event(row)?);
            Ok(false)
        })?;
        let mut found = found.filter(|event| scope.has(&event.camera));
        if let Some(event) = &mut found {
            self.look_for_clip(event);
        }
        Ok(found)
    }

    /// How likely "yes" was around an event, in order.
    pub fn trace(&mut self, event: i64) -> Result<Vec<(Millis, f64)>, Error> {
        let mut found = Vec::new();
        self.state(
            "SELECT at, probability FROM trace WHERE event = ?1 ORDER BY at",
            params![event],
            &mut |row| {
                found.push((Millis(row.get(0)?), row.get(1)?));
                Ok(true)
            },
        )?;
        Ok(found)
    }

    /// A clip goes before its event does.
    fn look_for_clip(&self, event: &mut Event) {
        if event.clip.is_some() && !self.layout().clip(&event.camera, event.id).exists() {
            event.clip = None;
            event.clip_why = Some("it was deleted, as the limits of [storage] ask".into());
        }
    }
}

fn event(row: &Row) -> rusqlite::Result<Event> {
    let millis = |at: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(Millis));
    let size: Option<i64> = row.get(14)?;
    let clip = millis(12)?.zip(millis(13)?).zip(size);
    Ok(Event {
        id: row.get(0)?,
        camera: row.get(1)?,
        alarm: row.get(2)?,
        start: Millis(row.get(3)?),
        end: millis(4)?,
        peak: row.get(5)?,
        reason: row.get(6)?,
        caption: row.get(7)?,
        acknowledged: row.get(8)?,
        starred: row.get(9)?,
        false_alarm: row.get(10)?,
        note: row.get(11)?,
        clip: clip.map(|((from, to), size)| Clip {
            from,
            to,
            size: size.cast_unsigned(),
        }),
        clip_why: row.get(15)?,
    })
}
