// SPDX-License-Identifier: MPL-2.0

//! An engine's threads: they read the weights and take turns until the engine is dropped. A model
//! that cannot be loaded, or whose device fails again and again, is loaded anew, less and less often.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::answerer::{Answerer, Loader};
use super::batch::Batcher;
use super::error::Error;
use super::schedule::Load;
use super::shared::Shared;
use super::standing::Fault;
use super::stop::Stop;
use super::taker::{OnProgram, OnServer, TurnTaker};
use super::turn::{Outcome, Turn, Work};
use super::watched::{Backoff, Watched};
use crate::backend::Program;
use crate::caption::panic::caught;
use crate::caption::reports::report::{InquiryReport, ModelReport, WindowReport};
use crate::vlm::Checkpoint;

/// Where a panic was.
const PLACE: &str = "the model engine";

/// Turns in a row that fail before the model is loaded anew.
pub(crate) const MAX_FAULTS: u32 = 3;

/// Begins the engine's thread.
///
/// # Errors
/// The system has no more threads.
pub(crate) fn start(
    shared: Arc<Shared>,
    loader: Loader,
    longest_pause: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name("vlmcaption-engine".into());
    builder.spawn(move || {
        // Turns, loading and serving are caught closer by, and tried again.
        if let Err(reason) = caught(PLACE, || run(&shared, loader, longest_pause)) {
            shared.give_up(&reason, &ModelReport::Failed(reason.clone()));
        }
        shared.schedule().end();
        shared.notify();
    })
}

fn run(shared: &Arc<Shared>, mut loader: Loader, longest_pause: Duration) {
    let backoff = Mutex::new(Backoff::up_to(longest_pause));
    for generation in 0.. {
        let answerer = loop {
            match load(shared, &mut loader) {
                Ok(answerer) => break answerer,
                Err(reason) => shared.give_up(&reason, &ModelReport::Failed(reason.clone())),
            }
            if !pause(shared, &backoff) {
                return;
            }
        };
        if shared.schedule().is_quitting() {
            return;
        }
        // The device is free after this, as it must be before it is opened again.
        let serve = || match answerer {
            Answerer::Program {
                checkpoint,
                program,
            } => {
                let stop = Stop::default();
                let mut program = Watched::new(program, generation);
                program.on_loss(stop.on_loss(shared));
                serve_all(shared, &checkpoint, program, &backoff, &stop)
            }
            Answerer::Server(server) => {
                let stop = Stop::default();
                serve(shared, 0, &mut OnServer(server), &backoff, &stop)
            }
        };
        let Some(reason) = guarded(shared, serve) else {
            return;
        };
        shared.give_up(&reason, &ModelReport::Restarting);
        if !pause(shared, &backoff) {
            return;
        }
    }
}

/// Makes the model ready, telling all sessions how far it is.
fn load(shared: &Shared, loader: &mut Loader) -> Result<Answerer, String> {
    /// A model that is read faster than this is not worth a message.
    const INTERVAL: Duration = Duration::from_millis(500);
    let began = Instant::now();
    let mut told = began;
    let mut progress = |part: f32| {
        if told.elapsed() >= INTERVAL {
            told = Instant::now();
            shared.tell_all(ModelReport::Loading(part));
        }
    };
    let loaded = caught(PLACE, || {
        let answerer = loader(&mut progress, &shared.cancel)?;
        let (remark, notices) = (answerer.remark(), answerer.notices());
        Ok((answerer, remark, notices))
    });
    let (answerer, remark, notices) =
        loaded.and_then(|loaded| loaded.map_err(|error: Error| error.to_string()))?;
    {
        let mut schedule = shared.schedule();
        if schedule.is_quitting() {
            return Ok(answerer);
        }
        schedule.set_load(Load::Ready(notices.clone()));
    }
    shared.record.ready();
    let took = began.elapsed();
    shared.tell_all(ModelReport::Loaded {
        took,
        remark,
        notices,
    });
    Ok(answerer)
}

/// Waits before the next try; false at the end.
fn pause(shared: &Shared, backoff: &Mutex<Backoff>) -> bool {
    let time = backoff.lock().unwrap().next();
    !shared.wait_until(time, |schedule| schedule.is_quitting())
}

/// Serves; all sessions are told of a panic, which is a reason to load the model anew.
fn guarded(shared: &Shared, serve: impl FnOnce() -> Option<String>) -> Option<String> {
    caught(PLACE, serve).unwrap_or_else(|reason| {
        shared.tell_all(WindowReport::failed(reason.clone()));
        Some(reason)
    })
}

/// Takes turns, as many at a time as the program is good for; returns why the model must be loaded
/// anew, or `None` at the end.
fn serve_all(
    shared: &Shared,
    checkpoint: &Checkpoint,
    program: Watched,
    backoff: &Mutex<Backoff>,
    stop: &Stop,
) -> Option<String> {
    shared.schedule().set_prompts(program.prompts());
    let size = program.batch();
    if size <= 1 {
        let mut taker = OnProgram {
            checkpoint,
            program,
        };
        return serve(shared, 0, &mut taker, backoff, stop);
    }
    let batcher = Batcher::new(program, size);
    let take_turns = |slot| {
        let reason = guarded(shared, || {
            let mut taker = OnProgram {
                checkpoint,
                program: batcher.slot(),
            };
            serve(shared, slot, &mut taker, backoff, stop)
        });
        {
            // The others must not miss it between a look and a wait.
            let _schedule = shared.schedule();
            stop.end();
        }
        shared.notify();
        reason
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..batcher.size())
            .filter_map(|slot| {
                let builder = std::thread::Builder::new().name(format!("vlmcaption-slot{slot}"));
                // One that does not start leaves its turns to the others.
                builder.spawn_scoped(scope, move || take_turns(slot)).ok()
            })
            .collect();
        let reason = take_turns(0);
        let others = others
            .into_iter()
            .filter_map(|other| other.join().ok().flatten());
        reason.into_iter().chain(others).next()
    })
}

