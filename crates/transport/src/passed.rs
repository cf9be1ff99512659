//! Which descriptors a service manager passed to this process (`sd_listen_fds(3)`).

use std::{fmt, os::fd::OwnedFd};

use crate::kernel::inherited;

/// The first passed descriptor: those before it are stdin, stdout and stderr.
const FIRST: i32 = 3;

/// More sockets than any unit of ours has.
const MOST: i32 = 16;

/// Sockets that were open when this process began, under the names of their units.
#[derive(Debug, Default)]
pub struct PassedSockets(Vec<(String, OwnedFd)>);

/// Why the passed sockets cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PassedError {
    /// The environment says something that no service manager says.
    #[error("{name}={value} is no count of passed sockets (0 to {MOST})")]
    Count {
        /// The variable.
        name: &'static str,
        /// What it says.
        value: Text,
    },
    /// A descriptor that should be there is not open.
    #[error("descriptor {0} was announced by LISTEN_FDS and is not open")]
    NotOpen(i32),
    /// They have been taken already.
    #[error("the passed sockets have been taken already")]
    Taken,
}

/// A value of the environment, for messages: escaped and cut.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text(String);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(32).collect::<String>().escape_debug().fmt(f)
    }
}

impl PassedSockets {
    /// Takes what was passed to this process. `environment` gives the value of a variable. For `main`, once and before
    /// anything else opens descriptors; none is left open in programs that we start.
    ///
    /// Announcements for another process (`LISTEN_PID`), which an environment may still hold, are passed over.
    pub fn take(environment: impl Fn(&str) -> Option<String>) -> Result<Self, PassedError> {
        let ours = std::process::id().to_string();
        let (Some(pid), Some(count)) = (environment("LISTEN_PID"), environment("LISTEN_FDS")) else {
            return Ok(Self::default());
        };
        if pid != ours {
            return Ok(Self::default());
        }
        let count = match count.parse::<i32>() {
            Ok(number) if (0..=MOST).contains(&number) => number,
            _ => {
                return Err(PassedError::Count {
                    name: "LISTEN_FDS",
                    value: Text(count),
                });
            }
        };
        let names = environment("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let descriptors = inherited(FIRST..FIRST + count)?;
        let name = |fd| (names.next().unwrap_or_default().to_owned(), fd);
        Ok(Self(descriptors.into_iter().map(name).collect()))
    }

    /// The socket with this `FileDescriptorName=`, or the only one there is.
    pub fn named(mut self, name: &str) -> Option<OwnedFd> {
        let at = match self.0.iter().position(|(its, _)| its == name) {
            Some(at) => at,
            None if self.0.len() == 1 => 0,
            None => return None,
        };
        Some(self.0.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pid: &str, count: &str) -> impl Fn(&str) -> Option<String> {
        let (pid, count) = (pid.to_owned(), count.to_owned());
        move |name| match name {
            "LISTEN_PID" => Some(pid.clone()),
            "LISTEN_FDS" => Some(count.clone()),
            _ => None,
        }
    }

    #[test]
    fn what_is_meant_for_nobody_or_for_another_is_passed_over() {
        assert!(PassedSockets::take(|_| None).unwrap().0.is_empty());
        assert!(PassedSockets::take(environment("1", "2")).unwrap().0.is_empty());
        assert!(PassedSockets::take(environment("", "x")).unwrap().0.is_empty());
    }

    #[test]
    fn a_count_that_is_none_is_said() {
        let ours = std::process::id().to_string();
        for wrong in ["", "-1", "17", "99999999999", "3\n", "\u{1b}[31m"] {
            let error = PassedSockets::take(environment(&ours, wrong)).unwrap_err();
            assert!(matches!(error, PassedError::Count { .. }), "{wrong}");
            assert!(!error.to_string().contains(['\n', '\u{1b}']));
        }
    }
}
