//! Logs: events with fields, one line each, whatever the values hold.
//!
//! Only a `main` calls [`install`]. Libraries get a [`LogLevel`], which the Logger service reads and changes while the daemon runs.
//! Other crates' events are shown from `warn` up, at every level: what an HTTP/2 or TLS crate prints at `debug` can hold the messages themselves, and some of ours hold keys.

mod line;
mod text;

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, reload};

pub use text::shown;

/// How much is logged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// A person must act.
    Error,
    /// It heals itself but should be known.
    Warn,
    /// What an operator wants to see of a healthy daemon.
    Info,
    /// What an engineer wants to see.
    Debug,
    /// Everything.
    Trace,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A text that names no level.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a log level (expected error, warn, info, debug or trace)")]
pub struct ParseLevelError;

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("this process has set up its logging already")]
pub struct InstallError;

/// The level of a running process, to be read and changed. Clones share it.
#[derive(Clone)]
pub struct LogLevel {
    levels: Arc<Mutex<Levels>>,
    filter: Option<reload::Handle<Targets, Registry>>,
}

#[derive(Clone, Copy)]
struct Levels {
    /// As the configuration has it.
    configured: Level,
    current: Level,
}

/// Sends this process's events to standard error, once.
pub fn install(level: Level, format: Format) -> Result<LogLevel, InstallError> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let colour = matches!(format, Format::Text) && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .event_format(line::Line { format, colour })
        .with_filter(filter);
    let subscriber = Registry::default().with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| InstallError)?;
    Ok(LogLevel {
        filter: Some(handle),
        ..LogLevel::detached(level)
    })
}

impl LogLevel {
    /// A level that moves no subscriber: for tests and for programs that log in their own way.
    pub fn detached(level: Level) -> Self {
        let levels = Levels {
            configured: level,
            current: level,
        };
        Self {
            levels: Arc::new(Mutex::new(levels)),
            filter: None,
        }
    }

    /// The level that the configuration gave.
    pub fn at_launch(&self) -> Level {
        self.levels().configured
    }

    /// The level now.
    pub fn current(&self) -> Level {
        self.levels().current
    }

    /// Changes the level, until the process ends or is told otherwise.
    pub fn set(&self, level: Level) {
        self.change(|levels| levels.current = level);
    }

    /// Back to the level that the configuration gave.
    pub fn reset(&self) {
        self.change(|levels| levels.current = levels.configured);
    }

    /// The configuration was read again and gives this level now.
    pub fn configure(&self, level: Level) {
        self.change(|levels| {
            *levels = Levels {
                configured: level,
                current: level,
            }
        });
    }

    fn levels(&self) -> Levels {
        *self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Levels)) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut levels);
        if let Some(filter) = &self.filter {
            // It only fails when the subscriber is gone, and then nobody logs. Under the lock: the filter is what the levels say.
            filter.reload(targets(levels.current)).ok();
        }
    }
}

impl std::fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogLevel")
            .field("current", &self.current())
            .field("launch", &self.at_launch())
            .finish()
    }
}

impl FromStr for Level {
    type Err = ParseLevelError;

    fn from_str(text: &str) -> Result<Self, ParseLevelError> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(ParseLevelError),
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

fn targets(level: Level) -> Targets {
    Targets::new()
        .with_default(LevelFilter::from(level.min(Level::Warn)))
        // It warns of each frame that a peer may send and need not: any caller could fill the disk with that.
        .with_target("h2", LevelFilter::ERROR)
        .with_target("muster", level)
}
