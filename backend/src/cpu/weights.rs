// SPDX-License-Identifier: MPL-2.0

//! Reads tensors out of safetensors files, one at a time and in pieces.
//!
//! The files are read by position into one small buffer, not mapped: no page of them stays in this
//! process, and a file that shrinks while it is read is an error instead of a signal.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use half::{bf16, f16};
use safetensors::Dtype;

use super::options::Weights;
use crate::header::Header;
use crate::{Cancel, Error};

/// Bytes of a file that are read at a time; a longer row is read whole.
const PIECE_BYTES: usize = 4 << 20;

/// What messages call the weights in memory.
const BUILT_IN: &str = "the built-in weights";

/// Appends the numbers in some bytes of a file.
type Decode = fn(&[u8], &mut Vec<f32>);

/// Where the bytes are.
enum Source {
    File { file: File, name: String },
    Bytes(&'static [u8]),
}

/// A tensor in a file.
struct Entry {
    source: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Of the first byte in the file.
    offset: u64,
}

/// The tensors of a checkpoint, and how far reading them has come.
pub(super) struct Reader<'a> {
    sources: Vec<Source>,
    entries: HashMap<String, Entry>,
    n_parameters: u64,
    /// A line for each file: name, length, time of change, checksum of the header.
    identity: String,
    read_bytes: u64,
    total_bytes: u64,
    progress: &'a mut dyn FnMut(f32),
    cancel: &'a Cancel,
}

impl<'a> Reader<'a> {
    /// Reads the headers and holds the lengths of the files against them.
    pub(super) fn open(
        weights: &Weights,
        progress: &'a mut dyn FnMut(f32),
        cancel: &'a Cancel,
    ) -> Result<Self, Error> {
        let mut reader = Self {
            sources: Vec::new(),
            entries: HashMap::new(),
            n_parameters: 0,
            identity: String::new(),
            read_bytes: 0,
            total_bytes: 0,
            progress,
            cancel,
        };
        match weights {
            Weights::Files(files) => {
                for file in files {
                    reader.add(open_file(file)?)?;
                }
            }
            Weights::Bytes(bytes) => reader.add(Source::Bytes(bytes))?,
        }
        Ok(reader)
    }

    /// Numbers in all tensors together.
    pub(super) fn n_parameters(&self) -> u64 {
        self.n_parameters
    }

    /// What tells these files from others, and from what they are after a change.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Counts a tensor as read that is not needed.
    pub(super) fn skip(&mut self, name: &str) -> Result<(), Error> {
        self.cancel.check()?;
        if let Some(entry) = self.entries.get(name) {
            let n = entry.shape.iter().product::<usize>() * entry.dtype.bitsize() / 8;
            self.read_bytes += n as u64;
            (self.progress)(self.read_bytes as f32 / self.total_bytes as f32);
        }
        Ok(())
    }

