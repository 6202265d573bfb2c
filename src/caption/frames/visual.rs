// SPDX-License-Identifier: MPL-2.0

//! What a model is shown of frames.

use std::sync::Arc;

use crate::backend::{Patches, VisualTokens};

/// A frame as it is sent to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jpeg {
    /// Width, pixels.
    pub width: usize,
    /// Height, pixels.
    pub height: usize,
    /// The file.
    pub bytes: Vec<u8>,
}

/// What a model is shown of a pair, or how far that has come.
#[derive(Debug)]
pub enum Visual {
    /// A frame as it is sent to a server.
    Jpeg(Arc<Jpeg>),
    /// Waiting for the vision net.
    Pixels(Patches),
    /// Encoded; the pixels are gone.
    Tokens(Arc<VisualTokens>),
    /// The vision net is at it, or failed at it.
    Taken,
}
