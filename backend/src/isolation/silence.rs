// SPDX-License-Identifier: MPL-2.0

//! How long a call has shown no sign of life, less what a busy machine is to blame for: a call that waits
//! for a processor does not hang, and whoever looks after it may come late himself.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a look waits at most before the next one.
pub const TICK: Duration = Duration::from_millis(20);

/// How long a call has shown no sign of life.
pub struct Silence {
    pid: u32,
    began: Instant,
    looked: Instant,
    /// What counts of it, by looks that came in time.
    counted: Duration,
    /// What the system says of the process, since the silence is worth a look.
    work: Option<Work>,
}

impl Silence {
    /// From now on, of this process.
    pub fn of(pid: u32) -> Self {
        let now = Instant::now();
        Self {
            pid,
            began: now,
            looked: now,
            counted: Duration::ZERO,
            work: None,
        }
    }

    /// How long it is by the clock.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A sign of life: how long it was by the clock.
    pub fn end(&mut self) -> Duration {
        let was = self.elapsed();
        *self = Self::of(self.pid);
        was
    }

    /// A look without a sign of life; whether all that counts is longer than `limit`. Where the system does
    /// not tell what it did with the process it must be longer than `otherwise`.
    pub fn exceeds(&mut self, limit: Duration, otherwise: Duration) -> bool {
        /// Calls that take less are none of anybody's business.
        const SHORT: Duration = Duration::from_millis(50);
        // What a late look missed was the machine's time.
        self.counted += self.looked.elapsed().min(TICK * 2);
        self.looked = Instant::now();
        if self.work.is_none() && self.counted > SHORT {
            self.work = Work::of(self.pid);
        }
        if self.counted <= limit {
            return false;
        }
        let Some((before, now)) = self.work.as_ref().zip(Work::of(self.pid)) else {
            return self.counted > otherwise;
        };
        if now.faults != before.faults {
            // It waits for its memory to be read from a disk, and gets it.
            (self.counted, self.work) = (Duration::ZERO, None);
            return false;
        }
        self.counted.saturating_sub(now.queued_since(before)) > limit
    }
}

/// What the system did with a process so far.
pub struct Work {
    at: Instant,
    threads: HashMap<String, Thread>,
    /// Pages that were read from a disk.
    faults: u64,
}

/// What it did with a thread.
#[derive(Default, Clone, Copy)]
struct Thread {
    /// On a processor.
    ran: Duration,
    /// Ready to run and without one, as far as that is over.
    queued: Duration,
    /// It runs, or waits for a processor.
    is_ready: bool,
}

impl Work {
    /// `None` where the system does not tell.
    pub fn of(pid: u32) -> Option<Self> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let faults = faults(&std::fs::read_to_string(process.join("stat")).ok()?)?;
        let threads = std::fs::read_dir(process.join("task")).ok()?.flatten();
        let threads = threads.filter_map(|thread| {
            let read = |name: &str| std::fs::read_to_string(thread.path().join(name)).ok();
            let mut known = counted(&read("schedstat")?)?;
            known.is_ready = state(&read("stat")?)? == 'R';
            Some((thread.file_name().into_string().ok()?, known))
        });
        let threads: HashMap<_, _> = threads.collect();
        (!threads.is_empty()).then(|| Self {
            at: Instant::now(),
            threads,
            faults,
        })
    }

    /// The longest that one thread waited for a processor since then.
    pub fn queued_since(&self, before: &Self) -> Duration {
        let time = self.at.saturating_duration_since(before.at);
        let since = |(name, now): (&String, &Thread)| {
            let then = before.threads.get(name).copied().unwrap_or_default();
            // The system counts a wait when it is over: of one that is not, all the time it did not run.
            let open = match now.is_ready {
                true => time.saturating_sub(now.ran.saturating_sub(then.ran)),
                false => Duration::ZERO,
            };
            now.queued.saturating_sub(then.queued).max(open)
        };
        self.threads.iter().map(since).max().unwrap_or_default()
    }
}

/// Of `/proc/PID/task/TID/schedstat`: time on a processor, time in the queue for one, turns. A thread
/// without the first was not counted.
fn counted(counts: &str) -> Option<Thread> {
    let mut words = counts.split_whitespace().map(str::parse::<u64>);
    let (ran, queued) = (words.next()?.ok()?, words.next()?.ok()?);
    (ran > 0).then(|| Thread {
        ran: Duration::from_nanos(ran),
        queued: Duration::from_nanos(queued),
        is_ready: false,
    })
}

