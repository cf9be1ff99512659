use std::sync::Arc;
use std::time::Duration;

use muster_identity::{Lifetime, SpiffeId, TrustDomain, UnixTime};
use proptest::prelude::*;

use super::*;
use crate::key::PublicKey;
use crate::local_key::{KeyAlgorithm, LocalKey};
use crate::signer::{SignatureScheme, Signer, SignerError};

const NOW: i64 = 1_795_000_000;

struct Bundle(TrustDomain, Vec<X509Authority>);

impl X509BundleSource for Bundle {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (trust_domain == &self.0).then_some(&self.1)
    }
}

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).expect("a key"))
}

fn lifetime(secs: u32) -> Lifetime {
    Lifetime::from_secs(secs).expect("not zero")
}

fn root_of(signer: Arc<dyn Signer>) -> IssuingAuthority {
    let profile = RootProfile {
        trust_domain: "example.org".parse().expect("a trust domain"),
        subject: ca_subject(),
        now: now(),
        lifetime: lifetime(86_400),
    };
    issue_root(signer, &profile).expect("a root")
}

fn profile(public_key: &PublicKey) -> X509SvidProfile {
    X509SvidProfile {
        id: "spiffe://example.org/web".parse().expect("an id"),
        public_key: public_key.clone(),
        dns_names: vec![
            "web.example.org".parse().expect("a name"),
            "*.web.example.org".parse().expect("a name"),
        ],
        subject: Subject::Usual,
        now: now(),
        lifetime: lifetime(3600),
    }
}

fn bundle(authorities: &[&IssuingAuthority]) -> Bundle {
    let authorities = authorities
        .iter()
        .map(|issuer| issuer.authority().clone())
        .collect();
    Bundle("example.org".parse().expect("a trust domain"), authorities)
}

#[test]
fn a_leaf_reaches_back_by_a_sixth_of_its_life_between_ten_seconds_and_a_minute() {
    let chain = Validity {
        not_before: UnixTime::EPOCH,
        not_after: now().saturating_add(Duration::from_hours(24)),
    };
    for (lifetime, back) in [(1, 10), (60, 10), (120, 20), (360, 60), (3600, 60)] {
        let lifetime = Lifetime::from_secs(lifetime).expect("more than none");
        let validity = leaf_validity(chain, now(), lifetime);
        let wanted = now().saturating_sub(Duration::from_secs(back));
        assert_eq!(validity.not_before, wanted, "{lifetime:?}");
    }
}

#[test]
fn an_issued_svid_is_what_was_asked_for_and_verifies() {
    let (root, holder) = (root_of(key()), key());
    let svid = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
    assert_eq!(svid.chain().len(), 1, "the root is not sent");
    assert_eq!(svid.not_before(), now().saturating_sub(BACKDATE));
    assert_eq!(svid.not_after(), now().saturating_add(Duration::from_secs(3600)));
    assert_eq!(svid.leaf().dns_names(), ["web.example.org", "*.web.example.org"]);
    let subject = Name::parse(svid.leaf().subject()).expect("a name");
    assert_eq!(subject.to_string(), "C=US,O=SPIRE,CN=web.example.org");
    assert_eq!(
        svid.leaf().subject_key_id(),
        Some(&holder.public_key().key_identifier()[..])
    );
    let extensions = &svid.leaf().extensions;
    assert!(
        extensions
            .basic_constraints
            .is_some_and(|constraints| !constraints.ca),
        "said, not left out"
    );
    assert!(
        extensions
            .key_usage
            .is_some_and(|usage| usage.critical && usage.digital_signature)
    );
    assert!(
        extensions
            .extended_key_usage
            .is_some_and(|usage| usage.server_auth && usage.client_auth)
    );

    let verified = verify_x509_svid(svid.chain(), &bundle(&[&root]), now()).expect("verified");
    assert_eq!(verified.id(), svid.id());
    assert_eq!(verified.authority().id(), root.authority().id());
    assert_eq!(X509Svid::from_der_concat(&svid.chain_der_concat()), Ok(svid));
}

#[test]
fn keys_of_every_kind_sign_and_are_signed_for() {
    for algorithm in [KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let signer = Arc::new(LocalKey::generate(algorithm).expect("a key"));
        let root = root_of(signer.clone());
        let svid = issue_x509_svid(&root, &profile(signer.public_key())).expect("issued");
        verify_x509_svid(svid.chain(), &bundle(&[&root]), now()).expect("verified");
    }
}

