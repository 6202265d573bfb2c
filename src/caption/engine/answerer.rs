// SPDX-License-Identifier: MPL-2.0

//! What answers windows: a model on a device of this machine, or a server.

use std::sync::Arc;

use super::asked::{Asked, Stop};
use super::error::Error;
use super::standing::Fault;
use crate::backend::{Cancel, Program};
use crate::caption::reports::report::{Notice, WindowReport};
use crate::vlm::{self, Checkpoint};

/// What answers windows, ready to do so.
pub(crate) enum Answerer {
    /// A model on a device.
    Program {
        checkpoint: Arc<Checkpoint>,
        program: Box<dyn Program>,
    },
    /// A server.
    #[cfg_attr(
        not(feature = "openai"),
        expect(dead_code, reason = "made by the feature openai alone")
    )]
    Server(Box<dyn Server>),
}

/// Makes it ready: reads weights, or finds out what a server takes. Called again after a failure.
pub(crate) type Loader =
    Box<dyn FnMut(&mut dyn FnMut(f32), &Cancel) -> Result<Answerer, Error> + Send>;

/// A server that is asked about windows, whatever it speaks.
pub(crate) trait Server: Send {
    /// What the user should know before frames are sent.
    fn notices(&self) -> Vec<Notice>;

    /// Answers questions about a window in their order, telling each answer at once; ends soon after
    /// the cancel, with the request closed. Returns the exchange that
    /// [`Ask::main`](crate::caption::questions::prompt::Ask::main) came to, if it is among them.
    ///
    /// # Errors
    /// [`Stop`], if no question was answered.
    fn answer(
        &mut self,
        asked: &Asked<'_>,
        tell: &mut dyn FnMut(WindowReport),
    ) -> Result<Option<vlm::Turn>, Stop>;

    /// Looks whether the server is still there, while it is asked nothing; ends soon after the cancel.
    ///
    /// # Errors
    /// It is not.
    fn look(&mut self, cancel: &Cancel) -> Result<(), String>;

    /// What was wrong with the server since this was asked last.
    fn take_fault(&mut self) -> Fault;
}

impl Answerer {
    /// What is worth a line in a log.
    pub(crate) fn remark(&self) -> Option<String> {
        match self {
            Self::Program { program, .. } => program.remark(),
            Self::Server(_) => None,
        }
    }

    /// What the user should know.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        match self {
            Self::Program { .. } => Vec::new(),
            Self::Server(server) => server.notices(),
        }
    }
}
