// SPDX-License-Identifier: MPL-2.0

//! `vlmcaption-worker`: the process that a device program runs in, so that what a vendor's library does
//! there ends no application. The plugin begins it; its ends of everything come with it:
//!
//! - stdin is the socket on which calls come and answers go,
//! - stdout is the memory that both share,
//! - stderr is read by the plugin: the log, and the last words.
//!
//! What it holds besides is closed first, and what it needs not is given up: the network, tracing,
//! mounting.
//!
//! It begins without what Rust puts around `main`. That would catch a C++ exception at last and say that it
//! cannot; so the C++ runtime finds nobody, and says of which type it was and why it was thrown. It would
//! handle SIGSEGV as well, and go on after one that somebody has sent.

#![no_main]

mod confine;
mod crash;
mod serve;

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vlmcaption_backend::isolation::arena::Arena;
use vlmcaption_backend::isolation::protocol::{self, GREETING, STAMP};

/// From one heartbeat to the next.
const BEAT: Duration = Duration::from_millis(50);

const SUCCESS: c_int = 0;
const FAILURE: c_int = 1;

#[expect(unsafe_code, reason = "the name that the system calls, and a signal")]
#[unsafe(no_mangle)]
extern "C-unwind" fn main(_: c_int, _: *const *const c_char) -> c_int {
    // SAFETY: no handler of ours is set. Whoever reads no answers any more is an error of a write.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    match std::env::args().nth(1).as_deref() {
        Some("--serve") => {}
        Some("--version") => {
            // Whoever asks may not want to hear it.
            let _ = writeln!(std::io::stdout(), "vlmcaption-worker {STAMP}");
            return SUCCESS;
        }
        _ => {
            eprintln!(
                "vlmcaption-worker runs a device for the GStreamer element vlmcaption, which begins it \
                 by itself; see docs/isolation.md. --version says of which build it is."
            );
            return FAILURE;
        }
    }
    confine::close_strays();
    match begin() {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("vlmcaption-worker: {error}");
            FAILURE
        }
    }
}

fn begin() -> std::io::Result<()> {
    let parent = confine::die_with_parent();
    let (socket, memory) = own_ends()?;
    let socket = UnixStream::from(socket);
    let arena = Arc::new(Arena::from_fd(memory)?);
    confine::give_up_privileges();
    beat(socket.try_clone()?, arena.clone(), parent)?;
    let mut socket = socket;
    socket.write_all(&protocol::frame(format!("{GREETING}{STAMP}").as_bytes()))?;
    serve::serve(socket, &arena)
}

/// The socket and the memory. What a library reads and prints is from now on nothing, and a line of the
/// log.
fn own_ends() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let memory = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((socket, memory))
}

/// Begins the heartbeat. It ends this process when the application is gone, even if a library hangs: the
/// signal that the system sends then may have been blocked or caught by it.
fn beat(
    socket: UnixStream,
    arena: Arc<Arena>,
    parent: Option<rustix::process::Pid>,
) -> std::io::Result<()> {
    /// How long giving back a device may take.
    const FAREWELL: Duration = Duration::from_secs(5);
    let builder = std::thread::Builder::new().name("heartbeat".into());
    builder.spawn(move || {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(BEAT.subsec_nanos()),
        };
        loop {
            arena.beat();
            let mut fds = [PollFd::new(&socket, PollFlags::RDHUP)];
            let closed = poll(&mut fds, Some(&timeout)).is_ok_and(|n| n > 0);
            if rustix::process::getppid() != parent {
                confine::end_at_once();
            }
            if closed {
                break;
            }
        }
        let began = std::time::Instant::now();
        while began.elapsed() < FAREWELL && rustix::process::getppid() == parent {
            arena.beat();
            std::thread::sleep(BEAT);
        }
        confine::end_at_once();
    })?;
    Ok(())
}
