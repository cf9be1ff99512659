//! SVIDs of our own in the place of another PKI's certificates.

use std::sync::Arc;

use super::*;

fn svid(root: &Ca, id: &'static str) -> Machine {
    Machine::with(root, &rcgen::PKCS_ECDSA_P256_SHA256, move |params| {
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    })
}

fn judge() -> Bounded<X509popVerifier> {
    verifier(X509popSettings {
        mode: Mode::Spiffe {
            prefix: "/spire-exchange/".to_owned(),
        },
        ..settings(Path::new("/nowhere"))
    })
}

/// What is shown to a server whose bundle has these.
fn trusting(roots: &[&Ca]) -> Shown {
    let mut bundle = Bundle::new("example.org".parse().unwrap());
    for root in roots {
        bundle.put_x509_authority(X509Authority::from_der(root.certificate.der()).unwrap());
    }
    let mut shown = at(*b"");
    shown.moment.bundle = Arc::new(bundle);
    shown
}

#[tokio::test]
async fn an_svid_of_our_own_is_exchanged_by_its_prefix() {
    let root = ca("our own", None);
    let svid = |id| svid(&root, id);
    let (judge, with) = (judge(), trusting(&[&root]));
    let node = attest(
        &svid("spiffe://example.org/spire-exchange/rack/one"),
        &judge,
        &with,
    )
    .await
    .unwrap();
    let id = node.path().id(&"example.org".parse().unwrap()).unwrap();
    assert_eq!(
        id.to_string(),
        "spiffe://example.org/spire/agent/x509pop/rack/one"
    );
    for (other, says) in [
        ("spiffe://example.org/web", "prefix"),
        ("spiffe://example.org/spire-exchange", "prefix"),
        ("spiffe://other.org/spire-exchange/one", "verification failed"),
    ] {
        assert!(
            is_denied(&attest(&svid(other), &judge, &with).await, says),
            "{other}"
        );
    }
    assert!(is_denied(
        &attest(
            &svid("spiffe://example.org/spire-exchange/one"),
            &judge,
            &at(*b"")
        )
        .await,
        "failed"
    ));
}

#[tokio::test]
async fn it_says_which_svids_it_takes() {
    let root = ca("our own", None);
    let (judge, with) = (judge(), trusting(&[&root]));
    for (id, taken) in [
        ("spiffe://example.org/spire-exchange/one", true),
        ("spiffe://example.org/spire-exchange/rack/one", true),
        ("spiffe://example.org/spire-exchange", false),
        ("spiffe://example.org/spire-exchanges/one", false),
        ("spiffe://example.org/web/spire-exchange/one", false),
    ] {
        let path = id.strip_prefix("spiffe://example.org").unwrap().parse().unwrap();
        assert_eq!(judge.takes_svid(&path), taken, "{id}");
        assert_eq!(
            attest(&svid(&root, id), &judge, &with).await.is_ok(),
            taken,
            "{id}"
        );
    }
    let files = tempfile::tempdir().unwrap();
    let other = verifier(settings(&roots(files.path(), &[&root])));
    assert!(!other.takes_svid(&"/spire-exchange/one".parse().unwrap()));
}

#[tokio::test]
async fn an_authority_that_is_revoked_while_the_node_answers_vouches_for_it_no_more() {
    let (root, other) = (ca("revoked", None), ca("stays", None));
    let machine = svid(&root, "spiffe://example.org/spire-exchange/one");
    let judge = judge();
    let begin = async || {
        let payload = machine.payload().await.into();
        let shown = Shown {
            payload,
            ..trusting(&[&root, &other])
        };
        let NodeStep::Challenge { challenge, pending } = judge.begin(shown).await.unwrap() else {
            panic!("no challenge");
        };
        let mut proof = machine.attestor().begin().await.unwrap();
        (proof.answer(&challenge).await.unwrap(), pending)
    };
    let (answer, pending) = begin().await;
    let judged = pending.judge(answer, trusting(&[&other]).moment).await;
    assert!(
        matches!(&judged, Err(NodeVerifyError::Denied(text)) if text.contains("verification failed")),
        "{judged:?}"
    );
    let (answer, pending) = begin().await;
    let mut late = trusting(&[&root]).moment;
    late.now = UnixTime::from_secs(NOW + 3601);
    let judged = pending.judge(answer, late).await;
    assert!(matches!(judged, Err(NodeVerifyError::Denied(_))), "{judged:?}");
    let (answer, pending) = begin().await;
    let judged = pending.judge(answer, trusting(&[&root]).moment).await;
    assert!(matches!(judged, Ok(NodeStep::Attested(_))), "{judged:?}");
}
