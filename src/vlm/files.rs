// SPDX-License-Identifier: MPL-2.0

//! Where the files of a checkpoint come from: a folder, or the plugin itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use super::Error;
use crate::backend::cpu::Weights;
use crate::backend::header::Header;
use crate::backend::{json, lfs};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A file that is compiled into the plugin.
#[derive(Debug, Clone, Copy)]
pub struct Embedded {
    /// Name as in a checkpoint folder.
    pub name: &'static str,
    /// Content.
    pub bytes: &'static [u8],
}

/// The files of one checkpoint.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// Compiled in: name and files.
    Embedded(&'static str, &'static [Embedded]),
}

macro_rules! demo_file {
    ($name:literal) => {
        Embedded {
            name: $name,
            bytes: include_bytes!(concat!("../../models/demo/", $name)),
        }
    };
}

/// The built-in demo model: a whole checkpoint of 6.2 MB. A constant would be in the plugin once for each
/// part of it that the compiler makes at once and that names it.
static DEMO: [Embedded; 8] = [
    demo_file!("config.json"),
    demo_file!("tokenizer.json"),
    demo_file!("tokenizer_config.json"),
    demo_file!("chat_template.jinja"),
    demo_file!("generation_config.json"),
    demo_file!("preprocessor_config.json"),
    demo_file!("video_preprocessor_config.json"),
    demo_file!("model.safetensors"),
];

impl ModelFiles {
    /// The model that is compiled in: a Qwen3-VL of 3.1 M parameters which knows coloured shapes
    /// and `videotestsrc`'s patterns.
    pub const fn demo() -> Self {
        ModelFiles::Embedded("demo", &DEMO)
    }

    /// Short name: the folder's own, or the embedded model's.
    pub fn name(&self) -> String {
        match self {
            ModelFiles::Folder(path) => folder_name(path),
            ModelFiles::Embedded(name, _) => (*name).to_owned(),
        }
    }

    /// What messages call the place.
    pub fn place(&self) -> String {
        match self {
            ModelFiles::Folder(path) => path.display().to_string(),
            ModelFiles::Embedded(name, _) => format!("built-in model {name}"),
        }
    }

    /// What messages call a file of it.
    pub fn label(&self, name: &str) -> String {
        match self {
            ModelFiles::Folder(path) => path.join(name).display().to_string(),
            ModelFiles::Embedded(..) => format!("{}: {name}", self.place()),
        }
    }

    /// That there is a folder to look into.
    ///
    /// # Errors
    /// [`Error::NoFolder`] if there is nothing, or a file.
    pub fn check_place(&self) -> Result<(), Error> {
        let ModelFiles::Folder(path) = self else {
            return Ok(());
        };
        let reason = if path.is_dir() {
            return Ok(());
        } else if path.exists() {
            "is a file; give the folder that holds config.json and the weights"
        } else {
            "does not exist; give the folder of a Hugging Face checkpoint"
        };
        Err(Error::NoFolder {
            place: self.place(),
            reason,
        })
    }

