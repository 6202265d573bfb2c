// SPDX-License-Identifier: MPL-2.0

//! Several turns on one program at a time, for programs that extend several sequences for the price
//! of one.
//!
//! Each turn is made on a thread of its own, with a [`Slot`] for a program. The program itself is
//! behind a lock. Long calls (the vision net, a prompt) take it one after the other; tokens wait
//! for each other: once all turns that are being made wait with one, or none has come for a moment,
//! they are made together. Long calls go first, so that the turns reach their tokens together.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::watched::Watched;
use crate::backend::{
    Arithmetic, Cancel, Error, Health, Launch, Limits, Next, Patches, Position, Program, Segment,
    SequenceId, Step, VisualTokens,
};

/// How long tokens wait for those of turns that are busy with something else than the device.
const PATIENCE: Duration = Duration::from_millis(2);

/// How often a turn that waits for the program looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// A program that several turns use.
pub(crate) struct Batcher {
    /// Locked by whoever has taken it: never waited for.
    program: Mutex<Watched>,
    core: Mutex<Core>,
    changed: Condvar,
    limits: Limits,
    arithmetic: Arithmetic,
    size: usize,
}

/// Who does what.
#[derive(Default)]
struct Core {
    /// A thread has the program.
    taken: bool,
    /// Long calls that wait for the program.
    long: usize,
    /// Turns that are being made and do not wait with a token.
    busy: usize,
    waiting: Vec<Waiting>,
    done: Vec<(u64, Made)>,
    next_ticket: u64,
    /// What nobody waits for: done before the program's next call.
    chores: Vec<Chore>,
}

/// A call without a result.
enum Chore {
    Truncate(SequenceId, usize),
    Close(SequenceId),
}

/// A token that a turn waits with.
struct Waiting {
    ticket: u64,
    step: Step,
}

/// What came of a token.
enum Made {
    /// What follows it, and its share of the device's time.
    Together(NextToken, Duration),
    /// The batch failed: to be tried alone, so that each turn has its own error.
    Alone,
}

/// [`Next`], kept.
enum NextToken {
    Logits(Vec<f32>),
    Token(u32),
}

/// A place in a [`Batcher`]: the program as one turn sees it.
pub(crate) struct Slot<'a> {
    batcher: &'a Batcher,
    said: NextToken,
    faulted: bool,
    used: Duration,
    in_turn: bool,
}

impl Batcher {
    /// A batcher of `size` slots for the program: how many sequences are extended together at most.
    pub(crate) fn new(program: Watched, size: usize) -> Self {
        Self {
            limits: program.limits().clone(),
            arithmetic: program.arithmetic(),
            size,
            program: Mutex::new(program),
            core: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Slots.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// A slot.
    pub(crate) fn slot(&self) -> Slot<'_> {
        Slot {
            batcher: self,
            said: NextToken::Token(0),
            faulted: false,
            used: Duration::ZERO,
            in_turn: false,
        }
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The program, for a thread that has marked it taken; the drop gives it back.
    fn program(&self) -> Taken<'_> {
        // A panic in the program was passed on to the turn that asked; what it left is tried again.
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Taken {
            batcher: self,
            program: Some(program),
        };
        let chores = std::mem::take(&mut self.core().chores);
        let program = taken.get();
        for chore in chores {
            match chore {
                Chore::Truncate(sequence, n_rows) => program.truncate(sequence, n_rows),
                Chore::Close(sequence) => program.close(sequence),
            }
        }
        taken
    }

    /// Makes the tokens in `batch` together.
    fn make(&self, batch: Vec<Waiting>) -> Vec<(u64, Made)> {
        let steps: Vec<Step> = batch.iter().map(|waiting| waiting.step).collect();
        let mut said = Vec::with_capacity(batch.len());
        let mut taken = self.program();
        let began = Instant::now();
        let program = taken.get();
        // Each turn looks at its own cancel.
        let result = catch_unwind(AssertUnwindSafe(|| {
            program.extend_each(&steps, &Cancel::default(), &mut |_, next| {
                said.push(NextToken::from(next));
            })
        }));
        if !matches!(result, Ok(Ok(()))) {
            // Whose fault it was shows when each is tried alone.
            program.take_fault();
            said.clear();
        }
        let each = began.elapsed() / batch.len().max(1) as u32;
        let mut said = said.into_iter();
        let outcome = |waiting: Waiting| match said.next() {
            Some(said) => (waiting.ticket, Made::Together(said, each)),
            None => (waiting.ticket, Made::Alone),
        };
        batch.into_iter().map(outcome).collect()
    }
}

/// The program while a thread has it.
struct Taken<'a> {
    batcher: &'a Batcher,
    program: Option<MutexGuard<'a, Watched>>,
}

impl Taken<'_> {
    fn get(&mut self) -> &mut Watched {
        // It is there until the drop.
        self.program.as_mut().expect("a program that was taken")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.program = None;
        self.batcher.core().taken = false;
        self.batcher.changed.notify_all();
    }
}

impl From<Next<'_>> for NextToken {
    fn from(next: Next<'_>) -> Self {
        match next {
            Next::Logits(logits) => Self::Logits(logits.to_vec()),
            Next::Token(token) => Self::Token(token),
        }
    }
}

impl NextToken {
    fn next(&self) -> Next<'_> {
        match self {
            Self::Logits(logits) => Next::Logits(logits),
            Self::Token(token) => Next::Token(*token),
        }
    }
}

