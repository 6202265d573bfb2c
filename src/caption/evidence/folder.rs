// SPDX-License-Identifier: MPL-2.0

//! Records in their folder: written whole or not at all, the oldest removed when there are too many.
//!
//! A record is a folder whose name begins with the time at which it was written, so that names in
//! order are records in order of time. It is filled under a hidden name and then renamed; it is renamed
//! before it is removed. So whatever bears a record's name is whole.

use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chrono::DateTime;

/// Files are at least this long on a disk.
const BLOCK: u64 = 4096;
/// How often the folder is looked at for what others did there.
const RESCAN: Duration = Duration::from_secs(300);
/// Hidden folders that are older were left by a process that has ended.
const ABANDONED: Duration = Duration::from_secs(600);
/// Names of records that are being written or removed.
const WRITING: &str = ".writing-";
const REMOVING: &str = ".removing-";
/// Length of the time in a record's name.
const STAMP: usize = "20261129T225301.123Z".len();

/// The files of a record by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all records together; 0 for any number.
    pub bytes: u64,
    /// Records that are older are removed; zero keeps them.
    pub age: Duration,
}

/// A folder of records, one for all of this process that write into it.
pub struct Folder {
    path: PathBuf,
    index: Mutex<Index>,
}

/// What is there.
#[derive(Debug)]
struct Index {
    bounds: Bounds,
    /// Name and bytes of each record, in order of time.
    records: VecDeque<(String, u64)>,
    bytes: u64,
    scanned: Option<Instant>,
}

impl Folder {
    /// A folder, which need not be there yet; the bounds hold for all who write into it.
    pub fn at(path: &Path, bounds: Bounds) -> Arc<Self> {
        static FOLDERS: OnceLock<Mutex<HashMap<PathBuf, Weak<Folder>>>> = OnceLock::new();
        let folders = FOLDERS.get_or_init(Mutex::default).lock();
        let mut folders = folders.unwrap_or_else(PoisonError::into_inner);
        folders.retain(|_, folder| folder.strong_count() > 0);
        if let Some(folder) = folders.get(path).and_then(Weak::upgrade) {
            folder.index().bounds = bounds;
            return folder;
        }
        let folder = Arc::new(Self {
            path: path.to_owned(),
            index: Mutex::new(Index {
                bounds,
                records: VecDeque::new(),
                bytes: 0,
                scanned: None,
            }),
        });
        folders.insert(path.to_owned(), Arc::downgrade(&folder));
        folder
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record: its files by name. `name` is what follows the time in its own name; gives that
    /// name, and the bytes that it takes.
    ///
    /// # Errors
    /// Those of the file system; then nothing of it is left, or what is left is hidden.
    pub fn write(&self, name: &str, files: &dyn Fn(&str) -> Files) -> io::Result<(String, u64)> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        make_folder(&self.path)?;
        self.tidy(Duration::ZERO)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let stamp = stamp(now);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let hidden = format!("{WRITING}{}-{number}", std::process::id());
        let hidden = self.path.join(hidden);
        // Left by a process of the same number.
        let _ = std::fs::remove_dir_all(&hidden);
        let id = self.free(&format!("{stamp}-{name}"));
        let written = write_all(&hidden, &files(&id)).and_then(|bytes| {
            std::fs::rename(&hidden, self.path.join(&id))?;
            Ok(bytes)
        });
        let bytes = written.inspect_err(|_| {
            // It is hidden, and the next start removes it.
            let _ = std::fs::remove_dir_all(&hidden);
        })?;
        let mut index = self.index();
        index.records.push_back((id.clone(), bytes));
        index.bytes += bytes;
        drop(index);
        // It is written, whatever becomes of older ones.
        let _ = self.tidy(now);
        Ok((id, bytes))
    }

    /// Puts another file in the place of one of a record, if the record is still there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn replace(&self, id: &str, file: &str, bytes: &[u8]) -> io::Result<()> {
        let record = self.path.join(id);
        match record.is_dir() {
            true => write_file(&record.join(file), bytes),
            false => Ok(()),
        }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> u64 {
        self.index().bytes
    }

