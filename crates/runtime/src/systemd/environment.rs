//! What systemd says at the start, by environment variables.

use std::time::Duration;

/// Where systemd listens, and how often it wants to hear that the daemon lives. Only a `main` reads it.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub(super) notify_socket: Option<String>,
    pub(super) watchdog: Option<Duration>,
}

impl Environment {
    /// Reads this process's environment.
    #[expect(
        clippy::disallowed_methods,
        reason = "part of what main reads at the start; nobody reads it again"
    )]
    pub fn read() -> Self {
        Self::of(|name| std::env::var(name).ok(), std::process::id())
    }

    /// A value that can't be read counts as absent: systemd then acts as on a daemon that does not speak the protocol, and says so in its log.
    fn of(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        // The variables are inherited; WATCHDOG_PID says for whom they are.
        let ours = variable("WATCHDOG_PID").is_none_or(|named| named.parse() == Ok(pid));
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| ours)
            .and_then(|text| text.parse().ok())
            .filter(|micros| *micros > 0)
            .map(Duration::from_micros);
        Self {
            notify_socket: variable("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
        Environment::of(|name| find(name).map(|(_, value)| (*value).to_owned()), 42)
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let ours = of(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "42")]);
        assert_eq!(ours.watchdog, Some(Duration::from_secs(30)));
        let unnamed = of(&[("WATCHDOG_USEC", "30000000")]);
        assert_eq!(unnamed.watchdog, Some(Duration::from_secs(30)));
        for other in ["41", "", "x"] {
            let other = of(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", other)]);
            assert_eq!(other.watchdog, None);
        }
    }

    #[test]
    fn what_makes_no_sense_is_absent() {
        for usec in ["0", "-1", "soon", ""] {
            assert_eq!(of(&[("WATCHDOG_USEC", usec)]).watchdog, None);
        }
        assert_eq!(of(&[("NOTIFY_SOCKET", "")]).notify_socket, None);
    }
}