#[test]
fn a_root_has_a_name_of_its_own_and_the_profile_of_one() {
    let (one, other) = (root_of(key()), root_of(key()));
    let (one, other) = (one.authority().certificate(), other.authority().certificate());
    assert_ne!(one.subject(), other.subject());
    let subject = Name::parse(one.subject()).expect("a name").to_string();
    assert_eq!(subject, format!("C=US,O=SPIFFE,serialNumber={}", one.serial()));
    assert_eq!(one.uris(), ["spiffe://example.org"]);
    assert_eq!(one.authority_key_id(), None);
    assert!(one.extensions.key_usage.is_some_and(|usage| {
        usage.critical && usage.key_cert_sign && usage.crl_sign && !usage.digital_signature
    }));
    assert!(
        one.extensions
            .basic_constraints
            .is_some_and(|constraints| constraints.path_length.is_none())
    );
}

#[test]
fn no_leaf_outlives_its_issuer_or_begins_before_it() {
    let (root, holder) = (root_of(key()), key());
    let late = X509SvidProfile {
        now: now().saturating_add(Duration::from_secs(86_000)),
        ..profile(holder.public_key())
    };
    let svid = issue_x509_svid(&root, &late).expect("issued");
    assert_eq!(svid.not_after(), root.ends());
    let first = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
    assert_eq!(first.not_before(), root.authority().validity().not_before);
    for outside in [
        root.ends(),
        root.ends().saturating_add(Duration::from_secs(1)),
        UnixTime::EPOCH,
    ] {
        let profile = X509SvidProfile {
            now: outside,
            ..profile(holder.public_key())
        };
        assert!(matches!(
            issue_x509_svid(&root, &profile),
            Err(IssueError::AuthorityNotValid)
        ));
    }
}

#[test]
fn an_authority_and_a_key_that_do_not_belong_together_are_refused() {
    let root = root_of(key());
    let refused = IssuingAuthority::new(root.authority().clone(), Vec::new(), key());
    assert!(matches!(refused, Err(IssueError::OtherKey)));
}

#[test]
fn a_faulty_signer_is_noticed_before_anything_leaves() {
    /// Gives back signatures over something else.
    struct Faulty(LocalKey);
    impl Signer for Faulty {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, scheme: SignatureScheme, _: &[u8]) -> Result<Vec<u8>, SignerError> {
            self.0.sign(scheme, b"something else")
        }
    }
    let key = LocalKey::generate(KeyAlgorithm::EcP256).expect("a key");
    let pkcs8 = key.to_pkcs8().expect("written");
    let good = root_of(Arc::new(key));
    let faulty = Arc::new(Faulty(LocalKey::from_pkcs8(pkcs8.expose_secret()).expect("read")));
    let issuer = IssuingAuthority::new(good.authority().clone(), Vec::new(), faulty).expect("the key fits");
    let refused = issue_x509_svid(&issuer, &profile(good.authority().public_key()));
    assert!(matches!(refused, Err(IssueError::SignatureOfSigner)));
}

#[test]
fn a_signers_own_error_reaches_the_caller() {
    struct Away(LocalKey);
    impl Signer for Away {
        fn public_key(&self) -> &PublicKey {
            self.0.public_key()
        }
        fn sign(&self, _: SignatureScheme, _: &[u8]) -> Result<Vec<u8>, SignerError> {
            Err(SignerError::holder("the TPM is busy"))
        }
    }
    let away = Arc::new(Away(LocalKey::generate(KeyAlgorithm::EcP256).expect("a key")));
    let profile = RootProfile {
        trust_domain: "example.org".parse().expect("a trust domain"),
        subject: ca_subject(),
        now: now(),
        lifetime: lifetime(60),
    };
    let error = issue_root(away, &profile).expect_err("no signature, no root");
    assert!(error.may_retry() && matches!(error, IssueError::Signer(SignerError::Holder(_))));
}

#[test]
fn among_namesakes_the_one_whose_key_signed_is_found() {
    // An upstream may reuse a name; ours never do. Here two authorities share one, and either order must work.
    let holder = key();
    let (one, other) = (root_of(key()), root_of(key()));
    let svid = issue_x509_svid(&one, &profile(holder.public_key())).expect("issued");
    for authorities in [[&one, &other], [&other, &one]] {
        let verified = verify_x509_svid(svid.chain(), &bundle(&authorities), now()).expect("verified");
        assert_eq!(verified.authority().id(), one.authority().id());
    }
    let refused = verify_x509_svid(svid.chain(), &bundle(&[&other]), now());
    assert!(matches!(
        refused,
        Err(VerifyError::Path(PathError::UnknownAuthority))
    ));
}

