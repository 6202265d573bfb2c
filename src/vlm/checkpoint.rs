// SPDX-License-Identifier: MPL-2.0

//! A checkpoint that was opened, and its weights, which are read last.

use std::sync::Arc;

use super::error::Error;
use super::family::{FrameBounds, Vlm};
use super::files::ModelFiles;
use super::request::GenerationDefaults;
use super::tokenizer::Tokenizer;
use crate::backend::spec::Spec;
use crate::backend::{Cancel, Program, Recipe, Surroundings, cpu};

/// A checkpoint that was opened and checked, its weights not yet read.
pub struct Checkpoint {
    /// What to call it in captions: the folder's name, or `demo`.
    pub name: String,
    /// The family, as `config.json` names it.
    pub model_type: String,
    /// The family's ways.
    pub vlm: Arc<dyn Vlm>,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// What `generation_config.json` says.
    pub defaults: GenerationDefaults,
    /// What a compiled model takes of frames.
    pub bounds: FrameBounds,
    pub(crate) cpu: Spec,
    pub(crate) files: ModelFiles,
}

impl Checkpoint {
    /// Reads the weights twice over, to compare int8 with f32: see [`cpu::load_compared`].
    ///
    /// # Errors
    /// Those of the weight files.
    pub fn load_compared(
        &self,
        threads: Option<usize>,
        cancel: &Cancel,
    ) -> Result<(Box<dyn Program>, cpu::RoundingErrors), Error> {
        let weights = self.files.weights()?;
        let mut ignore = |_| ();
        Ok(cpu::load_compared(
            &self.cpu,
            &weights,
            threads,
            &mut ignore,
            cancel,
        )?)
    }

    /// How the program is made that runs it on the host's cores.
    ///
    /// # Errors
    /// Those of the weight files.
    pub fn recipe(&self, options: &cpu::Options) -> Result<Recipe, Error> {
        Ok(Recipe::Cpu {
            spec: self.cpu.clone(),
            weights: self.files.weights()?,
            options: options.clone(),
        })
    }

    /// Reads the weights and readies the host's cores; `progress` hears 0.0..=1.0.
    pub fn load_cpu(
        &self,
        options: &cpu::Options,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Box<dyn Program>, Error> {
        let recipe = self.recipe(options)?;
        Ok(recipe.load(Surroundings::default(), progress, cancel)?)
    }
}
