// SPDX-License-Identifier: MPL-2.0

//! A device program whose calls are made in a worker.

use std::cell::RefCell;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::arena::NUMBERS;
use super::link::{Calling, Link};
use super::patience::{Kind, Patience};
use super::protocol::{Answer, Call, Next as Said, Rows, Run};
use super::text::bounded;
use crate::{
    Arithmetic, Cancel, Error, Features, Health, Launch, Limits, Next, Patches, Position, Program,
    Recipe, Segment, SequenceId, Step, VisualTokens,
};

/// A device program whose calls are made in a worker.
pub struct Isolated {
    link: RefCell<Link>,
    limits: Limits,
    batch: usize,
    prompts: usize,
    arithmetic: Arithmetic,
    remark: String,
    recipe: Recipe,
    /// Features that were dropped and of which the worker does not know yet.
    dropped: Arc<Mutex<Vec<u64>>>,
    logits: Vec<f32>,
}

/// Features that a worker keeps.
struct Kept {
    visual: u64,
    dropped: Arc<Mutex<Vec<u64>>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let dropped = self.dropped.lock();
        dropped
            .unwrap_or_else(PoisonError::into_inner)
            .push(self.visual);
    }
}

impl Isolated {
    /// Begins a worker and has it make the program. `patience` is what was measured of programs before
    /// this one.
    ///
    /// # Errors
    /// Those of [`Recipe::load`], and [`super::Error`].
    pub fn load(
        worker: &Path,
        recipe: Recipe,
        patience: Arc<Mutex<Patience>>,
        progress: &mut dyn FnMut(f32),
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let mut link = Link::begin(worker, patience, cancel)?;
        if let Some(count) = recipe.count() {
            link.arena().set_count(count.load(Ordering::Relaxed));
        }
        let calling = Calling {
            kind: Kind::Load,
            size: 0,
            cancel,
            progress,
        };
        let answer = link.call(Call::Load(Box::new(recipe.clone())), calling)?;
        let (limits, batch, prompts, arithmetic, remark) = match answer {
            Answer::Loaded {
                limits,
                batch,
                prompts,
                arithmetic,
                remark,
            } => (limits, batch, prompts, arithmetic, remark),
            Answer::Failed(failure) => return Err(failure.into()),
            _ => return Err(link.rubbish("not what was loaded")),
        };
        let is_sane = (1..=64).contains(&batch)
            && (1..=64).contains(&prompts)
            && (1..=1 << 24).contains(&limits.context)
            && limits.prompt <= limits.context
            && limits.vocab_size <= NUMBERS / size_of::<f32>() / batch;
        if !is_sane {
            return Err(link.rubbish(&format!("{limits:?}, batch {batch}, prompts {prompts}")));
        }
        let own = format!("device process: pid {}", link.ward().pid());
        let remark = match remark {
            Some(remark) => format!("{own}; {}", bounded(&remark)),
            None => own,
        };
        Ok(Self {
            link: RefCell::new(link),
            limits,
            batch,
            prompts,
            arithmetic: Arithmetic {
                precision: arithmetic.precision.map(|text| bounded(&text)),
                kernels: arithmetic.kernels.map(|text| bounded(&text)),
            },
            remark,
            recipe,
            dropped: Arc::default(),
            logits: Vec::new(),
        })
    }

    fn call(&self, call: Call, kind: Kind, size: usize, cancel: &Cancel) -> Result<Answer, Error> {
        let mut link = self.link.borrow_mut();
        let dropped =
            std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner));
        if !dropped.is_empty() {
            link.tell(Call::Forget(dropped));
        }
        let answer = link.call(
            call,
            Calling {
                kind,
                size,
                cancel,
                progress: &mut |_| (),
            },
        );
        if let Some(count) = self.recipe.count() {
            count.store(link.arena().count(), Ordering::Relaxed);
        }
        match answer? {
            Answer::Failed(failure) => Err(failure.into()),
            answer => Ok(answer),
        }
    }

    /// A call that no device is needed for.
    fn ask(&self, call: Call) -> Result<Answer, Error> {
        self.call(call, Kind::Short, 1, &Cancel::default())
    }

    fn rubbish(&self, what: &str) -> Error {
        self.link.borrow_mut().rubbish(what)
    }

    /// Tells what follows each of `n` sequences or tokens, as the worker said.
    fn tell(
        &mut self,
        answer: Answer,
        n: usize,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let (said, failure) = match answer {
            Answer::Extended(said, failure)
                if said.len() <= n && (failure.is_some() || said.len() == n) =>
            {
                (said, failure)
            }
            answer => return Err(self.rubbish(&format!("to {n} rows {answer:?}"))),
        };
        for (i, said) in said.into_iter().enumerate() {
            take(i, self.next(i, said)?);
        }
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// What follows `wanted` sequences, of which those of `said` were extended.
    fn next(&mut self, row: usize, said: Said) -> Result<Next<'_>, Error> {
        let n = self.limits.vocab_size;
        match said {
            Said::Token(token) if n > 0 && token as usize >= n => {
                Err(self.rubbish(&format!("token {token} of {n}")))
            }
            Said::Token(token) => Ok(Next::Token(token)),
            Said::Logits => {
                let read = self
                    .link
                    .borrow()
                    .arena()
                    .read_numbers(row, n, &mut self.logits);
                if let Err(error) = read {
                    return Err(self.rubbish(&error.to_string()));
                }
                // A token that cannot follow may be infinitely unlikely.
                if self
                    .logits
                    .iter()
                    .any(|logit| logit.is_nan() || *logit == f32::INFINITY)
                {
                    return Err(Error::NotANumber {
                        place: "the logits of the device's process".into(),
                    });
                }
                Ok(Next::Logits(&self.logits))
            }
        }
    }
}

