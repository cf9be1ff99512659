//! What every daemon needs to run, and nothing of what it does.
//!
//! - [`Tasks`], [`Spawner`], [`Stop`]: every task is a child of one value; the first failure stops all, a panic is a failure,
//!   stopping has three steps (stop accepting, let what runs finish, cut).
//! - [`Readiness`]: guards that hold `ready` back and conditions that take it away, read by [`http`] and the health services.
//! - [`Clock`]: the only place that asks the system for the time. State machines take the time as an argument.
//! - [`Backoff`]: how long to wait before the next try.
//! - [`SigningPool`]: bounded threads for work that blocks or costs CPU; a full queue is the daemon's admission control.
//! - [`config`]: TOML straight into domain types, every mistake reported at once. [`file`](mod@file): other files that an operator names.
//! - [`logging`], [`metrics`], [`http`], [`reference`](mod@reference): what is seen from outside.
//! - [`Wiping`]: an allocator for daemons whose buffers held keys.
//! - [`process`], [`program`]: what only a `main` may do (core dumps, umask, signals, exit codes); [`systemd`]: readiness, watchdog, reload.
//!
//! The crate trusts nothing that it is given as text: values on their way into a log line are escaped and capped, values from a
//! configuration file are parsed or refused. It never ends the process by itself; it returns an error and lets `main` decide.

pub mod config;
pub mod file;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod process;
pub mod program;
pub mod reference;
pub mod systemd;

mod backoff;
mod clock;
mod readiness;
mod signing;
mod stop;
mod tasks;
mod wiping;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SystemClock};
pub use readiness::{Condition, Readiness, ReadinessGuard, Standing};
pub use reference::Reference;
pub use signing::{SigningPool, SigningPoolError};
pub use stop::Stop;
pub use tasks::{Drained, Spawner, TaskFailure, Tasks};
pub use wiping::Wiping;