    /// A file's content, less a byte order mark; `None` if there is no such file.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::LfsPointer`] if the file itself was never fetched.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, Error> {
        match self {
            ModelFiles::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) if lfs::is_pointer(&bytes) => Err(Error::LfsPointer {
                    file: self.label(name),
                }),
                Ok(mut bytes) => {
                    let mark = bytes.len() - json::without_bom(&bytes).len();
                    bytes.drain(..mark);
                    Ok(Some(Cow::Owned(bytes)))
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Io {
                    file: self.label(name),
                    source,
                }),
            },
            ModelFiles::Embedded(_, files) => Ok(files
                .iter()
                .find(|f| f.name == name)
                .map(|f| Cow::Borrowed(f.bytes))),
        }
    }

    /// A file's content; an error that names it if there is no such file.
    pub fn require(&self, name: &str) -> Result<Cow<'static, [u8]>, Error> {
        self.read(name)?.ok_or_else(|| Error::MissingFile {
            folder: self.place(),
            file: name.to_owned(),
        })
    }

    /// The weight files: `model.safetensors`, or the shards that its index names.
    pub fn weights(&self) -> Result<Weights, Error> {
        match self {
            ModelFiles::Embedded(_, files) => files
                .iter()
                .find(|f| f.name == SINGLE)
                .map(|f| Weights::Bytes(f.bytes))
                .ok_or_else(|| Error::MissingFile {
                    folder: self.place(),
                    file: SINGLE.into(),
                }),
            ModelFiles::Folder(folder) => {
                if folder.join(SINGLE).exists() {
                    return Ok(Weights::Files(vec![folder.join(SINGLE)]));
                }
                let Some(bytes) = self.read(INDEX)? else {
                    return Err(Error::MissingFile {
                        folder: self.place(),
                        file: format!("{SINGLE} (nor {INDEX})"),
                    });
                };
                shards(folder, &bytes)
            }
        }
    }

    /// That all weight files are there, with readable headers and as long as their headers say.
    /// Reads the headers only.
    ///
    /// # Errors
    /// [`Error::MissingFile`], [`Error::Io`], or [`Error::Backend`] with
    /// [`Damaged`](crate::backend::Error::Damaged) or
    /// [`LfsPointer`](crate::backend::Error::LfsPointer).
    pub fn check_weights(&self) -> Result<(), Error> {
        match self.weights()? {
            Weights::Bytes(_) => Ok(()),
            Weights::Files(paths) => paths.iter().try_for_each(|path| check_safetensors(path)),
        }
    }
}

/// What to call the model in a folder: its last part, or in a cache of Hugging Face, where that is a
/// hash (`models--<owner>--<name>/snapshots/<commit>`), the name in the repository's.
pub(in crate::vlm) fn folder_name(path: &Path) -> String {
    let part = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.map(std::borrow::Cow::into_owned)
    };
    let repository = |path: &Path| {
        let name = part(path)?.strip_prefix("models--")?.to_owned();
        Some(name.rsplit("--").next().unwrap_or(&name).to_owned())
    };
    let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"));
    let cached = snapshots.and_then(Path::parent).and_then(repository);
    cached
        .or_else(|| repository(path))
        .or_else(|| part(path))
        .unwrap_or_else(|| path.display().to_string())
}

/// The files that an index names, each once; all must be there.
fn shards(folder: &Path, index: &[u8]) -> Result<Weights, Error> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = json::read(index).map_err(|e| Error::Config {
        file: folder.join(INDEX).display().to_string(),
        reason: format!("not an index of weights ({e}); fetch the file again"),
    })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    match files.iter().find(|file| !file.exists()) {
        None => Ok(Weights::Files(files)),
        Some(missing) => Err(Error::MissingFile {
            folder: folder.display().to_string(),
            file: missing
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        }),
    }
}

