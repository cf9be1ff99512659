//! Both halves against each other, with the certificates of a PKI that is made here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_identity::UnixTime;
use muster_pki::bundle::Bundle;
use muster_pki::x509::X509Authority;
use muster_plugin_api::decorate::Bounded;
use muster_plugin_api::fake::shown;
use muster_plugin_api::{
    AttestedNode, NodeAttestor, NodeStep, NodeVerifier, NodeVerifyError, Reattestation, Shown, conformance,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, SanType, SerialNumber, SignatureAlgorithm,
};
use time::OffsetDateTime;

use super::*;
use crate::PathTemplate;

mod svids;

const NOW: i64 = 1_800_000_000;

struct Ca {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

struct Machine {
    folder: tempfile::TempDir,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW - 60).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW + 3600).unwrap();
    params
}

fn ca(name: &str, above: Option<&Ca>) -> Ca {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().unwrap();
    let certificate = match above {
        Some(above) => params.signed_by(&key, &above.issuer),
        None => params.self_signed(&key),
    };
    Ca {
        certificate: certificate.unwrap(),
        issuer: Issuer::new(params, key),
    }
}

impl Machine {
    fn new(above: &Ca) -> Self {
        Self::with(above, &rcgen::PKCS_ECDSA_P256_SHA256, |_| {})
    }

    fn with(
        above: &Ca,
        kind: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = params("web-1");
        params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc]));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = params.signed_by(&key, &above.issuer).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        let machine = Self { folder };
        machine.let_others(0);
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn let_others(&self, bits: u32) {
        let mode = std::fs::Permissions::from_mode(0o640 | bits);
        std::fs::set_permissions(self.file("key.pem"), mode).unwrap();
    }

    fn attestor(&self) -> X509popAttestor {
        X509popAttestor::new(X509popFiles {
            certificate_path: self.file("cert.pem"),
            private_key_path: self.file("key.pem"),
            intermediates_path: self.file("more.pem").exists().then(|| self.file("more.pem")),
        })
    }

    async fn payload(&self) -> Vec<u8> {
        self.attestor()
            .begin()
            .await
            .unwrap()
            .payload()
            .expose_secret()
            .to_vec()
    }
}

fn settings(roots: &Path) -> X509popSettings {
    X509popSettings {
        mode: Mode::ExternalPki {
            ca_bundle_paths: vec![roots.to_owned()],
        },
        agent_path_template: None,
        max_intermediates: 4,
        max_rsa_key_size: 4096,
        verify_client_ip: false,
    }
}

fn verifier(settings: X509popSettings) -> Bounded<X509popVerifier> {
    Bounded::new(X509popVerifier::new("example.org".parse().unwrap(), settings).unwrap())
}

fn roots(folder: &Path, of: &[&Ca]) -> PathBuf {
    let path = folder.join("roots.pem");
    let pem: String = of.iter().map(|ca| ca.certificate.pem()).collect();
    std::fs::write(&path, pem).unwrap();
    path
}

fn at(payload: impl Into<Vec<u8>>) -> Shown {
    let mut shown = shown(payload);
    shown.moment.now = UnixTime::from_secs(NOW);
    shown
}

/// The whole conversation.
async fn attest(
    machine: &Machine,
    verifier: &dyn NodeVerifier,
    at: &Shown,
) -> Result<AttestedNode, NodeVerifyError> {
    let mut proof = machine.attestor().begin().await.unwrap();
    let payload = proof.payload().expose_secret().to_vec().into();
    let begun = verifier
        .begin(Shown {
            payload,
            ..at.clone()
        })
        .await?;
    let NodeStep::Challenge { challenge, pending } = begun else {
        panic!("no challenge");
    };
    match pending
        .judge(proof.answer(&challenge).await.unwrap(), at.moment.clone())
        .await?
    {
        NodeStep::Attested(node) => Ok(node),
        other => panic!("{other:?}"),
    }
}