/// Of a process or a thread: `R` runs or waits for a processor, `T` is stopped.
pub fn state(stat: &str) -> Option<char> {
    after_name(stat)?.chars().next()
}

/// Of a process: pages that were read from a disk, the twelfth field.
fn faults(stat: &str) -> Option<u64> {
    after_name(stat)?.split_whitespace().nth(9)?.parse().ok()
}

/// The third field of `/proc/PID/stat` and what follows; the second may have anything in it.
fn after_name(stat: &str) -> Option<&str> {
    let (_, after) = stat.rsplit_once(')')?;
    Some(after.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn looks_that_come_late_count_for_no_more_than_two() {
        // Of a process that the system tells nothing of nothing is taken away, however busy the machine is.
        let mut silence = Silence::of(u32::MAX);
        std::thread::sleep(200 * MS);
        assert!(!silence.exceeds(50 * MS, 50 * MS), "{:?}", silence.counted);
        assert!(silence.elapsed() >= 200 * MS);
        let mut looks = 0;
        while !silence.exceeds(100 * MS, 100 * MS) {
            std::thread::sleep(TICK);
            looks += 1;
        }
        assert!((2..40).contains(&looks), "{looks}");
        assert!(silence.end() >= 200 * MS && silence.counted.is_zero());
    }

    #[test]
    fn a_process_that_the_system_tells_nothing_of_has_longer() {
        let mut silence = Silence::of(u32::MAX);
        silence.counted = 100 * MS;
        assert!(!silence.exceeds(50 * MS, 10_000 * MS));
        assert!(silence.exceeds(50 * MS, 90 * MS));
    }

    #[test]
    fn time_in_the_queue_for_a_processor_is_that_of_the_thread_that_waited_longest() {
        let at = Instant::now();
        let work = |after: u32, of: &[(&str, u32, u32, bool)]| Work {
            at: at + after * MS,
            threads: of
                .iter()
                .map(|&(name, ran, queued, is_ready)| {
                    let (ran, queued) = (ran * MS, queued * MS);
                    let thread = Thread {
                        ran,
                        queued,
                        is_ready,
                    };
                    (name.to_owned(), thread)
                })
                .collect(),
            faults: 0,
        };
        let before = work(0, &[("1", 7, 500, false), ("2", 7, 10, false)]);
        let slept = work(
            900,
            &[
                ("1", 9, 530, false),
                ("2", 8, 110, false),
                ("3", 1, 40, false),
            ],
        );
        assert_eq!(slept.queued_since(&before), 100 * MS);
        let waits = work(900, &[("1", 107, 500, true), ("2", 7, 10, false)]);
        assert_eq!(
            waits.queued_since(&before),
            800 * MS,
            "and has not been counted yet"
        );
        let spins = work(900, &[("1", 907, 500, true)]);
        assert_eq!(
            spins.queued_since(&before),
            Duration::ZERO,
            "it has all that there is"
        );
    }

    #[test]
    fn the_systems_tables_are_read_as_they_are() {
        let thread = counted("2000000 5000000 17\n").unwrap();
        assert_eq!((thread.ran, thread.queued), (2 * MS, 5 * MS));
        assert!(counted("0 0 0\n").is_none(), "a system that does not count");
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 42 10 11";
        assert_eq!((state(stat), faults(stat)), (Some('R'), Some(42)));
        assert!(Work::of(std::process::id()).is_some());
    }

    /// More threads than processors, each with all that it can get: of one that is stopped by nobody, the time
    /// it waits for its turn is no silence.
    #[test]
    fn a_busy_machine_is_told_from_a_process_that_hangs() {
        let processors = std::thread::available_parallelism().unwrap().get();
        let end = Instant::now() + 600 * MS;
        let before = Work::of(std::process::id()).unwrap();
        let threads: Vec<_> = (0..processors * 4)
            .map(|_| {
                std::thread::spawn(move || {
                    while Instant::now() < end {
                        std::hint::black_box(0);
                    }
                })
            })
            .collect();
        std::thread::sleep(500 * MS);
        let queued = Work::of(std::process::id()).unwrap().queued_since(&before);
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(queued > 100 * MS, "{queued:?}");
    }
}