/// An authority below `parent`, as an upstream authority would issue it.
fn intermediate(parent: &IssuingAuthority, name: &str, signer: &LocalKey) -> CertificateDer<'static> {
    let mut params = rcgen::CertificateParams::default();
    params.not_before = time::OffsetDateTime::from_unix_timestamp(NOW - 60).expect("a time");
    params.not_after = time::OffsetDateTime::from_unix_timestamp(NOW + 1800).expect("a time");
    params.distinguished_name = Name::empty()
        .with(NameAttribute::CommonName, name)
        .expect("a name")
        .to_rcgen();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = Name::parse(parent.authority().certificate().subject())
        .expect("a name of ours")
        .to_rcgen();
    let key = issue::SigningAdapter::new(&*parent.signer);
    let certificate = params.signed_by(
        &issue::SigningAdapter::new(signer),
        &rcgen::Issuer::from_params(&issuer, &key),
    );
    certificate.expect("issued").der().clone()
}

#[test]
fn an_authority_below_another_sends_its_chain_and_ends_with_it() {
    let (root, signer, holder) = (root_of(key()), key(), key());
    let der = intermediate(&root, "below", &signer);
    let authority = X509Authority::from_der(&der).expect("an authority");
    let below =
        IssuingAuthority::new(authority, vec![der.clone()], signer.clone()).expect("its key and chain");
    let svid = issue_x509_svid(&below, &profile(holder.public_key())).expect("issued");
    assert_eq!(svid.chain().len(), 2);
    assert_eq!(
        svid.not_after(),
        UnixTime::from_secs(NOW + 1800),
        "cut to the issuer's end"
    );
    let verified = verify_x509_svid(svid.chain(), &bundle(&[&root]), now()).expect("verified");
    assert_eq!(verified.authority().id(), root.authority().id());
    let alone = verify_x509_svid(&svid.chain()[..1], &bundle(&[&root]), now());
    assert!(
        matches!(alone, Err(VerifyError::Path(PathError::UnknownAuthority))),
        "{alone:?}"
    );
    let other = IssuingAuthority::new(
        below.authority().clone(),
        vec![root.authority().der().clone()],
        signer,
    );
    assert!(matches!(other, Err(IssueError::OtherChain)));
}

#[test]
fn a_chain_that_was_made_to_branch_costs_a_bounded_number_of_signatures() {
    // Seven authorities of one name and one key, each of which could have signed each other: 7! orders to try.
    let (root, shared, holder) = (root_of(key()), key(), key());
    let first = intermediate(&root, "twin", &shared);
    let twin = IssuingAuthority::new(
        X509Authority::from_der(&first).expect("an authority"),
        Vec::new(),
        shared.clone(),
    )
    .expect("its key");
    let mut chain = vec![
        issue_x509_svid(&twin, &profile(holder.public_key()))
            .expect("issued")
            .chain()[0]
            .clone(),
    ];
    chain.extend((0..7).map(|_| intermediate(&twin, "twin", &shared)));
    let refused = verify_x509_svid(&chain, &bundle(&[&root]), now());
    assert!(
        matches!(refused, Err(VerifyError::Path(PathError::Budget))),
        "{refused:?}"
    );
}

#[test]
fn an_expired_authority_anchors_nothing() {
    let (root, holder) = (root_of(key()), key());
    let svid = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
    let later = root.ends().saturating_add(Duration::from_secs(1));
    let refused = verify_x509_svid(svid.chain(), &bundle(&[&root]), later);
    assert!(
        matches!(refused, Err(VerifyError::Path(PathError::Expired(_)))),
        "{refused:?}"
    );
}

#[test]
fn a_taint_does_not_end_trust_and_is_passed_on() {
    let (root, holder) = (root_of(key()), key());
    let svid = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
    let tainted = Bundle(
        "example.org".parse().expect("a trust domain"),
        vec![root.authority().clone().with_taint(true)],
    );
    assert!(
        verify_x509_svid(svid.chain(), &tainted, now())
            .expect("verified")
            .authority()
            .tainted()
    );
}

