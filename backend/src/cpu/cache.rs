// SPDX-License-Identifier: MPL-2.0

//! Quantised matrices in a file of the user's, so that the next start reads them instead of the
//! checkpoint's.
//!
//! ```text
//! magic, format       what wrote it
//! identity            the weight files: names, sizes, times of change, checksums of headers
//! record ...          name, [out, in], numbers, scales, sums, checksum; in the order of loading
//! end
//! ```
//!
//! All integers are 32 bits wide, all numbers little endian. The file is read once from its
//! beginning to its end: a mapping would leave its pages in the memory of this process for as long as
//! the model is there, since the matrices that are multiplied are copies.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use super::checksum::{Checksummed, number};
use super::evict::{Bounds, evict, use_file};
use super::int8::Int8Matrix;

/// Raised with every change of what a file holds.
const FORMAT: u32 = 2;

const MAGIC: &[u8; 16] = b"vlmcaption int8\0";

/// Stands where another record's length would be.
const END: u32 = u32::MAX;

/// The file of a checkpoint's matrices.
pub(super) struct Cache {
    path: PathBuf,
    identity: String,
    state: State,
}

enum State {
    Reading(Input),
    Writing { file: Output, temporary: PathBuf },
    Idle,
}

type Input = Checksummed<BufReader<File>>;
type Output = Checksummed<BufWriter<File>>;

/// The end of a file's part in a start.
#[derive(Debug, Default)]
pub(super) struct Cached {
    pub(super) outcome: Outcome,
    /// The file: it is in use for as long as the model is there.
    _in_use: Option<File>,
}

/// What became of the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Outcome {
    /// It was not looked for.
    #[default]
    Unused,
    /// The matrices came from it.
    Read(PathBuf),
    /// It was made for the next start.
    Written(PathBuf),
    /// It could not be made; the model works all the same.
    NotWritten {
        /// Where it would be.
        path: PathBuf,
        /// Why it is not there.
        reason: String,
    },
}

/// The file does not hold what it should: it must be made anew, and with it the model.
#[derive(Debug)]
pub(super) struct Damaged;

impl Cache {
    /// The file for weights with this identity that lie in `place`, in a folder for such files. Its
    /// name is the place's, so that a checkpoint that changed takes its file over.
    pub(super) fn new(folder: &Path, place: &Path, identity: &str) -> Self {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let sum = crc32fast::hash(place.to_string_lossy().as_bytes());
        Self {
            path: folder.join(format!("{name}-{sum:08x}.int8")),
            identity: identity.to_owned(),
            state: State::Idle,
        }
    }

    /// Begins to read the file, if it is there and of these weights; else begins to write it.
    pub(super) fn open(&mut self) -> Result<(), String> {
        match self.reading() {
            Some(input) => {
                self.state = State::Reading(input);
                Ok(())
            }
            None => self.write(),
        }
    }

