// SPDX-License-Identifier: MPL-2.0

//! When a request is made again: after growing, random pauses, and never before the server wants
//! it. Clock and random numbers come from outside.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use crate::cancel::Cancel;
use crate::error::{Error, Problem};

/// How often and how long a request is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Requests in all.
    pub attempts: u32,
    /// Upper bound of the first pause; it doubles from one to the next.
    pub base: Duration,
    /// Upper bound of every pause.
    pub cap: Duration,
    /// From the first request to the last pause's end: what nobody waits for longer is not waited
    /// for at all.
    pub patience: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 4,
            base: Duration::from_millis(500),
            cap: Duration::from_secs(10),
            patience: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// One request, whatever comes of it.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// The pause before request number `next` (from 1), or `None` if it is not made. `random` is in
    /// 0..1.
    ///
    /// Full jitter: anything between nothing and the bound, so that cameras that failed together do
    /// not come back together. A server's own wish comes first, and the jitter on top.
    fn pause(&self, error: &Error, next: u32, elapsed: Duration, random: f64) -> Option<Duration> {
        if next >= self.attempts || !error.is_retryable() {
            return None;
        }
        let doubled = 2u32.saturating_pow(next.saturating_sub(1));
        let bound = self.base.saturating_mul(doubled).min(self.cap);
        let jitter = bound.mul_f64(random.clamp(0.0, 1.0));
        let asked = error.retry_after().unwrap_or_default();
        let pause = asked.saturating_add(jitter);
        (elapsed.saturating_add(pause) <= self.patience).then_some(pause)
    }
}

/// Time, as retries see it.
pub trait Clock: Send + Sync {
    /// Now; goes on evenly.
    fn now(&self) -> Instant;

    /// Waits; `true` if the cancel came, which ends it at once.
    fn wait(&self, how_long: Duration, cancel: &Cancel) -> bool;
}

/// Random numbers, as retries want them.
pub trait Random: Send + Sync {
    /// A number in 0..1.
    fn unit(&self) -> f64;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wait(&self, how_long: Duration, cancel: &Cancel) -> bool {
        cancel.wait(how_long)
    }
}

/// Random numbers from the seeds of the standard library's hash maps: good enough to spread pauses.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn unit(&self) -> f64 {
        let bits = RandomState::new().build_hasher().finish() >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

/// Makes a request until it succeeds or must not be made again. `attempt` is given its number, from
/// 0, and says whether it may be repeated: not once a part of an answer was told.
///
/// # Errors
/// The last request's, or [`Problem::Cancelled`].
pub(crate) fn run<T>(
    retry: &Retry,
    (clock, random): (&dyn Clock, &dyn Random),
    cancel: &Cancel,
    mut attempt: impl FnMut(u32) -> (Result<T, Error>, Repeat),
) -> Result<T, Error> {
    let began = clock.now();
    let mut number = 0;
    loop {
        let (result, repeat) = attempt(number);
        let error = match result {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        number += 1;
        let elapsed = clock.now().saturating_duration_since(began);
        let pause = match repeat {
            Repeat::Allowed => retry.pause(&error, number, elapsed, random.unit()),
            Repeat::Forbidden => None,
        };
        let Some(pause) = pause else {
            return Err(error);
        };
        if clock.wait(pause, cancel) {
            return Err(Error {
                problem: Problem::Cancelled,
                ..error
            });
        }
    }
}

/// Whether a request may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Allowed,
    Forbidden,
}

