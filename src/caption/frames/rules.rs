// SPDX-License-Identifier: MPL-2.0

//! What may change while captions are made, beside what is asked: what the model is shown.

use std::time::Duration;

use super::gate::GateRules;
use super::mask::Mask;

/// Which frames and windows the model sees, and how much of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// Of two rules that are set at the same time the one with the larger number holds.
    pub revision: u64,
    /// Parts of every frame that are painted over.
    pub masks: Vec<Mask>,
    /// Windows go on over a cut between scenes.
    pub spans_cuts: bool,
    /// When windows are kept from the model.
    pub gate: GateRules,
    /// How long after its window's last frame a caption may come before less is asked of the model;
    /// zero asks for all however long it takes.
    pub latency_budget: Duration,
}
