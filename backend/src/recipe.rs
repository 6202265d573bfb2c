// SPDX-License-Identifier: MPL-2.0

//! All that is to be known to make a device program, as a value that another process can be given.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::cancel::Cancel;
use super::error::Error;
use super::program::Program;
use super::spec::Spec;
use super::{axera, cpu, mock, sophgo};

/// All that is to be known to make a device program: the one way in which programs are made, here or in
/// a process of their own.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Recipe {
    /// A checkpoint on the host's cores.
    Cpu {
        /// Sizes.
        spec: Spec,
        /// Where the weights are.
        weights: cpu::Weights,
        /// Choices.
        options: cpu::Options,
    },
    /// Axmodels on an Axera device.
    Axera {
        /// Their folder.
        model: PathBuf,
        /// What they do not say.
        options: axera::Options,
    },
    /// A bmodel on a Sophgo device.
    Sophgo {
        /// The file.
        model: PathBuf,
        /// What it does not say.
        options: sophgo::Options,
    },
    /// Scripted answers.
    Mock(mock::Play),
}

/// Where a program is made.
#[derive(Default)]
pub struct Surroundings {
    /// How the process crashes, if it is one that may.
    pub crasher: Option<mock::Crasher>,
}

impl Recipe {
    /// Reads the weights and readies the device; `progress` hears 0.0..=1.0.
    ///
    /// # Errors
    /// What is wrong with files, libraries and devices.
    pub fn load(
        &self,
        surroundings: Surroundings,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Box<dyn Program>, Error> {
        match self {
            Self::Cpu {
                spec,
                weights,
                options,
            } => cpu::load(spec, weights, options, progress, cancel),
            Self::Axera { model, options } => {
                let described = axera::Described::open(model)?;
                Ok(Box::new(described.load(options, progress, cancel)?))
            }
            Self::Sophgo { model, options } => {
                let described = sophgo::Described::open(model)?;
                Ok(Box::new(described.load(options, progress, cancel)?))
            }
            Self::Mock(play) => Ok(Box::new(play.load(
                surroundings.crasher,
                progress,
                cancel,
            )?)),
        }
    }

    /// The number that a program counts on from when it is made anew.
    pub fn count(&self) -> Option<&Arc<AtomicU64>> {
        match self {
            Self::Mock(play) => Some(play.answers()),
            Self::Cpu { .. } | Self::Axera { .. } | Self::Sophgo { .. } => None,
        }
    }
}
