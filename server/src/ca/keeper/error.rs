use muster_audit::AuditError;
use muster_pki::PublicKeyError;
use muster_pki::bundle::KeyIdTaken;
use muster_pki::jwt::ParseKeyIdError;
use muster_pki::x509::{AuthorityError, AuthorityId, IssueError, UpheldError};
use muster_plugin_api::{KeyManagerError, UpstreamError};
use muster_runtime::SigningPoolError;

use crate::bundles::BundleRecordError;
use crate::ca::record::RecordError;
use crate::registry::CommitError;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The key manager failed.
    #[error("the key manager failed")]
    Keys(#[from] KeyManagerError),
    /// A record in the log can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The bundle in the log can't be read.
    #[error(transparent)]
    Bundle(#[from] BundleRecordError),
    /// The certificate of an authority in the log can't be used.
    #[error("the certificate of authority {id} can't be used")]
    Certificate {
        /// Which authority.
        id: String,
        /// Why.
        source: AuthorityError,
    },
    /// The public key of an authority in the log can't be used.
    #[error("the public key of authority {id} can't be used")]
    PublicKey {
        /// Which authority.
        id: String,
        /// Why.
        source: PublicKeyError,
    },
    /// A certificate for an authority could not be made.
    #[error("making an authority")]
    Issue(#[from] IssueError),
    /// The upstream authority did not do it.
    #[error("asking the upstream authority")]
    Upstream(#[source] UpstreamError),
    /// What the upstream authority signed can't be used.
    #[error("what the upstream authority signed can't be used")]
    Upheld(#[from] UpheldError),
    /// The upstream authority signs under a root that is to be left.
    #[error("the upstream authority still signs under the root {0}, which is tainted or revoked")]
    TaintedRoot(AuthorityId),
    /// The signing pool did not do it.
    #[error(transparent)]
    Pool(#[from] SigningPoolError),
    /// The log did not take the change.
    #[error("writing to the log")]
    Commit(#[from] CommitError),
    /// The audit log did not take the record.
    #[error("writing to the audit log")]
    Audit(#[from] AuditError),
    /// No random bytes for a name.
    #[error("no random bytes for the name of a key")]
    Name,
    /// The name of a token-signing key can't be used.
    #[error("the name of a token-signing key can't be used")]
    KeyId(#[from] ParseKeyIdError),
    /// Two keys of one name.
    #[error(transparent)]
    KeyIdTaken(#[from] KeyIdTaken),
}

impl KeeperError {
    /// Whether it is the upstream authority's fault: it passes by itself, or by somebody who acts there.
    pub(super) fn is_upstreams(&self) -> bool {
        matches!(self, Self::Upstream(_) | Self::Upheld(_) | Self::TaintedRoot(_))
    }
}
