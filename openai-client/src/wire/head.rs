// SPDX-License-Identifier: MPL-2.0

//! Puts into a request what ureq is not told: the query, and the header with the key.

use std::sync::Arc;

use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};

use super::link::Link;

/// The outermost transport: replaces the request line.
#[derive(Debug)]
pub(super) struct Headed<T> {
    inner: T,
    link: Arc<Link>,
}

impl<T: Transport> Headed<T> {
    pub(super) fn new(inner: T, link: &Arc<Link>) -> Self {
        Self {
            inner,
            link: link.clone(),
        }
    }
}

impl<T: Transport> Transport for Headed<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let Some(head) = self.link.take_head() else {
            return self.inner.transmit_output(amount, timeout);
        };
        let bytes = with_head(&self.inner.buffers().output()[..amount], &head);
        for piece in bytes.chunks(self.inner.buffers().output().len()) {
            self.inner.buffers().output()[..piece.len()].copy_from_slice(piece);
            self.inner.transmit_output(piece.len(), timeout)?;
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.link.waits();
        let came = self.inner.await_input(timeout)?;
        if came {
            self.link.answers();
        }
        Ok(came)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// A request with its first line replaced.
fn with_head(request: &[u8], head: &str) -> Vec<u8> {
    let end = request.windows(2).position(|two| two == b"\r\n");
    let rest = end.map_or(request, |end| &request[end + 2..]);
    [head.as_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_replaced_and_the_rest_stays() {
        let request = b"POST /v1 HTTP/1.1\r\nhost: h\r\n\r\nbody\r\n";
        let head = "POST /v1?a=b HTTP/1.1\r\napi-key: k\r\n";
        let expected = b"POST /v1?a=b HTTP/1.1\r\napi-key: k\r\nhost: h\r\n\r\nbody\r\n";
        assert_eq!(with_head(request, head), expected);
    }
}
