use std::{sync::Arc, time::Duration};

use muster_identity::UnixTime;
use muster_pki::signer::Signer;

/// What tells the time of a record.
pub type Now = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// How a log is kept.
#[derive(Clone)]
pub struct Settings {
    origin: String,
    signer: Arc<dyn Signer>,
    now: Now,
    pub(crate) checkpoint_records: u64,
    pub(crate) checkpoint_after: Duration,
    /// How long a file gets before the next is begun, in bytes: what a start reads.
    pub(crate) file_bytes: u64,
}

impl Settings {
    /// Settings for the log named `origin` (a schema-less URL that is the log's own, such as
    /// `example.org/audit/<server id>`), whose checkpoints `signer` signs.
    pub fn new(origin: impl Into<String>, signer: Arc<dyn Signer>, now: Now) -> Self {
        Self {
            origin: origin.into(),
            signer,
            now,
            checkpoint_records: 1000,
            checkpoint_after: Duration::from_secs(10),
            file_bytes: 16 << 20,
        }
    }

    /// The same with files that end after so many bytes, instead of 16 MiB. A start reads one of them.
    #[must_use]
    pub fn with_file_bytes(self, file_bytes: u64) -> Self {
        Self { file_bytes, ..self }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn signer(&self) -> &dyn Signer {
        self.signer.as_ref()
    }

    pub(crate) fn now(&self) -> UnixTime {
        (self.now)()
    }
}
