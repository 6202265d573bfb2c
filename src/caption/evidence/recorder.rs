// SPDX-License-Identifier: MPL-2.0

//! The thread that writes records, and its bounded queue: whoever puts a caption there never waits, and
//! what a disk does not take is counted and lost.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::entry::{Entry, identify};
use super::folder::{Bounds, Files, Folder};
use super::model::{self, Identity};
use super::record::{FILE, Record};
use crate::caption::engine::source::Source;
use crate::caption::panic::caught;

/// Captions that may wait for the disk; with the frames of their windows.
const MAX_WAITING: usize = 8;
/// Records whose model is not yet known, at most: they are completed once it is.
const MAX_INCOMPLETE: usize = 4096;
/// The file in which the hashes of models are kept.
const CACHE: &str = ".models.json";

/// Which captions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// All, and the answers to the application's questions.
    #[default]
    All,
    /// Those that begin, hold or end an alarm, or may begin one.
    Alarms,
}

/// What is kept, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceOptions {
    /// The folder.
    pub folder: PathBuf,
    /// Which captions.
    pub which: Which,
    /// How much.
    pub bounds: Bounds,
}

/// How writing stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writing {
    /// Records are lost from now on: why, and what to do.
    Fails(String),
    /// They are written again.
    Works,
}

/// Hears how writing stands, when that changes; from another thread, without a lock held.
pub type OnWriting = Box<dyn Fn(Writing) + Send + Sync>;

/// Where records go.
pub trait Sink: Send + Sync {
    /// Writes one, with the files that `files` makes once its name is known; gives name and bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn write(&self, name: &str, files: &dyn Fn(&str) -> Files) -> io::Result<(String, u64)>;

    /// Puts another file in the place of one of a record, if that is still there.
    ///
    /// # Errors
    /// Those of the file system.
    fn replace(&self, id: &str, file: &str, bytes: &[u8]) -> io::Result<()>;

    /// Where that is.
    fn place(&self) -> &Path;
}

impl Sink for Folder {
    fn write(&self, name: &str, files: &dyn Fn(&str) -> Files) -> io::Result<(String, u64)> {
        Folder::write(self, name, files)
    }

    fn replace(&self, id: &str, file: &str, bytes: &[u8]) -> io::Result<()> {
        Folder::replace(self, id, file, bytes)
    }

    fn place(&self) -> &Path {
        self.path()
    }
}

/// Numbers since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Records that were written.
    pub written: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Captions of which no record could be written.
    pub dropped: u64,
}

/// Writes records of one element's captions until it is dropped.
pub struct Recorder {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    sink: Arc<dyn Sink>,
    on_writing: OnWriting,
    queue: Mutex<Queue>,
    changed: Condvar,
    written: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    is_writing: bool,
    closed: bool,
    /// Whoever hears it was told that records are lost.
    told: bool,
}

/// Records that were written before their model was known.
struct Incomplete {
    source: Arc<Source>,
    records: Vec<Record>,
}

