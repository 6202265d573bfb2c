// SPDX-License-Identifier: MPL-2.0

//! Where the files of a checkpoint come from: a folder, or the plugin itself.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Error;
use crate::backend::cpu::Weights;

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

impl ModelFiles {
    /// Short name: the folder's last part, or the embedded model's name.
    pub fn name(&self) -> String {
        match self {
            ModelFiles::Folder(path) => path.file_name().map_or_else(
                || path.display().to_string(),
                |n| n.to_string_lossy().into_owned(),
            ),
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

    /// A file's content; `None` if there is no such file.
    pub fn read(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, Error> {
        match self {
            ModelFiles::Folder(folder) => match std::fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Io {
                    file: folder.join(name).display().to_string(),
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
        const SINGLE: &str = "model.safetensors";
        const INDEX: &str = "model.safetensors.index.json";
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
}

/// The files that an index names, each once; all must be there.
fn shards(folder: &Path, index: &[u8]) -> Result<Weights, Error> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).map_err(|e| Error::Config {
        file: folder
            .join("model.safetensors.index.json")
            .display()
            .to_string(),
        reason: e.to_string(),
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
