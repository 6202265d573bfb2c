// SPDX-License-Identifier: MPL-2.0

//! What a scripted device does at its worst: see `vlmcaption_backend::mock`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use vlmcaption_backend::isolation::arena::Arena;
use vlmcaption_backend::mock::{Crash, Crasher};

/// Crashes this process; what its program has counted is left to the next.
pub fn crasher(socket: UnixStream, arena: Arc<Arena>, count: Option<Arc<AtomicU64>>) -> Crasher {
    Box::new(move |crash| {
        if let Some(count) = &count {
            arena.set_count(count.load(Ordering::Relaxed));
        }
        eprintln!("the script says to crash: {crash:?}");
        match crash {
            Crash::Abort => std::process::abort(),
            Crash::Exit => std::process::exit(0),
            Crash::Kill => signal(Signal::KILL),
            Crash::Stop => signal(Signal::STOP),
            Crash::Memory => take_memory(),
            Crash::Rubbish => {
                // Whoever reads it has seen enough before all of it is written.
                let _ = (&socket).write_all(&[0xa5; 1 << 16]);
            }
            Crash::Hang => std::thread::sleep(Duration::from_secs(1 << 20)),
        }
    })
}

fn signal(signal: Signal) {
    // It is this very process.
    let _ = kill_process(getpid(), signal);
}

/// Takes memory until there is no more, of a limit that leaves the machine its own; nothing is written to it,
/// which would take time.
fn take_memory() {
    let limit = Some(1 << 30);
    let _ = setrlimit(
        Resource::As,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    );
    let mut blocks = Vec::new();
    loop {
        blocks.push(std::hint::black_box(Vec::<u8>::with_capacity(64 << 20)));
    }
}
