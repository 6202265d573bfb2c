// SPDX-License-Identifier: MPL-2.0

//! Token after token, or several at once where a draft of them is there.

use std::ops::ControlFlow;
use std::time::Instant;

use super::drafter::Drafter;
use super::error::Error;
use super::interview::Interview;
use super::request::{Drafts, Request};
use crate::backend::Next;

/// Takes what follows the answer so far: the answer goes on with a token, or has ended with it.
pub(super) type Choose<'a> = &'a mut dyn FnMut(Next<'_>) -> Result<ControlFlow<u32, u32>, Error>;

impl Interview<'_> {
    /// Goes on behind the prompt with `first` until `choose` ends the answer; what follows each of its
    /// tokens is chosen exactly once, in their order.
    ///
    /// # Errors
    /// Those of `choose` and of the program.
    pub(super) fn decode(
        &mut self,
        request: &Request<'_>,
        first: u32,
        choose: Choose<'_>,
    ) -> Result<Drafts, Error> {
        let mut drafter = self.take_drafter();
        if let Some(drafter) = &mut drafter {
            drafter.begin(request.prompt.token_ids());
        }
        let decoded = self.decode_from(request, first, drafter.as_mut(), choose);
        if let Some(drafter) = &mut drafter {
            drafter.end();
        }
        self.set_drafter(drafter);
        decoded
    }

    fn decode_from(
        &mut self,
        request: &Request<'_>,
        first: u32,
        mut drafter: Option<&mut Drafter>,
        choose: Choose<'_>,
    ) -> Result<Drafts, Error> {
        let (mut token, mut n_tokens) = (first, 1);
        let mut drafts = Drafts::default();
        loop {
            let (mut draft, mut launches) = (Vec::new(), Vec::new());
            if let Some(drafter) = &mut drafter {
                drafter.note(token);
                // A launch takes the last token and brings one behind the draft.
                let room = self.context().saturating_sub(self.n_rows() + 1);
                let left = request.options.max_tokens.saturating_sub(n_tokens + 1);
                if drafter.expects() {
                    launches = self.launches();
                    draft.extend_from_slice(drafter.draft(&launches, left.min(room)));
                }
            }
            let began = Instant::now();
            let position = request.position(n_tokens - 1);
            let chosen = if draft.is_empty() {
                let chosen = choose(self.step(token, position, request.cancel)?)?;
                if let Some(drafter) = &mut drafter {
                    drafter.took_single(began.elapsed());
                }
                chosen
            } else {
                let (chosen, accepted) = self.verified(request, token, position, &draft, choose)?;
                if let Some(drafter) = &mut drafter {
                    drafter.took(&launches, 1 + draft.len(), began.elapsed());
                    let noted = draft[..accepted].iter();
                    noted.for_each(|&token| drafter.note(token));
                }
                let ended = matches!(chosen, ControlFlow::Break(last) if draft.get(accepted) == Some(&last));
                drafts.drafted += draft.len();
                drafts.accepted += accepted + usize::from(ended);
                n_tokens += accepted;
                chosen
            };
            n_tokens += 1;
            match (chosen, &mut drafter) {
                (ControlFlow::Continue(chosen), _) => token = chosen,
                (ControlFlow::Break(last), Some(drafter)) => {
                    drafter.note(last);
                    return Ok(drafts);
                }
                (ControlFlow::Break(_), None) => return Ok(drafts),
            }
        }
    }

    /// Goes on with `token` and as much of a draft as is what would have been said: what was chosen
    /// behind it, and how much that was.
    fn verified(
        &mut self,
        request: &Request<'_>,
        token: u32,
        position: u32,
        draft: &[u32],
        choose: Choose<'_>,
    ) -> Result<(ControlFlow<u32, u32>, usize), Error> {
        let n_rows = self.n_rows();
        let tokens: Vec<u32> = [token].iter().chain(draft).copied().collect();
        let (mut accepted, mut chosen) = (0, None);
        self.verify(&tokens, position, request.cancel, &mut |i, next| {
            // Behind another token, or the last one, nothing is asked.
            if chosen.is_some() {
                return;
            }
            match choose(next) {
                Ok(ControlFlow::Continue(said)) if draft.get(i) == Some(&said) => accepted += 1,
                said => chosen = Some(said),
            }
        })?;
        self.back_to(n_rows + 1 + accepted);
        // A program that told of fewer rows than it was given has nothing to go on from.
        Ok((chosen.ok_or(Error::Logits)??, accepted))
    }
}
