// SPDX-License-Identifier: MPL-2.0

//! One call at a time to a worker, and how long is waited for its answer.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arena::Arena;
use super::error::Error as Lost;
use super::patience::{Kind, Patience};
use super::protocol::{self, Answer, Call, GREETING, MAX_ANSWER, Numbered, STAMP};
use super::silence::{Silence, TICK};
use super::spawn::spawn;
use super::text::printable;
use super::ward::Ward;
use crate::{Cancel, Error};

/// The application's end of a socket, and what it needs to make calls.
pub struct Link {
    socket: UnixStream,
    ward: Arc<Ward>,
    arena: Arc<Arena>,
    patience: Arc<Mutex<Patience>>,
    /// Number of the last call.
    number: u64,
    /// Bytes that were read of the next frame.
    read: Vec<u8>,
    /// What became of it.
    lost: Option<String>,
}

/// A call, as the waiting for it goes.
pub struct Calling<'a> {
    pub kind: Kind,
    /// Rows or patches.
    pub size: usize,
    pub cancel: &'a Cancel,
    /// Hears how far loading is.
    pub progress: &'a mut dyn FnMut(f32),
}

impl Link {
    /// Begins the worker at this path, which must greet with the same build.
    ///
    /// # Errors
    /// [`Lost`], by what is wrong.
    pub fn begin(
        path: &Path,
        patience: Arc<Mutex<Patience>>,
        cancel: &Cancel,
    ) -> Result<Self, Error> {
        let start = |reason: std::io::Error| Lost::Start {
            path: path.display().to_string(),
            reason: reason.to_string(),
        };
        let arena = Arc::new(Arena::new().map_err(start)?);
        let spawned = spawn(path, &arena)?;
        let (ward, socket) = Ward::begin(spawned, arena.clone()).map_err(start)?;
        socket.set_nonblocking(true).map_err(start)?;
        let mut link = Self {
            socket,
            ward,
            arena,
            patience,
            number: 0,
            read: Vec::new(),
            lost: None,
        };
        let greeting = link.greeting(cancel)?;
        let greeting = String::from_utf8_lossy(&greeting);
        let stamp = greeting
            .strip_prefix(GREETING)
            .map_or_else(|| format!("none ({:?})", printable(&greeting)), printable);
        if stamp != STAMP {
            link.ward.condemn("is of another build".into());
            return Err(Lost::OtherBuild {
                path: path.display().to_string(),
                want: STAMP.into(),
                got: stamp,
            }
            .into());
        }
        link.ward.set_up();
        Ok(link)
    }