fn is_denied(outcome: &Result<AttestedNode, NodeVerifyError>, says: &str) -> bool {
    matches!(outcome, Err(NodeVerifyError::Denied(text)) if text.contains(says))
}

fn is_malformed(outcome: &Result<AttestedNode, NodeVerifyError>, says: &str) -> bool {
    matches!(outcome, Err(NodeVerifyError::Malformed(text)) if text.contains(says))
}

#[tokio::test]
async fn both_halves_keep_their_promises_with_each_kind_of_key() {
    let root = ca("root", None);
    for kind in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256] {
        let machine = Machine::with(&root, kind, |_| {});
        let verifier = verifier(settings(&roots(machine.folder.path(), &[&root])));
        conformance::node_attestation(&machine.attestor(), &verifier, &at(*b"")).await;
    }
}

#[tokio::test]
async fn a_machine_gets_the_name_and_the_selectors_that_spire_gives() {
    let root = ca("root", None);
    let middle = ca("middle", Some(&root));
    let machine = Machine::with(&middle, &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        let uris = [
            "x509pop://example.org/rack/b/7",
            "x509pop://example.org/rack/c",
            "x509pop://example.org/alone",
            "x509pop://example.org/esc/a%2fb",
            "x509pop://other.org/rack/d",
            "https://example.org/rack/e",
        ];
        params.subject_alt_names = uris.map(|uri| SanType::URI(uri.try_into().unwrap())).to_vec();
    });
    std::fs::write(machine.file("more.pem"), middle.certificate.pem()).unwrap();
    let verifier = verifier(settings(&roots(machine.folder.path(), &[&root])));
    let node = attest(&machine, &verifier, &at(*b"")).await.unwrap();
    let sha1 = |der: &[u8]| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der);
        digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let leaf = Payload::parse(&machine.payload().await)
        .unwrap()
        .certificates
        .remove(0);
    let id = node.path().id(&"example.org".parse().unwrap()).unwrap();
    assert_eq!(
        id.to_string(),
        format!("spiffe://example.org/spire/agent/x509pop/{}", sha1(&leaf))
    );
    let mut expected = vec![
        "x509pop:subject:cn:web-1".to_owned(),
        "x509pop:serialnumber:0abc".to_owned(),
        "x509pop:san:rack:b/7".to_owned(),
        "x509pop:san:rack:c".to_owned(),
        format!("x509pop:ca:fingerprint:{}", sha1(middle.certificate.der())),
        format!("x509pop:ca:fingerprint:{}", sha1(root.certificate.der())),
    ];
    expected.sort();
    let found: Vec<_> = node
        .selectors()
        .iter()
        .map(|selector| selector.as_str().to_owned())
        .collect();
    assert_eq!(found, expected);
    assert_eq!(node.reattestation(), Reattestation::Possible);
}