#[test]
fn chains_over_the_bounds_are_refused_before_they_are_read() {
    let nonsense = CertificateDer::from(vec![0x30; 9000]);
    let root = root_of(key());
    for chain in [vec![nonsense.clone(); 9], vec![nonsense; 8]] {
        let refused = verify_x509_svid(&chain, &bundle(&[&root]), now());
        assert!(
            matches!(refused, Err(VerifyError::Chain(ChainError::TooLong { .. }))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_request_proves_its_key_and_carries_wishes() {
    let holder = key();
    let id: SpiffeId = "spiffe://example.org/web".parse().expect("an id");
    let csr = Csr::parse(&create_csr(&*holder, Some(&id)).expect("made")).expect("parsed");
    assert_eq!(csr.public_key(), holder.public_key());
    assert_eq!(csr.uris(), ["spiffe://example.org/web"]);
    assert_eq!(
        csr.subject().map(|name| name.to_string()),
        Ok("C=US,O=SPIRE".to_owned())
    );
    let bare = Csr::parse(&create_csr(&*holder, None).expect("made")).expect("parsed");
    assert!(bare.uris().is_empty() && bare.dns_names().is_empty() && !bare.has_other_names());
}

#[test]
fn requests_without_proof_or_with_a_bad_key_are_refused() {
    let good = create_csr(&*key(), None).expect("made");
    let mut unproven = good.clone();
    let last = unproven.len() - 1;
    unproven[last] ^= 1;
    assert_eq!(Csr::parse(&unproven).err(), Some(CsrError::Signature));
    // The key of another inside this request: the proof is of the wrong key.
    let other = key();
    let spki = other.public_key().spki_der();
    let at = good
        .windows(26)
        .position(|window| window == &spki[..26])
        .expect("the key is in there");
    let mut swapped = good.clone();
    swapped[at..at + spki.len()].copy_from_slice(spki);
    assert_eq!(Csr::parse(&swapped).err(), Some(CsrError::Signature));
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(Csr::parse(&trailing).err(), Some(CsrError::Malformed));
    assert_eq!(
        Csr::parse(&[0x30; MAX_CSR + 1]).err(),
        Some(CsrError::TooLong(MAX_CSR + 1))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_anywhere_in_a_chain_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (root, holder) = (root_of(key()), key());
        let svid = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
        let mut der = svid.chain()[0].to_vec();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        prop_assert!(verify_x509_svid(&[CertificateDer::from(der)], &bundle(&[&root]), now()).is_err());
    }

    #[test]
    fn no_bytes_panic_the_readers(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Certificate::parse(&bytes);
        let _ = Csr::parse(&bytes);
        let _ = X509Svid::from_der_concat(&bytes);
        let _ = Name::parse(&bytes);
    }

    #[test]
    fn no_damage_panics_the_readers(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let csr = create_csr(&*key(), None).expect("made");
        let root = root_of(key());
        for good in [csr.as_slice(), root.authority().der().as_ref()] {
            let mut bytes = good.to_vec();
            bytes[at.index(good.len())] = byte;
            bytes.truncate(cut.index(good.len() + 1));
            let _ = Certificate::parse(&bytes);
            let _ = Csr::parse(&bytes);
        }
    }
}

#[test]
#[ignore = "a measurement, not a check"]
fn how_long_an_svid_takes() {
    let (root, holder) = (root_of(key()), key());
    let request = create_csr(&*holder, None).expect("made");
    let rounds = 2000;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        let csr = Csr::parse(&request).expect("parsed");
        issue_x509_svid(&root, &profile(csr.public_key())).expect("issued");
    }
    println!(
        "figure: request checked and SVID issued: {:?} each",
        begun.elapsed() / rounds
    );
    let svid = issue_x509_svid(&root, &profile(holder.public_key())).expect("issued");
    let bundle = bundle(&[&root]);
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        verify_x509_svid(svid.chain(), &bundle, now()).expect("verified");
    }
    println!("figure: SVID verified: {:?} each", begun.elapsed() / rounds);
    let time = |name: &str, work: &dyn Fn()| {
        let begun = std::time::Instant::now();
        (0..rounds).for_each(|_| work());
        println!("figure: {name}: {:?} each", begun.elapsed() / rounds);
    };
    let spki = holder.public_key().spki_der();
    time("key parsed", &|| drop(PublicKey::from_spki_der(spki)));
    time("request parsed", &|| drop(Csr::parse(&request)));
    time("certificate parsed", &|| {
        drop(Certificate::parse(&svid.chain()[0]));
    });
    time("signature verified", &|| {
        svid.leaf()
            .verify_signed_by(root.authority().public_key())
            .expect("good");
    });
    time("signed", &|| {
        drop(holder.sign(SignatureScheme::EcdsaSha256, b"message"));
    });
}
