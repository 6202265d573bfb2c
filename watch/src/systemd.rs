// SPDX-License-Identifier: MPL-2.0

//! What systemd is told: that the program is ready, that it reloads, that it lives, that it ends.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Who listens, if somebody does.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// As the environment of this process says.
    pub fn of_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET");
        let microseconds = std::env::var("WATCHDOG_USEC").ok();
        let of = std::env::var("WATCHDOG_PID").ok();
        let mine = of.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = microseconds
            .filter(|_| mine)
            .and_then(|text| text.parse().ok());
        Self::of(
            address.as_deref().map(OsStrExt::as_bytes),
            watchdog.map(Duration::from_micros),
        )
    }

    fn of(address: Option<&[u8]>, watchdog: Option<Duration>) -> Self {
        let socket = address.and_then(|address| {
            let address = match address.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address)).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        });
        Self { socket, watchdog }
    }

    /// How often it wants to hear that the program lives, with room to spare.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 4)
    }

    /// Says something; nobody listening is no fault.
    pub fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    /// That it reads its file anew, with the time that systemd asks for.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_what_is_said_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("vlmcaption-watch-test-{}", std::process::id());
        let listeners = [
            UnixDatagram::bind(&path).unwrap(),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        ];
        let addresses = [
            path.as_os_str().as_bytes().to_vec(),
            format!("@{name}").into_bytes(),
        ];
        for (listener, address) in listeners.iter().zip(addresses) {
            let systemd = Systemd::of(Some(&address), Some(Duration::from_secs(60)));
            systemd.say("READY=1");
            let mut buffer = [0; 64];
            let n = listener.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1");
            assert_eq!(systemd.interval(), Some(Duration::from_secs(15)));
        }
        Systemd::of(None, None).say("READY=1");
    }
}
