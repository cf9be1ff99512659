//! One datagram to systemd (`sd_notify`).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tracing::warn;

use crate::logging::shown;

/// How long and how often a full socket is tried again: a systemd that is busy for longer is told the next thing instead.
const AGAIN: (u32, Duration) = (50, Duration::from_millis(20));

/// Whoever listens at `NOTIFY_SOCKET`, if anybody does.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    address: Option<SocketAddr>,
}

impl Notifier {
    /// An address that can't be used is said once, here, and nobody is told anything.
    pub(super) fn new(socket: Option<&str>) -> Self {
        let address = socket.and_then(|socket| {
            parsed(socket)
                .inspect_err(|error| warn!(socket = %shown(socket), %error, "NOTIFY_SOCKET can't be used; systemd is told nothing"))
                .ok()
        });
        Self { address }
    }

    /// Says it, or says in the log that it could not. The socket is opened anew each time: a systemd that was started over listens at the same path on another one.
    pub(super) async fn say(&self, words: &str) {
        let Some(address) = &self.address else { return };
        if let Err(error) = send(address, words).await {
            let what = words.lines().next().unwrap_or_default();
            warn!(what, %error, "systemd could not be told");
        }
    }
}

/// The beginning of a reload, with the time that lets systemd tell it from an earlier one.
pub(super) fn reloading() -> io::Result<String> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let micros = i128::from(now.tv_sec()) * 1_000_000 + i128::from(now.tv_nsec()) / 1_000;
    Ok(format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"))
}

fn parsed(socket: &str) -> io::Result<SocketAddr> {
    match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if socket.starts_with('/') => SocketAddr::from_pathname(socket),
        None => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither a path nor an abstract name",
        )),
    }
}

async fn send(address: &SocketAddr, words: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let mut tries = AGAIN.0;
    loop {
        match socket.send_to_addr(words.as_bytes(), address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries > 0 => tries -= 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            sent => return sent.map(drop),
        }
        tokio::time::sleep(AGAIN.1).await;
    }
}
