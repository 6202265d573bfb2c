// SPDX-License-Identifier: MPL-2.0

//! What is lost when something is killed.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::one::{Event, Shown, What};

/// A fault, and when it was over.
pub struct Fault {
    pub began: Instant,
    pub ended: Instant,
}

/// The longest time between two captions of a camera until `end`.
pub fn period(heard: &[Event], end: Instant, count: usize) -> Duration {
    let mut last = vec![None; count];
    let mut longest = Duration::ZERO;
    for event in heard.iter().filter(|event| event.at < end) {
        if matches!(event.what, What::Caption { .. })
            && let Some(before) = last[event.camera].replace(event.at)
        {
            longest = longest.max(event.at - before);
        }
    }
    longest
}

/// How soon every camera's buffers said `error` after a fault began, and how soon none did after it ended.
/// A server is asked when there is a window, every `period` at least.
///
/// # Errors
/// One did not within a second of the window that came next, or still did five seconds after it.
pub fn shown(cameras: &[Vec<Shown>], fault: &Fault, period: Duration) -> Result<String, String> {
    let to_error_limit = Duration::from_secs(1) + period;
    let back_limit = Duration::from_secs(5) + period;
    let (mut to_error, mut back) = (Duration::ZERO, Duration::ZERO);
    for (number, shown) in cameras.iter().enumerate() {
        let of = |began: Instant, is_error: bool| {
            let mut of = shown
                .iter()
                .filter(|shown| shown.is_error == is_error && shown.at >= began);
            of.next().map(|shown| shown.at - began)
        };
        let error = of(fault.began, true);
        to_error = to_error.max(error.ok_or(format!("camera {number} never said `error`"))?);
        let well = of(fault.ended, false);
        back = back.max(well.ok_or(format!("camera {number} says `error` to the end"))?);
    }
    let text = format!(
        "with a window every {:.1} s, all buffers said `error` {:.2} s after the fault began, none \
         {:.2} s after it ended",
        period.as_secs_f64(),
        to_error.as_secs_f64(),
        back.as_secs_f64()
    );
    if to_error > to_error_limit || back > back_limit {
        return Err(format!(
            "{text}: more than {to_error_limit:.1?} and {back_limit:.1?} are too long"
        ));
    }
    Ok(text + "\n")
}

/// What a death at `killed` cost.
pub fn outage(heard: &[Event], began: Instant, killed: Instant, count: usize) -> String {
    let captions = |from: Instant, to: Instant| {
        let of = heard
            .iter()
            .filter(|e| matches!(e.what, What::Caption { .. }));
        of.filter(|event| event.at >= from && event.at < to).count() as f64
    };
    let end = heard.last().map_or(killed, |event| event.at);
    let before = captions(began, killed) / (killed - began).as_secs_f64();
    let second = Duration::from_secs(1);
    let mut text = format!("{before:.2} captions a second before; after, second by second:");
    let mut at = killed;
    while at + second <= end {
        let n = captions(at, at + second);
        let _ = write!(text, " {n}");
        at += second;
    }
    let expected = before * (end - killed).as_secs_f64();
    let lost = (expected - captions(killed, end + second)).max(0.0);
    let mut seen = vec![false; count];
    let mut recovered = None;
    for event in heard.iter().filter(|event| event.at > killed) {
        if matches!(event.what, What::Caption { .. }) {
            seen[event.camera] = true;
            if !seen.contains(&false) {
                recovered = Some((event.at - killed).as_secs_f64());
                break;
            }
        }
    }
    let failures = |event: &&Event| matches!(event.what, What::Failed(_)) && event.at > killed;
    let failed: Vec<_> = heard.iter().filter(failures).collect();
    let last = failed
        .last()
        .map_or(0.0, |event| (event.at - killed).as_secs_f64());
    let _ = write!(
        text,
        "\n{:.1} % of the captions of the rest of the run are missing; {} warnings, the last {last:.1} s \
         after the death; ",
        100.0 * lost / expected.max(1.0),
        failed.len()
    );
    let _ = match recovered {
        Some(seconds) => writeln!(
            text,
            "all cameras had a new caption {seconds:.1} s after it"
        ),
        None => writeln!(text, "NOT all cameras had a new caption"),
    };
    for event in failed.iter().take(3) {
        if let What::Failed(reason) = &event.what {
            let _ = writeln!(text, "camera {}: {reason}", event.camera);
        }
    }
    text
}
