use std::sync::Arc;

use muster_identity::{Lifetime, UnixTime};
use muster_pki::bundle::Bundle;
use muster_pki::x509::{Csr, RootProfile, ca_subject, issue_root, verify_x509_svid};
use muster_pki::{KeyAlgorithm, LocalKey};
use muster_runtime::ManualClock;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose as Eku, IsCa, KeyPair,
    KeyUsagePurpose as Ku, SanType,
};

use super::*;
use crate::ca::{OverCap, Tokens};

const NOW: i64 = 1_800_000_000;

fn secs(secs: u32) -> Lifetime {
    Lifetime::from_secs(secs).unwrap()
}

fn ca(root_lifetime: u32) -> (Ca, Bundle) {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let lifetimes = Lifetimes {
        x509_svid: secs(3600),
        jwt_svid: secs(300),
        node: secs(3600),
        max_x509_svid: secs(7200),
        max_jwt_svid: secs(600),
        over_cap: OverCap::Cut,
    };
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(NOW)));
    let ca = Ca::new(
        trust_domain.clone(),
        lifetimes,
        Tokens::Signed { issuer: None },
        clock,
        SigningPool::start(1, 8).unwrap(),
    );
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let profile = RootProfile {
        trust_domain: trust_domain.clone(),
        subject: ca_subject(),
        now: UnixTime::from_secs(NOW),
        lifetime: secs(root_lifetime),
    };
    let root = issue_root(key.clone(), &profile).unwrap();
    let mut bundle = Bundle::new(trust_domain);
    bundle.put_x509_authority(root.authority().clone());
    ca.activate_x509(Some(root));
    ca.activate_jwt(Some(JwtSigner {
        key_id: "key".parse().unwrap(),
        not_after: UnixTime::from_secs(NOW + i64::from(root_lifetime)),
        signer: key,
    }));
    (ca, bundle)
}

fn request(public_key: PublicKey, lifetime: Option<Lifetime>) -> X509Request {
    X509Request {
        id: "spiffe://example.org/web".parse().unwrap(),
        public_key,
        dns_names: vec!["web.example.org".parse().unwrap()],
        subject: Subject::Usual,
        holder: Holder::Workload,
        lifetime,
    }
}

fn params(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    change(&mut params);
    params
}

/// Requests that ask for more than a key, one thing each.
fn greedy_requests() -> Vec<CertificateParams> {
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let names = vec![
        vec![uri("spiffe://example.org/admin")],
        vec![uri("spiffe://example.org/spire/server")],
        vec![uri("spiffe://other.org/web")],
        vec![uri("spiffe://example.org/web"), uri("spiffe://example.org/admin")],
        vec![uri("https://example.org")],
        vec![dns("admin.example.org")],
        vec![dns("*.example.org")],
        vec![SanType::IpAddress([10, 0, 0, 1].into())],
        vec![SanType::Rfc822Name("root@example.org".try_into().unwrap())],
    ];
    let mut all: Vec<CertificateParams> = names
        .into_iter()
        .map(|names| params(|p| p.subject_alt_names = names))
        .collect();
    let usages = [
        Ku::DigitalSignature,
        Ku::ContentCommitment,
        Ku::KeyEncipherment,
        Ku::DataEncipherment,
        Ku::KeyAgreement,
        Ku::KeyCertSign,
        Ku::CrlSign,
        Ku::EncipherOnly,
        Ku::DecipherOnly,
    ];
    all.extend(usages.map(|usage| params(|p| p.key_usages = vec![usage])));
    let usages = [
        Eku::Any,
        Eku::ServerAuth,
        Eku::ClientAuth,
        Eku::CodeSigning,
        Eku::EmailProtection,
        Eku::TimeStamping,
        Eku::OcspSigning,
    ];
    all.extend(usages.map(|usage| params(|p| p.extended_key_usages = vec![usage])));
    let subjects = [
        DnType::CommonName,
        DnType::CountryName,
        DnType::OrganizationName,
        DnType::OrganizationalUnitName,
        DnType::StateOrProvinceName,
        DnType::LocalityName,
    ];
    all.extend(subjects.map(|kind| {
        let mut distinguished_name = DistinguishedName::new();
        distinguished_name.push(kind, "greedy");
        params(|p| p.distinguished_name = distinguished_name)
    }));
    let authority = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    all.push(params(|p| p.is_ca = authority));
    all
}

#[tokio::test]
async fn whatever_a_csr_asks_for_only_its_key_is_taken() {
    let (ca, bundle) = ca(86_400);
    let mut signed = 0;
    for params in greedy_requests() {
        let key = KeyPair::generate().unwrap();
        // What can't even be asked for in a CSR is no danger.
        let Ok(csr) = params.serialize_request(&key) else {
            continue;
        };
        // A CSR may also be refused as a whole.
        let Ok(csr) = Csr::parse(csr.der()) else { continue };
        let svid = ca
            .sign_x509_svid(request(csr.public_key().clone(), None))
            .await
            .unwrap();
        let leaf = svid.leaf();
        assert_eq!(leaf.uris(), ["spiffe://example.org/web"], "{params:?}");
        assert_eq!(svid.public_key(), csr.public_key());
        assert_eq!(svid.not_after(), UnixTime::from_secs(NOW + 3600));
        verify_x509_svid(svid.chain(), &bundle, UnixTime::from_secs(NOW)).unwrap();
        let der = svid.chain()[0].as_ref();
        for trace in [&b"admin"[..], b"greedy", b"other.org", b"root@"] {
            assert!(
                !der.windows(trace.len()).any(|window| window == trace),
                "{params:?}"
            );
        }
        signed += 1;
    }
    assert!(signed >= 25, "only {signed} requests could be made");
}

#[tokio::test]
async fn what_is_signed_lives_as_long_as_asked_at_most_to_the_cap_and_never_past_its_authority() {
    let (long, _) = ca(86_400);
    let (short, _) = ca(1800);
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    // A short one reaches back a sixth of its life at most.
    for (ca, asked, lives, back) in [
        (&long, None, 3600, 60),
        (&long, Some(60), 60, 10),
        (&long, Some(9000), 7200, 60),
        (&short, None, 1800, 60),
    ] {
        let svid = ca
            .sign_x509_svid(request(key.public_key().clone(), asked.map(secs)))
            .await
            .unwrap();
        assert_eq!(svid.not_after(), UnixTime::from_secs(NOW + lives));
        assert_eq!(svid.not_before(), UnixTime::from_secs(NOW - back));
    }
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let audience = Audience::new(vec!["a".into()]).unwrap();
    let (lifetime, token_id) = (Some(secs(5000)), TokenId::Absent);
    let token = short
        .sign_jwt_svid(JwtRequest {
            id,
            audience,
            lifetime,
            token_id,
        })
        .await
        .unwrap();
    assert_eq!(token.expires_at(), UnixTime::from_secs(NOW + 600));
}

#[tokio::test]
async fn without_an_authority_nothing_is_signed() {
    let (ca, _) = ca(86_400);
    ca.activate_x509(None);
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let error = ca
        .sign_x509_svid(request(key.public_key().clone(), None))
        .await
        .unwrap_err();
    assert!(matches!(error, SignError::NoAuthority(_)));
}
