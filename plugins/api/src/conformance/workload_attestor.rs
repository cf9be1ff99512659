//! The promises of a workload attestor.

use crate::decorate::MAX_FACTS;
use crate::fake::FakeCaller;
use crate::{AttestError, WorkloadAttestor};

/// Asks `attestor` about a living process, which is then ended and asked about again.
///
/// # Panics
/// If a promise of [`WorkloadAttestor`] is broken.
pub async fn workload_attestor(attestor: &dyn WorkloadAttestor, process: &FakeCaller) {
    assert!(!attestor.name().is_empty(), "an attestor has a name");
    assert!(
        !attestor.types().is_empty(),
        "an attestor has selector types of its own"
    );

    let first = attestor
        .attest(process.caller())
        .await
        .expect("a living process is attested");
    assert!(
        first.facts.iter().count() <= MAX_FACTS,
        "an attestor stays below the bound of facts"
    );
    for fact in &first.facts {
        let selector = fact.selector();
        assert!(
            attestor.types().contains(&selector.kind()),
            "{selector} is not of the attestor's own types"
        );
    }
    for gap in &first.gaps {
        assert!(!gap.reason().is_empty(), "a gap has a reason");
        let known = first.facts.iter().find(|fact| gap.covers(fact.selector()));
        assert!(known.is_none(), "{gap} covers a fact that is known");
    }
    let second = attestor
        .attest(process.caller())
        .await
        .expect("a living process is attested again");
    assert_eq!(first.facts, second.facts, "the same process has the same facts");

    // Cancelled half way, it must be whole the next time.
    drop(attestor.attest(process.caller()));
    let third = attestor
        .attest(process.caller())
        .await
        .expect("a cancelled attestation leaves nothing behind");
    assert_eq!(first.facts, third.facts, "the same process has the same facts");

    process.end();
    match attestor.attest(process.caller()).await {
        Err(AttestError::Caller(_)) => {}
        other => panic!("of a process that has ended nothing is known, not {other:?}"),
    }
}
