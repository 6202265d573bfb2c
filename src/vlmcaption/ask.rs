// SPDX-License-Identifier: MPL-2.0

//! The actions `ask` and `cancel`.

use std::sync::Arc;
use std::time::Duration;

use super::log::CAT;
use super::post;
use super::shared::Shared;
use crate::backend::Cancel;
use crate::caption::captioner::moment_after;
use crate::caption::inquiry::Inquiry;
use crate::caption::question::Question;

/// How long a question is open if the application does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names the question in prompt and answer.
const PROMPT_ID: &str = "ask";

/// Asks a question that is of no use after `patience` (zero takes the usual time); its number, 0 if
/// it is not asked.
pub(super) fn ask(element: &gst::Element, shared: &Shared, text: &str, patience: Duration) -> u64 {
    let (Some(captioner), Some(run)) = (shared.captioner(), shared.run()) else {
        gst::warning!(CAT, obj = element, "asked before PAUSED: {text:?}");
        return 0;
    };
    if text.trim().is_empty() {
        gst::warning!(CAT, obj = element, "an empty question is not asked");
        return 0;
    }
    let patience = if patience.is_zero() {
        PATIENCE
    } else {
        patience
    };
    let cancel = Cancel::default();
    let id = {
        let inquiries = &mut run.state().numbered.inquiries;
        inquiries.begin(text, moment_after(patience), cancel.clone())
    };
    gst::debug!(CAT, obj = element, "question {id}: {text:?}");
    let question = Question {
        id: PROMPT_ID.into(),
        ..Question::plain(text)
    };
    captioner.inquire(Inquiry {
        id,
        question: Arc::new(question),
        cancel,
    });
    run.waker.wake();
    id
}

/// Takes a question back; whether it was still open.
pub(super) fn cancel(element: &gst::Element, shared: &Shared, id: u64) -> bool {
    let Some(run) = shared.run() else {
        return false;
    };
    let message = run.state().numbered.inquiries.cancel(id);
    let was_open = message.is_some();
    post::structures(element, message);
    was_open
}
