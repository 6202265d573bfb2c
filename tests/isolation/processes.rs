// SPDX-License-Identifier: MPL-2.0

//! What there is of processes and descriptors, by `/proc`.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Letters of a command's name that the system keeps.
const NAME: &str = "vlmcaption-work";

/// The workers of this process: their pids and states, dead ones that nobody has waited for included.
pub fn workers_of(parent: u32) -> Vec<(u32, char)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let workers = pids.filter_map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let mut words = rest.split(' ');
        let state = words.next()?.chars().next()?;
        let of: u32 = words.next()?.parse().ok()?;
        (of == parent && name == NAME).then_some((pid, state))
    });
    workers.collect()
}

/// The one worker of this process, waiting for it.
pub fn worker() -> u32 {
    wait_for("a worker", || {
        let all = workers_of(std::process::id());
        let alive: Vec<u32> = all
            .into_iter()
            .filter(|w| w.1 != 'Z')
            .map(|w| w.0)
            .collect();
        (alive.len() == 1).then(|| alive[0])
    })
}

/// Waits until something is so.
pub fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "no sign of {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// What the open descriptors of a process are.
pub fn descriptors(pid: u32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten();
    let names = folder.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let mut names: Vec<String> = names.map(|name| name.display().to_string()).collect();
    names.sort();
    names
}

/// Descriptors of this process that an isolated device may hold.
pub fn held() -> usize {
    let is_held = |name: &String| {
        ["memfd:vlmcaption", "pipe:", "socket:", "pidfd"]
            .iter()
            .any(|kind| name.contains(kind))
    };
    descriptors(std::process::id())
        .iter()
        .filter(|name| is_held(name))
        .count()
}
