// SPDX-License-Identifier: MPL-2.0

//! What is deleted: by age, and by size when there is too much or the disk is nearly full.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::time::{Millis, Week};

use super::files::Layout;
use super::pack;
use super::state::Standing;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_size: u64,
    pub keep_free: u64,
    pub captions: Duration,
    pub thumbnails: Duration,
    pub clips: Duration,
}

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub path: PathBuf,
    pub kind: Kind,
    pub size: u64,
    /// No later time is in it.
    pub ends: Millis,
    /// It is being written.
    pub open: bool,
}

/// What a file holds; the first go first when room is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Thumbnails,
    /// Clips of alarms that somebody has seen to.
    SeenClips,
    Clips,
    Captions,
    /// Never deleted: events, starred clips, the lock, what was set aside.
    Other,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    pub delete: Vec<PathBuf>,
    /// The limits cannot be kept even so: no more pictures are to be stored.
    pub at_the_floor: bool,
}

/// Which files are to go.
pub fn plan(files: &[Kept], limits: &Limits, free: u64, now: Millis) -> Plan {
    let too_old = |kept: &Kept| {
        let keep = match kept.kind {
            Kind::Thumbnails => limits.thumbnails,
            Kind::SeenClips | Kind::Clips => limits.clips,
            Kind::Captions => limits.captions,
            Kind::Other => return false,
        };
        !kept.open && kept.ends.plus(keep) <= now
    };
    let (old, mut rest): (Vec<&Kept>, Vec<&Kept>) = files.iter().partition(|kept| too_old(kept));
    let mut delete: Vec<PathBuf> = old.iter().map(|kept| kept.path.clone()).collect();
    let mut size: u64 = rest.iter().map(|kept| kept.size).sum();
    let mut free = free.saturating_add(old.iter().map(|kept| kept.size).sum());
    rest.sort_by_key(|kept| (kept.kind, kept.ends));
    for kept in rest
        .iter()
        .filter(|kept| !kept.open && kept.kind != Kind::Other)
    {
        if size <= limits.max_size && free >= limits.keep_free {
            break;
        }
        delete.push(kept.path.clone());
        size -= kept.size;
        free = free.saturating_add(kept.size);
    }
    Plan {
        delete,
        at_the_floor: size > limits.max_size || free < limits.keep_free,
    }
}

/// Every file of the store. A clip of no event is of an old one.
pub fn look(layout: &Layout, standings: &HashMap<i64, Standing>, now: Millis) -> Vec<Kept> {
    let mut found = Vec::new();
    let open_week = Week::of(now);
    for week in layout.weeks() {
        let path = layout.week(week);
        // The log and its index belong to the file.
        let size = [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")]
            .iter()
            .map(|p| size(p))
            .sum();
        found.push(Kept {
            path,
            kind: Kind::Captions,
            size,
            ends: week.end(),
            open: week >= open_week,
        });
    }
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for camera in entries(&layout.thumbs()) {
        for entry in entries(&camera.path()) {
            let name = entry.file_name();
            let Some(hour) = name.to_str().and_then(pack::hour_of) else {
                continue;
            };
            found.push(Kept {
                path: entry.path(),
                kind: Kind::Thumbnails,
                size: size(&entry.path()),
                ends: Millis((hour + 1) * 3_600_000),
                open: hour >= now.hour(),
            });
        }
    }
    for camera in entries(&layout.clips()) {
        for entry in entries(&camera.path()) {
            found.extend(clip(&entry.path(), standings));
        }
    }
    let state = layout.state();
    for path in [state.clone(), beside(&state, "-wal")] {
        found.push(Kept {
            size: size(&path),
            path,
            kind: Kind::Other,
            ends: now,
            open: true,
        });
    }
    found
}

/// A clip, or one that grows.
fn clip(path: &Path, standings: &HashMap<i64, Standing>) -> Option<Kept> {
    let event: i64 = path.file_stem()?.to_str()?.parse().ok()?;
    let open = path.extension()? != "mp4";
    let standing = standings.get(&event).copied();
    let kind = match standing.unwrap_or(Standing::Acknowledged) {
        Standing::Starred => Kind::Other,
        Standing::Acknowledged => Kind::SeenClips,
        Standing::ToDo => Kind::Clips,
    };
    let meta = std::fs::metadata(path).ok()?;
    let written = meta.modified().ok()?;
    let since = written.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Kept {
        path: path.to_owned(),
        kind,
        size: meta.len(),
        ends: Millis(0).plus(since),
        open,
    })
}

