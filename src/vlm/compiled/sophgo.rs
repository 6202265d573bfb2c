// SPDX-License-Identifier: MPL-2.0

//! Bmodels of Sophgo: the weights are in one file, everything else in a `config` folder that the
//! compiler copied from the checkpoint.

use std::path::{Path, PathBuf};

use crate::backend::sophgo::{self, Described, Embedding, Head};
use crate::backend::spec::Tower;
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::error::Error;
use crate::vlm::files::ModelFiles;

/// The `.bmodel` that a path names: the file itself, or the only one in a folder that holds no
/// weights of another kind.
pub fn find_bmodel(path: &Path) -> Option<PathBuf> {
    if sophgo::Bmodel::is_bmodel(path) {
        return Some(path.to_owned());
    }
    let entries = std::fs::read_dir(path).ok()?;
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => return None,
            Some("bmodel") => found.push(path),
            _ => {}
        }
    }
    match found.len() {
        1 => found.pop(),
        _ => None,
    }
}

/// The folder of configuration and tokenizer that belongs to a compiled model: `config` beside it,
/// or its own folder.
///
/// # Errors
/// [`Error::MissingFile`] with the property to set.
pub fn config_folder(model: &Path) -> Result<PathBuf, Error> {
    let parent = model.parent().unwrap_or_else(|| Path::new(""));
    let places = [parent.join("config"), parent.to_owned()];
    let found = places.iter().find(|p| p.join("config.json").is_file());
    found.cloned().ok_or_else(|| Error::NoConfig {
        model: model.display().to_string(),
    })
}

/// A bmodel with its configuration, its weights not yet loaded.
pub struct Bmodel {
    /// Family, tokenizer, templates.
    pub checkpoint: Checkpoint,
    /// The file.
    pub described: Described,
    /// What the file does not say and the configuration does.
    pub options: sophgo::Options,
    /// What differs from the configuration and may be meant so.
    pub notes: Vec<String>,
}

impl Bmodel {
    /// Reads everything but the weights; milliseconds.
    ///
    /// # Errors
    /// What is wrong with the file, the folder, or that they do not belong together.
    pub fn open(model: &Path, config: &Path, device: usize) -> Result<Self, Error> {
        let described = Described::open(model).map_err(crate::backend::Error::from)?;
        let folder = ModelFiles::Folder(config.to_owned());
        let mut checkpoint = Checkpoint::open_compiled(folder)?;
        checkpoint.name = model.file_stem().map_or_else(
            || checkpoint.name.clone(),
            |n| n.to_string_lossy().into_owned(),
        );
        checkpoint.bounds.max_pixels = Some(described.max_pixels());
        let notes = compare(&described, &checkpoint)?;
        let beside = [config.to_owned(), model.with_file_name("")];
        let embedding = beside.iter().map(|place| place.join("embedding.bin"));
        let options = sophgo::Options {
            device,
            vocab_size: checkpoint.cpu.text.vocab_size,
            tables: tables(&checkpoint.cpu.vision.tower),
            embedding: embedding.into_iter().find(|path| path.is_file()),
        };
        Ok(Self {
            checkpoint,
            described,
            options,
            notes,
        })
    }
}

/// What the configuration says of the tower.
fn tables(tower: &Tower) -> sophgo::Tables {
    let published = sophgo::Tables::default();
    match tower {
        Tower::Qwen3Vl {
            num_position_embeddings,
            ..
        } => sophgo::Tables {
            side: num_position_embeddings.isqrt(),
            ..published
        },
        Tower::Qwen25Vl { window, .. } => sophgo::Tables {
            window: *window,
            ..published
        },
        Tower::InternVl { .. } => published,
    }
}

/// Compares a bmodel with its configuration.
///
/// Members of one family share tokenizer and templates, and the folders that go around describe one
/// size for all: other sizes are noted, another family or vocabulary is refused.
fn compare(described: &Described, checkpoint: &Checkpoint) -> Result<Vec<String>, Error> {
    let file = || described.path.display().to_string();
    let differs = |field, model: String, config: String| {
        Error::Backend(crate::backend::Error::Sophgo(sophgo::Error::Config {
            file: file(),
            field,
            model,
            config,
        }))
    };
    let layout = &described.layout;
    let family = layout.vision.family.model_type();
    if checkpoint.model_type != family {
        let config = checkpoint.model_type.clone();
        return Err(differs("the family", family.to_owned(), config));
    }
    let (text, vision) = (&checkpoint.cpu.text, &checkpoint.cpu.vision);
    let patch = vision.patch_size * vision.patch_size;
    let row_len = vision.in_channels * vision.temporal_patch_size * patch;
    let row_len = match vision.tower {
        Tower::InternVl { side, .. } => row_len * side * side,
        Tower::Qwen3Vl { .. } | Tower::Qwen25Vl { .. } => row_len,
    };
    if layout.vision.row_len != row_len {
        let (model, config) = (layout.vision.row_len.to_string(), row_len.to_string());
        return Err(differs("the size of a patch row or tile", model, config));
    }
    if let Head::Logits(n) = layout.head
        && n != text.vocab_size
        && layout.embedding != Embedding::Disk
    {
        let (model, config) = (n.to_string(), text.vocab_size.to_string());
        return Err(differs("vocab_size", model, config));
    }
    let sizes = [
        ("hidden_size", layout.hidden_size, text.hidden_size),
        ("num_hidden_layers", layout.n_layers, text.num_hidden_layers),
        (
            "num_key_value_heads",
            layout.n_kv_heads,
            text.num_key_value_heads,
        ),
    ];
    let notes = sizes.iter().filter(|(_, model, config)| model != config);
    let notes = notes.map(|(field, model, config)| {
        format!(
            "{} has {field} {model}, its config.json {config}: the folder describes another size \
             of the family; set config to the one that llm_convert.py wrote if captions are odd",
            file()
        )
    });
    Ok(notes.collect())
}
