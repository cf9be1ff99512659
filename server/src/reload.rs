//! A running server, as whoever supervises it sees it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use muster_runtime::file;
use muster_runtime::systemd::{Reloaded, Supervised};

use crate::api::Context;
use crate::config::Config;

/// The parts that a reload can change and that a sign of life needs.
pub(crate) struct Running {
    file: PathBuf,
    /// The configuration as the server was told it last.
    told: Mutex<Config>,
    context: Arc<Context>,
}

impl Running {
    pub(crate) fn new(file: PathBuf, told: Config, context: Arc<Context>) -> Self {
        let told = Mutex::new(told);
        Self { file, told, context }
    }

    /// Takes over what can change under running calls. The rest is bound to sockets, keys and files that were opened at the start; it is named, not guessed at.
    fn take_over(&self, new: &Config) -> Reloaded {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        // Only what the file changed: a level that an administrator set for now stays over a reload for another reason.
        if new.log_level != told.log_level {
            self.context.log_level.configure(new.log_level);
            taken.push("log.level");
        }
        if new.limits != told.limits {
            self.context.limits.set(new.limits);
            taken.push("limits");
        }
        let waiting = told.fixed_keys_that_differ(new);
        told.log_level = new.log_level;
        told.limits = new.limits;
        Reloaded { taken, waiting }
    }
}

impl Supervised for Running {
    fn reload(&self) -> Result<Reloaded, String> {
        // In the file's place there may be by now what would hold a reader.
        file::open(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let new = Config::load(&self.file).map_err(|error| error.to_string())?;
        Ok(self.take_over(&new))
    }

    async fn pulse(&self) {
        // What answers callers: a worker that is free, and the view.
        tokio::task::yield_now().await;
        drop(self.context.registry.view());
        // What changes anything: the one writer. One that a disk holds for as long as the watchdog waits serves nobody either.
        self.context.registry.moved().await;
    }
}
