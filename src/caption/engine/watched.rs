// SPDX-License-Identifier: MPL-2.0

//! A program under observation: the engine learns from it when a device has to be begun anew.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{
    Arithmetic, Cancel, Error, Features, Health, Launch, Limits, Next, Patches, Position, Program,
    Segment, SequenceId, Step, VisualTokens,
};

/// A program, and whether its device fails.
pub(crate) struct Watched {
    program: Box<dyn Program>,
    /// Number of this program among those of the engine.
    generation: u64,
    faulted: bool,
}

/// Features of a device, good for one program only: another one may have given the same names to
/// something else.
struct Tagged {
    generation: u64,
    inner: Arc<dyn Any + Send + Sync>,
}

impl Watched {
    pub fn new(program: Box<dyn Program>, generation: u64) -> Self {
        Self {
            program,
            generation,
            faulted: false,
        }
    }

    /// Whether the device failed since this was asked last.
    pub fn take_fault(&mut self) -> bool {
        std::mem::take(&mut self.faulted)
    }

    /// The same segments with the features as this program made them.
    fn untag(&self, segments: &[Segment<'_>]) -> Result<Vec<Option<VisualTokens>>, Error> {
        let untag = |segment: &Segment<'_>| {
            let Segment::Visual(tokens) = segment else {
                return Ok(None);
            };
            let Features::Device(any) = &tokens.features else {
                return Ok(None);
            };
            match any.downcast_ref::<Tagged>() {
                Some(tagged) if tagged.generation == self.generation => Ok(Some(VisualTokens {
                    features: Features::Device(tagged.inner.clone()),
                    ..VisualTokens::clone(tokens)
                })),
                _ => Err(Error::Shape {
                    what: "visual tokens".into(),
                    want: "made since the model was loaded".to_owned(),
                    got: "older ones".to_owned(),
                }),
            }
        };
        segments.iter().map(untag).collect()
    }
}

/// Segments with the features that [`Watched::untag`] found in their places.
fn own_segments<'a>(
    segments: &[Segment<'a>],
    untagged: &'a [Option<VisualTokens>],
) -> Vec<Segment<'a>> {
    let pairs = segments.iter().zip(untagged);
    pairs
        .map(|(segment, own)| own.as_ref().map_or(*segment, Segment::Visual))
        .collect()
}

/// Whether an error is the device's, and not of what it was asked.
fn is_fault(error: &Error) -> bool {
    !matches!(
        error,
        Error::Cancelled | Error::Context { .. } | Error::Shape { .. }
    )
}