    /// Waits for the first frame.
    fn greeting(&mut self, cancel: &Cancel) -> Result<Vec<u8>, Error> {
        /// A program of several megabytes may come from a slow disk.
        const PATIENCE: Duration = Duration::from_secs(20);
        self.ward.set_doing(Some("it began"));
        let began = Instant::now();
        loop {
            if let Some(frame) = self.take_frame()? {
                self.ward.set_doing(None);
                return Ok(frame);
            }
            cancel.check()?;
            if began.elapsed() > PATIENCE {
                return Err(self.condemn("did not begin within 20 s".into()));
            }
            self.wait(PollFlags::IN);
        }
    }

    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    pub fn ward(&self) -> &Arc<Ward> {
        &self.ward
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// [`Lost::Lost`] if there was none.
    pub fn call(&mut self, call: Call, calling: Calling<'_>) -> Result<Answer, Error> {
        calling.cancel.check()?;
        let number = self.send(call, calling.kind)?;
        let arena = self.arena.clone();
        let _woken = calling.cancel.on_cancel(move || arena.cancel(number));
        let answer = self.answer(number, calling);
        if answer.is_ok() {
            self.ward.set_doing(None);
        }
        answer
    }

    /// Tells something that is not answered; an error is seen by the next call.
    pub fn tell(&mut self, call: Call) {
        let _ = self.send(call, Kind::Short);
        self.ward.set_doing(None);
    }

    fn send(&mut self, what: Call, kind: Kind) -> Result<u64, Error> {
        if let Some(lost) = &self.lost {
            return Err(Lost::Lost(lost.clone()).into());
        }
        self.number += 1;
        let number = self.number;
        let call = Numbered { number, what };
        let frame = protocol::encode(&call).map_err(|error| Lost::Said(error.to_string()))?;
        self.ward.set_doing(Some(kind.doing()));
        let (mut sent, mut moved) = (0, Instant::now());
        while sent < frame.len() {
            match self.socket.write(&frame[sent..]) {
                Ok(n) => {
                    sent += n;
                    moved = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT);
                    if moved.elapsed() > Duration::from_secs(20) {
                        return Err(self.condemn("took no call for 20 s".into()));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.died()),
            }
        }
        Ok(number)
    }

    fn answer(&mut self, number: u64, calling: Calling<'_>) -> Result<Answer, Error> {
        /// How long a call that nobody wants any more may go on, while a model is loaded.
        const UNWANTED: Duration = Duration::from_secs(1);
        let Calling {
            kind,
            size,
            cancel,
            progress,
        } = calling;
        let limit = self.patience().limit(kind, size);
        let mut checks = self.arena.checks();
        let (mut silence, mut longest) = (Silence::of(self.ward.pid()), Duration::ZERO);
        let mut unwanted: Option<Instant> = None;
        let mut is_over = false;
        loop {
            if let Some(frame) = self.take_frame()? {
                self.patience()
                    .saw(kind, size, longest.max(silence.elapsed()));
                return match protocol::decode::<Numbered<Answer>>(&frame) {
                    Ok(answer) if answer.number == number => Ok(answer.what),
                    Ok(answer) => {
                        Err(self
                            .rubbish(&format!("call {number} with one to call {}", answer.number)))
                    }
                    Err(error) => Err(self.rubbish(&error.to_string())),
                };
            }
            let now = self.arena.checks();
            if now != checks {
                checks = now;
                longest = longest.max(silence.end());
                is_over = false;
                cancel.alive();
            }
            if kind == Kind::Load {
                progress(self.arena.progress());
                if cancel.is_cancelled() {
                    let at = *unwanted.get_or_insert_with(Instant::now);
                    if at.elapsed() > UNWANTED {
                        self.condemn("went on loading though nobody wants it".into());
                        return Err(Error::Cancelled);
                    }
                }
            }
            if is_over {
                let silence = silence.elapsed();
                self.patience().gave_up(kind, size, silence);
                let seconds = silence.as_secs_f32();
                return Err(self.condemn(format!("was silent for {seconds:.1} s")));
            }
            // It may have answered while the look at it took its time: once more, then.
            is_over = silence.exceeds(limit, limit.max(Patience::UNKNOWN));
            if !is_over {
                self.wait(PollFlags::IN);
            }
        }
    }

    /// The next frame, if all of it is there.
    fn take_frame(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            if let Some((head, rest)) = self.read.split_first_chunk::<4>() {
                let n = u32::from_le_bytes(*head) as usize;
                if n > MAX_ANSWER {
                    return Err(self.rubbish(&format!("one of {n} bytes")));
                }
                if rest.len() >= n {
                    let frame = rest[..n].to_vec();
                    self.read.drain(..4 + n);
                    return Ok(Some(frame));
                }
            }
            let mut bytes = [0; 8192];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(self.died()),
                Ok(n) => self.read.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(self.died()),
            }
        }
    }

    /// Waits for the socket, for one tick at most.
    fn wait(&self, flags: PollFlags) {
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(TICK.subsec_nanos()),
        };
        // Whatever it says, it is looked what there is.
        let _ = poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout));
    }

    /// It has answered what no answer can be.
    pub fn rubbish(&mut self, what: &str) -> Error {
        self.condemn(format!("gave an answer that is none ({})", printable(what)))
    }

    fn condemn(&mut self, reason: String) -> Error {
        let lost = self.ward.condemn(reason);
        self.lost = Some(lost.clone());
        Lost::Lost(lost).into()
    }

    /// Its end of the socket is closed.
    fn died(&mut self) -> Error {
        if self.lost.is_none() {
            let lost = self.ward.ended();
            self.lost = Some(lost);
        }
        Lost::Lost(self.lost.clone().unwrap_or_default()).into()
    }

    fn patience(&self) -> std::sync::MutexGuard<'_, Patience> {
        self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It ends when it finds the socket closed.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        self.ward.retire();
    }
}
