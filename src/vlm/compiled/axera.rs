// SPDX-License-Identifier: MPL-2.0

//! Folders of axmodels of Axera, beside the files of their checkpoint.

use std::path::{Path, PathBuf};

use crate::backend::spec::Tower;
use crate::backend::{axera, json};
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::error::Error;
use crate::vlm::family::FrameBounds;
use crate::vlm::files::{ModelFiles, folder_name};

/// Folder of `.axmodel` files that a path names: the folder itself, or the only one in it, unless
/// that holds weights of another kind.
pub fn find_axmodels(path: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(path).ok()?.flatten();
    if entries.any(|entry| entry.path().extension().is_some_and(|e| e == "safetensors")) {
        return None;
    }
    axera::Folder::find(path)
}

/// A folder of axmodels with its checkpoint's configuration, nothing loaded yet.
pub struct Axmodels {
    /// Family, tokenizer, templates.
    pub checkpoint: Checkpoint,
    /// The files.
    pub described: axera::Described,
    /// What the models do not say and the configuration does.
    pub options: axera::Options,
}

impl Axmodels {
    /// Reads everything but the models; milliseconds. Without `config` the checkpoint's files are
    /// looked for in the folder, in the folders inside it, and around it.
    ///
    /// # Errors
    /// What is wrong with the folder, or that there is no configuration.
    pub fn open(model: &Path, config: Option<&Path>, device: usize) -> Result<Self, Error> {
        let described = axera::Described::open(model).map_err(crate::backend::Error::from)?;
        let config = match config {
            Some(config) => config.to_owned(),
            None => checkpoint_folder(model)?,
        };
        let mut checkpoint = Checkpoint::open_compiled(ModelFiles::Folder(config))?;
        checkpoint.name = folder_name(model);
        let (text, vision) = (&checkpoint.cpu.text, &checkpoint.cpu.vision);
        let side = |n: usize| (n, n);
        let (pixels, n_deepstack, frame) = match &vision.tower {
            Tower::Qwen3Vl {
                deepstack_visual_indexes,
                ..
            } => {
                let frame = described.folder.frame.unwrap_or(side(384));
                (axera::Pixels::Rows, deepstack_visual_indexes.len(), frame)
            }
            Tower::Qwen25Vl { .. } => {
                let frame = described.folder.frame.unwrap_or(side(448));
                (axera::Pixels::Rows, 0, frame)
            }
            Tower::InternVl { side: patches, .. } => {
                let patch_size = vision.patch_size;
                let frame = side(patches * patch_size);
                (axera::Pixels::Tiles { patch_size }, 0, frame)
            }
        };
        let factor = vision.patch_size * vision.spatial_merge_size;
        let (width, height) = frame;
        if width == 0 || height == 0 || width % factor != 0 || height % factor != 0 {
            return Err(Error::Config {
                file: model.join("config.json").display().to_string(),
                reason: format!(
                    "images of {width}x{height} cannot be cut into blocks of {factor} pixels; \
                     set vision_width and vision_height to what the vision model was made for"
                ),
            });
        }
        let options = axera::Options {
            device,
            vocab_size: text.vocab_size,
            n_layers: text.num_hidden_layers,
            n_deepstack,
            frame,
            pixels,
        };
        checkpoint.bounds = FrameBounds {
            max_pixels: Some(width * height),
            exact: Some(frame),
        };
        Ok(Self {
            checkpoint,
            described,
            options,
        })
    }
}

/// The folder of a checkpoint's configuration and tokenizer that belongs to a folder of axmodels.
/// Their own `config.json`, if there is one, is that of Axera's program.
fn checkpoint_folder(model: &Path) -> Result<PathBuf, Error> {
    let is_checkpoint = |folder: &Path| {
        let config = std::fs::read(folder.join("config.json")).unwrap_or_default();
        let config: serde_json::Value = json::read(&config).unwrap_or_default();
        let is_there = |name: &str| folder.join(name).is_file();
        let tokenizer =
            is_there("tokenizer.json") || is_there("vocab.json") && is_there("merges.txt");
        config.get("model_type").is_some() && tokenizer
    };
    let inside = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        folders
    };
    let mut places = vec![model.join("config"), model.to_owned()];
    places.extend(inside(model));
    if let Some(parent) = model.parent().filter(|p| !p.as_os_str().is_empty()) {
        places.push(parent.to_owned());
        places.extend(inside(parent));
    }
    let found = places.into_iter().find(|place| is_checkpoint(place));
    found.ok_or_else(|| Error::NoCheckpoint {
        model: model.display().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_checkpoint_with_either_form_of_tokenizer_is_found_beside_axmodels() {
        for tokenizer in [&["tokenizer.json"][..], &["vocab.json", "merges.txt"]] {
            let folder = tempfile::tempdir().unwrap();
            let (model, config) = (folder.path().join("axmodels"), folder.path().join("origin"));
            for folder in [&model, &config] {
                fs::create_dir(folder).unwrap();
            }
            fs::write(
                config.join("config.json"),
                r#"{"model_type": "internvl_chat"}"#,
            )
            .unwrap();
            let got = checkpoint_folder(&model).unwrap_err().to_string();
            assert!(got.contains("tokenizer.json (or vocab.json"), "{got}");
            for name in tokenizer {
                fs::write(config.join(name), "").unwrap();
            }
            assert_eq!(checkpoint_folder(&model).unwrap(), config);
        }
    }
}