    /// Whether there is such a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// That there is a tensor of this shape: what is asked before memory is taken for it.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.entry(name, shape).map(|_| ())
    }

    /// Names of the tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The type of a tensor's numbers, if there is one.
    pub(super) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.entries.get(name).map(|entry| entry.dtype)
    }

    /// Reads a tensor of one dimension.
    pub(super) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        self.expect(name, &[len])?;
        let mut vector = Vec::with_capacity(len);
        self.rows(name, &[len], &mut |piece| vector.extend_from_slice(piece))?;
        Ok(vector)
    }

    /// Reads a tensor and hands it on in pieces of whole rows, as f32; a row is all but the first
    /// dimension.
    pub(super) fn rows(
        &mut self,
        name: &str,
        shape: &[usize],
        take: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        let (decode, dtype): (Decode, Dtype) = match self.entry(name, shape)?.dtype {
            Dtype::F32 => (decode_f32, Dtype::F32),
            Dtype::F16 => (decode_f16, Dtype::F16),
            Dtype::BF16 => (decode_bf16, Dtype::BF16),
            other => return Err(wrong_type(name, other, "f32, f16 and bf16")),
        };
        let mut floats = Vec::new();
        self.pieces(name, shape, dtype, &mut |piece| {
            floats.clear();
            decode(piece, &mut floats);
            take(&floats);
        })
    }

    /// Reads a tensor of a number type of whole bytes and hands it on in pieces of whole rows, as
    /// it is in the file: little endian.
    pub(super) fn pieces(
        &mut self,
        name: &str,
        shape: &[usize],
        dtype: Dtype,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Error> {
        let entry = self.entry(name, shape)?;
        if entry.dtype != dtype {
            let read = match dtype {
                Dtype::I8 => "i8",
                Dtype::I32 => "i32",
                Dtype::I64 => "i64",
                _ => "other numbers",
            };
            return Err(wrong_type(name, entry.dtype, read));
        }
        let (source, offset) = (entry.source, entry.offset);
        // A tensor without a dimension is one number.
        let (n_rows, row) = shape.split_first().unwrap_or((&1, &[]));
        let row_bytes = dtype.bitsize() / 8 * row.iter().product::<usize>();
        let total = row_bytes * n_rows;
        let piece_bytes = row_bytes * (PIECE_BYTES / row_bytes.max(1)).max(1);
        let mut bytes = Vec::new();
        let mut done = 0;
        while done < total {
            self.cancel.check()?;
            let n = piece_bytes.min(total - done);
            let piece = self.sources[source].read(offset + done as u64, n, &mut bytes)?;
            take(&piece);
            done += n;
            self.read_bytes += n as u64;
            (self.progress)(self.read_bytes as f32 / self.total_bytes as f32);
        }
        Ok(())
    }

    /// A tensor of this shape.
    fn entry(&self, name: &str, shape: &[usize]) -> Result<&Entry, Error> {
        let entry = self.entries.get(name).ok_or_else(|| Error::MissingWeight {
            name: name.to_owned(),
            file: self.place(),
        })?;
        if entry.shape != shape {
            return Err(Error::WeightShape {
                name: name.to_owned(),
                want: shape.to_vec(),
                got: entry.shape.clone(),
            });
        }
        Ok(entry)
    }

    fn add(&mut self, mut source: Source) -> Result<(), Error> {
        let len = source.len()?;
        let Header {
            metadata,
            end,
            checksum,
        } = source.header(len)?;
        let (name, changed) = (source.name(), source.changed());
        self.identity
            .push_str(&format!("{name} {len} {changed} {checksum:08x}\n"));
        let index = self.sources.len();
        for (name, info) in metadata.tensors() {
            // The 32-bit integers in a checkpoint are packed numbers, mostly eight in each.
            let packed = if info.dtype == Dtype::I32 { 8 } else { 1 };
            self.n_parameters += packed * info.shape.iter().product::<usize>() as u64;
            let entry = Entry {
                source: index,
                dtype: info.dtype,
                shape: info.shape.clone(),
                offset: end + info.data_offsets.0 as u64,
            };
            self.entries.insert(name, entry);
        }
        self.total_bytes += metadata.data_len() as u64;
        self.sources.push(source);
        Ok(())
    }

    /// What messages call the files.
    fn place(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(Source::name).collect();
        names.join(", ")
    }
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Source::File { name, .. } => name,
            Source::Bytes(_) => BUILT_IN,
        }
    }

    fn damaged(&self, reason: String) -> Error {
        Error::Damaged {
            file: self.name().to_owned(),
            reason,
        }
    }

    /// When it was changed last: ns since the Unix epoch, where the system can tell.
    fn changed(&self) -> u128 {
        match self {
            Source::File { file, .. } => {
                let changed = file.metadata().and_then(|metadata| metadata.modified());
                let since = changed
                    .ok()
                    .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                since.unwrap_or_default().as_nanos()
            }
            Source::Bytes(_) => 0,
        }
    }

    fn len(&self) -> Result<u64, Error> {
        match self {
            Source::File { file, name } => match file.metadata() {
                Ok(metadata) => Ok(metadata.len()),
                Err(source) => Err(Error::Io {
                    file: name.clone(),
                    source,
                }),
            },
            Source::Bytes(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn header(&mut self, len: u64) -> Result<Header, Error> {
        match self {
            Source::File { file, name } => Header::read(name, file, len),
            Source::Bytes(bytes) => Header::read(BUILT_IN, *bytes, len),
        }
    }

    /// `len` bytes from `offset` on; `buffer` is where a file's go.
    fn read<'b>(
        &mut self,
        offset: u64,
        len: usize,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Cow<'b, [u8]>, Error> {
        match self {
            Source::File { file, name } => {
                buffer.resize(len, 0);
                let read = file
                    .seek(SeekFrom::Start(offset))
                    .and_then(|_| file.read_exact(buffer));
                match read {
                    Ok(()) => Ok(Cow::Borrowed(buffer)),
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                        Err(Error::Damaged {
                            file: name.clone(),
                            reason: format!("it ends before byte {}", offset + len as u64),
                        })
                    }
                    Err(source) => Err(Error::Io {
                        file: name.clone(),
                        source,
                    }),
                }
            }
            Source::Bytes(bytes) => {
                let piece = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(len)?));
                match piece {
                    Some(piece) => Ok(Cow::Borrowed(piece)),
                    None => Err(self.damaged(format!("it ends before byte {offset} + {len}"))),
                }
            }
        }
    }
}

fn open_file(path: &Path) -> Result<Source, Error> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Ok(Source::File { file, name }),
        Err(source) => Err(Error::Io { file: name, source }),
    }
}

/// The tensor `name` has another type than those that are read.
pub(super) fn wrong_type(name: &str, dtype: Dtype, read: &'static str) -> Error {
    Error::WeightType {
        name: name.to_owned(),
        dtype: format!("{dtype:?}"),
        read,
    }
}

fn decode_f32(bytes: &[u8], out: &mut Vec<f32>) {
    let (items, _) = bytes.as_chunks::<4>();
    out.extend(items.iter().map(|&b| f32::from_le_bytes(b)));
}