    /// A name that no record has.
    fn free(&self, name: &str) -> String {
        let mut names = (0..).map(|n| match n {
            0 => name.to_owned(),
            n => format!("{name}-{n}"),
        });
        let is_free = |name: &String| !self.path.join(name).exists();
        names.find(is_free).unwrap_or_else(|| name.to_owned())
    }

    /// Looks at the folder, if it is time to, and removes what is too old or too much by `now`; at zero
    /// nothing is removed.
    fn tidy(&self, now: Duration) -> io::Result<()> {
        let mut index = self.index();
        if index
            .scanned
            .is_none_or(|scanned| scanned.elapsed() >= RESCAN)
        {
            index.records = scan(&self.path)?;
            index.bytes = index.records.iter().map(|(_, bytes)| bytes).sum();
            index.scanned = Some(Instant::now());
        }
        if now.is_zero() {
            return Ok(());
        }
        let surplus = index.take_surplus(now);
        drop(index);
        for id in surplus {
            remove(&self.path, &id);
        }
        Ok(())
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Takes the names of the records that are too many; the last one stays.
    fn take_surplus(&mut self, now: Duration) -> Vec<String> {
        let Bounds { bytes: most, age } = self.bounds;
        let oldest = (!age.is_zero()).then(|| stamp(now.saturating_sub(age)));
        let mut surplus = Vec::new();
        while self.records.len() > 1
            && let Some((id, _)) = self.records.front()
        {
            let too_old = oldest.as_ref().is_some_and(|oldest| id < oldest);
            if !too_old && (most == 0 || self.bytes <= most) {
                break;
            }
            if let Some((id, bytes)) = self.records.pop_front() {
                self.bytes -= bytes;
                surplus.push(id);
            }
        }
        surplus
    }
}

/// The records that lie in a folder, in order of time. What a process has left half written or half
/// removed is taken away.
fn scan(folder: &Path) -> io::Result<VecDeque<(String, u64)>> {
    let mut records = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(WRITING) || name.starts_with(REMOVING) {
            let changed = entry.metadata().and_then(|facts| facts.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                // What cannot be removed now may be the next time.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        } else if is_record(&name) && entry.file_type()?.is_dir() {
            records.push((name, size(&entry.path())));
        }
    }
    records.sort();
    Ok(records.into())
}

/// Bytes that a record takes.
fn size(record: &Path) -> u64 {
    let files = std::fs::read_dir(record).into_iter().flatten().flatten();
    let bytes = files.filter_map(|file| Some(on_disk(file.metadata().ok()?.len())));
    bytes.sum()
}

fn on_disk(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// Whether a name is that of a record.
pub fn is_record(name: &str) -> bool {
    let Some((stamp, rest)) = name.split_at_checked(STAMP) else {
        return false;
    };
    let form = stamp.bytes().enumerate().all(|(at, byte)| match at {
        8 => byte == b'T',
        15 => byte == b'.',
        19 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    });
    form && rest.starts_with('-')
}

/// A time as records have it in their names: in order of text they are in order of time.
fn stamp(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).ok();
    let time = seconds.and_then(|s| DateTime::from_timestamp(s, since_epoch.subsec_nanos()));
    time.unwrap_or_default()
        .format("%Y%m%dT%H%M%S%.3fZ")
        .to_string()
}

fn remove(folder: &Path, id: &str) {
    let hidden = folder.join(format!("{REMOVING}{id}"));
    // Another process may have removed it already.
    if std::fs::rename(folder.join(id), &hidden).is_ok() {
        let _ = std::fs::remove_dir_all(&hidden);
    }
}

/// Makes a folder that nobody else may look into; one that is there stays as it is.
fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700).recursive(true).create(path)
}

/// Fills a new folder; the bytes that it takes.
fn write_all(folder: &Path, files: &[(String, Vec<u8>)]) -> io::Result<u64> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let mut written = 0;
    for (name, bytes) in files {
        new_file(&folder.join(name))?.write_all(bytes)?;
        written += on_disk(bytes.len() as u64);
    }
    Ok(written)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&hidden);
    let written = new_file(&hidden)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(&hidden, path));
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&hidden);
    })
}