impl Program for Watched {
    fn limits(&self) -> &Limits {
        self.program.limits()
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<VisualTokens, Error> {
        let encoded = self.program.encode(patches, cancel);
        self.faulted |= encoded.as_ref().is_err_and(is_fault);
        encoded.map(|tokens| VisualTokens {
            features: match tokens.features {
                Features::Device(inner) => Features::Device(Arc::new(Tagged {
                    generation: self.generation,
                    inner,
                })),
                host @ Features::Host { .. } => host,
            },
            ..tokens
        })
    }

    fn open(&mut self) -> Result<SequenceId, Error> {
        let opened = self.program.open();
        self.faulted |= opened.as_ref().is_err_and(is_fault);
        opened
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<Next<'_>, Error> {
        let untagged = self.untag(segments)?;
        let segments = own_segments(segments, &untagged);
        let next = self.program.extend(sequence, &segments, positions, cancel);
        self.faulted |= next.as_ref().is_err_and(is_fault);
        next
    }

    fn batch(&self) -> usize {
        self.program.batch()
    }

    fn extend_each(
        &mut self,
        steps: &[Step],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let result = self.program.extend_each(steps, cancel, take);
        self.faulted |= result.as_ref().is_err_and(is_fault);
        result
    }

    fn verifies(&self, n_rows: usize) -> Vec<Launch> {
        self.program.verifies(n_rows)
    }

    fn verify(
        &mut self,
        sequence: SequenceId,
        tokens: &[u32],
        positions: &[Position],
        cancel: &Cancel,
        take: &mut dyn FnMut(usize, Next<'_>),
    ) -> Result<(), Error> {
        let verified = self
            .program
            .verify(sequence, tokens, positions, cancel, take);
        self.faulted |= verified.as_ref().is_err_and(is_fault);
        verified
    }

    fn shared(&mut self, segments: &[Segment<'_>], positions: &[Position]) -> usize {
        let Ok(untagged) = self.untag(segments) else {
            return 0;
        };
        self.program
            .shared(&own_segments(segments, &untagged), positions)
    }

    fn prepare(
        &mut self,
        segments: &[Segment<'_>],
        positions: &[Position],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let untagged = self.untag(segments)?;
        let segments = own_segments(segments, &untagged);
        let prepared = self.program.prepare(&segments, positions, cancel);
        self.faulted |= prepared.as_ref().is_err_and(is_fault);
        prepared
    }

    fn prompts(&self) -> usize {
        self.program.prompts()
    }

    fn continues(&self, n_kept: usize, n_more: usize) -> bool {
        self.program.continues(n_kept, n_more)
    }

    fn truncate(&mut self, sequence: SequenceId, n_rows: usize) {
        self.program.truncate(sequence, n_rows);
    }

    fn close(&mut self, sequence: SequenceId) {
        self.program.close(sequence);
    }

    fn arithmetic(&self) -> Arithmetic {
        self.program.arithmetic()
    }

    fn on_loss(&mut self, tell: Box<dyn Fn(&str) + Send + Sync>) {
        self.program.on_loss(tell);
    }

    fn health(&mut self) -> Health {
        self.program.health()
    }
}

/// How long to wait before a device is tried again: twice as long each time.
#[derive(Debug)]
pub(crate) struct Backoff {
    tries: u32,
    most: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);

    /// One that waits no longer than this.
    pub fn up_to(most: Duration) -> Self {
        Self { tries: 0, most }
    }

    pub fn next(&mut self) -> Duration {
        let wait = Self::FIRST.saturating_mul(2u32.saturating_pow(self.tries));
        self.tries = self.tries.saturating_add(1);
        wait.min(self.most)
    }

    /// It worked: the next fault is a new one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::GridThw;

    /// Gives its features the same name every time, as a device that was begun anew does.
    struct Device(Limits);

    impl Program for Device {
        fn limits(&self) -> &Limits {
            &self.0
        }
        fn encode(&mut self, patches: &Patches, _: &Cancel) -> Result<VisualTokens, Error> {
            Ok(VisualTokens {
                grid: patches.grid,
                n_tokens: 1,
                features: Features::Device(Arc::new(7u32)),
            })
        }
        fn open(&mut self) -> Result<SequenceId, Error> {
            Err(Error::Scripted("the device is gone".into()))
        }
        fn extend(
            &mut self,
            _: SequenceId,
            segments: &[Segment<'_>],
            _: &[Position],
            _: &Cancel,
        ) -> Result<Next<'_>, Error> {
            let [Segment::Visual(tokens)] = segments else {
                panic!("one visual segment");
            };
            let Features::Device(any) = &tokens.features else {
                panic!("features of a device");
            };
            Ok(Next::Token(*any.downcast_ref::<u32>().unwrap()))
        }
        fn truncate(&mut self, _: SequenceId, _: usize) {}
        fn close(&mut self, _: SequenceId) {}
    }

    fn watched(generation: u64) -> Watched {
        let limits = Limits {
            context: 1,
            prompt: 1,
            vocab_size: 0,
            weight_bytes: 0,
        };
        Watched::new(Box::new(Device(limits)), generation)
    }

    #[test]
    fn features_of_a_device_end_with_the_program_that_made_them() {
        let patches = Patches {
            grid: GridThw { t: 1, h: 2, w: 2 },
            pixels: vec![].into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        let cancel = Cancel::default();
        let (mut before, mut after) = (watched(0), watched(1));
        let tokens = before.encode(&patches, &cancel).unwrap();
        let segments = [Segment::Visual(&tokens)];
        let next = before.extend(SequenceId(0), &segments, &[[0; 3]], &cancel);
        assert!(matches!(next, Ok(Next::Token(7))));
        let next = after.extend(SequenceId(0), &segments, &[[0; 3]], &cancel);
        assert!(matches!(next, Err(Error::Shape { .. })));
        assert!(!after.take_fault(), "the device did nothing wrong");
        assert!(after.open().is_err() && after.take_fault() && !after.take_fault());
    }

    #[test]
    fn the_wait_doubles_from_one_second_to_a_minute() {
        let mut backoff = Backoff::up_to(Duration::from_secs(60));
        let seconds: Vec<u64> = (0..8).map(|_| backoff.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next().as_secs(), 1);
    }
}
