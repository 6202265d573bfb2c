// SPDX-License-Identifier: MPL-2.0

//! What an engine runs: a model somewhere, on something.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::error::Error;
use super::opened::{Opened, ProgramLoader};
use super::remote;
pub use super::remote::options::{KeyHeader, Network, RemoteOptions, Secret, Transport};
use crate::backend::isolation::{self, Isolated, Patience};
use crate::backend::mock::{self, Script};
use crate::backend::{self, Recipe, Surroundings, cpu};
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
    /// One of the devices above, in a process of its own.
    Isolated(Box<Source>, Worker),
}

/// What is done where no worker is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Worker {
    /// The device cannot be used.
    Required,
    /// The device runs in this process, and the user is told.
    IfInstalled,
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
            Source::Isolated(source, _) => source.backend(),
        }
    }

    /// What it is, in whichever process.
    pub fn device_source(&self) -> &Source {
        match self {
            Source::Isolated(source, _) => source.device_source(),
            other => other,
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
            Source::Isolated(source, _) => source.device(),
        }
    }

    /// Reads everything but the weights.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        match self {
            Source::OpenAi(options) => remote::open(options),
            Source::Isolated(source, worker) => {
                let model = source.model()?;
                match isolation::find() {
                    Ok(path) => Ok(model.isolated(path)),
                    Err(error) => match worker {
                        Worker::Required => {
                            Err(vlm::Error::from(backend::Error::from(error)).into())
                        }
                        Worker::IfInstalled => {
                            let mut opened = model.here();
                            opened.notes.push(format!(
                                "the device runs in this process, which a fault of its library would end: {error}"
                            ));
                            Ok(opened)
                        }
                    },
                }
            }
            _ => Ok(self.model()?.here()),
        }
    }

    /// A model on a device of this machine.
    fn model(&self) -> Result<Model, Error> {
        match self {
            Source::Cpu { model, options } => cpu(model.clone(), options.clone()),
            Source::Axera {
                model,
                config,
                device,
            } => {
                let axmodels = Axmodels::open(model, config.as_deref(), *device)?;
                let recipe = Recipe::Axera {
                    model: model.clone(),
                    options: axmodels.options,
                };
                Ok(Model::of(axmodels.checkpoint, recipe))
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
                let recipe = Recipe::Sophgo {
                    model: model.clone(),
                    options: bmodel.options,
                };
                Ok(Model {
                    notes: bmodel.notes,
                    ..Model::of(bmodel.checkpoint, recipe)
                })
            }
            Source::Mock { script } => mock(script.as_deref()),
            // Neither a server nor a source in a source is made.
            Source::OpenAi(_) | Source::Isolated(..) => {
                Err(vlm::Error::Grid("this is no device of this machine".into()).into())
            }
        }
    }
}

/// A model that was opened, and how its program is made.
struct Model {
    checkpoint: Arc<Checkpoint>,
    recipes: Recipes,
    notes: Vec<String>,
}

/// Called for each time that a program is made.
type Recipes = Box<dyn FnMut() -> Result<Recipe, vlm::Error> + Send>;

impl Model {
    /// One whose program is made in the same way each time.
    fn of(checkpoint: Checkpoint, recipe: Recipe) -> Self {
        Self {
            checkpoint: Arc::new(checkpoint),
            recipes: Box::new(move || Ok(recipe.clone())),
            notes: Vec::new(),
        }
    }

    /// Its program runs in this process.
    fn here(self) -> Opened {
        let mut recipes = self.recipes;
        let loader: ProgramLoader = Box::new(move |progress, cancel| {
            Ok(recipes()?.load(Surroundings::default(), progress, cancel)?)
        });
        Opened {
            notes: self.notes,
            ..Opened::model(self.checkpoint, loader)
        }
    }

    /// It runs in a worker.
    fn isolated(self, worker: PathBuf) -> Opened {
        let mut recipes = self.recipes;
        // What was measured holds for the next worker as well.
        let patience = Arc::<Mutex<Patience>>::default();
        let loader: ProgramLoader = Box::new(move |progress, cancel| {
            let (recipe, patience) = (recipes()?, patience.clone());
            let program = Isolated::load(&worker, recipe, patience, progress, cancel)?;
            Ok(Box::new(program))
        });
        Opened {
            notes: self.notes,
            ..Opened::model(self.checkpoint, loader)
        }
    }
}

fn cpu(model: Option<PathBuf>, options: cpu::Options) -> Result<Model, Error> {
    let files = model.map_or_else(ModelFiles::demo, ModelFiles::Folder);
    let checkpoint = Arc::new(Checkpoint::open(files)?);
    let loaded = checkpoint.clone();
    Ok(Model {
        checkpoint,
        recipes: Box::new(move || loaded.recipe(&options)),
        notes: Vec::new(),
    })
}

fn mock(script: Option<&std::path::Path>) -> Result<Model, Error> {
    let mut checkpoint = Checkpoint::open(ModelFiles::demo())?;
    checkpoint.name = "mock".into();
    let script = script.map_or_else(|| Ok(Script::default()), Script::read);
    let script = script.map_err(vlm::Error::from)?;
    let encode = |text: &str| checkpoint.tokenizer.encode(text).unwrap_or_default();
    let role = mock::Role {
        words: mock::Words::of(&script, encode),
        eos: checkpoint.defaults.eos.first().copied().unwrap_or_default(),
        merge_size: checkpoint.cpu.vision.spatial_merge_size,
        vocab_size: checkpoint.cpu.text.vocab_size,
    };
    let mut play = mock::Play::new(script, role);
    Ok(Model {
        checkpoint: Arc::new(checkpoint),
        recipes: Box::new(move || Ok(Recipe::Mock(play.next_load()))),
        notes: Vec::new(),
    })
}
