//! What the transport can say about the process behind a connection.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use async_trait::async_trait;
use muster_plugin_api::{CallerEvidence, FileId, Ids, Pinned, Standing};
use muster_transport::{Evidence, Look, PROOF_TIMEOUT, Presence, Process, Refusal};

/// The process behind a connection. The kernel stands behind it, and in tests whatever a test says.
#[async_trait]
pub trait Witness: Send + Sync {
    /// The pinned process.
    fn process(&self) -> Arc<dyn Pinned>;

    /// What is known of it, not proven yet.
    fn evidence(&self) -> Result<Arc<Evidence>, Refusal>;

    /// Waits until it has proven its presence after the evidence was taken.
    async fn proven(&self) -> Result<Arc<Evidence>, Refusal>;

    /// Whether the evidence is proven and still true, as closely as `look` says.
    fn still(&self, evidence: &Evidence, look: Look) -> Result<(), Refusal>;

    /// Waits until somebody has noticed that the evidence stands no longer, and answers why.
    async fn voided(&self, evidence: &Evidence) -> Refusal;

    /// Takes the evidence anew and has the process prove its presence again.
    async fn renew(&self) -> Result<Arc<Evidence>, Refusal>;
}

#[async_trait]
impl Witness for Presence {
    fn process(&self) -> Arc<dyn Pinned> {
        Arc::new(PinnedProcess(self.process().clone()))
    }

    fn evidence(&self) -> Result<Arc<Evidence>, Refusal> {
        self.evidence()
    }

    async fn proven(&self) -> Result<Arc<Evidence>, Refusal> {
        self.proven(PROOF_TIMEOUT).await
    }

    fn still(&self, evidence: &Evidence, look: Look) -> Result<(), Refusal> {
        self.still(evidence, look)
    }

    async fn voided(&self, evidence: &Evidence) -> Refusal {
        self.voided(evidence).await
    }

    async fn renew(&self) -> Result<Arc<Evidence>, Refusal> {
        self.renew(PROOF_TIMEOUT).await
    }
}

struct PinnedProcess(Process);

impl Pinned for PinnedProcess {
    fn pid(&self) -> u32 {
        u32::try_from(self.0.pid()).unwrap_or(0)
    }

    fn proc_dir(&self) -> BorrowedFd<'_> {
        self.0.proc_dir()
    }

    fn is_alive(&self) -> bool {
        self.0.alive()
    }
}

/// The evidence in the words of the attestors.
pub(super) fn for_attestors(evidence: &Evidence) -> CallerEvidence {
    let ids = |ids: muster_transport::Ids| Ids {
        real: ids.real,
        effective: ids.effective,
        saved: ids.saved,
    };
    CallerEvidence {
        standing: if evidence.standing.is_native() {
            Standing::Native
        } else {
            Standing::Foreign
        },
        executable: evidence.executable.map(|file| FileId {
            device: file.dev,
            inode: file.ino,
        }),
        uids: ids(evidence.uids),
        gids: ids(evidence.gids),
        cgroups: Arc::clone(&evidence.cgroups.text),
    }
}