/// Takes one turn at a time; returns why the model must be loaded anew, or `None` at the end.
fn serve(
    shared: &Shared,
    slot: usize,
    taker: &mut impl TurnTaker,
    backoff: &Mutex<Backoff>,
    stop: &Stop,
) -> Option<String> {
    /// The device is asked how it fares at most this often.
    const CHECKUP: Duration = Duration::from_secs(1);
    let mut checked: Option<Instant> = None;
    let mut faults = 0;
    loop {
        if checked.is_none_or(|checked| checked.elapsed() >= CHECKUP) {
            checked = Some(Instant::now());
            shared.set_health(caught(PLACE, || taker.health()).unwrap_or_default());
        }
        let turn = match next_turn(shared, taker.looks_every(), stop) {
            Next::Turn(turn) => turn,
            Next::End => return None,
            Next::Lost(reason) => {
                // Whoever had a turn was told the same, and hears it once.
                shared.tell_all(WindowReport::failed(reason.clone()));
                return Some(reason);
            }
            Next::Look => {
                shared.begin_pulse(slot, &shared.cancel);
                let looked = caught(PLACE, || taker.look(&shared.cancel));
                shared.end_pulse(slot);
                match looked.and_then(|looked| looked) {
                    Ok(()) => continue,
                    Err(reason) => return Some(reason),
                }
            }
        };
        let began = Instant::now();
        shared.begin_pulse(slot, &turn.cancel);
        taker.begin();
        let result = caught(PLACE, || taker.make(shared, &turn));
        shared.end_pulse(slot);
        let (took, fault) = taker.end(began.elapsed());
        let faulted = fault == Fault::Broken || result.is_err();
        let outcome = result.unwrap_or_else(|panic| failed(&turn, panic));
        let works = is_captioned(&turn, &outcome);
        let reason = failure(&outcome).map(str::to_owned);
        match &reason {
            None if works => shared.record.answered(),
            Some(reason) if faulted || fault == Fault::Busy => shared.record.failed(reason),
            _ => {}
        }
        report(shared, &turn, took, outcome);
        if faulted {
            faults += 1;
            if faults >= MAX_FAULTS && reason.is_some() {
                return reason;
            }
        } else if works {
            faults = 0;
            backoff.lock().unwrap().reset();
        }
    }
}

/// What is to be done next.
enum Next {
    Turn(Turn),
    /// To look whether what answers is still there: nobody has asked for so long.
    Look,
    /// The device is gone.
    Lost(String),
    End,
}

/// Waits for work. One that nobody uses and that is to be there when it is needed is looked at now and
/// then.
fn next_turn(shared: &Shared, looks_every: Option<Duration>, stop: &Stop) -> Next {
    let began = Instant::now();
    let mut schedule = shared.schedule();
    let turn = loop {
        if schedule.is_quitting() || stop.is_over() {
            return Next::End;
        }
        if let Some(reason) = stop.loss() {
            return Next::Lost(reason);
        }
        if let Some(turn) = schedule.next_turn() {
            break turn;
        }
        let stands_by = schedule.is_unused() && shared.stands_by.load(Ordering::Relaxed);
        schedule = match looks_every.filter(|_| stands_by) {
            None => shared.wait(schedule),
            Some(every) => match every.checked_sub(began.elapsed()) {
                None | Some(Duration::ZERO) => return Next::Look,
                Some(left) => shared.wait_for(schedule, left),
            },
        };
    };
    drop(schedule);
    shared.notify();
    Next::Turn(turn)
}

/// A panic ended the turn.
fn failed(turn: &Turn, reason: String) -> Outcome {
    match &turn.work {
        Work::Inquiry { .. } => Outcome::Inquired(Err(reason)),
        Work::Pair { .. } | Work::Window { .. } => Outcome::Failed {
            frames: Vec::new(),
            reason,
        },
    }
}

/// Why a turn came to nothing.
fn failure(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { reason, .. } | Outcome::Inquired(Err(reason)) => Some(reason),
        _ => None,
    }
}

fn is_captioned(turn: &Turn, outcome: &Outcome) -> bool {
    let is_window = matches!(turn.work, Work::Window { .. });
    is_window && !matches!(outcome, Outcome::Cancelled | Outcome::Failed { .. })
}

/// Books a turn and reports what came of it.
fn report(shared: &Shared, turn: &Turn, took: Duration, outcome: Outcome) {
    {
        let mut schedule = shared.schedule();
        let wanted = schedule.finish_turn(turn, took, &outcome);
        match (&turn.work, outcome) {
            // Also after a flush: whoever asked waits for it.
            (Work::Inquiry { inquiry, .. }, Outcome::Inquired(answer)) => {
                let id = inquiry.id;
                turn.outlet.put(InquiryReport { id, answer });
            }
            (_, Outcome::Failed { frames, reason }) if wanted => {
                turn.outlet.put(WindowReport::Failed { frames, reason });
            }
            _ => {}
        }
    }
    shared.notify();
    shared.call_drained();
}
