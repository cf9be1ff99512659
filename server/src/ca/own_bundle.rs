//! Changing our own bundle: always in one commit with what the change is about, always with the next sequence number.

use std::sync::Arc;

use muster_identity::TrustDomain;
use muster_pki::PublicKey;
use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::X509Authority;

use super::keeper::KeeperError;
use super::life::Published;
use super::record::{AuthorityRecord, Kind};
use crate::bundles::{BundleRecordError, Bundles, bundle_from_bytes, bundle_to_bytes};
use crate::registry::{CommitError, Registry, View};
use crate::store::{Change, Expect, Tree};

/// How often a change of the bundle is tried again when somebody else changed it meanwhile.
const TRIES: usize = 8;

/// Changes our own bundle in one commit with `changes`; the sequence grows by one. Shared by the keeper and the Bundle service.
pub(crate) async fn change_own_bundle<E>(
    registry: &Registry,
    bundles: &Bundles,
    trust_domain: &TrustDomain,
    changes: Vec<Change>,
    change: impl Fn(&mut Bundle) -> Result<(), E>,
) -> Result<(), E>
where
    E: From<CommitError> + From<BundleRecordError>,
{
    let name = trust_domain.as_str().as_bytes();
    let mut tries = 0;
    loop {
        let view: Arc<View> = registry.view();
        let (mut bundle, expect) = own_bundle(&view, trust_domain)?;
        let before = bundle.clone();
        change(&mut bundle)?;
        let mut all = changes.clone();
        if bundle != before {
            bundle.set_sequence(Some(before.sequence().unwrap_or(0) + 1));
            all.push(Change::put(Tree::Bundles, name, bundle_to_bytes(&bundle), expect));
        }
        tries += 1;
        match registry.commit(all).await {
            Err(CommitError::Conflict(_)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(bundles.refresh(&registry.view())?),
        }
    }
}

/// Our own bundle as `view` has it, and what a change of it is to expect.
pub(crate) fn own_bundle(
    view: &View,
    trust_domain: &TrustDomain,
) -> Result<(Bundle, Expect), BundleRecordError> {
    Ok(
        match view.document(Tree::Bundles, trust_domain.as_str().as_bytes()) {
            Some(document) => (bundle_from_bytes(&document.value)?, Expect::At(document.version)),
            None => (Bundle::new(trust_domain.clone()), Expect::Absent),
        },
    )
}

/// Puts an authority into the bundle.
pub(super) fn publish(bundle: &mut Bundle, record: &AuthorityRecord) -> Result<(), KeeperError> {
    let id = &record.life.id;
    match record.kind {
        // Of an authority below another only the root is published.
        Kind::X509 if record.life.upstream.is_some() => {}
        Kind::X509 => {
            let certificate = |source| KeeperError::Certificate {
                id: id.clone(),
                source,
            };
            bundle.put_x509_authority(X509Authority::from_der(&record.public).map_err(certificate)?);
        }
        Kind::Jwt => {
            let key = |source| KeeperError::PublicKey {
                id: id.clone(),
                source,
            };
            let key = PublicKey::from_spki_der(&record.public).map_err(key)?;
            let authority = JwtAuthority::new(id.parse()?, key).with_expiry(Some(record.life.not_after));
            bundle.put_jwt_authority(authority)?;
        }
    }
    Ok(())
}

/// Takes an authority out of the bundle.
pub(super) fn unpublish(bundle: &mut Bundle, kind: Kind, id: &str) {
    match kind {
        Kind::X509 => bundle.retain_x509_authorities(|held| held.id().as_str() != id),
        Kind::Jwt => bundle.retain_jwt_authorities(|held| held.key_id().as_str() != id),
    };
}

/// Marks an authority of the bundle as tainted.
pub(super) fn taint(bundle: &mut Bundle, kind: Kind, id: &str) -> Result<(), KeeperError> {
    match kind {
        Kind::X509 => {
            let held = bundle.x509_authorities().iter();
            let tainted: Vec<_> = held.filter(|held| held.id().as_str() == id).cloned().collect();
            for authority in tainted {
                bundle.put_x509_authority(authority.with_taint(true));
            }
        }
        Kind::Jwt => {
            let mut held = bundle.jwt_authorities().iter();
            if let Some(authority) = held.find(|held| held.key_id().as_str() == id).cloned() {
                bundle.put_jwt_authority(authority.with_taint(true))?;
            }
        }
    }
    Ok(())
}

/// How the bundle has an authority.
pub(super) fn published(bundle: &Bundle, kind: Kind, id: &str) -> Published {
    let tainted = match kind {
        Kind::X509 => {
            let mut held = bundle.x509_authorities().iter();
            held.find(|held| held.id().as_str() == id)
                .map(|held| held.tainted())
        }
        Kind::Jwt => {
            let mut held = bundle.jwt_authorities().iter();
            held.find(|held| held.key_id().as_str() == id)
                .map(|held| held.tainted())
        }
    };
    match tainted {
        None => Published::Absent,
        Some(false) => Published::Trusted,
        Some(true) => Published::Tainted,
    }
}
