// SPDX-License-Identifier: MPL-2.0

//! What can go wrong with the store.

use std::path::{Path, PathBuf};

/// Why something could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{}: {source}", path.display())]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} was written by a newer vlmcaption-watch (layout {found}, this one knows {known}); use that one, or restore a backup", path.display())]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    #[error("{} is in use by another vlmcaption-watch; stop it first", path.display())]
    InUse { path: PathBuf },
    #[error("{} is on a file system of the network ({kind}), where SQLite loses data; choose a local disk for storage.path", path.display())]
    Network { path: PathBuf, kind: &'static str },
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// Of a database.
    pub fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        |source| Self::Sqlite {
            path: path.to_owned(),
            source,
        }
    }

    /// Of a file.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file is no database any more.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Sqlite { source, .. } = self else {
            return false;
        };
        matches!(
            source.sqlite_error_code(),
            Some(DatabaseCorrupt | NotADatabase)
        )
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