#[tokio::test]
async fn a_chain_that_does_not_hold_gets_no_challenge() {
    let (root, stranger) = (ca("root", None), ca("root", None));
    let machine = Machine::new(&root);
    let path = roots(machine.folder.path(), &[&root]);
    let judge = verifier(settings(&path));
    let mut late = at(*b"");
    late.moment.now = UnixTime::from_secs(NOW + 3601);
    assert!(is_denied(&attest(&machine, &judge, &late).await, "expired"));
    let foreign = Machine::new(&stranger);
    assert!(is_denied(
        &attest(&foreign, &judge, &at(*b"")).await,
        "verification failed"
    ));
    let wrong_use = Machine::with(&root, &rcgen::PKCS_ECDSA_P256_SHA256, |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
    assert!(
        wrong_use.attestor().begin().await.is_err(),
        "the agent says it first"
    );
    let payload = |certificates: Vec<Vec<u8>>| Payload { certificates }.to_bytes();
    let of = |machine: &Machine| {
        let pem = std::fs::read(machine.file("cert.pem")).unwrap();
        use rustls_pki_types::pem::PemObject as _;
        rustls_pki_types::CertificateDer::from_pem_slice(&pem)
            .unwrap()
            .to_vec()
    };
    let begun = async |payload: Vec<u8>| match judge.begin(at(payload)).await {
        Ok(step) => panic!("{step:?}"),
        Err(error) => Err::<AttestedNode, _>(error),
    };
    assert!(is_denied(
        &begun(payload(vec![of(&wrong_use)])).await,
        "digitalSignature"
    ));
    let edwards = Machine::with(&root, &PKCS_ED25519, |_| {});
    assert!(is_denied(&begun(payload(vec![of(&edwards)])).await, "ed25519"));
    assert!(is_denied(
        &begun(payload(vec![root.certificate.der().to_vec()])).await,
        "CA"
    ));
    assert!(is_malformed(&begun(payload(vec![])).await, "no certificate"));
    let leaf = of(&machine);
    assert!(is_malformed(
        &begun(payload(vec![leaf.clone(); 6])).await,
        "too many intermediate"
    ));
    assert!(is_malformed(
        &begun(payload(vec![leaf.clone(); 40])).await,
        "more than"
    ));
    assert!(is_malformed(
        &begun(payload(vec![leaf.clone(), vec![0; 40_000]])).await,
        "intermediate certificate 0"
    ));
    assert!(is_malformed(
        &begun(payload(vec![vec![1, 2, 3]])).await,
        "leaf certificate"
    ));
    let small = X509popSettings {
        max_rsa_key_size: 1024,
        ..settings(&path)
    };
    let rsa = Machine::with(&root, &PKCS_RSA_SHA256, |_| {});
    assert!(is_malformed(
        &attest(&rsa, &verifier(small), &at(*b"")).await,
        "longer than"
    ));
    std::fs::write(&path, "gone").unwrap();
    let outcome = attest(&machine, &judge, &at(*b"")).await;
    assert!(
        matches!(outcome, Err(NodeVerifyError::Unavailable { .. })),
        "{outcome:?}"
    );
    roots(machine.folder.path(), &[&stranger]);
    attest(&foreign, &judge, &at(*b""))
        .await
        .expect("the authorities are read each time");
    assert!(is_denied(
        &attest(&machine, &judge, &at(*b"")).await,
        "verification failed"
    ));
}

#[tokio::test]
async fn who_has_the_certificate_and_not_its_key_stays_outside() {
    let root = ca("root", None);
    let (machine, thief) = (Machine::new(&root), Machine::new(&root));
    let judge = verifier(settings(&roots(machine.folder.path(), &[&root])));
    // The thief shows the machine's certificate and answers with a key of its own, as good as any.
    let NodeStep::Challenge { challenge, pending } = judge.begin(at(machine.payload().await)).await.unwrap()
    else {
        panic!("no challenge");
    };
    let answer = thief
        .attestor()
        .begin()
        .await
        .unwrap()
        .answer(&challenge)
        .await
        .unwrap();
    let judged = pending.judge(answer.clone(), at(*b"").moment).await;
    assert!(matches!(judged, Err(NodeVerifyError::Denied(_))), "{judged:?}");
    // Nor does what the machine itself answered to one challenge answer another, or in parts.
    let mut proof = machine.attestor().begin().await.unwrap();
    let earlier = proof.answer(&challenge).await.unwrap();
    let Ok(Response::Ecdsa { nonce, signature }) = Response::parse(&earlier) else {
        panic!("no answer");
    };
    let mut swapped = signature.clone();
    std::mem::swap(&mut swapped.r, &mut swapped.s);
    for wrong in [
        Response::Ecdsa { nonce, signature },
        Response::Ecdsa {
            nonce: [0; 32],
            signature: swapped,
        },
        Response::Rsa {
            nonce,
            signature: vec![1; 256],
        },
    ] {
        let NodeStep::Challenge { pending, .. } = judge.begin(at(machine.payload().await)).await.unwrap()
        else {
            panic!("no challenge");
        };
        let judged = pending.judge(wrong.to_bytes(), at(*b"").moment).await;
        assert!(matches!(judged, Err(NodeVerifyError::Denied(_))), "{judged:?}");
    }
}

#[tokio::test]
async fn the_machines_key_signs_once_and_never_what_another_chose_alone() {
    let root = ca("root", None);
    let machine = Machine::new(&root);
    let challenge = Challenge::Ecdsa([7; 32]).to_bytes();
    let mut proof = machine.attestor().begin().await.unwrap();
    let Ok(Response::Ecdsa { nonce, .. }) = Response::parse(&proof.answer(&challenge).await.unwrap()) else {
        panic!("no answer");
    };
    assert!(
        proof.answer(&challenge).await.is_err(),
        "one answer an attestation"
    );
    let mut again = machine.attestor().begin().await.unwrap();
    let Ok(Response::Ecdsa { nonce: other, .. }) = Response::parse(&again.answer(&challenge).await.unwrap())
    else {
        panic!("no answer");
    };
    assert_ne!(nonce, other, "half of what is signed is its own");
    for wrong in [Challenge::Rsa([7; 32]).to_bytes(), b"{}".to_vec(), vec![0xff; 64]] {
        let mut proof = machine.attestor().begin().await.unwrap();
        assert!(proof.answer(&wrong).await.is_err());
    }
}

#[tokio::test]
async fn what_an_operator_must_repair_is_said() {
    let root = ca("root", None);
    let says = async |machine: &Machine, text: &str| {
        let error = machine
            .attestor()
            .begin()
            .await
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(text), "{error}");
    };
    let machine = Machine::new(&root);
    machine.let_others(0o004);
    says(&machine, "everybody").await;
    machine.let_others(0);
    std::fs::write(machine.file("cert.pem"), "").unwrap();
    says(&machine, "no certificate").await;
    std::fs::write(machine.file("cert.pem"), root.certificate.pem()).unwrap();
    says(&machine, "not for the key").await;
    std::fs::remove_file(machine.file("key.pem")).unwrap();
    says(&machine, "key.pem").await;
    says(&Machine::with(&root, &PKCS_ECDSA_P384_SHA384, |_| {}), "ec-p384").await;
}

