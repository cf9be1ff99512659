//! Why a command failed: the thing, the reason, the next step.

use std::{error::Error, fmt, process::ExitCode};

use muster_runtime::process::exit;
use tonic::{Code, Status};

/// What goes wrong, by exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Refused or not found, or the daemon failed.
    Refused,
    /// The command line is wrong.
    Usage,
    /// The daemon could not be reached.
    Unreachable,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
        }
    }
}

/// A command's failure.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) why: String,
    pub(crate) next: Option<String>,
    /// Whether the same may succeed a little later.
    pub(crate) passing: bool,
}

impl Failure {
    pub(crate) fn refused(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Kind::Refused, what, why)
    }

    pub(crate) fn usage(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, what, why)
    }

    pub(crate) fn unreachable(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::new(Kind::Unreachable, what, why)
    }

    /// Reads a gRPC status. What the daemon says is shown escaped: it may repeat what somebody else sent it.
    pub(crate) fn status(what: impl fmt::Display, status: &Status) -> Self {
        let why = if status.message().is_empty() {
            status.code().description().to_owned()
        } else {
            clean(status.message())
        };
        // A status that the transport made up, not the daemon.
        let lost = status.source().is_some() && matches!(status.code(), Code::Unavailable | Code::Unknown);
        let kind = if lost { Kind::Unreachable } else { Kind::Refused };
        let mut failure = Self::new(kind, what, why);
        failure.passing = lost || matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
        match status.code() {
            _ if lost => failure.next("the connection broke; look at the daemon's log"),
            Code::PermissionDenied | Code::Unauthenticated => {
                failure.next("the daemon's log has the reason under the reference, if one is given above")
            }
            Code::Unimplemented => {
                failure.next("the daemon is of another version; compare `muster --version`")
            }
            Code::Unavailable | Code::ResourceExhausted => failure.next("it may pass: try again"),
            _ => failure,
        }
    }

    /// What the person can do now.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Refused => exit::REFUSED,
            Kind::Usage => exit::USAGE,
            Kind::Unreachable => exit::UNREACHABLE,
        })
    }

    fn new(kind: Kind, what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self {
            kind,
            what: what.to_string(),
            why: why.to_string(),
            next: None,
            passing: kind == Kind::Unreachable,
        }
    }
}

/// Text from a daemon, safe for a terminal. The end is kept whole, for the reference stands there.
pub(crate) fn clean(text: &str) -> String {
    const MOST: usize = 4_096;
    let escaped: String = text
        .chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect();
    match escaped.char_indices().rev().nth(MOST) {
        Some((cut, _)) => format!("…{}", &escaped[cut..]),
        None => escaped,
    }
}

/// An error and all its causes on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
