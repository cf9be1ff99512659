//! What only a `main` may do: it changes the whole process, and a library that did it would change it for every other part too.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::Stop;

/// Exit codes, the same for every program of ours.
pub mod exit {
    /// It was done.
    pub const DONE: u8 = 0;
    /// It was refused or not found, or the daemon failed.
    pub const REFUSED: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// The daemon could not be reached.
    pub const UNREACHABLE: u8 = 3;
}

/// Keeps the keys in this process's memory out of core dumps and away from other processes of the same user: not dumpable (which also closes
/// /proc/PID/mem and ptrace to them), no core files, and nothing that we create open to others.
pub fn harden() -> io::Result<()> {
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    umask(Mode::from_bits_truncate(0o077));
    Ok(())
}

/// Gives up root for good, for the user to whom `folder` belongs: what root writes there the daemon of that user could not read. Returns that user's number, or none when
/// there is nothing to give up: this process is not root's, the folder is, or there is none yet.
///
/// Only where nobody but root can have put the folder there: everything above it is root's and closed to others. Elsewhere somebody could lay out a folder to be given
/// what is written, and the process stays root; then it is for whoever opens the folder to refuse it.
pub fn become_owner_of(folder: &Path) -> io::Result<Option<u32>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let found = match std::fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if !found.is_dir() || found.uid() == 0 || !is_placed_by_root(folder)? {
        return Ok(None);
    }
    let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    setgroups(&[gid])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(Some(uid.as_raw()))
}

/// Whether every folder above this one is root's and no other can change it.
fn is_placed_by_root(folder: &Path) -> io::Result<bool> {
    let Some(above) = folder.parent() else {
        return Ok(false);
    };
    for folder in above.canonicalize()?.ancestors() {
        let found = std::fs::symlink_metadata(folder)?;
        if found.uid() != 0 || found.mode() & 0o022 != 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The signals that ask a daemon to stop: SIGTERM and SIGINT.
///
/// They are listened to before anything is built. A signal that came between the moment that the kernel hands it over and the moment that somebody waits for it
/// would be lost, and with it the stop: whoever sees a daemon say that it is ready may ask it to stop at that very instant.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Orders the stop at the first that has come or comes, and returns when it is ordered, by whomever. A second signal ends the process at once, for a person
    /// who does not want to wait for the drain.
    pub async fn order(mut self, stop: Stop) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            () = stop.ordered() => return,
        };
        info!(signal = name, "stopping");
        stop.order();
        // No child of the daemon's tasks: those are waited for, and this one waits for what may never come.
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the process, whatever happens"
        )]
        let _listening = tokio::spawn(async move {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            warn!("second signal, not waiting for the drain");
            std::process::exit(i32::from(exit::REFUSED));
        });
    }
}