/// Rows as they are sent.
fn rows(segments: &[Segment<'_>], positions: &[Position]) -> Result<Rows, Error> {
    let run = |segment: &Segment<'_>| match segment {
        Segment::Tokens(ids) => Ok(Run::Tokens(ids.to_vec())),
        Segment::Visual(tokens) => match &tokens.features {
            Features::Device(any) => any
                .downcast_ref::<Kept>()
                .map(|kept| Run::Visual(kept.visual)),
            Features::Host { .. } => None,
        }
        .ok_or_else(|| Error::Shape {
            what: "visual tokens".into(),
            want: "made by this process of the device".to_owned(),
            got: "others".to_owned(),
        }),
    };
    Ok(Rows {
        runs: segments.iter().map(run).collect::<Result<_, _>>()?,
        positions: positions.to_vec(),
    })
}

/// Decoding, or the prompt.
fn kind(n_rows: usize) -> Kind {
    if n_rows <= 1 {
        Kind::Decode
    } else {
        Kind::Prefill
    }
}

impl Program for Isolated {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        let written = self.link.borrow().arena().write_pixels(&patches.pixels);
        written.map_err(|error| Error::Shape {
            what: "bytes of pixels".into(),
            want: "what the shared memory takes".into(),
            got: format!("{} ({error})", patches.pixels.len()),
        })?;
        let call = Call::Encode {
            grid: patches.grid,
            n_bytes: patches.pixels.len(),
            mean: patches.mean,
            std: patches.std,
        };
        let most = patches.grid.n_patches();
        match self.call(call, Kind::Encode, most, cancel)? {
            Answer::Encoded { visual, n_tokens } if n_tokens <= most => Ok(VisualTokens {
                grid: patches.grid,
                n_tokens,
                features: Features::Device(Arc::new(Kept {
                    visual,
                    dropped: self.dropped.clone(),
                })),
            }),
            answer => Err(self.rubbish(&format!("to {most} patches {answer:?}"))),
        }
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        match self.ask(Call::Open)? {
            Answer::Opened(sequence) => Ok(SequenceId(sequence)),
            answer => Err(self.rubbish(&format!("to open {answer:?}"))),
        }
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        let rows = rows(segments, positions)?;
        let call = Call::Extend(sequence.0, rows);
        match self.call(call, kind(positions.len()), positions.len(), cancel)? {
            Answer::Extended(said, None) if said.len() == 1 => self.next(0, said[0]),
            answer => Err(self.rubbish(&format!("to extend {answer:?}"))),
        }
    }

    fn batch(&self) -> usize {
        self.batch
    }

    fn prompts(&self) -> usize {
        self.prompts
    }

    fn extend_each(
        &mut self,
        steps: &[Step],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let call = Call::ExtendEach(steps.to_vec());
        let answer = self.call(call, Kind::Decode, steps.len(), cancel)?;
        self.tell(answer, steps.len(), take)
    }

    fn verifies(&self, n_rows: usize) -> Vec<Launch> {
        let Ok(Answer::Launches(mut launches)) = self.ask(Call::Verifies(n_rows)) else {
            return Vec::new();
        };
        // So many rows of logits fit the shared memory.
        let most = NUMBERS / size_of::<f32>() / self.limits.vocab_size.max(1);
        for launch in &mut launches {
            launch.tokens = launch.tokens.min(most);
        }
        launches
    }

    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let call = Call::Verify(sequence.0, tokens.to_vec(), positions.to_vec());
        let answer = self.call(call, Kind::Prefill, tokens.len(), cancel)?;
        self.tell(answer, tokens.len(), take)
    }

    fn shared(&mut self, segments: &[Segment<'_>], positions: &[Position]) -> usize {
        let Ok(rows) = rows(segments, positions) else {
            return 0;
        };
        match self.ask(Call::Shared(rows)) {
            Ok(Answer::Count(n)) if n <= positions.len() => n,
            Ok(answer) => {
                self.rubbish(&format!("to shared {answer:?}"));
                0
            }
            Err(_) => 0,
        }
    }

    fn prepare(
        &mut self,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let rows = rows(segments, positions)?;
        let call = Call::Prepare(rows);
        match self.call(call, Kind::Prefill, positions.len(), cancel)? {
            Answer::Done => Ok(()),
            answer => Err(self.rubbish(&format!("to prepare {answer:?}"))),
        }
    }

    fn continues(&self, n_kept: usize, n_more: usize) -> bool {
        match self.ask(Call::Continues(n_kept, n_more)) {
            Ok(Answer::Truth(truth)) => truth,
            // Either is right.
            _ => true,
        }
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        let call = Call::Truncate(sequence.0, n_rows);
        self.link.borrow_mut().tell(call);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.link.borrow_mut().tell(Call::Close(sequence.0));
    }

    fn arithmetic(&self) -> Arithmetic {
        self.arithmetic.clone()
    }

    fn remark(&self) -> Option<String> {
        Some(self.remark.clone())
    }

    fn on_loss(&mut self, tell: Box<dyn Fn(&str) + Send + Sync>) {
        self.link.borrow().ward().on_loss(tell);
    }

    fn health(&mut self) -> Health {
        match self.ask(Call::Health) {
            Ok(Answer::Health(health)) => Health {
                chip: health.chip.map(|chip| bounded(&chip)),
                ..health
            },
            _ => Health::default(),
        }
    }
}
