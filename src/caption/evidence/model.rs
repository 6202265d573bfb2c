// SPDX-License-Identifier: MPL-2.0

//! Which model answered: SHA-256 of its files, found out once on a thread of its own, and kept by the
//! files' lengths and times of change.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::ModelFile;
use super::{hex, sha256};
use crate::caption::engine::source::Source;
use crate::vlm::files::ModelFiles;

/// What is known of the files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// They are being read.
    Pending,
    /// They were read.
    Known(Arc<Files>),
    /// They cannot be read.
    Unknown(String),
}

/// The files of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// Each, by name.
    pub files: Vec<ModelFile>,
    /// Of all names and hashes; `None` if there are no files.
    pub sha256: Option<String>,
}

/// A file that was read before, so that it is not read again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Cached {
    path: PathBuf,
    bytes: u64,
    changed: u128,
    sha256: String,
}

/// A file of a model, and what it is called.
enum Content {
    Path(String, PathBuf),
    Bytes(&'static str, &'static [u8]),
}

/// What is known of the files of a source; the first call begins to read them. What was found out is
/// kept in the file `cache`.
pub fn identity(source: &Source, cache: &Path) -> Identity {
    static KNOWN: OnceLock<Mutex<HashMap<Source, Identity>>> = OnceLock::new();
    let known = || {
        let known = KNOWN.get_or_init(Mutex::default).lock();
        known.unwrap_or_else(PoisonError::into_inner)
    };
    if let Some(identity) = known().get(source) {
        return identity.clone();
    }
    known().insert(source.clone(), Identity::Pending);
    let (of, cache) = (source.clone(), cache.to_owned());
    let builder = std::thread::Builder::new().name("vlmcaption-hash".into());
    let started = builder.spawn(move || {
        let found = match files(&of, &cache) {
            Ok(files) => Identity::Known(Arc::new(files)),
            Err(reason) => Identity::Unknown(reason),
        };
        known().insert(of, found);
    });
    match started {
        Ok(_) => Identity::Pending,
        Err(error) => Identity::Unknown(format!("no thread to read the model's files: {error}")),
    }
}

/// Reads the files of a source.
///
/// # Errors
/// A sentence that names the file.
pub fn files(source: &Source, cache: &Path) -> Result<Files, String> {
    let mut known = read_cache(cache);
    let n_known = known.len();
    let mut files = Vec::new();
    for content in contents(source)? {
        files.push(match content {
            Content::Bytes(name, bytes) => ModelFile {
                name: name.to_owned(),
                bytes: bytes.len() as u64,
                sha256: sha256(bytes),
            },
            Content::Path(name, path) => {
                let file = file(&path, &mut known);
                let (bytes, sha256) = file.map_err(|e| format!("{}: {e}", path.display()))?;
                ModelFile {
                    name,
                    bytes,
                    sha256,
                }
            }
        });
    }
    if known.len() > n_known
        && let Ok(text) = serde_json::to_vec(&known)
    {
        // The next start reads the files again.
        let _ = super::folder::write_file(cache, &text);
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let listed = files.iter().map(|f| format!("{} {}\n", f.sha256, f.name));
    let listed: String = listed.collect();
    Ok(Files {
        sha256: (!files.is_empty()).then(|| sha256(listed.as_bytes())),
        files,
    })
}

/// Length and hash of a file.
fn file(path: &Path, known: &mut Vec<Cached>) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let facts = file.metadata()?;
    let changed = facts.modified()?.duration_since(UNIX_EPOCH);
    let changed = changed.unwrap_or_default().as_nanos();
    let same = |k: &&Cached| k.path == path && k.bytes == facts.len() && k.changed == changed;
    if let Some(known) = known.iter().find(same) {
        return Ok((known.bytes, known.sha256.clone()));
    }
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                bytes += n as u64;
                hasher.update(&buffer[..n]);
            }
        }
    }
    let sha256 = hex(&hasher.finalize());
    known.retain(|known| known.path != path);
    known.push(Cached {
        path: path.to_owned(),
        bytes,
        changed,
        sha256: sha256.clone(),
    });
    Ok((bytes, sha256))
}

fn read_cache(path: &Path) -> Vec<Cached> {
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// The files that a source is made of.
fn contents(source: &Source) -> Result<Vec<Content>, String> {
    match source.device_source() {
        Source::Cpu { model: None, .. } => Ok(match ModelFiles::demo() {
            ModelFiles::Embedded(_, files) => {
                let files = files
                    .iter()
                    .map(|file| Content::Bytes(file.name, file.bytes));
                files.collect()
            }
            ModelFiles::Folder(_) => Vec::new(),
        }),
        Source::Cpu {
            model: Some(model), ..
        } => listed(model, ""),
        Source::Axera { model, config, .. } | Source::Sophgo { model, config, .. } => {
            let mut all = match model.is_dir() {
                true => listed(model, "")?,
                false => vec![Content::Path(file_name(model), model.clone())],
            };
            if let Some(config) = config {
                all.extend(listed(config, "config/")?);
            }
            Ok(all)
        }
        Source::Mock { script } => Ok(script
            .iter()
            .map(|script| Content::Path(file_name(script), script.clone()))
            .collect()),
        Source::OpenAi(_) | Source::Isolated(..) => Ok(Vec::new()),
    }
}

/// The files that lie in a folder itself, but for hidden ones.
fn listed(folder: &Path, before: &str) -> Result<Vec<Content>, String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let name = file_name(&path);
        // A hub's folder has links to its files.
        if path.is_file() && !name.starts_with('.') {
            files.push(Content::Path(format!("{before}{name}"), path));
        }
    }
    Ok(files)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu;

    fn source(model: Option<&Path>) -> Source {
        Source::Cpu {
            model: model.map(Path::to_owned),
            options: cpu::Options::default(),
        }
    }

    #[test]
    fn the_hash_is_that_of_sha256sum_and_a_change_changes_it() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join(".cache");
        std::fs::write(folder.path().join("a"), b"abc").unwrap();
        std::fs::write(folder.path().join("b"), b"").unwrap();
        let first = files(&source(Some(folder.path())), &cache).unwrap();
        assert_eq!(
            first.files[0].sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            first.files.len(),
            2,
            "the cache is none of the model's files"
        );
        assert_eq!(
            files(&source(Some(folder.path())), &cache),
            Ok(first.clone())
        );
        std::fs::write(folder.path().join("a"), b"abd+").unwrap();
        let other = files(&source(Some(folder.path())), &cache).unwrap();
        assert_ne!(other.sha256, first.sha256);
        assert_eq!(other.files[1], first.files[1]);
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, path) = (folder.path().join("cache"), folder.path().join("weights"));
        std::fs::write(&path, b"abc").unwrap();
        let mut known = Vec::new();
        file(&path, &mut known).unwrap();
        known[0].sha256 = "from the cache".into();
        std::fs::write(&cache, serde_json::to_vec(&known).unwrap()).unwrap();
        let again = file(&path, &mut read_cache(&cache)).unwrap();
        assert_eq!(again, (3, "from the cache".to_owned()));
    }

    #[test]
    fn the_model_in_the_plugin_has_a_hash_and_a_missing_one_is_named() {
        let demo = files(&source(None), Path::new("/nonexistent/cache")).unwrap();
        assert!(demo.files.iter().any(|f| f.name == "model.safetensors"));
        let missing = files(&source(Some(Path::new("/nonexistent"))), Path::new("/x"));
        assert!(missing.unwrap_err().contains("/nonexistent"));
    }
}
