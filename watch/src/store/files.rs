// SPDX-License-Identifier: MPL-2.0

//! Where what lies, who may write, and how much room there is.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::time::Week;

use super::error::Error;

/// The paths below the store's folder.
#[derive(Debug, Clone)]
pub struct Layout {
    pub root: PathBuf,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn state(&self) -> PathBuf {
        self.root.join("state.db")
    }

    pub fn users(&self) -> PathBuf {
        self.root.join("users.db")
    }

    pub fn captions(&self) -> PathBuf {
        self.root.join("captions")
    }

    pub fn thumbs(&self) -> PathBuf {
        self.root.join("thumbs")
    }

    pub fn clips(&self) -> PathBuf {
        self.root.join("clips")
    }

    /// The clip of an event, once it is whole.
    pub fn clip(&self, camera: &str, event: i64) -> PathBuf {
        self.clips().join(camera).join(format!("{event}.mp4"))
    }

    pub fn week(&self, week: Week) -> PathBuf {
        self.captions().join(format!("{}.db", week.name()))
    }

    /// The weeks that there are, the oldest first.
    pub fn weeks(&self) -> Vec<Week> {
        let entries = std::fs::read_dir(self.captions())
            .into_iter()
            .flatten()
            .flatten();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
        let mut weeks: Vec<Week> = entries
            .filter_map(name)
            .filter_map(|name| Week::from_name(name.strip_suffix(".db")?))
            .collect();
        weeks.sort();
        weeks
    }

    /// Makes the folders; what is in them is for this user alone.
    pub fn make(&self) -> Result<(), Error> {
        use std::os::unix::fs::DirBuilderExt;
        for folder in [
            self.root.clone(),
            self.captions(),
            self.thumbs(),
            self.clips(),
        ] {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(&folder).map_err(Error::file(&folder))?;
        }
        Ok(())
    }
}

/// The right to write, held by one process at a time.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// The process before this one had no time to end well.
    pub unclean: bool,
}

impl Lock {
    /// Takes it.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has it.
    pub fn take(layout: &Layout) -> Result<Self, Error> {
        let path = layout.lock();
        let fault = || Error::file(&path);
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fault())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse {
                    path: layout.root.clone(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(fault()(error)),
        }
        let mut before = String::new();
        file.read_to_string(&mut before).map_err(fault())?;
        let lock = Self {
            file,
            unclean: !before.is_empty(),
        };
        lock.mark(b"running\n").map_err(fault())?;
        Ok(lock)
    }

    /// Says that all is written and closed.
    pub fn clean(self) {
        // If this cannot be written, the next start checks once more than it has to.
        let _ = self.mark(b"");
    }

    fn mark(&self, text: &[u8]) -> std::io::Result<()> {
        let mut file = &self.file;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text)?;
        file.sync_all()
    }
}

/// Bytes that are free on the disk of a path, for this user.
pub fn free(path: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(path).map_err(|error| Error::file(path)(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses file systems of the network.
pub fn is_local(path: &Path) -> Result<(), Error> {
    let stat = rustix::fs::statfs(path).map_err(|error| Error::file(path)(error.into()))?;
    let kind = match stat.f_type as u64 & 0xffff_ffff {
        0x6969 => "NFS",
        0xff53_4d42 | 0xfe53_4d42 => "CIFS",
        0x517b => "SMB",
        _ => return Ok(()),
    };
    Err(Error::Network {
        path: path.to_owned(),
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_writes_and_an_unclean_end_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let first = Lock::take(&layout).unwrap();
        assert!(!first.unclean);
        assert!(matches!(Lock::take(&layout), Err(Error::InUse { .. })));
        drop(first);
        let second = Lock::take(&layout).unwrap();
        assert!(second.unclean);
        second.clean();
        assert!(!Lock::take(&layout).unwrap().unclean);
    }

    #[test]
    fn this_machine_s_temporary_folder_is_local_and_has_room() {
        let folder = tempfile::tempdir().unwrap();
        is_local(folder.path()).unwrap();
        assert!(free(folder.path()).unwrap() > 0);
    }
}
