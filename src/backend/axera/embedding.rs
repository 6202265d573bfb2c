// SPDX-License-Identifier: MPL-2.0

//! The table of token embeddings.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;

/// `[rows, columns]` in bf16, no header; rows are read where they are needed.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    name: String,
    row_bytes: usize,
}

impl Table {
    /// Opens a table and compares its length with the model.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Embedding`].
    pub(super) fn open(path: &Path, rows: usize, columns: usize) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io {
            file: name.clone(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let got = file.metadata().map_err(io)?.len();
        let row_bytes = 2 * columns;
        let want = (row_bytes * rows) as u64;
        if got != want {
            return Err(Error::Embedding {
                file: name,
                got,
                want,
                rows,
                columns,
                hint: match got == 2 * want {
                    true => "; it looks like the f32 table, the bfloat16 one is needed",
                    false => "; it is another model's, or not whole",
                },
            });
        }
        Ok(Self {
            file,
            name,
            row_bytes,
        })
    }

    /// Reads the row of a token.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn row(&self, id: u32, row: &mut [u8]) -> Result<(), Error> {
        let at = u64::from(id) * self.row_bytes as u64;
        let read = self.file.read_exact_at(row, at);
        read.map_err(|source| Error::Io {
            file: self.name.clone(),
            source,
        })
    }
}