/// Deletes a file with what SQLite keeps beside it.
pub fn delete(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path)?;
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(beside(path, end));
    }
    Ok(())
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.len())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn kept(kind: Kind, day: i64, size: u64, open: bool) -> Kept {
        let path = format!("{kind:?}-{day}").into();
        Kept {
            path,
            kind,
            size,
            ends: Millis(day * DAY),
            open,
        }
    }

    fn limits(max_size: u64, keep_free: u64) -> Limits {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Limits {
            max_size,
            keep_free,
            captions: days(90),
            thumbnails: days(14),
            clips: days(30),
        }
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        plan.delete
            .iter()
            .filter_map(|path| path.to_str())
            .collect()
    }

    #[test]
    fn what_is_too_old_goes_each_kind_by_its_own_age() {
        let files = [
            kept(Kind::Captions, 9, 1, false),
            kept(Kind::Captions, 11, 1, false),
            kept(Kind::Thumbnails, 80, 1, false),
            kept(Kind::Thumbnails, 90, 1, false),
        ];
        let plan = plan(&files, &limits(100, 0), 1000, Millis(100 * DAY));
        assert_eq!(deleted(&plan), ["Captions-9", "Thumbnails-80"]);
        assert!(!plan.at_the_floor);
    }

    #[test]
    fn by_size_pictures_go_before_words_and_the_oldest_first() {
        let files = [
            kept(Kind::Captions, 60, 10, false),
            kept(Kind::Captions, 100, 10, true),
            kept(Kind::Thumbnails, 99, 10, false),
            kept(Kind::Thumbnails, 98, 10, false),
            kept(Kind::Other, 0, 5, true),
        ];
        let now = Millis(100 * DAY);
        assert_eq!(
            deleted(&plan(&files, &limits(40, 0), 1000, now)),
            ["Thumbnails-98"]
        );
        assert_eq!(
            deleted(&plan(&files, &limits(20, 0), 1000, now)).last(),
            Some(&"Captions-60")
        );
        assert_eq!(
            deleted(&plan(&files, &limits(100, 50), 35, now)),
            ["Thumbnails-98", "Thumbnails-99"]
        );
    }

    #[test]
    fn clips_go_after_pictures_those_that_were_seen_to_first_and_starred_ones_never() {
        let files = [
            kept(Kind::Clips, 90, 10, false),
            kept(Kind::SeenClips, 99, 10, false),
            kept(Kind::Thumbnails, 99, 10, false),
            kept(Kind::Captions, 60, 10, false),
            kept(Kind::Other, 1, 10, false),
        ];
        let plan = |most| plan(&files, &limits(most, 0), 1000, Millis(100 * DAY));
        let order = ["Thumbnails-99", "SeenClips-99", "Clips-90", "Captions-60"];
        for n in 0..=4 {
            assert_eq!(deleted(&plan(50 - 10 * n as u64)), order[..n]);
        }
        assert!(plan(5).at_the_floor);
    }

    #[test]
    fn what_is_being_written_stays_and_the_floor_is_told() {
        let files = [
            kept(Kind::Captions, 100, 10, true),
            kept(Kind::Thumbnails, 100, 10, true),
        ];
        let plan = plan(&files, &limits(5, 0), 1000, Millis(100 * DAY));
        assert!(plan.delete.is_empty() && plan.at_the_floor);
    }
}
