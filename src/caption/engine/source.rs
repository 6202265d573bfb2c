// SPDX-License-Identifier: MPL-2.0

//! What an engine runs: a model somewhere, on something.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use super::opened::Opened;
use super::remote;
pub use super::remote::options::{KeyHeader, Network, RemoteOptions, Secret, Transport};
use crate::backend::cpu;
use crate::backend::mock::{self, Script};
use crate::vlm::compiled::{self, Axmodels, Bmodel};
use crate::vlm::files::ModelFiles;
use crate::vlm::{self, Checkpoint};

/// What an engine runs; elements that ask for the same share one engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A checkpoint on the host's cores.
    Cpu {
        /// Folder of the checkpoint; `None` for the built-in demo model.
        model: Option<PathBuf>,
        /// Choices.
        options: cpu::Options,
    },
    /// Axmodels on an Axera device.
    Axera {
        /// The folder of the `.axmodel` files.
        model: PathBuf,
        /// Folder of the checkpoint's configuration and tokenizer; `None` for one in or beside it.
        config: Option<PathBuf>,
        /// Number of the device.
        device: usize,
    },
    /// A bmodel on a Sophgo device.
    Sophgo {
        /// The `.bmodel` file.
        model: PathBuf,
        /// Folder of its configuration and tokenizer; `None` for the one beside it.
        config: Option<PathBuf>,
        /// Number of the device.
        device: usize,
    },
    /// No model: scripted answers.
    Mock {
        /// The script; `None` for the built-in one.
        script: Option<PathBuf>,
    },
    /// A server that speaks OpenAI's chat protocol.
    OpenAi(Box<RemoteOptions>),
}

impl Source {
    /// Name of the backend, as its property has it.
    pub fn backend(&self) -> &'static str {
        match self {
            Source::Cpu { .. } => "cpu",
            Source::Axera { .. } => "axera",
            Source::Sophgo { .. } => "sophgo",
            Source::Mock { .. } => "mock",
            Source::OpenAi(_) => "openai",
        }
    }

    /// Whether elements that ask for the same share one engine.
    pub(crate) fn is_shared(&self) -> bool {
        !matches!(self, Source::OpenAi(_))
    }

    /// What the model runs on, in short.
    pub fn device(&self) -> String {
        match self {
            Source::Cpu { .. } => "cpu".to_owned(),
            Source::Axera { device, .. } | Source::Sophgo { device, .. } => device.to_string(),
            Source::Mock { .. } => "none".to_owned(),
            Source::OpenAi(options) => options.host().to_owned(),
        }
    }

    /// Reads everything but the weights.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        match self {
            Source::Cpu { model, options } => cpu(model.clone(), options.clone()),
            Source::Axera {
                model,
                config,
                device,
            } => {
                let axmodels = Axmodels::open(model, config.as_deref(), *device)?;
                let (described, options) = (axmodels.described, axmodels.options);
                Ok(Opened::model(
                    Arc::new(axmodels.checkpoint),
                    Box::new(move |progress, cancel| {
                        Ok(Box::new(described.load(&options, progress, cancel)?))
                    }),
                ))
            }
            Source::Sophgo {
                model,
                config,
                device,
            } => {
                let config = match config {
                    Some(config) => config.clone(),
                    None => compiled::config_folder(model)?,
                };
                let bmodel = Bmodel::open(model, &config, *device)?;
                let (described, options) = (bmodel.described, bmodel.options);
                let opened = Opened::model(
                    Arc::new(bmodel.checkpoint),
                    Box::new(move |progress, cancel| {
                        Ok(Box::new(described.load(&options, progress, cancel)?))
                    }),
                );
                Ok(Opened {
                    notes: bmodel.notes,
                    ..opened
                })
            }
            Source::Mock { script } => mock(script.as_deref()),
            Source::OpenAi(options) => remote::open(options),
        }
    }
}

fn cpu(model: Option<PathBuf>, options: cpu::Options) -> Result<Opened, Error> {
    let files = model.map_or_else(ModelFiles::demo, ModelFiles::Folder);
    let checkpoint = Arc::new(Checkpoint::open(files)?);
    let loaded = checkpoint.clone();
    Ok(Opened::model(
        checkpoint,
        Box::new(move |progress, cancel| loaded.load_cpu(&options, progress, cancel)),
    ))
}

fn mock(script: Option<&std::path::Path>) -> Result<Opened, Error> {
    let mut checkpoint = Checkpoint::open(ModelFiles::demo())?;
    checkpoint.name = "mock".into();
    let script = script.map_or_else(|| Ok(Script::default()), Script::read);
    let script = script.map_err(vlm::Error::from)?;
    let tokenizer = checkpoint.tokenizer.clone();
    let eos = checkpoint.defaults.eos.first().copied().unwrap_or_default();
    let merge_size = checkpoint.cpu.vision.spatial_merge_size;
    let vocab_size = checkpoint.cpu.text.vocab_size;
    let mut player = mock::Player::new(script);
    Ok(Opened::model(
        Arc::new(checkpoint),
        Box::new(move |progress, cancel| {
            let tokenizer = tokenizer.clone();
            let encode = move |text: &str| tokenizer.encode(text).unwrap_or_default();
            let role = mock::Role {
                encode: Box::new(encode),
                eos,
                merge_size,
                vocab_size,
            };
            Ok(Box::new(player.load(role, progress, cancel)?))
        }),
    ))
}
