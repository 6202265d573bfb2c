// SPDX-License-Identifier: MPL-2.0

//! What a scripted device does at its worst: see `vlmcaption_backend::mock`.

#![expect(unsafe_code, reason = "does what a vendor's library does")]

use std::io::{Error, Write};
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
            Crash::Segfault => segfault(),
            Crash::Memory => take_memory(),
            Crash::OutOfMemory => use_memory(),
            Crash::Network => try_network(),
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

/// Reads the field of a structure that a null pointer points to.
fn segfault() {
    let field = std::ptr::without_provenance::<u8>(16);
    // SAFETY: nothing is ever mapped there, so this process ends here, which is what is wanted. The read is
    // volatile: it is done as it stands.
    let byte = unsafe { field.read_volatile() };
    eprintln!("the null pointer has a {byte}");
}

/// Writes to more memory than the group of this process has; not to as much as the machine has, whoever set
/// no group up.
fn use_memory() {
    let block = std::hint::black_box(vec![1_u8; 256 << 20]);
    eprintln!("there was memory for {} bytes", block.len());
    std::process::abort();
}

/// Asks for sockets of all kinds, and for the ring that opens sockets without asking.
fn try_network() {
    let asked = |name: &str, got: i64| {
        let error = Error::last_os_error();
        let outcome = match got {
            ..0 if error.raw_os_error() == Some(libc::EACCES) => "refused".to_owned(),
            ..0 => error.to_string(),
            _ => "open".to_owned(),
        };
        format!("{name} {outcome}")
    };
    let kinds = [
        ("inet stream", libc::AF_INET, libc::SOCK_STREAM),
        ("inet datagram", libc::AF_INET, libc::SOCK_DGRAM),
        ("inet6 stream", libc::AF_INET6, libc::SOCK_STREAM),
        ("packet", libc::AF_PACKET, libc::SOCK_RAW),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM),
        ("unix", libc::AF_UNIX, libc::SOCK_STREAM),
    ];
    let mut said = kinds.map(|(name, family, kind)| {
        // SAFETY: numbers alone are handed over. What is opened goes with this process.
        asked(name, unsafe { libc::socket(family, kind, 0) }.into())
    });
    // SAFETY: the pointer is not looked at by a kernel that refuses, and is an error to one that does not.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    said[0].insert_str(0, &format!("{}, ", asked("io_uring", ring)));
    eprintln!("sockets: {}", said.join(", "));
    std::process::abort();
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
