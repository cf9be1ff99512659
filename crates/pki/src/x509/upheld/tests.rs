use std::time::Duration;

use super::*;
use crate::der;
use crate::local_key::{KeyAlgorithm, LocalKey};
use crate::x509::name::single_part;
use crate::x509::second_opinion::MAX_BETWEEN;
use crate::x509::{
    Csr, IntermediateProfile, IntermediateSubject, Name, NameAttribute, RawName, RootProfile, ca_subject,
    create_authority_csr, issue_intermediate, issue_root,
};

const NOW: i64 = 1_795_000_000;
const DAY: u32 = 86_400;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().expect("a trust domain")
}

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).expect("a key"))
}

fn root_for(trust_domain: &str) -> IssuingAuthority {
    let profile = RootProfile {
        trust_domain: trust_domain.parse().expect("a trust domain"),
        subject: ca_subject(),
        now: now(),
        lifetime: Lifetime::from_secs(DAY).expect("a day"),
    };
    issue_root(key(), &profile).expect("a root")
}

fn below(
    issuer: &IssuingAuthority,
    signer: &LocalKey,
    subject: IntermediateSubject,
) -> Vec<CertificateDer<'static>> {
    let profile = IntermediateProfile {
        trust_domain: trust_domain(),
        public_key: signer.public_key().clone(),
        subject,
        now: now(),
        lifetime: Lifetime::from_secs(DAY / 2).expect("half a day"),
    };
    issue_intermediate(issuer, &profile).expect("an authority")
}

fn accept(
    signer: &Arc<LocalKey>,
    chain: &[CertificateDer<'static>],
    root: &IssuingAuthority,
) -> Result<UpheldAuthority, UpheldError> {
    let roots = [root.authority().clone()];
    UpheldAuthority::accept(signer.clone(), &trust_domain(), chain, &roots, now())
}

#[test]
fn authorities_stand_below_each_other_and_what_the_lowest_signs_verifies() {
    let root = root_for("example.org");
    let mut above = root.clone();
    let mut names = Vec::new();
    for depth in 1..=MAX_BETWEEN {
        let signer = key();
        let chain = below(&above, &signer, IntermediateSubject::BelowIssuer);
        assert_eq!(chain.len(), depth, "the root is not sent");
        let upheld = accept(&signer, &chain, &root).expect("it leads to the root");
        assert_eq!(upheld.root().id(), root.authority().id());
        above = upheld.issuing().clone();
        let certificate = above.authority().certificate();
        assert_eq!(certificate.uris(), ["spiffe://example.org"]);
        let constraints = certificate.extensions.basic_constraints.expect("a CA says so");
        assert!(constraints.ca && constraints.path_length.is_none());
        let usage = certificate.extensions.key_usage.expect("it has a usage");
        assert!(usage.critical && usage.key_cert_sign && usage.crl_sign && !usage.digital_signature);
        let name = Name::parse(certificate.subject()).expect("a name");
        // As SPIRE counts: the chains of a root and of what stands right below it have one certificate each.
        let unit = format!("DOWNSTREAM-{}", (depth - 1).max(1));
        assert_eq!(name.value(NameAttribute::OrganizationalUnit), Some(unit.as_str()));
        names.push(certificate.subject().to_vec());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), MAX_BETWEEN, "each has a name of its own");
    let too_deep = issue_intermediate(
        &above,
        &IntermediateProfile {
            trust_domain: trust_domain(),
            public_key: key().public_key().clone(),
            subject: IntermediateSubject::BelowIssuer,
            now: now(),
            lifetime: Lifetime::from_secs(60).expect("a minute"),
        },
    );
    assert!(matches!(too_deep, Err(IssueError::TooDeep)), "{too_deep:?}");
}