    /// Begins to write the file; one that is there is replaced at the end.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let temporary = self.temporary();
        let begin = || -> io::Result<Output> {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            // An error if the name exists, be it a file or a link.
            let file = File::create_new(&temporary)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
                // The file system has no locks: eviction leaves what it cannot lock.
                Err(TryLockError::Error(_)) => {}
            }
            let mut file = Checksummed::new(BufWriter::with_capacity(1 << 20, file));
            file.write_all(MAGIC)?;
            file.write_number(FORMAT)?;
            file.write_text(&self.identity)?;
            Ok(file)
        };
        match begin() {
            Ok(file) => {
                self.state = State::Writing { file, temporary };
                Ok(())
            }
            Err(error) => {
                // A file that existed before belongs to somebody else.
                if error.kind() != io::ErrorKind::AlreadyExists {
                    let _ = std::fs::remove_file(&temporary);
                }
                Err(error.to_string())
            }
        }
    }

    /// A random name: two engines never share it, and it cannot be guessed.
    fn temporary(&self) -> PathBuf {
        let random = RandomState::new().build_hasher().finish();
        self.path.with_extension(format!("{random:016x}.tmp"))
    }

    /// The file, behind its identity; `None` if there is none of these weights.
    fn reading(&self) -> Option<Input> {
        let file = BufReader::with_capacity(1 << 20, File::open(&self.path).ok()?);
        let mut file = Checksummed::new(file);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).ok()?;
        let ours = magic == *MAGIC && file.read_number().ok()? == FORMAT;
        let is_good = ours && file.read_text().ok()? == self.identity;
        if is_good {
            use_file(file.inner.get_ref());
        }
        is_good.then_some(file)
    }

    /// The next matrix, if the file is being read.
    ///
    /// # Errors
    /// [`Damaged`] if it is not this one, or not whole.
    pub(super) fn take(
        &mut self,
        name: &str,
        shape: [usize; 2],
    ) -> Result<Option<Int8Matrix>, Damaged> {
        let State::Reading(file) = &mut self.state else {
            return Ok(None);
        };
        file.restart();
        let mut read = || -> io::Result<Option<Int8Matrix>> {
            let same = file.read_text()? == name
                && file.read_number()? as usize == shape[0]
                && file.read_number()? as usize == shape[1];
            if !same {
                return Ok(None);
            }
            let matrix = Int8Matrix::read(shape, file)?;
            let sum = file.sum();
            Ok((file.read_number()? == sum).then_some(matrix))
        };
        read().ok().flatten().map(Some).ok_or(Damaged)
    }

    /// Keeps the next matrix, if the file is being written.
    pub(super) fn put(
        &mut self,
        name: &str,
        [out, width]: [usize; 2],
        matrix: &Int8Matrix,
    ) -> Result<(), String> {
        let State::Writing { file, .. } = &mut self.state else {
            return Ok(());
        };
        file.restart();
        let mut write = || -> io::Result<()> {
            file.write_text(name)?;
            file.write_number(number(out)?)?;
            file.write_number(number(width)?)?;
            matrix.write(file)?;
            let sum = file.sum();
            file.write_number(sum)
        };
        let written = write();
        written.map_err(|error| {
            self.drop_temporary();
            error.to_string()
        })
    }

    /// All matrices are there: puts what was written in its place, and removes files that have not
    /// been used for long. `failed` is why nothing was written.
    pub(super) fn finish(mut self, failed: Option<String>) -> Cached {
        let path = self.path.clone();
        let ended = match std::mem::replace(&mut self.state, State::Idle) {
            State::Reading(file) => {
                return Cached {
                    outcome: Outcome::Read(path),
                    _in_use: Some(file.inner.into_inner()),
                };
            }
            State::Idle => Err(failed.unwrap_or_default()),
            State::Writing { file, temporary } => {
                let ended = self.put_in_place(file, &temporary);
                if ended.is_err() {
                    let _ = std::fs::remove_file(&temporary);
                }
                ended.map_err(|error| error.to_string())
            }
        };
        match ended {
            Ok(file) => {
                if let Some(folder) = path.parent() {
                    evict(folder, MAGIC, Bounds::default());
                }
                Cached {
                    outcome: Outcome::Written(path),
                    _in_use: Some(file),
                }
            }
            Err(reason) => Cached {
                outcome: Outcome::NotWritten { path, reason },
                _in_use: None,
            },
        }
    }

    fn put_in_place(&self, mut file: Output, temporary: &Path) -> io::Result<File> {
        file.write_number(END)?;
        let file = file.inner.into_inner()?;
        // Renamed while it is locked: eviction removes unlocked temporary files.
        std::fs::rename(temporary, &self.path)?;
        let _ = file.unlock();
        use_file(&file);
        Ok(file)
    }

    fn drop_temporary(&mut self) {
        if let State::Writing { temporary, .. } = std::mem::replace(&mut self.state, State::Idle) {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

impl Drop for Cache {
    /// Loading was cancelled, or did not come to its end.
    fn drop(&mut self) {
        self.drop_temporary();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::int8::Int8Builder;

    const IDENTITY: &str = "/models/small\nmodel.safetensors 100 5 7\n";

    fn place() -> &'static Path {
        Path::new("/models/small")
    }

    fn matrix(seed: f32) -> Int8Matrix {
        let mut builder = Int8Builder::new(2, 70);
        let row: Vec<f32> = (0..140).map(|i| (i as f32 * seed).sin()).collect();
        builder.push(&row);
        builder.finish()
    }

    fn bytes(matrix: &Int8Matrix) -> Vec<u8> {
        let mut out = Checksummed::new(Vec::new());
        matrix.write(&mut out).expect("memory");
        out.inner
    }

    fn written(folder: &Path) -> PathBuf {
        let mut cache = Cache::new(folder, place(), IDENTITY);
        cache.open().expect("a writable folder");
        assert!(cache.take("a", [2, 70]).expect("nothing to read").is_none());
        for (name, seed) in [("a", 0.7), ("b", 0.9)] {
            cache.put(name, [2, 70], &matrix(seed)).expect("room");
        }
        match cache.finish(None).outcome {
            Outcome::Written(path) => path,
            other => panic!("{other:?}"),
        }
    }

    fn files(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn matrices_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // The folder need not be there.
        let folder = folder.path().join("vlmcaption");
        let path = written(&folder);
        let mut cache = Cache::new(&folder, place(), IDENTITY);
        cache.open().expect("a file");
        for (name, seed) in [("a", 0.7), ("b", 0.9)] {
            let got = cache.take(name, [2, 70]).expect("a whole file");
            assert_eq!(bytes(&got.expect("a matrix")), bytes(&matrix(seed)));
        }
        assert_eq!(cache.finish(None).outcome, Outcome::Read(path));
        assert_eq!(files(&folder), 1);
    }

    #[test]
    fn weights_that_changed_are_written_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = written(folder.path());
        let changed = IDENTITY.replace("100", "101");
        let mut cache = Cache::new(folder.path(), place(), &changed);
        assert_eq!(cache.path, path, "in the same place");
        cache.open().expect("a writable folder");
        assert!(cache.take("a", [2, 70]).expect("not read").is_none());
        drop(cache);
        assert_eq!(files(folder.path()), 1, "what was begun is gone");
    }

    #[test]
    fn every_damage_is_noticed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = written(folder.path());
        let whole = std::fs::read(&path).expect("a file");
        let reads = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("a writable folder");
            let mut cache = Cache::new(folder.path(), place(), IDENTITY);
            cache.open().expect("a writable folder");
            let all = ["a", "b"].map(|name| cache.take(name, [2, 70]));
            all.iter().all(|got| matches!(got, Ok(Some(_))))
        };
        assert!(reads(&whole));
        for at in 0..whole.len() - 4 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(!reads(&damaged), "byte {at}");
        }
        for len in [0, 10, 40, whole.len() / 2, whole.len() - 5] {
            assert!(!reads(&whole[..len]), "{len} bytes");
        }
        let mut cache = Cache::new(folder.path(), place(), IDENTITY);
        std::fs::write(&path, &whole).expect("a writable folder");
        cache.open().expect("a file");
        assert!(cache.take("b", [2, 70]).is_err(), "another matrix");
    }

    #[test]
    fn two_engines_of_a_process_write_a_file_each() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let begin = |seed| {
            let mut cache = Cache::new(folder.path(), place(), IDENTITY);
            cache.open().expect("a writable folder");
            cache.put("a", [2, 70], &matrix(seed)).expect("room");
            cache
        };
        let (mut first, second) = (begin(0.7), begin(0.9));
        assert_eq!(files(folder.path()), 2);
        first.put("b", [2, 70], &matrix(0.8)).expect("room");
        for cache in [second, first] {
            let outcome = cache.finish(None).outcome;
            assert!(matches!(outcome, Outcome::Written(_)), "{outcome:?}");
        }
        assert_eq!(files(folder.path()), 1);
        let mut cache = Cache::new(folder.path(), place(), IDENTITY);
        cache.open().expect("a file");
        for (name, seed) in [("a", 0.7), ("b", 0.8)] {
            let got = cache.take(name, [2, 70]).expect("a whole file");
            assert_eq!(bytes(&got.expect("a matrix")), bytes(&matrix(seed)));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_waits_for_our_file_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "theirs").expect("a writable folder");
        let cache = Cache::new(folder.path(), place(), IDENTITY);
        // The name can be known by who knows the process.
        let known = cache
            .path
            .with_extension(format!("{}.tmp", std::process::id()));
        for link in [&known, &cache.path] {
            std::os::unix::fs::symlink(&victim, link).expect("a writable folder");
        }
        let path = written(folder.path());
        assert_eq!(std::fs::read(&victim).expect("a file"), b"theirs");
        assert!(!path.is_symlink() && known.is_symlink());
        assert_ne!(cache.temporary(), cache.temporary());
    }

    #[test]
    fn what_is_being_written_outlives_who_tidies_until_it_is_in_place() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cache = Cache::new(folder.path(), place(), IDENTITY);
        cache.open().expect("a writable folder");
        let large = matrix(0.7);
        for i in 0..2000 {
            cache.put(&i.to_string(), [2, 70], &large).expect("room");
        }
        let nothing = Bounds {
            size_bytes: 0,
            ..Bounds::default()
        };
        evict(folder.path(), MAGIC, nothing);
        assert_eq!(files(folder.path()), 1);
        let used = cache.finish(None);
        evict(folder.path(), MAGIC, nothing);
        assert!(matches!(used.outcome, Outcome::Written(path) if path.is_file()));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("a writable folder");
        let mut cache = Cache::new(&file, place(), IDENTITY);
        let reason = cache.open().expect_err("no folder");
        let outcome = cache.finish(Some(reason)).outcome;
        assert!(
            matches!(&outcome, Outcome::NotWritten { reason, .. } if !reason.is_empty()),
            "{outcome:?}"
        );
    }
}
