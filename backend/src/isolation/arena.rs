// SPDX-License-Identifier: MPL-2.0

//! The memory that the application and a worker share: one memfd of a size that neither can change, so
//! that reading it never ends in SIGBUS.
//!
//! ```text
//! 0        a few words: heartbeat, signs of life, progress, cancel
//! PIXELS   pixels of one temporal patch, for the worker
//! NUMBERS  logits, a row for each sequence, for the application
//! ```
//!
//! The words are atomics in both processes. Pixels are written by `pwrite`, the one copy of a picture, and
//! the worker reads them where they are. Logits are written and read by `pwrite` and `pread`: the
//! application has a copy of its own before it looks at it, whatever the worker does meanwhile. Pages are
//! there once they are used, so the size costs nothing.

#![expect(
    unsafe_code,
    reason = "mappings that another process writes to as well"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use zerocopy::IntoBytes;

use crate::PixelBytes;

const WORDS: u64 = 4096;
/// Bytes of pixels, at most.
pub const PIXELS: usize = 256 << 20;
/// Bytes of logits, at most.
pub const NUMBERS: usize = 64 << 20;
const SIZE: u64 = WORDS + PIXELS as u64 + NUMBERS as u64;

/// The memory.
pub struct Arena {
    file: File,
    words: MmapRaw,
}

/// A word.
#[derive(Clone, Copy)]
enum Word {
    Beat,
    Checks,
    Progress,
    Cancelled,
    Count,
}

impl Arena {
    /// New memory, all zero.
    ///
    /// # Errors
    /// The system has none.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("vlmcaption", flags)?);
        file.set_len(SIZE)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        Self::of(file)
    }

    /// The memory that another process made.
    ///
    /// # Errors
    /// It is none of this kind.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        if file.metadata()?.len() != SIZE || !seals.contains(SealFlags::SHRINK) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Self::of(file)
    }

    fn of(file: File) -> io::Result<Self> {
        let words = MmapOptions::new().len(WORDS as usize).map_raw(&file)?;
        Ok(Self { file, words })
    }

    /// For the other process.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        let words = self.words.as_mut_ptr().cast::<u64>();
        // SAFETY: the mapping is page-aligned, longer than all words, and lives as long as `self`; its
        // size is sealed. Both processes access the words as atomics alone, and one that does not can
        // change their values and no more: any value is one.
        unsafe { AtomicU64::from_ptr(words.add(word as usize)) }
    }

    /// The worker's heart has beaten.
    pub fn beat(&self) {
        self.word(Word::Beat).fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    pub fn beats(&self) -> u64 {
        self.word(Word::Beat).load(Ordering::Relaxed)
    }

    /// The call that is being made shows a sign of life.
    pub fn alive(&self) {
        self.word(Word::Checks).fetch_add(1, Ordering::Relaxed);
    }

    /// Signs of life so far.
    pub fn checks(&self) -> u64 {
        self.word(Word::Checks).load(Ordering::Relaxed)
    }

    /// Loading has come so far.
    pub fn set_progress(&self, part: f32) {
        let bits = u64::from(part.to_bits());
        self.word(Word::Progress).store(bits, Ordering::Relaxed);
    }

    /// How far it has come, 0.0..=1.0.
    pub fn progress(&self) -> f32 {
        let bits = self.word(Word::Progress).load(Ordering::Relaxed);
        let part = f32::from_bits(bits as u32);
        if part.is_nan() {
            0.0
        } else {
            part.clamp(0.0, 1.0)
        }
    }

    /// The call with this number is wanted no more.
    pub fn cancel(&self, call: u64) {
        self.word(Word::Cancelled).store(call, Ordering::Release);
    }

    /// Whether that was said of a call.
    pub fn is_cancelled(&self, call: u64) -> bool {
        self.word(Word::Cancelled).load(Ordering::Acquire) == call
    }

    /// What a program counts, for the one that follows it.
    pub fn set_count(&self, count: u64) {
        self.word(Word::Count).store(count, Ordering::Relaxed);
    }

    /// The same.
    pub fn count(&self) -> u64 {
        self.word(Word::Count).load(Ordering::Relaxed)
    }

    /// Puts pixels where the worker reads them.
    ///
    /// # Errors
    /// The system is out of memory.
    pub fn write_pixels(&self, pixels: &[u8]) -> io::Result<()> {
        if pixels.len() > PIXELS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.write_all_at(pixels, WORDS)
    }

    /// Has them read where they are.
    ///
    /// # Errors
    /// The system has no room in this process for the mapping.
    pub fn map_pixels(&self) -> io::Result<PixelMap> {
        // SAFETY: the size is sealed, so every byte stays there. The application writes to them before it
        // makes a call and not while one is made: it makes one at a time, waits for the answer, and ends
        // a worker whose answer it gives up. It is trusted as the caller of this process.
        let map = unsafe { MmapOptions::new().offset(WORDS).len(PIXELS).map(&self.file) };
        Ok(PixelMap(Arc::new(map?)))
    }

    /// Puts numbers into a row, where the application reads them.
    ///
    /// # Errors
    /// More than there can be.
    pub fn write_numbers(&self, row: usize, numbers: &[f32]) -> io::Result<()> {
        let bytes = numbers.as_bytes();
        self.file.write_all_at(bytes, row_offset(row, bytes.len())?)
    }

    /// Takes them.
    ///
    /// # Errors
    /// More than there can be.
    pub fn read_numbers(&self, row: usize, n: usize, numbers: &mut Vec<f32>) -> io::Result<()> {
        let offset = row_offset(row, n.saturating_mul(size_of::<f32>()))?;
        numbers.resize(n, 0.0);
        self.file.read_exact_at(numbers.as_mut_bytes(), offset)
    }
}

