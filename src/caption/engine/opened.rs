// SPDX-License-Identifier: MPL-2.0

//! What is known of a model before it is made ready.

use std::sync::Arc;
use std::time::Duration;

use super::answerer::{Answerer, Loader};
use super::identity::Identity;
use crate::backend::{Cancel, Program};
use crate::caption::frames::processor::{FamilyProcessor, FrameProcessor};
use crate::vlm::{self, Checkpoint};

/// What is known of a model before it is made ready.
pub(crate) struct Opened {
    pub(crate) identity: Arc<Identity>,
    pub(crate) processor: Arc<dyn FrameProcessor>,
    pub(crate) loader: Loader,
    /// The longest wait between two tries to make it ready.
    pub(crate) longest_pause: Duration,
    /// What the user should know, though it works.
    pub(crate) notes: Vec<String>,
}

/// Reads the weights and readies a device; called again after a failure.
pub(crate) type ProgramLoader =
    Box<dyn FnMut(&mut dyn FnMut(f32), &Cancel) -> Result<Box<dyn Program>, vlm::Error> + Send>;

impl Opened {
    /// A checkpoint that a program will run.
    pub(crate) fn model(checkpoint: Arc<Checkpoint>, mut loader: ProgramLoader) -> Self {
        let family = FamilyProcessor::new(checkpoint.vlm.clone(), checkpoint.bounds);
        Self {
            identity: Arc::new(Identity::new(checkpoint.name.clone())),
            processor: Arc::new(family),
            loader: Box::new(move |progress, cancel| {
                Ok(Answerer::Program {
                    program: loader(progress, cancel)?,
                    checkpoint: checkpoint.clone(),
                })
            }),
            longest_pause: Duration::from_secs(60),
            notes: Vec::new(),
        }
    }
}
