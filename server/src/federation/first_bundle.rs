//! The bundles that relationships of the configuration begin with: without one an endpoint that shows an SVID can't be verified (FD 5.2.2.2).

use std::path::PathBuf;

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome};
use muster_pki::bundle::{Bundle, BundleFileError};
use muster_runtime::file;
use tracing::info;

use super::fetch::LARGEST;
use crate::bundles::{BundleRecordError, Bundles, TooLarge, federated_to_bytes};
use crate::config::ConfiguredPeer;
use crate::registry::{CommitError, Registry};
use crate::store::{Change, Expect, Tree};

/// Why a bundle to begin with was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FirstBundleError {
    /// The file can't be read.
    #[error("reading the bundle {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// No bundle.
    #[error("{} holds no bundle", .0.display())]
    File(PathBuf, #[source] BundleFileError),
    /// More than is kept.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// It is not on record.
    #[error("recording a peer's bundle")]
    Audit(#[from] AuditError),
    /// The log did not take it.
    #[error("keeping a peer's bundle")]
    Commit(#[from] CommitError),
    /// The log holds one that can't be read.
    #[error(transparent)]
    Record(#[from] BundleRecordError),
}

/// Takes the files of peers of which no bundle is held. One that is held came later than the file.
pub async fn take_first_bundles(
    peers: &[ConfiguredPeer],
    registry: &Registry,
    bundles: &Bundles,
    audit: &Audit,
) -> Result<(), FirstBundleError> {
    for peer in peers {
        let name = &peer.relationship.trust_domain;
        let key = name.as_str().as_bytes();
        let Some(path) = &peer.first_bundle else { continue };
        if registry.view().document(Tree::Bundles, key).is_some() {
            continue;
        }
        let read = file::read_aside(path, LARGEST).await;
        let bytes = read.map_err(|error| FirstBundleError::Read(path.clone(), error))?;
        let parsed = Bundle::from_file_bytes(name.clone(), &bytes);
        let bundle = parsed
            .map_err(|error| FirstBundleError::File(path.clone(), error))?
            .bundle;
        let event = Event::new(Actor::Daemon, Action::BundleSet, Outcome::Done)
            .object(Object::bundle(name))
            .fact("file", path.display())
            .fact("x509_authorities", bundle.x509_authorities().len());
        audit.record(event).await?;
        let put = Change::put(Tree::Bundles, key, federated_to_bytes(&bundle)?, Expect::Absent);
        match registry.commit(vec![put]).await {
            Ok(_) => info!(trust_domain = %name, "the peer's first bundle was taken from its file"),
            // Somebody else's is newer.
            Err(CommitError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        bundles.refresh(&registry.view())?;
    }
    Ok(())
}
