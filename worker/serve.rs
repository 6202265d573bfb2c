// SPDX-License-Identifier: MPL-2.0

//! Makes the calls that come, one after the other, until nobody is there to make them for.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vlmcaption_backend::isolation::arena::{Arena, PixelMap};
use vlmcaption_backend::isolation::protocol::{
    self, Answer, Call, Failure, MAX_CALL, Next as Said, Numbered, Rows, Run,
};
use vlmcaption_backend::{
    Caller, Cancel, Error, Next, Patches, Program, Recipe, Segment, SequenceId, Surroundings,
    VisualTokens,
};

use crate::crash::crasher;

/// Makes calls until the socket is closed.
///
/// # Errors
/// The application says what it never would.
pub fn serve(mut socket: UnixStream, arena: &Arc<Arena>) -> io::Result<()> {
    let Some(recipe) = next(&mut socket)? else {
        return Ok(());
    };
    let Call::Load(made) = recipe.what else {
        return Err(io::Error::other("the first call loads no program"));
    };
    let count = made.count().cloned();
    let crashes = crasher(socket.try_clone()?, arena.clone(), count.clone());
    let loaded = load(&made, arena, recipe.number, crashes);
    drop(made);
    let program = match loaded {
        Ok(program) => program,
        Err(error) => {
            let failed = Answer::Failed(Failure::from(&error));
            return answer(&mut socket, recipe.number, failed);
        }
    };
    let loaded = Answer::Loaded {
        limits: program.limits().clone(),
        batch: program.batch(),
        prompts: program.prompts(),
        arithmetic: program.arithmetic(),
        remark: program.remark(),
    };
    answer(&mut socket, recipe.number, loaded)?;
    let mut desk = Desk {
        program,
        arena: arena.clone(),
        visuals: HashMap::new(),
        last_visual: 0,
        pixels: arena.map_pixels()?,
    };
    while let Some(call) = next(&mut socket)? {
        let cancel = cancel_of(arena, call.number);
        let made = desk.make(call.what, &cancel);
        share(arena, count.as_deref());
        if let Some(made) = made {
            let made = made.unwrap_or_else(|error| Answer::Failed(Failure::from(&error)));
            answer(&mut socket, call.number, made)?;
        }
    }
    Ok(())
}

fn share(arena: &Arena, count: Option<&AtomicU64>) {
    if let Some(count) = count {
        arena.set_count(count.load(Ordering::Relaxed));
    }
}

fn next(socket: &mut UnixStream) -> io::Result<Option<Numbered<Call>>> {
    let frame = protocol::read_frame(socket, MAX_CALL)?;
    frame.map(|frame| protocol::decode(&frame)).transpose()
}

