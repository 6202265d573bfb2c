// SPDX-License-Identifier: MPL-2.0

//! One clip: a file of fragments while it grows, `ID.part`, and a movie once it is whole, `ID.mp4`. A process
//! that is killed leaves the fragments, which are made into the movie at the next start.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::heard::Clip;
use crate::time::Millis;

use super::fmp4;
use super::format::Format;
use super::movie;
use super::packer::Packer;
use super::ring::Unit;

/// Ticks in a millisecond.
const TICKS: i64 = (fmp4::TIMESCALE / 1_000) as i64;

/// A clip that grows.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    file: File,
    packer: Packer,
    format: Arc<Format>,
    /// The last picture of the ring that is in it.
    pub last: u64,
    pub from: Millis,
    pub to: Millis,
}

impl Growing {
    /// Begins with these pictures, the first a keyframe; nothing if there is none. Times in the file are
    /// those of the day, so that it says by itself when it was.
    pub fn begin(path: PathBuf, units: &[Arc<Unit>]) -> io::Result<Option<Self>> {
        let Some(first) = units.first() else {
            return Ok(None);
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&path)?;
        file.write_all(&fmp4::init(&first.format))?;
        let mut growing = Self {
            path,
            file,
            packer: Packer::new(first, first.at.0.saturating_mul(TICKS)),
            format: first.format.clone(),
            last: 0,
            from: first.at,
            to: first.at,
        };
        growing.add(units)?;
        Ok(Some(growing))
    }

    /// Goes on with these; says whether it can go on after them. Another connection's pictures do not fit.
    pub fn add(&mut self, units: &[Arc<Unit>]) -> io::Result<bool> {
        let n = units
            .iter()
            .take_while(|unit| Arc::ptr_eq(&unit.format, &self.format))
            .count();
        if let Some(last) = units[..n].last() {
            self.file.write_all(&self.packer.pack(&units[..n]))?;
            self.last = last.n;
            self.to = last.at;
        }
        Ok(n == units.len())
    }

    /// Makes the movie of it.
    pub fn finish(self) -> io::Result<Option<Clip>> {
        finish(&self.path)
    }
}

/// Makes a movie of what is whole of a file of fragments, which is gone then; nothing if it has no picture.
/// Until the movie is on the disk the fragments stay.
pub fn finish(part: &Path) -> io::Result<Option<Clip>> {
    let fresh = part.with_extension("new");
    let outcome = finish_by(part, &fresh);
    if outcome.is_err() {
        // On a full disk half a movie must not take the room that is left.
        let _ = std::fs::remove_file(&fresh);
    }
    outcome
}

fn finish_by(part: &Path, fresh: &Path) -> io::Result<Option<Clip>> {
    let mut file = BufReader::new(File::open(part)?);
    let scanned = movie::scan(&mut file)?;
    let span = scanned.as_ref().and_then(movie::Part::span);
    let (Some(scanned), Some((from, to))) = (scanned, span) else {
        std::fs::remove_file(part)?;
        return Ok(None);
    };
    let mut out = BufWriter::new(File::create(fresh)?);
    movie::write(&scanned, &mut file, &mut out)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.sync_all()?;
    let size = out.metadata()?.len();
    std::fs::rename(fresh, part.with_extension("mp4"))?;
    if let Some(folder) = part.parent() {
        File::open(folder)?.sync_all()?;
    }
    std::fs::remove_file(part)?;
    let millis = |ticks: u64| Millis(i64::try_from(ticks).unwrap_or(i64::MAX) / TICKS);
    Ok(Some(Clip {
        from: millis(from),
        to: millis(to),
        size,
    }))
}
