//! Requests for certificates, good ones and bad ones.

use std::process::Command;

use muster_pki::{
    PublicKeyError,
    x509::{CsrError, X509Svid, create_csr},
};
use muster_proto::spire::server::svid::{MintX509svidRequest, svid_client::SvidClient};
use muster_tests::{Cluster, Identity};
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use tonic::Status;

/// A request that is right.
pub(crate) fn plain(id: &str) -> Vec<u8> {
    create_csr(&*Identity::key(), Some(&id.parse().unwrap())).unwrap()
}

/// Asks an administrator's way.
pub(crate) async fn mint(cluster: &Cluster, csr: Vec<u8>, ttl: i32) -> Result<X509Svid, Status> {
    let mut client = SvidClient::new(cluster.channel().await);
    let answer = client
        .mint_x509svid(MintX509svidRequest { csr, ttl })
        .await?
        .into_inner();
    Ok(crate::issuer::parse(answer.svid.unwrap().cert_chain))
}

/// A request that wishes for everything, and the key in it.
pub(crate) fn greedy() -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::default();
    wish.distinguished_name.push(DnType::CommonName, "root");
    wish.subject_alt_names = vec![
        SanType::URI("spiffe://example.org/admin".try_into().unwrap()),
        SanType::URI("spiffe://example.org/more".try_into().unwrap()),
        SanType::DnsName("bank.example".try_into().unwrap()),
        SanType::IpAddress([127, 0, 0, 1].into()),
        SanType::Rfc822Name("root@example.org".try_into().unwrap()),
    ];
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    // SEQUENCE { BOOLEAN TRUE }: a certificate authority.
    let authority = CustomExtension::from_oid_content(&[2, 5, 29, 19], vec![0x30, 3, 1, 1, 0xff]);
    wish.custom_extensions = vec![authority];
    let request = wish.serialize_request(&key).unwrap();
    (request.der().to_vec(), key.public_key_raw().to_vec())
}

/// Requests made as the refused ones are, that are right.
pub(crate) fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("RSA of 2048 bits", openssl(&["-newkey", "rsa:2048"])),
        (
            "P-256",
            openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]),
        ),
    ]
}

/// Requests whose keys are outside the policy, or whose proof is wrong, and why each is refused.
pub(crate) fn refused() -> Vec<(&'static str, Vec<u8>, CsrError)> {
    vec![
        (
            "a bad signature",
            spoiled(openssl(&["-newkey", "rsa:2048"])),
            CsrError::Signature,
        ),
        (
            "RSA of 1024 bits",
            openssl(&["-newkey", "rsa:1024"]),
            PublicKeyError::RsaSize(1024).into(),
        ),
        (
            "an RSA exponent of 3",
            openssl(&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]),
            PublicKeyError::RsaExponent.into(),
        ),
        (
            "P-224",
            openssl(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"]),
            PublicKeyError::Algorithm.into(),
        ),
        {
            let (request, key) = huge();
            ("RSA of 16,384 bits", request, PublicKeyError::TooLong(key).into())
        },
    ]
}

/// The same request with a signature that is wrong: its last bits are others.
pub(crate) fn spoiled(mut request: Vec<u8>) -> Vec<u8> {
    let last = request.last_mut().expect("a request is not empty");
    // Once or twice spoiled, it is not what it was.
    *last = last.wrapping_add(1);
    request
}

fn openssl(key: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-nodes",
            "-keyout",
            "/dev/null",
            "-outform",
            "DER",
            "-subj",
            "/C=US",
        ])
        .args(["-addext", "subjectAltName=URI:spiffe://example.org/a"])
        .args(key)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Nobody makes such a key in a test: an odd number of that size will do, as nothing may be computed with it. With the length of the key's encoding.
fn huge() -> (Vec<u8>, usize) {
    let rsa = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0].to_vec();
    let sha256_with_rsa = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0].to_vec();
    let mut modulus = vec![0xc3; 2049];
    modulus[0] = 0;
    let numbers = [value(2, &modulus), value(2, &[1, 0, 1])].concat();
    let mut bits = vec![0];
    bits.extend(value(0x30, &numbers));
    let spki = value(0x30, &[rsa, value(3, &bits)].concat());
    let length = spki.len();
    let content = value(
        0x30,
        &[value(2, &[0]), value(0x30, &[]), spki, value(0xa0, &[])].concat(),
    );
    let mut signature = vec![0x5a; 2049];
    signature[0] = 0;
    let request = [content, sha256_with_rsa, value(3, &signature)].concat();
    (value(0x30, &request), length)
}

/// One DER value.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    match content.len() {
        0 => der.push(0),
        short @ 1..128 => der.push(short.try_into().expect("seven bits")),
        _ => {
            der.push(0x80 | u8::try_from(length.len()).expect("eight at most"));
            der.extend(length);
        }
    }
    der.extend(content);
    der
}