/// Answers; nobody may be there any more.
fn answer(socket: &mut UnixStream, number: u64, what: Answer) -> io::Result<()> {
    let frame = protocol::encode(&Numbered { number, what })?;
    match socket.write_all(&frame) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn load(
    recipe: &Recipe,
    arena: &Arc<Arena>,
    number: u64,
    crasher: vlmcaption_backend::mock::Crasher,
) -> Result<Box<dyn Program>, Error> {
    let surroundings = Surroundings {
        crasher: Some(crasher),
    };
    let mut progress = |part| {
        arena.set_progress(part);
        arena.alive();
    };
    recipe.load(surroundings, &mut progress, &cancel_of(arena, number))
}

/// The end of one call, which the application asks for in the shared memory.
fn cancel_of(arena: &Arc<Arena>, number: u64) -> Cancel {
    struct OfCall {
        arena: Arc<Arena>,
        number: u64,
    }
    impl Caller for OfCall {
        fn is_cancelled(&self) -> bool {
            self.arena.is_cancelled(self.number)
        }
        fn alive(&self) {
            self.arena.alive();
        }
    }
    Cancel::of_caller(Box::new(OfCall {
        arena: arena.clone(),
        number,
    }))
}

/// The program, and what it has made.
struct Desk {
    program: Box<dyn Program>,
    arena: Arc<Arena>,
    visuals: HashMap<u64, VisualTokens>,
    last_visual: u64,
    pixels: PixelMap,
}

impl Desk {
    /// Makes a call; nothing is answered to some.
    fn make(&mut self, call: Call, cancel: &Cancel) -> Option<Result<Answer, Error>> {
        let answer = match call {
            Call::Load(_) => Err(Error::Scripted("a program is loaded already".into())),
            Call::Encode {
                grid,
                n_bytes,
                mean,
                std,
            } => {
                let pixels = self.pixels.first(n_bytes).map_err(memory);
                pixels.and_then(|pixels| {
                    let patches = Patches {
                        grid,
                        pixels,
                        mean,
                        std,
                    };
                    self.encode(&patches, cancel)
                })
            }
            Call::Open => self
                .program
                .open()
                .map(|sequence| Answer::Opened(sequence.0)),
            Call::Extend(sequence, rows) => self.extend(SequenceId(sequence), &rows, cancel),
            Call::ExtendEach(steps) => {
                self.tell(|program, take| program.extend_each(&steps, cancel, take))
            }
            Call::Verifies(n_rows) => Ok(Answer::Launches(self.program.verifies(n_rows))),
            Call::Verify(sequence, tokens, positions) => self.tell(|program, take| {
                program.verify(SequenceId(sequence), &tokens, &positions, cancel, take)
            }),
            Call::Shared(rows) => segments(&self.visuals, &rows)
                .map(|segments| Answer::Count(self.program.shared(&segments, &rows.positions))),
            Call::Prepare(rows) => segments(&self.visuals, &rows).and_then(|segments| {
                self.program.prepare(&segments, &rows.positions, cancel)?;
                Ok(Answer::Done)
            }),
            Call::Continues(n_kept, n_more) => {
                Ok(Answer::Truth(self.program.continues(n_kept, n_more)))
            }
            Call::Health => Ok(Answer::Health(self.program.health())),
            Call::Truncate(sequence, n_rows) => {
                self.program.truncate(SequenceId(sequence), n_rows);
                return None;
            }
            Call::Close(sequence) => {
                self.program.close(SequenceId(sequence));
                return None;
            }
            Call::Forget(visuals) => {
                for visual in visuals {
                    self.visuals.remove(&visual);
                }
                return None;
            }
        };
        Some(answer)
    }

    fn encode(&mut self, patches: &Patches, cancel: &Cancel) -> Result<Answer, Error> {
        let tokens = self.program.encode(patches, cancel)?;
        self.last_visual += 1;
        let n_tokens = tokens.n_tokens;
        self.visuals.insert(self.last_visual, tokens);
        Ok(Answer::Encoded {
            visual: self.last_visual,
            n_tokens,
        })
    }

    /// Makes a call that tells what follows several rows.
    fn tell(
        &mut self,
        call: impl FnOnce(&mut dyn Program, Telling<'_>) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        let (arena, mut said, mut broken) = (&self.arena, Vec::new(), None);
        let made = call(
            &mut *self.program,
            &mut |i, next| match say(arena, i, next) {
                Ok(next) => said.push(next),
                Err(error) => broken = Some(error),
            },
        );
        match broken {
            Some(error) => Err(error),
            None => {
                let failure = made.err().map(|error| Failure::from(&error));
                Ok(Answer::Extended(said, failure))
            }
        }
    }

    fn extend(
        &mut self,
        sequence: SequenceId,
        rows: &Rows,
        cancel: &Cancel,
    ) -> Result<Answer, Error> {
        let segments = segments(&self.visuals, rows)?;
        let program = &mut self.program;
        let next = program.extend(sequence, &segments, &rows.positions, cancel)?;
        Ok(Answer::Extended(vec![say(&self.arena, 0, next)?], None))
    }
}

/// A call that tells what follows several rows.
type Telling<'a> = &'a mut dyn FnMut(usize, Next<'_>);

/// Says what follows a sequence.
fn say(arena: &Arena, row: usize, next: Next<'_>) -> Result<Said, Error> {
    match next {
        Next::Token(token) => Ok(Said::Token(token)),
        Next::Logits(logits) => {
            arena.write_numbers(row, logits).map_err(memory)?;
            Ok(Said::Logits)
        }
    }
}

fn memory(source: io::Error) -> Error {
    Error::Io {
        file: "the memory shared with the application".into(),
        source,
    }
}

/// Rows with the features that are kept under their numbers.
fn segments<'a>(
    visuals: &'a HashMap<u64, VisualTokens>,
    rows: &'a Rows,
) -> Result<Vec<Segment<'a>>, Error> {
    let runs = rows.runs.iter().map(|run| match run {
        Run::Tokens(ids) => Ok(Segment::Tokens(ids)),
        Run::Visual(visual) => visuals.get(visual).map(Segment::Visual).ok_or_else(|| {
            let (want, got) = ("that are kept".to_owned(), format!("number {visual}"));
            Error::Shape {
                what: "visual tokens".into(),
                want,
                got,
            }
        }),
    });
    runs.collect()
}
