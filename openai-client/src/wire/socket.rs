// SPDX-License-Identifier: MPL-2.0

//! The socket as ureq's transport: bounded by its link, counted, and woken by a cancel.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use super::attempt;
use super::link::Link;
use crate::error::Problem;

/// Must hold the head of an answer.
const INPUT: usize = 64 << 10;
const OUTPUT: usize = 32 << 10;

pub(super) fn buffers() -> LazyBuffers {
    LazyBuffers::new(INPUT, OUTPUT)
}

/// A socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    link: Arc<Link>,
    buffers: LazyBuffers,
}

impl Socket {
    /// Takes a connection into use.
    ///
    /// # Errors
    /// [`Problem::Cancelled`] if the request was cancelled meanwhile.
    pub(super) fn new(stream: TcpStream, link: &Arc<Link>) -> Result<Self, Problem> {
        // Requests are written in large pieces: there is nothing to wait for. Where it is refused,
        // the connection works all the same.
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        if !link.connected(&stream) {
            return Err(Problem::Cancelled);
        }
        Ok(Self {
            stream,
            link: link.clone(),
            buffers: buffers(),
        })
    }

    /// ureq's error for one that the link knows more about.
    fn failed(&self, error: std::io::Error) -> ureq::Error {
        ureq::Error::Io(error)
    }

    fn over(&self) -> ureq::Error {
        self.failed(ErrorKind::TimedOut.into())
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut done = 0;
        while done < amount {
            if self.link.is_refused() {
                // The answer tells why; the rest is not wanted.
                return Ok(());
            }
            let allowance = self.link.allowance().ok_or_else(|| self.over())?;
            let set = self.stream.set_write_timeout(Some(allowance.left));
            set.map_err(|error| self.failed(error))?;
            match (&*self.stream).write(&self.buffers.output()[done..amount]) {
                Ok(n) => {
                    self.link.sends(n);
                    done += n;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => (),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        self.link.expires(allowance);
                        return Err(self.over());
                    }
                    // A server that refuses a request may close before it has read it all.
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                        if !self.link.is_cancelled() =>
                    {
                        self.link.refuses();
                    }
                    _ => return Err(self.failed(error)),
                },
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        loop {
            let allowance = self.link.allowance().ok_or_else(|| self.over())?;
            let set = self.stream.set_read_timeout(Some(allowance.left));
            set.map_err(|error| self.failed(error))?;
            match (&*self.stream).read(self.buffers.input_append_buf()) {
                // The other side closed, or a cancel did.
                Ok(0) if self.link.is_cancelled() => {
                    return Err(self.failed(ErrorKind::ConnectionAborted.into()));
                }
                Ok(n) => {
                    self.link.receives(n);
                    self.buffers.input_appended(n);
                    return Ok(n > 0);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => (),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        self.link.expires(allowance);
                        return Err(self.over());
                    }
                    _ => {
                        self.link.note(Problem::Broken {
                            reason: attempt::reason(&error),
                        });
                        return Err(self.failed(error));
                    }
                },
            }
        }
    }

    /// An idle connection is open if there is nothing to read: not an end, and nothing unasked.
    fn is_open(&mut self) -> bool {
        if self.stream.set_nonblocking(true).is_err() {
            return false;
        }
        let peeked = self.stream.peek(&mut [0]);
        let idle = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).is_ok() && idle
    }
}
