//! What SPIRE counts, in the numbers that the cache compares.

use muster_identity::{StoreId, TrustDomain};

/// Set in every version that was made from SPIRE's numbers. Those of a Muster server count its commits and never come near: so no entry of the one passes for the
/// same of the other, and a change of the server's kind compares nothing as equal.
const POLLED: u64 = 1 << 63;

/// Stands for the log that a SPIRE server does not have. It is the same for all servers of a trust domain, because they share their store, and after each restart of
/// this agent.
pub(in crate::sync) fn store_of(trust_domain: &TrustDomain) -> StoreId {
    let mut id = [0; 16];
    id.copy_from_slice(&hash(&[b"muster/agent/spire-store", trust_domain.as_str().as_bytes()])[..16]);
    StoreId::from_bytes(id)
}

/// Changes whenever an entry does: with its revision number, and with the time of its creation where an id was used again. Only good to tell versions apart.
pub(super) fn version_of(revision_number: i64, created_at: i64) -> u64 {
    let digest = hash(&[
        b"muster/agent/spire-entry",
        &revision_number.to_be_bytes(),
        &created_at.to_be_bytes(),
    ]);
    let mut version = [0; 8];
    version.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(version) | POLLED
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_changes_with_the_revision_and_with_the_creation_and_is_no_revision_of_ours() {
        let versions = [
            version_of(0, 0),
            version_of(1, 0),
            version_of(0, 1),
            version_of(1, 1),
        ];
        for (index, version) in versions.iter().enumerate() {
            assert!(*version >= POLLED);
            assert!(!versions[index + 1..].contains(version));
        }
        assert_eq!(version_of(7, 9), version_of(7, 9));
    }

    #[test]
    fn each_trust_domain_has_a_store_id_that_stays() {
        let store = |name: &str| store_of(&name.parse().unwrap());
        assert_eq!(store("example.org"), store("example.org"));
        assert_ne!(store("example.org"), store("other.org"));
    }
}