fn decode_f16(bytes: &[u8], out: &mut Vec<f32>) {
    let (items, _) = bytes.as_chunks::<2>();
    out.extend(items.iter().map(|&b| f16::from_le_bytes(b).to_f32()));
}

fn decode_bf16(bytes: &[u8], out: &mut Vec<f32>) {
    let (items, _) = bytes.as_chunks::<2>();
    out.extend(items.iter().map(|&b| bf16::from_le_bytes(b).to_f32()));
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::PathBuf;

    use safetensors::tensor::{TensorView, serialize};

    fn file_of(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let views = tensors.iter().map(|&(name, dtype, shape, data)| {
            let view = TensorView::new(dtype, shape.to_vec(), data).expect("a good tensor");
            (name.to_owned(), view)
        });
        serialize(views, None).expect("a good file")
    }

    fn written(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, bytes).expect("a writable folder");
        path
    }

    fn open_error(bytes: &[u8]) -> Error {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = Weights::Files(vec![written(&folder, bytes)]);
        let error = Reader::open(&weights, &mut |_| (), &Cancel::default()).err();
        error.expect("a damaged file")
    }

    #[test]
    fn three_number_types_are_read_alike() {
        let values = [1.0f32, -0.5, 3.0, 0.25];
        let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let f16s: Vec<u8> = values
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect();
        let bf16s: Vec<u8> = values
            .iter()
            .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
            .collect();
        let bytes = file_of(&[
            ("a", Dtype::F32, &[2, 2], &f32s),
            ("b", Dtype::F16, &[2, 2], &f16s),
            ("c", Dtype::BF16, &[4], &bf16s),
        ]);
        let weights = Weights::Bytes(bytes.leak());
        let cancel = Cancel::default();
        let mut heard = Vec::new();
        let mut hear = |part| heard.push(part);
        let mut reader = Reader::open(&weights, &mut hear, &cancel).expect("a good file");
        assert_eq!(reader.n_parameters(), 12);
        for name in ["a", "b"] {
            let mut got = Vec::new();
            reader
                .rows(name, &[2, 2], &mut |piece| got.extend_from_slice(piece))
                .expect("a readable tensor");
            assert_eq!(got, values);
        }
        assert_eq!(reader.vector("c", 4).expect("a vector"), values);
        assert_eq!(heard.last(), Some(&1.0));
    }

    #[test]
    fn a_missing_a_misshapen_and_an_unread_tensor_are_named() {
        let bytes = file_of(&[("ids", Dtype::I64, &[1], &[0; 8])]);
        let weights = Weights::Bytes(bytes.leak());
        let (cancel, mut ignore) = (Cancel::default(), |_| ());
        let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
        assert!(matches!(
            reader.vector("gone", 1),
            Err(Error::MissingWeight { name, .. }) if name == "gone"
        ));
        assert!(matches!(
            reader.vector("ids", 2),
            Err(Error::WeightShape { want, got, .. }) if want == [2] && got == [1]
        ));
        assert!(matches!(
            reader.vector("ids", 1),
            Err(Error::WeightType { dtype, .. }) if dtype == "I64"
        ));
    }

    #[test]
    fn a_file_cut_anywhere_is_damaged() {
        let whole = file_of(&[("a", Dtype::F32, &[8], &[0; 32])]);
        for len in [0, 3, 8, 9, 40, whole.len() - 1] {
            let error = open_error(&whole[..len]);
            assert!(
                matches!(error, Error::Damaged { .. }),
                "{len} bytes: {error}"
            );
        }
    }

    #[test]
    fn a_pointer_of_git_lfs_is_no_damaged_file() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6214088\n";
        let error = open_error(pointer);
        assert!(error.to_string().contains("git lfs pull"), "{error}");
    }

    #[test]
    fn a_header_of_nonsense_is_damaged() {
        let mut bytes = file_of(&[("a", Dtype::F32, &[8], &[0; 32])]);
        bytes[8] = b'}';
        assert!(matches!(open_error(&bytes), Error::Damaged { .. }));
        assert!(matches!(open_error(&[0xff; 64]), Error::Damaged { .. }));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_damaged() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let whole = file_of(&[("a", Dtype::F32, &[8], &[0; 32])]);
        let path = written(&folder, &whole);
        let weights = Weights::Files(vec![path.clone()]);
        let (cancel, mut ignore) = (Cancel::default(), |_| ());
        let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
        let file = File::options()
            .write(true)
            .open(path)
            .expect("a writable file");
        file.set_len(whole.len() as u64 - 4)
            .expect("a shorter file");
        assert!(matches!(reader.vector("a", 8), Err(Error::Damaged { .. })));
    }

    #[test]
    fn reading_stops_when_cancelled() {
        let bytes = file_of(&[("a", Dtype::F32, &[8], &[0; 32])]);
        let weights = Weights::Bytes(bytes.leak());
        let (cancel, mut ignore) = (Cancel::default(), |_| ());
        let mut reader = Reader::open(&weights, &mut ignore, &cancel).expect("a good file");
        cancel.cancel();
        assert!(matches!(reader.vector("a", 8), Err(Error::Cancelled)));
    }
}