/// The pixels of the current call, in the worker.
pub struct PixelMap(Arc<Mmap>);

impl PixelMap {
    /// The first bytes, until the call has its answer.
    ///
    /// # Errors
    /// More than there can be.
    pub fn first(&self, n: usize) -> io::Result<PixelBytes> {
        if n > PIXELS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = self.0.clone();
        Ok(PixelBytes::there(Arc::new(First { map, n })))
    }
}

struct First {
    map: Arc<Mmap>,
    n: usize,
}

impl AsRef<[u8]> for First {
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.n]
    }
}

/// Where a row of this many bytes is.
fn row_offset(row: usize, n_bytes: usize) -> io::Result<u64> {
    let begin = row.checked_mul(n_bytes);
    let end = begin.and_then(|begin| begin.checked_add(n_bytes));
    match (begin, end) {
        (Some(begin), Some(end)) if end <= NUMBERS => Ok(WORDS + PIXELS as u64 + begin as u64),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_process_sees_what_was_written_and_can_change_no_size() {
        let ours = Arena::new().unwrap();
        let theirs = Arena::from_fd(ours.fd().try_clone_to_owned().unwrap()).unwrap();
        ours.write_pixels(&[7; 5000]).unwrap();
        let map = theirs.map_pixels().unwrap();
        assert_eq!(*map.first(5000).unwrap(), [7; 5000]);
        ours.write_pixels(&[8; 100]).unwrap();
        assert_eq!(*map.first(100).unwrap(), [8; 100], "no copy was made");
        theirs.write_numbers(1, &[0.5, f32::NAN]).unwrap();
        let mut numbers = Vec::new();
        ours.read_numbers(1, 2, &mut numbers).unwrap();
        assert!(numbers[0] == 0.5 && numbers[1].is_nan());
        theirs.beat();
        ours.cancel(3);
        assert!(ours.beats() == 1 && theirs.is_cancelled(3) && !theirs.is_cancelled(4));
        assert!(theirs.file.set_len(0).is_err() && theirs.file.set_len(SIZE * 2).is_err());
    }

    #[test]
    fn nothing_is_read_or_written_beyond_the_end() {
        let arena = Arena::new().unwrap();
        let mut numbers = Vec::new();
        assert!(arena.read_numbers(usize::MAX, 2, &mut numbers).is_err());
        assert!(
            arena
                .read_numbers(0, NUMBERS / 4 + 1, &mut numbers)
                .is_err()
        );
        assert!(arena.read_numbers(1, usize::MAX / 2, &mut numbers).is_err());
        assert!(arena.map_pixels().unwrap().first(PIXELS + 1).is_err());
        assert!(arena.write_pixels(&vec![0; PIXELS + 1]).is_err());
        assert!(numbers.is_empty());
    }

    #[test]
    fn memory_that_can_shrink_is_refused() {
        let fd = rustix::fs::memfd_create("t", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
        let file = File::from(fd.unwrap());
        file.set_len(SIZE).unwrap();
        assert!(Arena::from_fd(file.into()).is_err());
    }

    #[test]
    fn a_progress_that_is_none_is_a_number_all_the_same() {
        let arena = Arena::new().unwrap();
        for (part, reads) in [
            (f32::NAN, 0.0),
            (7.0, 1.0),
            (f32::NEG_INFINITY, 0.0),
            (0.25, 0.25),
        ] {
            arena.set_progress(part);
            assert_eq!(arena.progress(), reads);
        }
    }
}