impl Slot<'_> {
    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        self.in_turn = true;
        self.used = Duration::ZERO;
        self.batcher.core().busy += 1;
    }

    /// The turn has ended; its share of the device's time, and whether the device failed.
    pub(crate) fn end_turn(&mut self) -> (Duration, bool) {
        if std::mem::take(&mut self.in_turn) {
            self.batcher.core().busy -= 1;
            self.batcher.changed.notify_all();
        }
        (
            std::mem::take(&mut self.used),
            std::mem::take(&mut self.faulted),
        )
    }

    /// Calls the program, before any tokens that wait.
    ///
    /// # Errors
    /// [`Error::Cancelled`] while others have it.
    fn call<T>(
        &mut self,
        cancel: Option<&Cancel>,
        call: impl FnOnce(&mut Watched) -> T,
    ) -> Result<T, Error> {
        let batcher = self.batcher;
        let mut core = batcher.core();
        core.long += 1;
        while core.taken {
            if let Some(Err(cancelled)) = cancel.map(Cancel::check) {
                core.long -= 1;
                return Err(cancelled);
            }
            let waited = batcher.changed.wait_timeout(core, LOOK);
            core = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        core.long -= 1;
        core.taken = true;
        drop(core);
        let mut taken = batcher.program();
        let began = Instant::now();
        let result = call(taken.get());
        self.used += began.elapsed();
        self.faulted |= taken.get().take_fault();
        Ok(result)
    }

    /// Does something that nobody waits for: now if the program is free, else before its next call.
    fn chore(&self, chore: Chore) {
        let mut core = self.batcher.core();
        core.chores.push(chore);
        if !core.taken {
            core.taken = true;
            drop(core);
            drop(self.batcher.program());
        }
    }

    /// Waits until a token has been made, alone or with others.
    fn token(&self, step: Step, cancel: &Cancel) -> Result<Made, Error> {
        let batcher = self.batcher;
        let mut core = batcher.core();
        let ticket = core.next_ticket;
        core.next_ticket += 1;
        core.waiting.push(Waiting { ticket, step });
        core.busy -= 1;
        batcher.changed.notify_all();
        let mut patient = true;
        loop {
            if let Some(at) = core.done.iter().position(|(done, _)| *done == ticket) {
                return Ok(core.done.swap_remove(at).1);
            }
            let own = core.waiting.iter().position(|one| one.ticket == ticket);
            // A token that is being made is waited for: that is soon.
            if let Some(own) = own {
                if let Err(cancelled) = cancel.check() {
                    core.waiting.remove(own);
                    core.busy += 1;
                    return Err(cancelled);
                }
                let all = core.busy == 0 || core.waiting.len() >= batcher.size;
                if !core.taken && core.long == 0 && (all || !patient) {
                    core.taken = true;
                    let n = core.waiting.len().min(batcher.size);
                    let batch: Vec<Waiting> = core.waiting.drain(..n).collect();
                    // Busy from now on, not from when they find what was made: the first to come
                    // back with another token would go on without the others.
                    core.busy += n;
                    drop(core);
                    let made = batcher.make(batch);
                    core = batcher.core();
                    core.done.extend(made);
                    batcher.changed.notify_all();
                    continue;
                }
            }
            let waited = batcher.changed.wait_timeout(core, PATIENCE);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            core = again;
            patient = !timeout.timed_out();
        }
    }
}

impl Program for Slot<'_> {
    fn limits(&self) -> &Limits {
        &self.batcher.limits
    }

    fn arithmetic(&self) -> Arithmetic {
        self.batcher.arithmetic.clone()
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        self.call(Some(cancel), |program| program.encode(patches, cancel))?
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        self.call(None, Program::open)?
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        if let (&[Segment::Tokens(&[token])], &[position]) = (segments, positions)
            && self.in_turn
        {
            let step = Step {
                sequence,
                token,
                position,
            };
            if let Made::Together(said, took) = self.token(step, cancel)? {
                self.used += took;
                self.said = said;
                return Ok(self.said.next());
            }
        }
        let said = self.call(Some(cancel), |program| {
            let next = program.extend(sequence, segments, positions, cancel);
            next.map(NextToken::from)
        })?;
        self.said = said?;
        Ok(self.said.next())
    }

    fn verifies(&self, n_rows: usize) -> Vec<Launch> {
        // Tokens of several turns are made together, which pays without a draft.
        {
            let core = self.batcher.core();
            if core.busy > 1 || core.long > 0 || !core.waiting.is_empty() {
                return Vec::new();
            }
        }
        let program = self.batcher.program.try_lock();
        program.map_or_else(|_| Vec::new(), |program| program.verifies(n_rows))
    }

    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        self.call(Some(cancel), |program| {
            program.verify(sequence, tokens, positions, cancel, take)
        })?
    }

    fn shared(&mut self, segments: &[Segment<'_>], positions: &[Position]) -> usize {
        let shared = self.call(None, |program| program.shared(segments, positions));
        shared.unwrap_or(0)
    }

    fn prepare(
        &mut self,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        self.call(Some(cancel), |program| {
            program.prepare(segments, positions, cancel)
        })?
    }

    fn continues(&self, n_kept: usize, n_more: usize) -> bool {
        // While another turn has the program, either is right.
        let program = self.batcher.program.try_lock();
        program.map_or(true, |program| program.continues(n_kept, n_more))
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.chore(Chore::Truncate(sequence, n_rows));
    }

    fn close(&mut self, sequence: SequenceId) {
        self.chore(Chore::Close(sequence));
    }

    fn health(&mut self) -> Health {
        if self.batcher.core().taken {
            return Health::default();
        }
        self.call(None, Program::health).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