impl Recorder {
    /// Begins; the folder need not be there.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(options: &EvidenceOptions, on_writing: OnWriting) -> io::Result<Self> {
        let folder = Folder::at(&options.folder, options.bounds);
        Self::to(folder, on_writing)
    }

    fn to(sink: Arc<dyn Sink>, on_writing: OnWriting) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            sink,
            on_writing,
            queue: Mutex::default(),
            changed: Condvar::new(),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let thread = {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("vlmcaption-keep".into());
            builder.spawn(move || shared.run())?
        };
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Has a caption written; never waits. If too many wait, this one is lost.
    pub fn put(&self, entry: Entry) {
        if entry.caption.evidence.is_none() {
            return;
        }
        let tells = {
            let mut queue = self.shared.queue();
            if queue.closed {
                return;
            }
            if queue.waiting.len() < MAX_WAITING {
                queue.waiting.push_back(entry);
                self.shared.changed.notify_all();
                return;
            }
            !std::mem::replace(&mut queue.told, true)
        };
        self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        if tells {
            let place = self.shared.sink.place().display();
            (self.shared.on_writing)(Writing::Fails(format!(
                "records of captions are lost: {place} is slower than captions are made; set evidence \
                 to a folder on a faster disk, or evidence-of=alarms"
            )));
        }
    }

    /// Numbers since it began.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            written: shared.written.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            dropped: shared.dropped.load(Ordering::Relaxed),
        }
    }

    /// Waits until all is written, at most for `patience`; whether it is.
    pub fn wait_written(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut queue = self.shared.queue();
        while queue.is_writing || !queue.waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends: what is not written within `patience` is lost, and counted.
    pub fn end(&self, patience: Duration) {
        let written = self.wait_written(patience);
        self.close();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if written && let Some(thread) = thread {
            // Panics in it were caught there.
            let _ = thread.join();
        }
    }

    fn close(&self) {
        let mut queue = self.shared.queue();
        let lost = queue.waiting.len();
        queue.closed = true;
        queue.waiting.clear();
        drop(queue);
        self.shared
            .dropped
            .fetch_add(lost as u64, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A disk that does not return is left alone: nobody can end that.
        self.close();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn run(&self) {
        let mut incomplete: Vec<Incomplete> = Vec::new();
        loop {
            let entry = {
                let mut queue = self.queue();
                queue.is_writing = false;
                self.changed.notify_all();
                loop {
                    if queue.closed {
                        return;
                    }
                    if let Some(entry) = queue.waiting.pop_front() {
                        queue.is_writing = true;
                        break Some(entry);
                    }
                    let pause = match incomplete.is_empty() {
                        true => Duration::from_secs(3600),
                        false => Duration::from_millis(200),
                    };
                    let waited = self.changed.wait_timeout(queue, pause);
                    let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    queue = woken;
                    if timeout.timed_out() && !incomplete.is_empty() {
                        queue.is_writing = true;
                        break None;
                    }
                }
            };
            if let Some(entry) = entry {
                let written = caught("writing evidence", || self.write(&entry, &mut incomplete));
                self.note(written.and_then(|written| written));
            }
            incomplete.retain_mut(|of| !self.complete(of));
        }
    }

    /// Writes a caption's record.
    fn write(&self, entry: &Entry, incomplete: &mut Vec<Incomplete>) -> Result<u64, String> {
        let identity = model::identity(&entry.source, &self.sink.place().join(CACHE));
        let frames = entry.frames()?;
        let files = |id: &str| {
            let record = entry.record(id, &frames, &identity);
            let mut files = frames.clone();
            files.extend(record.map(|record| (FILE.to_owned(), record.json())));
            files
        };
        let written = self.sink.write(&entry.name(), &files);
        let (id, bytes) = written.map_err(|error| explained(&error, self.sink.place()))?;
        if identity == Identity::Pending {
            let record = entry.record(&id, &frames, &identity);
            remember(incomplete, &entry.source, record);
        }
        Ok(bytes)
    }

    /// Counts a record, and tells if it is the first that fails, or that does not.
    fn note(&self, written: Result<u64, String>) {
        let (tells, writing) = match written {
            Ok(bytes) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                let mut queue = self.queue();
                // While many wait it is still too slow.
                let over = queue.told && queue.waiting.len() < MAX_WAITING / 2;
                queue.told &= !over;
                (over, Writing::Works)
            }
            Err(reason) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                let first = !std::mem::replace(&mut self.queue().told, true);
                (
                    first,
                    Writing::Fails(format!("records of captions are lost: {reason}")),
                )
            }
        };
        if tells {
            (self.on_writing)(writing);
        }
    }

    /// Writes down which model answered, in records that were written before it was known; whether
    /// that is done.
    fn complete(&self, of: &mut Incomplete) -> bool {
        let identity = model::identity(&of.source, &self.sink.place().join(CACHE));
        if identity == Identity::Pending {
            return false;
        }
        for record in &mut of.records {
            identify(&mut record.model, &identity);
            // Else it stays as it is, and says that its model was not known yet.
            let _ = self.sink.replace(&record.id, FILE, &record.json());
        }
        true
    }
}

fn remember(incomplete: &mut Vec<Incomplete>, source: &Arc<Source>, record: Option<Record>) {
    let at = incomplete.iter().position(|of| of.source == *source);
    let at = at.unwrap_or_else(|| {
        incomplete.push(Incomplete {
            source: source.clone(),
            records: Vec::new(),
        });
        incomplete.len() - 1
    });
    let records = &mut incomplete[at].records;
    if records.len() < MAX_INCOMPLETE {
        records.extend(record);
    }
}

/// An error of the file system, with what to do.
fn explained(error: &io::Error, place: &Path) -> String {
    let place = place.display();
    let fix = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room there, or lower evidence-max-bytes"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "let this user write there, or set evidence to another folder"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => "set evidence to a folder",
        _ => "look after its disk, or set evidence to another folder",
    };
    format!("{place}: {error}; {fix}")
}

#[cfg(test)]
mod tests;
