use super::*;
use crate::x509::test_pki::{self, Ca, NOW, for_clients_alone};

fn ca(name: &str, above: Option<&Ca>) -> Ca {
    test_pki::ca(name, above, for_clients_alone)
}

fn leaf(above: &Ca, change: impl FnOnce(&mut rcgen::CertificateParams)) -> CertificateDer<'static> {
    test_pki::leaf("machine one", above, change)
}

fn verify(chain: &[CertificateDer<'_>], root: &Ca, now: i64) -> Result<VerifiedChain, VerifyChainError> {
    let authority = X509Authority::from_der(&root.der).unwrap();
    Chain::parse(chain)
        .unwrap()
        .verify(&[authority], UnixTime::from_secs(now))
}

#[test]
fn a_chain_of_a_pki_that_knows_nothing_of_spiffe_holds_and_names_its_issuers() {
    let root = ca("root", None);
    let middle = ca("middle", Some(&root));
    let stranger = ca("stranger", None);
    let chain = [leaf(&middle, |_| {}), stranger.der.clone(), middle.der.clone()];
    let verified = verify(&chain, &root, NOW).unwrap();
    assert_eq!(verified.leaf().common_name(), Some("machine one"));
    assert!(verified.leaf().may_sign_data());
    let issuers: Vec<_> = verified.issuers().map(|issuer| issuer.der().clone()).collect();
    assert_eq!(
        issuers,
        [middle.der.clone(), root.der.clone()],
        "of the path alone"
    );
}

#[test]
fn what_does_not_hold_is_refused() {
    let (root, other) = (ca("root", None), ca("root", None));
    let chain = [leaf(&root, |_| {})];
    let refused = |chain: &[CertificateDer<'_>], root: &Ca, now| verify(chain, root, now).unwrap_err();
    assert!(matches!(
        refused(&chain, &other, NOW),
        VerifyChainError::Path(PathError::Signature)
    ));
    assert!(matches!(
        refused(&chain, &root, NOW + 3601),
        VerifyChainError::Path(PathError::Expired(_))
    ));
    assert!(matches!(
        refused(&chain, &root, NOW - 61),
        VerifyChainError::Path(PathError::NotYetValid(_))
    ));
    assert!(matches!(
        refused(std::slice::from_ref(&root.der), &root, NOW),
        VerifyChainError::Ca
    ));
    let no_ca = leaf(&root, |_| {});
    let below = [chain[0].clone(), no_ca];
    assert!(
        verify(&below, &root, NOW).is_ok(),
        "what does not belong to the path is not looked at"
    );
    let expired = ca("expired", None);
    assert!(matches!(
        refused(&[leaf(&expired, |_| {})], &root, NOW),
        VerifyChainError::Path(PathError::UnknownAuthority)
    ));
}

#[test]
fn of_two_common_names_none_is_told() {
    let root = ca("root", None);
    let unnamed = leaf(&root, |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    assert_eq!(Certificate::parse(&unnamed).unwrap().common_name(), None);
    let cn = |text: &str| {
        let value = crate::der::value(0x0c, &[text.as_bytes()]);
        let pair = crate::der::value(crate::der::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &value]);
        crate::der::value(crate::der::SET, &[&pair])
    };
    let name = |parts: &[&[u8]]| crate::der::value(crate::der::SEQUENCE, parts);
    let dc = crate::der::value(
        crate::der::SET,
        &[&crate::der::value(
            crate::der::SEQUENCE,
            &[&[6, 3, 0x55, 4, 99], &[0x1e, 2, 0, 65]],
        )],
    );
    let common_name = |der: &[u8]| super::super::name::common_name(der).map(str::to_owned);
    assert_eq!(common_name(&name(&[&dc, &cn("a")])), Some("a".to_owned()));
    assert_eq!(common_name(&name(&[&cn("a"), &cn("b")])), None);
    assert_eq!(common_name(&name(&[&cn("")])), None);
    assert_eq!(common_name(b"junk"), None);
}

#[test]
fn an_svid_is_held_to_the_rules_of_svids() {
    let root = ca("root", None);
    let chain = Chain::parse(&[leaf(&root, |_| {})]).unwrap();
    let bundle = crate::bundle::Bundle::new("example.org".parse().unwrap());
    assert!(matches!(
        chain.verify_svid(&bundle, UnixTime::from_secs(NOW)),
        Err(VerifyError::Leaf(_))
    ));
}
