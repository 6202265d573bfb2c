// SPDX-License-Identifier: MPL-2.0

//! A wire to a server on loopback that can be cut: connections break and new ones are refused, as when
//! the server has died or the network to it.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Passes on what is said on a port of its own to a server, and back.
pub struct Wire {
    server: String,
    address: SocketAddr,
    open: Option<Open>,
}

/// While it is whole.
struct Open {
    ends: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Wire {
    /// Leads to `server`, which is a host and a port.
    ///
    /// # Errors
    /// There is no free port.
    pub fn to(server: &str) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0");
        let listener = listener.map_err(|error| format!("no port on loopback: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let mut wire = Self {
            server: server.to_owned(),
            address,
            open: None,
        };
        wire.pass_on(listener);
        Ok(wire)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks all connections and refuses new ones.
    pub fn cut(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        open.ends.store(true, Ordering::Release);
        // Its listener wakes up, sees that it is over and is closed.
        let _ = TcpStream::connect(self.address);
        let _ = open.thread.join();
        for stream in open.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// It is whole again.
    ///
    /// # Errors
    /// Somebody else has taken its port.
    pub fn mend(&mut self) -> Result<(), String> {
        let listener = TcpListener::bind(self.address);
        self.pass_on(listener.map_err(|error| format!("{}: {error}", self.address))?);
        Ok(())
    }

    fn pass_on(&mut self, listener: TcpListener) {
        let ends = Arc::new(AtomicBool::new(false));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (over, all, server) = (ends.clone(), streams.clone(), self.server.clone());
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                // A server that is not there closes the client's connection, which says so.
                if let Ok(server) = TcpStream::connect(&server) {
                    join(client, server, &all);
                }
            }
        });
        self.open = Some(Open {
            ends,
            streams,
            thread,
        });
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Copies both ways until either end closes.
fn join(client: TcpStream, server: TcpStream, all: &Mutex<Vec<TcpStream>>) {
    /// An end that does not read for so long is given up.
    const PATIENCE: Duration = Duration::from_secs(60);
    let pairs = [
        (client.try_clone(), server.try_clone()),
        (server.try_clone(), client.try_clone()),
    ];
    all.lock().unwrap().extend([client, server]);
    for pair in pairs {
        let (Ok(mut from), Ok(mut to)) = pair else {
            return;
        };
        let _ = to.set_write_timeout(Some(PATIENCE));
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
            let _ = from.shutdown(Shutdown::Read);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_wire_that_is_cut_breaks_and_refuses_until_it_is_mended() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut wire = Wire::to(&server.local_addr().unwrap().to_string()).unwrap();
        let mut client = TcpStream::connect(wire.address()).unwrap();
        client.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        let (mut other, _) = server.accept().unwrap();
        other.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        wire.cut();
        assert_eq!(client.read(&mut heard).unwrap_or(0), 0);
        assert!(TcpStream::connect(wire.address()).is_err());
        wire.mend().unwrap();
        let mut client = TcpStream::connect(wire.address()).unwrap();
        client.write_all(b"again").unwrap();
        let (mut other, _) = server.accept().unwrap();
        other.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"again");
    }
}