#[test]
fn it_ends_with_its_chain_and_with_its_root() {
    let (root, signer) = (root_for("example.org"), key());
    let late = IntermediateProfile {
        trust_domain: trust_domain(),
        public_key: signer.public_key().clone(),
        subject: IntermediateSubject::BelowIssuer,
        now: now(),
        lifetime: Lifetime::from_secs(2 * DAY).expect("two days"),
    };
    let chain = issue_intermediate(&root, &late).expect("an authority");
    let authority = X509Authority::from_der(&chain[0]).expect("an authority");
    assert_eq!(authority.validity().not_after, root.ends());
    // An upstream may also sign for longer than its root lives: the root's end counts.
    let upheld = accept(&signer, &chain, &root).expect("it leads to the root");
    let short = upheld
        .issuing()
        .clone()
        .ending_by(now().saturating_add(Duration::from_secs(60)));
    assert_eq!(short.ends(), now().saturating_add(Duration::from_secs(60)));
}

#[test]
fn a_root_at_the_end_of_the_answer_is_left_out() {
    let (root, signer) = (root_for("example.org"), key());
    let mut chain = below(&root, &signer, IntermediateSubject::BelowIssuer);
    chain.push(root.authority().der().clone());
    let upheld = accept(&signer, &chain, &root).expect("it leads to the root");
    assert_eq!(upheld.issuing().chain().len(), 1);
}

#[test]
fn an_answer_that_nobody_would_accept_is_refused() {
    let (root, signer) = (root_for("example.org"), key());
    let chain = below(&root, &signer, IntermediateSubject::BelowIssuer);
    assert!(matches!(accept(&signer, &[], &root), Err(UpheldError::Empty)));
    let stranger = root_for("example.org");
    assert!(matches!(
        accept(&signer, &chain, &stranger),
        Err(UpheldError::Verify(_))
    ));
    assert!(matches!(
        accept(&key(), &chain, &root),
        Err(UpheldError::Issue(IssueError::OtherKey))
    ));
    let svid = [root.authority().der().clone()];
    assert!(
        accept(&signer, &svid, &root).is_err(),
        "it is the root's key, not ours"
    );
    let foreign = root_for("other.org");
    let own = [foreign.authority().der().clone()];
    assert!(matches!(
        accept(&signer, &own, &foreign),
        Err(UpheldError::OtherTrustDomain(_))
    ));
}

#[test]
fn names_that_repeat_an_attribute_or_have_two_in_a_part_are_repeated_byte_by_byte() {
    let domain = |text| {
        single_part(
            &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
            0x16,
            text,
        )
    };
    let (name, unit) = (
        single_part(&[0x55, 4, 3], 0x0c, "root"),
        single_part(&[0x55, 4, 11], 0x0c, "pki"),
    );
    let both = der::value(der::SET, &[&name[2..], &unit[2..]]);
    let whole = der::value(der::SEQUENCE, &[&domain("org"), &domain("example"), &both]);
    let directory = RawName::parse(&whole).expect("a name");
    let (root, middle, lowest) = (root_for("example.org"), key(), key());
    let chain = below(&root, &middle, IntermediateSubject::Named(directory));
    let middle = accept(&middle, &chain, &root).expect("it leads to the root");
    assert_eq!(middle.issuing().authority().certificate().subject(), whole);
    let chain = below(middle.issuing(), &lowest, IntermediateSubject::BelowIssuer);
    let lowest = accept(&lowest, &chain, &root).expect("the names fit");
    assert_eq!(lowest.issuing().authority().certificate().issuer(), whole);
}

#[test]
fn a_request_for_an_authority_says_for_which_trust_domain_and_under_which_name() {
    let subject = ca_subject()
        .with(NameAttribute::SerialNumber, "42")
        .expect("a name");
    let csr = create_authority_csr(&*key(), &trust_domain(), &subject).expect("a request");
    let csr = Csr::parse(&csr).expect("a request");
    assert_eq!(csr.uris(), ["spiffe://example.org"]);
    assert_eq!(csr.raw_subject().expect("a name").as_der(), subject.to_der());
}