#[tokio::test]
async fn a_template_names_the_node_and_an_address_can_be_asked_for() {
    let root = ca("root", None);
    let named = |name: &'static str| {
        Machine::with(&root, &rcgen::PKCS_ECDSA_P256_SHA256, move |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, name);
            params.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 1].into())];
        })
    };
    let machine = named("Web-1");
    let judge = verifier(X509popSettings {
        agent_path_template: Some(PathTemplate::parse("/cn/{{ .Subject.CommonName | lower }}").unwrap()),
        verify_client_ip: true,
        ..settings(&roots(machine.folder.path(), &[&root]))
    });
    let from = |peer: [u8; 4]| Shown {
        peer: Some(peer.into()),
        ..at(*b"")
    };
    let node = attest(&machine, &judge, &from([192, 0, 2, 1])).await.unwrap();
    assert_eq!(node.path().first_segment(), "cn");
    assert!(is_denied(
        &attest(&machine, &judge, &from([192, 0, 2, 2])).await,
        "address"
    ));
    assert!(is_denied(&attest(&machine, &judge, &at(*b"")).await, "address"));
    for hostile in ["../../server", "a/b", "a b", "..", "ä"] {
        let machine = named(hostile);
        assert!(
            is_denied(&attest(&machine, &judge, &from([192, 0, 2, 1])).await, "name"),
            "{hostile}"
        );
    }
    let unknown = X509popSettings {
        agent_path_template: Some(PathTemplate::parse("/{{ .Hostname }}").unwrap()),
        ..settings(&machine.file("roots.pem"))
    };
    assert!(X509popVerifier::new("example.org".parse().unwrap(), unknown).is_err());
}