/// That a safetensors file has a readable header and the length that it promises.
fn check_safetensors(path: &Path) -> Result<(), Error> {
    let name = path.display().to_string();
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    match opened {
        Ok((length, file)) => {
            Header::read(&name, file, length)?;
            Ok(())
        }
        Err(source) => Err(Error::Io { file: name, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A whole safetensors file with one tensor of two f32.
    fn safetensors() -> Vec<u8> {
        let header = br#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    fn complaint(contents: &[(&str, &[u8])]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in contents {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let files = ModelFiles::Folder(folder.path().to_owned());
        files.check_weights().err().map(|e| e.to_string())
    }

    #[test]
    fn the_demo_is_whole() {
        let files = ModelFiles::demo();
        assert_eq!(
            (files.name(), files.place()),
            ("demo".into(), "built-in model demo".into())
        );
        files.check_place().unwrap();
        files.check_weights().unwrap();
        let Weights::Bytes(bytes) = files.weights().unwrap() else {
            panic!("the demo is embedded");
        };
        safetensors::SafeTensors::deserialize(bytes).unwrap();
        assert!(files.read("pytorch_model.bin").unwrap().is_none());
    }

    #[test]
    fn whole_weights_pass_in_one_file_or_in_shards() {
        let whole = safetensors();
        assert_eq!(complaint(&[(SINGLE, &whole)]), None);
        let index =
            br#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        let shards: [(&str, &[u8]); 3] = [
            (INDEX, index),
            ("1.safetensors", &whole),
            ("2.safetensors", &whole),
        ];
        assert_eq!(complaint(&shards), None);
        let got = complaint(&shards[..2]).unwrap();
        assert!(got.contains("has no 2.safetensors"), "{got}");
        let cut: (&str, &[u8]) = ("2.safetensors", &whole[..30]);
        let got = complaint(&[shards[0], shards[1], cut]).unwrap();
        assert!(
            got.contains("2.safetensors is not a whole safetensors file"),
            "{got}"
        );
    }

    #[test]
    fn damaged_weights_are_told() {
        let whole = safetensors();
        let mut garbled = whole.clone();
        garbled[9] = b'!';
        let n = whole.len();
        let mut longer = whole.clone();
        longer.push(0);
        for (bytes, want) in [
            (
                &whole[..n - 1],
                format!("should have {n} bytes and has {}", n - 1),
            ),
            (
                &longer[..],
                format!("should have {n} bytes and has {}", n + 1),
            ),
            (&whole[..20], "the whole file has 20".to_owned()),
            (&whole[..5], "it has 5 bytes".to_owned()),
            (&garbled[..], "header: ".to_owned()),
            (
                &b"<html><body>404 not found</body></html>"[..],
                "its header should have".to_owned(),
            ),
        ] {
            let got = complaint(&[(SINGLE, bytes)]).unwrap();
            assert!(got.contains("is not a whole safetensors file"), "{got}");
            assert!(
                got.contains(&want) && got.ends_with("fetch it again"),
                "{got}"
            );
        }
    }

    #[test]
    fn missing_weights_and_a_bad_index_are_told() {
        let got = complaint(&[]).unwrap();
        assert!(
            got.contains("has no model.safetensors (nor model.safetensors.index.json)"),
            "{got}"
        );
        let got = complaint(&[(INDEX, b"{}")]).unwrap();
        assert!(got.contains("not an index of weights"), "{got}");
    }

    #[test]
    fn git_lfs_pointers_are_told_with_the_remedy() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6214088\n";
        let got = complaint(&[(SINGLE, pointer)]).unwrap();
        assert!(got.contains("git lfs pull"), "{got}");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), pointer).unwrap();
        let got = ModelFiles::Folder(folder.path().to_owned()).require("tokenizer.json");
        assert!(matches!(got, Err(Error::LfsPointer { .. })));
    }

    #[test]
    fn a_snapshot_in_a_cache_has_the_name_of_its_repository() {
        let hash = "66285546d2b821cf421d4f5eb2576359d3770cd3";
        for (path, want) in [
            ("/models/Qwen3-VL-2B-Instruct", "Qwen3-VL-2B-Instruct"),
            ("/models/Qwen3-VL-2B-Instruct/", "Qwen3-VL-2B-Instruct"),
            ("/models/snapshots/mine", "mine"),
            (
                "/hub/models--Qwen--Qwen3-VL-2B-Instruct",
                "Qwen3-VL-2B-Instruct",
            ),
            (
                &format!("/hub/models--Qwen--Qwen3-VL-2B-Instruct/snapshots/{hash}"),
                "Qwen3-VL-2B-Instruct",
            ),
            (&format!("/hub/models--gpt2/snapshots/{hash}"), "gpt2"),
        ] {
            assert_eq!(ModelFiles::Folder(path.into()).name(), want, "{path}");
        }
    }

    #[test]
    fn a_place_that_is_no_folder_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let complaint = |path: PathBuf| {
            let error = ModelFiles::Folder(path).check_place().unwrap_err();
            error.to_string()
        };
        let got = complaint(folder.path().join("none"));
        assert!(got.ends_with("none does not exist; give the folder of a Hugging Face checkpoint"));
        let file = folder.path().join("model.gguf");
        fs::write(&file, b"GGUF").unwrap();
        assert!(complaint(file).contains("model.gguf is a file; give the folder"));
    }
}
