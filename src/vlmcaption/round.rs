// SPDX-License-Identifier: MPL-2.0

//! What is due by the clock, on the timer's thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change_model::ModelChange;
use super::faults::Cause;
use super::post;
use super::run::Run;
use super::shared::Shared;
use super::take_over;

/// How often the device is looked at, and all else that does not wake the timer.
const PAUSE: Duration = Duration::from_millis(500);

/// Does what is due; time until something is due again.
pub(super) fn round(shared: &Arc<Shared>) -> Option<Duration> {
    let element = shared.element()?;
    let Some(run) = shared.run() else {
        return Some(PAUSE);
    };
    let now = Instant::now();
    watch(&element, shared, &run);
    let swap = begin_swap(&element, shared, &run, now);
    run.count_text_drops(shared.text.n_dropped());
    let due = [
        swap,
        take_over::watch(&element, shared, &run),
        run.end_late_inquiries(&element, now),
        run.post_due_partial(&element, now),
        post_stats(&element, shared, &run, now),
        run.post_drops(&element, now),
    ];
    Some(due.into_iter().flatten().fold(PAUSE, Duration::min))
}

/// Looks whether the device has been silent for too long.
fn watch(element: &gst::Element, shared: &Shared, run: &Run) {
    let timeout = shared.settings().model_timeout();
    let Some(engine) = shared.engine() else {
        return;
    };
    if let Some(captioner) = shared.captioner() {
        captioner.give_up_lost(timeout);
    }
    let silence = engine.silence();
    if timeout.is_zero() || silence < timeout {
        return run.recovered(element, &[Cause::Silence]);
    }
    let known = run.state().board.has(Cause::Silence);
    if !known {
        let seconds = silence.as_secs_f64();
        let reason = format!(
            "the model has not answered for {seconds:.0} s; look after its device, or \
             raise model-timeout if it is only slow"
        );
        run.fault(element, Cause::Silence, &reason);
    }
}

/// Begins a change of the model when it is time; time until then.
fn begin_swap(
    element: &gst::Element,
    shared: &Arc<Shared>,
    run: &Run,
    now: Instant,
) -> Option<Duration> {
    let due = run.state().swap.take_due(now)?;
    if due.is_ok() {
        ModelChange::begin(element, shared);
    }
    due.err()
}

/// Posts statistics if it is time; time until the next, if they are wanted.
fn post_stats(
    element: &gst::Element,
    shared: &Shared,
    run: &Run,
    now: Instant,
) -> Option<Duration> {
    let interval = shared.settings().stats_interval();
    let (due, next) = run.stats_due(interval, now)?;
    if due {
        post::structure(element, shared.stats("vlmcaption/stats"));
    }
    Some(next)
}
