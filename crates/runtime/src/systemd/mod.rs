//! What a daemon and systemd tell each other: the notify protocol, the watchdog, and SIGHUP as the order to reload.
//!
//! ```text
//! systemd ─NOTIFY_SOCKET, WATCHDOG_USEC→ Environment        Supervisor ─READY, STATUS, RELOADING, WATCHDOG, STOPPING→ systemd
//! operator ─SIGHUP→ Supervisor ─reload→ Supervised          Supervisor ─pulse→ Supervised
//! ```
//!
//! Without systemd nobody is told anything; the reload works all the same. Nothing here ends a daemon: a systemd that can't be told is a warning in the log, and
//! it is systemd that acts on what it does not hear.

mod environment;
mod notify;
mod reloaded;
mod supervisor;

pub use environment::Environment;
pub use reloaded::Reloaded;
pub use supervisor::{Supervised, Supervisor};