/// A new file that nobody else may read.
fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ANY: Bounds = Bounds {
        bytes: 0,
        age: Duration::ZERO,
    };

    fn one(id: &str) -> Files {
        vec![
            ("record.json".into(), id.into()),
            ("frame".into(), vec![7; 5000]),
        ]
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_record_is_there_whole_and_for_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("deep/evidence");
        let folder = Folder::at(&path, ANY);
        let (first, bytes) = folder.write("cam-1", &one).unwrap();
        let (second, _) = folder.write("cam-1", &one).unwrap();
        assert_eq!(bytes, 4096 + 8192);
        assert_eq!(folder.bytes(), 2 * bytes);
        assert_ne!(first, second);
        assert!(is_record(&first) && is_record(&second));
        assert_eq!(names(&path), [first.clone(), second]);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join(&first))), (0o700, 0o700));
        assert_eq!(mode(&path.join(&first).join("record.json")), 0o600);
        folder.replace(&first, "record.json", b"other").unwrap();
        let text = std::fs::read(path.join(&first).join("record.json")).unwrap();
        assert_eq!(
            (
                text.as_slice(),
                mode(&path.join(&first).join("record.json"))
            ),
            (b"other".as_slice(), 0o600)
        );
    }

    #[test]
    fn the_oldest_give_way_by_size_and_by_age_and_nothing_else_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path();
        for strange in ["notes", "20260101T000000.000Z", "2026T-x"] {
            std::fs::create_dir(path.join(strange)).unwrap();
        }
        let old = "20200101T000000.000Z-cam-1";
        std::fs::create_dir(path.join(old)).unwrap();
        let bounds = Bounds {
            bytes: 3 * 12_288,
            age: Duration::from_secs(86_400),
        };
        let folder = Folder::at(path, bounds);
        let written: Vec<String> = (0..5)
            .map(|n| folder.write(&format!("cam-{n}"), &one).unwrap().0)
            .collect();
        let mut want = written[2..].to_vec();
        want.extend(["20260101T000000.000Z", "2026T-x", "notes"].map(str::to_owned));
        want.sort();
        assert_eq!(names(path), want, "{old} is too old, two are too many");
        assert_eq!(folder.bytes(), 3 * 12_288);
    }

    #[test]
    fn one_record_is_kept_however_small_the_bound() {
        let place = tempfile::tempdir().unwrap();
        let bounds = Bounds {
            bytes: 1,
            age: Duration::from_nanos(1),
        };
        let folder = Folder::at(place.path(), bounds);
        for _ in 0..3 {
            let (id, _) = folder.write("cam", &one).unwrap();
            assert_eq!(names(place.path()), [id]);
        }
    }

    #[test]
    fn what_a_killed_process_left_is_no_record_and_goes_away() {
        let place = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - ABANDONED - Duration::from_secs(5);
        for name in [".writing-1-0", ".removing-x"] {
            let left = place.path().join(name);
            std::fs::create_dir(&left).unwrap();
            std::fs::write(left.join("record.json"), b"{").unwrap();
            File::open(&left).unwrap().set_modified(old).unwrap();
        }
        let young = place.path().join(".writing-2-0");
        std::fs::create_dir(&young).unwrap();
        let folder = Folder::at(place.path(), ANY);
        let (id, bytes) = folder.write("cam", &one).unwrap();
        assert_eq!(names(place.path()), [".writing-2-0".to_owned(), id]);
        assert_eq!(folder.bytes(), bytes);
    }

    #[test]
    fn names_are_in_order_of_time() {
        let stamps = [0, 999, 1000, 86_400_000, 1_795_247_160_250].map(Duration::from_millis);
        let stamps = stamps.map(stamp);
        assert!(stamps.is_sorted());
        assert_eq!(stamps[4], "20261121T074600.250Z");
        assert!(stamps.iter().all(|stamp| stamp.len() == STAMP));
    }
}
