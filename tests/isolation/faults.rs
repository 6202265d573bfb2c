// SPDX-License-Identifier: MPL-2.0

//! What only a system can do to a process, or it to itself: a bad address, memory that is not there, a
//! network that is refused, a machine that has no time for it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::common::camera::{Camera, good};
use crate::common::{script, warnings};
use crate::processes::{descriptors, worker, workers_of};
use crate::rounds::{camera, is_captioned, longest_gap, turning_points};
use crate::{SOON, crash_of, says, turn};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_null_pointer() {
    for stage in ["encode", "prefill", "decode"] {
        says(
            &crash_of("segfault", stage, SOON),
            &[
                "was ended by signal 11 (SIGSEGV",
                " while ",
                "its last words: the script says to crash: Segfault",
            ],
        );
    }
}

#[test]
fn the_network_is_refused_however_it_is_asked_for() {
    let told = crash_of("network", "encode", SOON);
    says(
        &told,
        &[
            "sockets: io_uring refused, inet stream refused, inet datagram refused, \
             inet6 stream refused, packet refused, vsock refused, unix open",
        ],
    );
}

/// A group of processes with little memory, for as long as it lives.
struct Group(PathBuf);

impl Group {
    /// `None`, with a word about it, where this user may make none.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("vlmcaption-test-{}", std::process::id());
        let make = |root: &str, limits: &[(&str, u64)]| {
            let group = Self(PathBuf::from(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            // Elsewhere it is a folder like any other.
            if !group.0.join("cgroup.procs").exists() {
                return None;
            }
            let mut written = limits
                .iter()
                .map(|(file, limit)| fs::write(group.0.join(file), limit.to_string()));
            written.all(|done| done.is_ok()).then_some(group)
        };
        let found = make(
            "/sys/fs/cgroup",
            &[("memory.max", bytes), ("memory.swap.max", 0)],
        )
        .or_else(|| {
            let limits = [("memory.limit_in_bytes", bytes), ("memory.swappiness", 0)];
            make("/sys/fs/cgroup/memory", &limits)
        });
        if found.is_none() {
            eprintln!("SKIPPED: this user may make no control group, so the system killed nothing");
        }
        found
    }

    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it may take a moment to be gone.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_process_that_the_system_kills_for_its_memory_is_told_as_that() {
    let Some(group) = Group::new(96 << 20) else {
        return;
    };
    let _turn = turn();
    let model = script(
        r#"[{"text": "well", "repeat": 10}, {"crash": "out-of-memory", "crash-at": "encode"},
            {"text": "after", "repeat": 9999}]"#,
    );
    let camera = camera(&model);
    camera.play(good, PATIENCE, is_captioned);
    group.take(worker());
    let buffers = camera.play(good, PATIENCE, |seen| seen.text == "after");
    assert!(longest_gap(&buffers) < Duration::from_secs(1));
    turning_points(&buffers);
    let told = warnings(&camera.messages());
    says(
        &told[0],
        &[
            "was ended by signal 9 (SIGKILL; short of memory?) while the vision net ran",
            "OutOfMemory",
        ],
    );
    drop(camera);
    assert_eq!(workers_of(std::process::id()), []);
}

/// Plays until this text: nothing may be wrong on the way.
fn plays_well(camera: &Camera, text: &str) {
    let buffers = camera.play(good, PATIENCE, |seen| seen.text == text);
    assert!(buffers.iter().all(|seen| seen.status != "error"));
    assert_eq!(warnings(&camera.messages()), [""; 0]);
}

#[test]
fn a_call_that_is_slow_and_was_before_is_none_that_hangs() {
    let _turn = turn();
    // Silent for 0.3 s each time, once for 2 s, which is less than eight times as long.
    let model = script(
        r#"[{"text": "slow {n}", "hang-ms": 300, "repeat": 9}, {"text": "slower", "hang-ms": 2000},
            {"text": "after", "repeat": 9999}]"#,
    );
    plays_well(&camera(&model), "after");
}

/// Threads that take all the time that there is, for as long as it lives.
struct Load(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Load {
    fn new(threads: usize) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let ends = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        for _ in 0..threads {
            let ends = ends.clone();
            std::thread::spawn(move || {
                while !ends.load(Relaxed) {
                    std::hint::black_box(0);
                }
            });
        }
        Self(ends)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Seconds without a turn on a processor, by the scheduler's lowest class: a model that computes is late then,
/// and is none that hangs.
#[test]
fn a_worker_that_gets_no_processor_is_late_and_is_not_killed() {
    let _turn = turn();
    let camera = Camera::of(&[
        ("backend", "cpu"),
        ("isolation", "process"),
        ("window", "1"),
        ("sample-rate", "5/1"),
        ("drop-policy", "latest"),
        ("device", "threads=1"),
    ]);
    let n = std::cell::Cell::new(0);
    // Enough of them for what is known of it to be little.
    camera.play(good, PATIENCE, |seen| {
        n.set(n.get() + usize::from(seen.status == "fresh"));
        n.get() > 60
    });
    let pid = worker();
    let idle = Command::new("chrt")
        .args(["--all-tasks", "--idle", "--pid", "0", &pid.to_string()])
        .status();
    assert!(idle.unwrap().success(), "util-linux has chrt");
    let processors = std::thread::available_parallelism().unwrap().get();
    let load = Load::new(processors * 2);
    let end = Instant::now() + Duration::from_secs(12);
    let buffers = camera.play(good, PATIENCE, |seen| seen.at > end);
    drop(load);
    let longest = buffers
        .chunk_by(|a, b| a.text == b.text)
        .map(|same| same.last().unwrap().at - same[0].at)
        .max();
    println!("  no other caption for {:.1?} at most", longest.unwrap());
    assert_eq!(worker(), pid, "{:?}", warnings(&camera.messages()));
    assert!(buffers.iter().all(|seen| seen.status != "error"));
}

#[test]
fn a_server_that_is_refused_leaves_a_device_in_its_process_without_the_network() {
    let _turn = turn();
    let model = script(r#"[{"text": "from the worker"}]"#);
    let camera = Camera::of(&[
        ("backend", "openai,mock"),
        ("server-uri", "http://127.0.0.1:9/v1"),
        ("server-proxy", "none"),
        ("model", model.path().to_str().unwrap()),
        ("network", "none"),
        ("isolation", "process"),
        ("window", "1"),
        ("sample-rate", "5/1"),
    ]);
    camera.play(good, PATIENCE, |seen| seen.text == "from the worker");
    let pid = worker();
    let held = descriptors(pid);
    let mut sockets: Vec<_> = held
        .iter()
        .filter(|name| name.contains("socket:"))
        .collect();
    sockets.dedup();
    assert_eq!(sockets.len(), 1, "the one to the application: {held:?}");
    let stats = camera.run.element.property::<gst::Structure>("stats");
    let sent = stats.get::<gst::Array>("sent-to").unwrap();
    assert!(sent.is_empty(), "{stats:?}");
    let told = warnings(&camera.messages());
    assert!(told.iter().any(|text| text.contains("network")), "{told:?}");
}
