// SPDX-License-Identifier: MPL-2.0

//! Why an engine cannot be begun or made ready.

use crate::vlm;

/// Why an engine cannot be begun or made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model.
    #[error(transparent)]
    Model(#[from] vlm::Error),
    /// The server, or what is to be known of it.
    #[error("{0}")]
    Server(String),
    /// The system has no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}
