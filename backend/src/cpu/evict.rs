// SPDX-License-Identifier: MPL-2.0

//! Eviction of int8 matrices from the cache's folder, which would grow with each model that a user
//! tries.
//!
//! A file's time of change is its last use. Readers hold a shared lock on their file, a writer an
//! exclusive one. Locked files stay, and so do files that are not the cache's. On Unix a file may be
//! removed between a look at it and its use: who has it open reads on.

use std::fs::{File, TryLockError};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often and how far apart a lock is asked for that somebody else has.
const LOOKS: u32 = 20;
const LOOK: Duration = Duration::from_millis(10);

/// What a folder may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Files that were not used for so long go.
    pub(super) unused: Duration,
    /// While there are more bytes than these, the file whose last use is longest ago goes.
    pub(super) size_bytes: u64,
}

impl Default for Bounds {
    /// A quarter of a year, and 16 GiB: two models of 7 B, or eight of 2 B.
    fn default() -> Self {
        Self {
            unused: Duration::from_secs(90 * 24 * 3600),
            size_bytes: 16 << 30,
        }
    }
}

/// A file of ours.
#[derive(Debug)]
struct CacheFile {
    /// Open, and locked unless another engine has it: no engine begins to use it before the decision.
    _file: File,
    path: PathBuf,
    size_bytes: u64,
    used: SystemTime,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Another engine has it.
    InUse,
    /// No engine has it.
    Free,
    /// Its writer ended before it was whole.
    HalfDone,
}

/// Notes that the file is in use, from now on and for as long as it is open. Where this cannot be
/// noted the file may be removed, and is made again by the next start.
pub(super) fn use_file(file: &File) {
    let _ = file.set_modified(SystemTime::now());
    // Eviction holds the lock for a moment only.
    for _ in 0..LOOKS {
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            Ok(()) | Err(TryLockError::Error(_)) => return,
        }
    }
}

/// Removes what `bounds` do not allow of the files in `folder` that begin with `magic`: those named
/// `.int8`, and those named `.tmp` that nobody is writing any more.
pub(super) fn evict(folder: &Path, magic: &[u8], bounds: Bounds) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let files = entries.filter_map(|entry| look_at(entry.ok()?.path(), magic));
    // With their locks.
    for file in surplus(files.collect(), bounds, SystemTime::now()) {
        // A file that cannot be removed is left to its owner.
        let _ = std::fs::remove_file(&file.path);
    }
}

fn look_at(path: PathBuf, magic: &[u8]) -> Option<CacheFile> {
    let is_temporary = match path.extension()?.to_str()? {
        "int8" => false,
        "tmp" => true,
        _ => return None,
    };
    let mut file = File::open(&path).ok()?;
    let metadata = file.metadata().ok()?;
    let mut begin = vec![0; magic.len()];
    file.read_exact(&mut begin).ok()?;
    if begin != magic {
        return None;
    }
    let state = match file.try_lock() {
        Ok(()) if is_temporary => State::HalfDone,
        Ok(()) => State::Free,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => State::InUse,
    };
    Some(CacheFile {
        _file: file,
        path,
        size_bytes: metadata.len(),
        used: metadata.modified().ok()?,
        state,
    })
}

/// What has to go.
fn surplus(mut files: Vec<CacheFile>, bounds: Bounds, now: SystemTime) -> Vec<CacheFile> {
    files.sort_by_key(|file| file.used);
    let mut total: u64 = files.iter().map(|file| file.size_bytes).sum();
    let mut gone = Vec::new();
    for file in files {
        // A time in the future, after the clock was set back, counts as now.
        let unused = now.duration_since(file.used).unwrap_or_default();
        let goes = match file.state {
            State::InUse => false,
            State::HalfDone => true,
            State::Free => unused > bounds.unused || total > bounds.size_bytes,
        };
        if goes {
            total -= file.size_bytes;
            gone.push(file);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8] = b"ours";
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const BOUNDS: Bounds = Bounds {
        unused: Duration::from_secs(30 * 24 * 3600),
        size_bytes: 100,
    };

    /// A file of so many bytes, used so many days ago.
    fn put(folder: &Path, name: &str, size: usize, days: u32) -> File {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(size, 0);
        std::fs::write(folder.join(name), bytes).expect("a writable folder");
        let file = File::options().append(true).open(folder.join(name));
        let file = file.expect("the file");
        let used = SystemTime::now() - days * DAY;
        file.set_modified(used).expect("a file system with times");
        file
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("a file"))).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_not_used_for_long_goes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        put(folder.path(), "old.int8", 10, 31);
        put(folder.path(), "young.int8", 10, 29);
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()), ["young.int8"]);
    }

    #[test]
    fn of_too_many_bytes_the_longest_unused_go_first() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, days) in [("a", 3), ("b", 5), ("c", 1), ("d", 4)] {
            put(folder.path(), &format!("{name}.int8"), 40, days);
        }
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()), ["a.int8", "c.int8"]);
    }

    #[test]
    fn a_file_in_use_stays_whatever_its_age_and_size() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("used.int8");
        put(folder.path(), "used.int8", 300, 2);
        put(folder.path(), "free.int8", 10, 1);
        let user = File::open(&path).expect("the file");
        use_file(&user);
        let age = path.metadata().and_then(|metadata| metadata.modified());
        let age = SystemTime::now().duration_since(age.expect("a time"));
        assert!(age.unwrap_or_default() < DAY, "used now");
        let later = File::options().append(true).open(&path).expect("the file");
        later
            .set_modified(SystemTime::now() - 40 * DAY)
            .expect("a file system with times");
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()), ["used.int8"]);
        drop(user);
        evict(folder.path(), MAGIC, BOUNDS);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_a_writer_left_behind_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        put(folder.path(), "left.1.tmp", 10, 0);
        let writer = put(folder.path(), "begun.2.tmp", 10, 0);
        writer.try_lock().expect("nobody else's");
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()), ["begun.2.tmp"]);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("theirs.int8"), "not ours").expect("a writable folder");
        put(folder.path(), "notes.txt", 300, 400);
        std::fs::create_dir(folder.path().join("sub.int8")).expect("a writable folder");
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()).len(), 3);
        evict(&folder.path().join("nowhere"), MAGIC, BOUNDS);
    }

    #[test]
    fn a_clock_that_was_set_back_removes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = put(folder.path(), "a.int8", 10, 0);
        file.set_modified(SystemTime::now() + 400 * DAY)
            .expect("a file system with times");
        evict(folder.path(), MAGIC, BOUNDS);
        assert_eq!(names(folder.path()), ["a.int8"]);
    }
}
