// SPDX-License-Identifier: MPL-2.0

//! Who makes turns: a program, one of several users of a program, or a server.

use std::time::Duration;

use super::answerer::Server;
use super::asked::answered;
use super::batch::Slot;
use super::shared::Shared;
use super::standing::Fault;
use super::turn::{Outcome, Turn};
use super::watched::Watched;
use super::worker;
use crate::backend::{Cancel, Health, Program};
use crate::vlm::Checkpoint;

/// How often it is looked whether a server that is to take over is still there.
const LOOK: Duration = Duration::from_secs(5);

/// Makes one turn after another.
pub(crate) trait TurnTaker {
    /// How the device fares.
    fn health(&mut self) -> Health;

    /// How often it is looked whether it is still there while it has nothing to do; `None` if that cannot
    /// be seen.
    fn looks_every(&self) -> Option<Duration> {
        None
    }

    /// Looks whether it is still there.
    ///
    /// # Errors
    /// It is not.
    fn look(&mut self, _: &Cancel) -> Result<(), String> {
        Ok(())
    }

    /// A turn begins.
    fn begin(&mut self);

    /// Makes the turn.
    fn make(&mut self, shared: &Shared, turn: &Turn) -> Outcome;

    /// The turn that took `time` has ended: its share of the device's time, and whether the device or
    /// the server is at fault.
    fn end(&mut self, time: Duration) -> (Duration, Fault);
}

/// Makes turns on a program.
pub(crate) struct OnProgram<'a, P> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) program: P,
}

/// Makes turns on a server.
pub(crate) struct OnServer(pub(crate) Box<dyn Server>);

/// A program as one turn at a time uses it.
pub(crate) trait TurnProgram: Program {
    /// A turn begins.
    fn begin(&mut self);

    /// The turn that took `time` has ended.
    fn end(&mut self, time: Duration) -> (Duration, bool);
}

impl TurnProgram for Watched {
    fn begin(&mut self) {}

    fn end(&mut self, time: Duration) -> (Duration, bool) {
        (time, self.take_fault())
    }
}

impl TurnProgram for Slot<'_> {
    fn begin(&mut self) {
        self.begin_turn();
    }

    fn end(&mut self, _: Duration) -> (Duration, bool) {
        self.end_turn()
    }
}

impl<P: TurnProgram> TurnTaker for OnProgram<'_, P> {
    fn health(&mut self) -> Health {
        self.program.health()
    }

    fn begin(&mut self) {
        self.program.begin();
    }

    fn make(&mut self, shared: &Shared, turn: &Turn) -> Outcome {
        worker::work(shared, self.checkpoint, &mut self.program, turn)
    }

    fn end(&mut self, time: Duration) -> (Duration, Fault) {
        let (time, faulted) = self.program.end(time);
        let fault = match faulted {
            true => Fault::Broken,
            false => Fault::None,
        };
        (time, fault)
    }
}

impl TurnTaker for OnServer {
    fn health(&mut self) -> Health {
        Health::default()
    }

    fn looks_every(&self) -> Option<Duration> {
        Some(LOOK)
    }

    fn look(&mut self, cancel: &Cancel) -> Result<(), String> {
        self.0.look(cancel)
    }

    fn begin(&mut self) {}

    fn make(&mut self, shared: &Shared, turn: &Turn) -> Outcome {
        answered(shared, turn, |asked, tell| self.0.answer(asked, tell))
    }

    fn end(&mut self, time: Duration) -> (Duration, Fault) {
        (time, self.0.take_fault())
    }
}
