// SPDX-License-Identifier: MPL-2.0

//! A question that the application asks once, about what is there now.

use std::sync::Arc;

use super::question::Question;
use crate::backend::Cancel;

/// A question that is asked once; whoever asked keeps its number and its [`Cancel`].
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// Names it in the answer.
    pub id: u64,
    /// What is asked.
    pub question: Arc<Question>,
    /// Ends it wherever it is; it is then not answered.
    pub cancel: Cancel,
}

/// Why a question was not answered, where no device is to blame.
pub(crate) const FLUSHED: &str = "the frames that it is about were flushed";
