// SPDX-License-Identifier: MPL-2.0

//! A record is read, and looked at for damage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::is_record;
use super::record::{FILE, FORMAT, Frame, Record};
use super::{picture, sha256};
use crate::caption::frames::visual::Jpeg;
use crate::caption::reports::evidence::{Shown, ShownFrame};

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is not there, or cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is there is no record.
    #[error("{file}: {reason}")]
    Form {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It was written by a later version.
    #[error(
        "{file}: format {format} is later than {FORMAT}, the last that this version knows; take \
         vlmcaption {version} or later"
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// Of the record.
        format: u64,
        /// Of the plugin that wrote it.
        version: String,
    },
    /// A file is not the one that was written.
    #[error("{file}: its SHA-256 is not the one in {FILE}; the record is damaged or was changed")]
    Damaged {
        /// The file.
        file: PathBuf,
    },
}

/// A record with its frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Its folder.
    pub folder: PathBuf,
    /// What is in `record.json`.
    pub record: Record,
    /// The frames; those of a server as the JPEGs that were sent.
    pub frames: Vec<ShownFrame>,
}

impl Whole {
    /// Reads the record in a folder, or of which this is the file `record.json`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let folder = match path.file_name().is_some_and(|name| name == FILE) {
            true => path.parent().unwrap_or(Path::new(".")),
            false => path,
        };
        let record = read(folder)?;
        let frames = record.frames.iter().map(|frame| shown(folder, frame));
        Ok(Self {
            folder: folder.to_owned(),
            frames: frames.collect::<Result<_, _>>()?,
            record,
        })
    }
}

/// Reads `record.json` in a folder, without the frames.
///
/// # Errors
/// See [`Error`].
pub fn read(folder: &Path) -> Result<Record, Error> {
    let file = folder.join(FILE);
    let bytes = bytes(&file)?;
    let wrong = |file: &Path, error: serde_json::Error| Error::Form {
        file: file.to_owned(),
        reason: format!("is no record: {error}"),
    };
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| wrong(&file, error))?;
    let format = value["format"].as_u64().unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(Error::Format {
            file,
            format,
            version: value["version"].as_str().unwrap_or("?").to_owned(),
        });
    }
    serde_json::from_value(value).map_err(|error| wrong(&file, error))
}

/// The records in a folder, in order of time; the folder itself if it is one.
///
/// # Errors
/// The folder cannot be read.
pub fn records(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if folder.join(FILE).is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let wrong = |source| Error::Io {
        file: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        if is_record(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn shown(folder: &Path, frame: &Frame) -> Result<ShownFrame, Error> {
    let form = |reason: String| Error::Form {
        file: folder.join(FILE),
        reason,
    };
    // A record may come from anybody: its frames lie beside it.
    if frame.file.contains(['/', '\\']) || frame.file.starts_with('.') {
        return Err(form(format!("names a frame {:?}", frame.file)));
    }
    let file = folder.join(&frame.file);
    let bytes = bytes(&file)?;
    if sha256(&bytes) != frame.sha256 {
        return Err(Error::Damaged { file });
    }
    let picture = match frame.file.ends_with(".jpg") {
        true => Shown::Jpeg(Arc::new(Jpeg {
            width: frame.width,
            height: frame.height,
            bytes,
        })),
        false => {
            let image = picture::read_png(&bytes);
            Shown::Rgb(Arc::new(
                image.map_err(|reason| Error::Form { file, reason })?,
            ))
        }
    };
    Ok(ShownFrame {
        time: frame.when(),
        picture,
    })
}

fn bytes(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|source| Error::Io {
        file: file.to_owned(),
        source,
    })
}