/// Reads `Retry-After`: seconds, or a date of HTTP's.
pub(crate) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::shape::Said;

    /// A clock that goes on when it is waited for.
    struct TestClock {
        start: Instant,
        waited: Mutex<Vec<Duration>>,
    }

    impl TestClock {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                waited: Mutex::default(),
            }
        }
    }

    impl Clock for TestClock {
        fn now(&self) -> Instant {
            self.start + self.waited.lock().unwrap().iter().sum::<Duration>()
        }

        fn wait(&self, how_long: Duration, cancel: &Cancel) -> bool {
            self.waited.lock().unwrap().push(how_long);
            cancel.is_cancelled()
        }
    }

    struct Always(f64);

    impl Random for Always {
        fn unit(&self) -> f64 {
            self.0
        }
    }

    fn error(problem: Problem) -> Error {
        Error {
            server: "h:1".into(),
            problem,
        }
    }

    fn busy(retry_after: Option<u64>) -> Error {
        error(Problem::RateLimited {
            retry_after: retry_after.map(Duration::from_secs),
            said: Box::default(),
        })
    }

    /// The pauses of a request that always fails, in milliseconds, and how often it was made.
    fn pauses(retry: Retry, random: f64, error: &Error) -> (Vec<u128>, u32) {
        let clock = TestClock::new();
        let mut made = 0;
        let result: Result<(), Error> = run(
            &retry,
            (&clock, &Always(random)),
            &Cancel::default(),
            |_| {
                made += 1;
                (Err(error.clone()), Repeat::Allowed)
            },
        );
        assert_eq!(result.as_ref(), Err(error));
        let waited = clock.waited.lock().unwrap();
        (waited.iter().map(Duration::as_millis).collect(), made)
    }

    #[test]
    fn pauses_double_up_to_the_cap_and_are_spread_by_the_random_number() {
        let retry = Retry {
            attempts: 6,
            cap: Duration::from_secs(3),
            ..Retry::default()
        };
        assert_eq!(
            pauses(retry, 1.0, &busy(None)),
            (vec![500, 1000, 2000, 3000, 3000], 6)
        );
        assert_eq!(
            pauses(retry, 0.5, &busy(None)),
            (vec![250, 500, 1000, 1500, 1500], 6)
        );
        assert_eq!(pauses(retry, 0.0, &busy(None)), (vec![0; 5], 6));
    }

    #[test]
    fn a_servers_wish_comes_first_and_beyond_patience_nothing_is_waited_for() {
        assert_eq!(
            pauses(Retry::default(), 0.0, &busy(Some(7))),
            (vec![7000; 3], 4)
        );
        assert_eq!(
            pauses(Retry::default(), 0.0, &busy(Some(3600))),
            (vec![], 1)
        );
        assert_eq!(
            pauses(Retry::default(), 0.0, &busy(Some(20))),
            (vec![20_000], 2)
        );
    }

    #[test]
    fn what_will_be_refused_again_is_asked_once() {
        let said = Box::<Said>::default;
        for problem in [
            Problem::Refused {
                status: 400,
                said: said(),
            },
            Problem::Refused {
                status: 422,
                said: said(),
            },
            Problem::Unauthorized {
                has_key: true,
                said: said(),
            },
            Problem::Forbidden { said: said() },
            Problem::TooLarge { said: said() },
            Problem::TooLong { bound: 1 },
            Problem::Cancelled,
        ] {
            assert_eq!(pauses(Retry::default(), 0.5, &error(problem)), (vec![], 1));
        }
        assert_eq!(pauses(Retry::never(), 0.5, &busy(None)), (vec![], 1));
    }

    #[test]
    fn what_was_told_in_part_is_not_asked_again() {
        let clock = TestClock::new();
        let mut made = 0;
        let result: Result<(), Error> = run(
            &Retry::default(),
            (&clock, &Always(0.0)),
            &Cancel::default(),
            |_| {
                made += 1;
                (
                    Err(error(Problem::Truncated { n_bytes: 5 })),
                    Repeat::Forbidden,
                )
            },
        );
        assert!(result.is_err() && made == 1);
    }

    #[test]
    fn a_cancel_ends_a_pause() {
        let cancel = Cancel::default();
        cancel.cancel();
        let result: Result<(), Error> = run(
            &Retry::default(),
            (&SystemClock, &SystemRandom),
            &cancel,
            |_| (Err(busy(Some(20))), Repeat::Allowed),
        );
        assert!(result.unwrap_err().is_cancelled());
    }

    #[test]
    fn a_wish_for_ever_is_not_waited_for() {
        let retry = Retry {
            base: Duration::from_secs(60),
            cap: Duration::from_secs(60),
            ..Retry::default()
        };
        let wish = busy(Some(u64::MAX));
        let now = Duration::from_secs(1);
        assert_eq!(retry.pause(&wish, 1, now, 0.9), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |header| retry_after(header, now).map(|after| after.as_secs());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0.5 "), Some(0));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(
            read("Thu, 29 Feb 1996 00:00:00 GMT"),
            Some(825_552_000 - 784_111_777)
        );
        for bad in [
            "",
            "soon",
            "-5",
            "1e40",
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn random_numbers_are_in_their_range_and_differ() {
        let drawn: Vec<f64> = (0..50).map(|_| SystemRandom.unit()).collect();
        assert!(drawn.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(drawn.iter().any(|n| *n != drawn[0]));
    }
}
