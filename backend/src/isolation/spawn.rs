// SPDX-License-Identifier: MPL-2.0

//! Begins a worker: its stdin is the socket, its stdout the shared memory, its stderr what is kept as its
//! last words. All other descriptors of the application it closes itself, before it does anything else.
//!
//! Nothing is done between a fork and an exec, so the standard library uses `posix_spawn`: an application
//! with threads and much memory is neither copied nor at risk.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::arena::Arena;
use super::error::Error;

/// A worker that was begun.
pub struct Spawned {
    pub child: Child,
    /// The same, by a name that no other process gets.
    pub pidfd: OwnedFd,
    pub socket: UnixStream,
    pub output: PipeReader,
}

/// Begins a worker.
///
/// # Errors
/// [`Error::Start`]
pub fn spawn(path: &Path, arena: &Arena) -> Result<Spawned, Error> {
    let failed = |reason: std::io::Error| Error::Start {
        path: path.display().to_string(),
        reason: reason.to_string(),
    };
    let (socket, theirs) = UnixStream::pair().map_err(failed)?;
    let (output, stderr) = std::io::pipe().map_err(failed)?;
    let memory = arena.fd().try_clone_to_owned().map_err(failed)?;
    let mut child = Command::new(path)
        .arg("--serve")
        // Its last words are to be what is wrong, and not where.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(memory))
        .stderr(Stdio::from(OwnedFd::from(stderr)))
        .spawn()
        .map_err(failed)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.ok_or(rustix::io::Errno::SRCH);
    match pidfd.and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Ok(pidfd) => Ok(Spawned {
            child,
            pidfd,
            socket,
            output,
        }),
        Err(errno) => {
            // It may be gone already, and its status with it.
            let _ = child.kill();
            let _ = child.wait();
            Err(failed(errno.into()))
        }
    }
}
