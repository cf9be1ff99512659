use std::fmt;

/// What a reload did, by the keys of the configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reloaded {
    /// Those that the running daemon took over.
    pub taken: Vec<&'static str>,
    /// Those that differ from what the daemon was started with, and need a restart.
    pub waiting: Vec<&'static str>,
}

impl Reloaded {
    /// Whether this says nothing that `before` did not say. Systemd since 253 sends the signal of a reload twice where the unit has both `Type=notify-reload`
    /// and an `ExecReload=` for older ones: what the first took over, the second finds done.
    pub(super) fn adds_nothing_to(&self, before: &Self) -> bool {
        self.taken.is_empty() && self.waiting == before.waiting
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.taken.is_empty() {
            f.write_str("nothing to take over")?;
        } else {
            write!(f, "took over {}", self.taken.join(", "))?;
        }
        if self.waiting.is_empty() {
            Ok(())
        } else {
            write!(f, "; a restart is needed for {}", self.waiting.join(", "))
        }
    }
}
