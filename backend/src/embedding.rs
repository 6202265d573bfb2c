// SPDX-License-Identifier: MPL-2.0

//! A table of token embeddings in a file of its own, as both vendors' compilers leave it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `[rows, columns]` of two bytes each, no header; rows are read where they are needed.
#[derive(Debug)]
pub(super) struct Table {
    file: File,
    name: String,
    row_bytes: usize,
}

/// Why a table of embeddings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It does not fit the model.
    #[error(
        "{file} has {got} bytes, a table of {rows} rows and {columns} columns in 16 bits has \
         {want}{hint}"
    )]
    Size {
        /// The file.
        file: String,
        /// Bytes it has.
        got: u64,
        /// Bytes it should have.
        want: u64,
        /// Entries of the vocabulary.
        rows: usize,
        /// Width of a row.
        columns: usize,
        /// What it may be instead.
        hint: &'static str,
    },
}

impl Table {
    /// Opens a table and compares its length with the model.
    ///
    /// # Errors
    /// [`TableError`].
    pub(super) fn open(path: &Path, rows: usize, columns: usize) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let io = |source| TableError::Io {
            file: name.clone(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let got = file.metadata().map_err(io)?.len();
        let row_bytes = 2 * columns;
        let want = (row_bytes * rows) as u64;
        if got != want {
            return Err(TableError::Size {
                file: name,
                got,
                want,
                rows,
                columns,
                hint: match got == 2 * want {
                    true => "; it looks like the f32 table, the 16-bit one is needed",
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

    /// Reads the row of a token, which must be of the vocabulary.
    ///
    /// # Errors
    /// [`TableError::Io`].
    pub(super) fn row(&self, id: u32, row: &mut [u8]) -> Result<(), TableError> {
        let at = u64::from(id) * self.row_bytes as u64;
        let read = self.file.read_exact_at(row, at);
        read.map_err(|source| TableError::Io {
            file: self.name.clone(),
            source,
        })
    }

    /// The rows of these tokens, one after the other.
    ///
    /// # Errors
    /// [`TableError::Io`].
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Vec<u8>, TableError> {
        let mut rows = vec![0; ids.len() * self.row_bytes];
        for (row, &id) in rows.chunks_exact_mut(self.row_bytes).zip(ids) {
            self.row(id, row)?;
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn open(n_bytes: u8) -> Result<Table, TableError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&(0..n_bytes).collect::<Vec<u8>>()).unwrap();
        Table::open(file.path(), 3, 4)
    }

    #[test]
    fn rows_are_those_of_the_tokens() {
        let rows = open(24).unwrap().rows(&[2, 0]).unwrap();
        assert_eq!(rows[..8], [16, 17, 18, 19, 20, 21, 22, 23]);
        assert_eq!(rows[8..], [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_table_of_another_size_is_refused_with_both_sizes() {
        for (n_bytes, hint) in [(30, "another model's"), (48, "looks like the f32 table")] {
            let error = open(n_bytes).unwrap_err().to_string();
            for words in [
                &format!("has {n_bytes} bytes"),
                "3 rows and 4 columns in 16 bits has 24",
                hint,
            ] {
                assert!(error.contains(words), "{error}");
            }
        }
    }
}
