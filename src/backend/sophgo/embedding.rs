// SPDX-License-Identifier: MPL-2.0

//! `embedding.bin`: the table of token embeddings of a bmodel made with `--embedding_disk`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;

/// `[vocab_size, hidden_size]` halves, no header; rows are read where they are needed.
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
    pub(super) fn open(path: &Path, hidden_size: usize, vocab_size: usize) -> Result<Self, Error> {
        let name = path.display().to_string();
        let io = |source| Error::Io {
            file: name.clone(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let got = file.metadata().map_err(io)?.len();
        let row_bytes = 2 * hidden_size;
        let want = (row_bytes * vocab_size) as u64;
        if got != want {
            return Err(Error::Embedding {
                file: name,
                got,
                want,
                hidden: hidden_size,
                vocab_size,
            });
        }
        Ok(Self {
            file,
            name,
            row_bytes,
        })
    }

    /// The rows of these tokens, one after the other.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Vec<u8>, Error> {
        let mut rows = vec![0; ids.len() * self.row_bytes];
        for (row, &id) in rows.chunks_exact_mut(self.row_bytes).zip(ids) {
            let at = id as u64 * self.row_bytes as u64;
            self.file
                .read_exact_at(row, at)
                .map_err(|source| Error::Io {
                    file: self.name.clone(),
                    source,
                })?;
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn rows_are_those_of_the_tokens() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&(0..24).collect::<Vec<u8>>()).unwrap();
        let table = Table::open(file.path(), 4, 3).unwrap();
        let rows = table.rows(&[2, 0]).unwrap();
        assert_eq!(rows[..8], [16, 17, 18, 19, 20, 21, 22, 23]);
        assert_eq!(rows[8..], [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_table_of_another_size_is_refused_with_both_sizes() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[0; 30]).unwrap();
        let error = Table::open(file.path(), 4, 3).unwrap_err().to_string();
        for words in [
            "has 30 bytes",
            "4 columns and 3 rows has 24",
            "--embedding_disk",
        ] {
            assert!(error.contains(words), "{error}");
        }
    }
}
