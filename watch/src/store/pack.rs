// SPDX-License-Identifier: MPL-2.0

//! Small pictures, one after the other in a file for each camera and hour: one sequential write each,
//! and a whole hour is forgotten by deleting a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::time::Millis;

use super::error::Error;

/// Where a picture lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Hours since 1970.
    pub hour: i64,
    pub offset: u64,
    pub length: u32,
}

/// The largest picture that is kept.
const LARGEST: usize = 1 << 20;

/// The packs that are being written.
#[derive(Debug)]
pub struct Packs {
    root: PathBuf,
    open: HashMap<String, (i64, File)>,
}

impl Packs {
    /// Those below this folder.
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            open: HashMap::new(),
        }
    }

    /// Appends a picture.
    pub fn append(&mut self, camera: &str, at: Millis, jpeg: &[u8]) -> Result<Spot, Error> {
        let hour = at.hour();
        let path = path(&self.root, camera, hour);
        if jpeg.len() > LARGEST {
            return Err(Error::Refused(format!(
                "a picture of {} bytes is too large to be kept",
                jpeg.len()
            )));
        }
        if self.open.get(camera).is_none_or(|(open, _)| *open != hour) {
            let folder = self.root.join(camera);
            std::fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
            let file = File::options()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(Error::file(&path))?;
            self.open.insert(camera.to_owned(), (hour, file));
        }
        let Some((_, file)) = self.open.get_mut(camera) else {
            return Err(Error::Refused("the pack is not open".into()));
        };
        let mut write = || -> std::io::Result<u64> {
            let offset = file.seek(SeekFrom::End(0))?;
            file.write_all(jpeg)?;
            Ok(offset)
        };
        let offset = write().map_err(Error::file(&path))?;
        let length = u32::try_from(jpeg.len()).unwrap_or(u32::MAX);
        Ok(Spot {
            hour,
            offset,
            length,
        })
    }
}

/// Reads a picture; nothing if its hour was deleted, or if a crash left less than was promised.
pub fn read(root: &Path, camera: &str, spot: Spot) -> Option<Vec<u8>> {
    let mut file = File::open(path(root, camera, spot.hour)).ok()?;
    let length = usize::try_from(spot.length)
        .ok()
        .filter(|length| *length <= LARGEST)?;
    file.seek(SeekFrom::Start(spot.offset)).ok()?;
    let mut jpeg = vec![0; length];
    file.read_exact(&mut jpeg).ok()?;
    jpeg.starts_with(&[0xff, 0xd8]).then_some(jpeg)
}

/// The hour of a pack's file name.
pub fn hour_of(name: &str) -> Option<i64> {
    let stem = name.strip_suffix(".pack")?;
    Some(Millis::parse(&format!("{stem}:00:00Z"))?.hour())
}

fn path(root: &Path, camera: &str, hour: i64) -> PathBuf {
    // 2026-11-29T13, of 2026-11-29T13:00:00.000Z.
    let time = Millis(hour * 3_600_000).to_string();
    let stem = time.get(..13).unwrap_or(&time);
    root.join(camera).join(format!("{stem}.pack"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_come_back_as_they_went_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut packs = Packs::new(folder.path().to_owned());
        let at = Millis::parse("2026-11-29T13:59:59Z").unwrap();
        let first = packs.append("front", at, &[0xff, 0xd8, 1]).unwrap();
        let second = packs.append("front", at, &[0xff, 0xd8, 2, 3]).unwrap();
        let next = packs
            .append("front", Millis(at.0 + 2_000), &[0xff, 0xd8, 4])
            .unwrap();
        assert_eq!((second.offset, next.offset), (3, 0));
        assert_eq!(
            read(folder.path(), "front", first).unwrap(),
            [0xff, 0xd8, 1]
        );
        assert_eq!(
            read(folder.path(), "front", second).unwrap(),
            [0xff, 0xd8, 2, 3]
        );
        assert_eq!(read(folder.path(), "front", next).unwrap(), [0xff, 0xd8, 4]);
        assert_eq!(hour_of("2026-11-29T13.pack"), Some(first.hour));
    }

    #[test]
    fn what_a_crash_cut_off_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let mut packs = Packs::new(folder.path().to_owned());
        let spot = packs
            .append("front", Millis(0), &[0xff, 0xd8, 1, 2])
            .unwrap();
        let longer = Spot {
            length: 400,
            ..spot
        };
        assert_eq!(read(folder.path(), "front", longer), None);
        assert_eq!(
            read(
                folder.path(),
                "front",
                Spot {
                    offset: 2,
                    length: 2,
                    ..spot
                }
            ),
            None
        );
        assert_eq!(read(folder.path(), "back", spot), None);
    }
}
