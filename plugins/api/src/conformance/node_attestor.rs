//! The promises of a node attestor.

use crate::{NodeAttestor, Reattestation};

/// Begins two attestations with `attestor`, which must have something to prove the node with.
///
/// # Panics
/// If a promise of [`NodeAttestor`] is broken.
pub async fn node_attestor(attestor: &dyn NodeAttestor) {
    let kind = attestor.kind();
    let named = !kind.is_empty()
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(named, "{kind:?} can be an attestation type on the wire");

    let first = attestor
        .begin()
        .await
        .expect("there is something to prove the node with");
    assert!(!first.payload().is_empty(), "the first message has a payload");
    let shown = format!("{:?}", first.payload());
    assert!(shown.len() < 64, "a payload is not printed");

    // The first attempt may have been lost on the way: it must be repeatable before the server has seen it.
    let second = attestor.begin().await.expect("beginning again uses nothing up");
    if attestor.reattestation() == Reattestation::Once {
        assert_eq!(
            first.payload(),
            second.payload(),
            "a proof that counts once is the same proof when repeated"
        );
    }
}
