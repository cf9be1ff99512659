//! A running agent, as whoever supervises it sees it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use muster_runtime::file;
use muster_runtime::logging::LogLevel;
use muster_runtime::systemd::{Reloaded, Supervised};

use crate::api::workload::WorkloadApi;
use crate::cache::Handle;
use crate::config::Config;

/// The parts that a reload can change and that a sign of life needs.
pub(super) struct Running {
    file: PathBuf,
    /// The configuration as the agent was told it last.
    told: Mutex<Config>,
    log_level: LogLevel,
    api: WorkloadApi,
    handle: Handle,
}

impl Running {
    pub(super) fn new(
        file: PathBuf,
        told: Config,
        log_level: LogLevel,
        api: WorkloadApi,
        handle: Handle,
    ) -> Self {
        let told = Mutex::new(told);
        Self {
            file,
            told,
            log_level,
            api,
            handle,
        }
    }

    /// Takes over what can change under running calls. The rest is bound to sockets, keys and files that were opened at the start; it is named, not guessed at.
    fn take_over(&self, new: Config) -> Reloaded {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        // Only what the file changed: a level that an administrator set for now stays over a reload for another reason.
        if new.log_level != told.log_level {
            self.log_level.configure(new.log_level);
            taken.push("log.level");
        }
        if new.workload != told.workload {
            self.api.set(new.workload.clone());
            taken.push("workload");
        }
        let waiting = told.fixed_keys_that_differ(&new);
        told.log_level = new.log_level;
        told.workload = new.workload;
        Reloaded { taken, waiting }
    }
}

impl Supervised for Running {
    fn reload(&self) -> Result<Reloaded, String> {
        // In the file's place there may be by now what would hold a reader.
        file::open(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let new = Config::load(&self.file).map_err(|error| error.to_string())?;
        Ok(self.take_over(new))
    }

    async fn pulse(&self) {
        // Every call needs the cache, and every change of what is held. Once round the workers, and its lock is free: then callers are served.
        tokio::task::yield_now().await;
        self.handle.read(|_| ());
    }
}
