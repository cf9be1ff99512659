//! Requests for certificates that wish for more than a key gets: the certificate is the same, whatever was wished (I6).

use muster_proto::spire::server::svid::{
    BatchNewX509svidRequest, MintX509svidRequest, NewX509svidParams, svid_client::SvidClient,
};
use muster_proto::spire::types;
use muster_tests::{Cluster, Identity, Settings, TRUST_DOMAIN, tcp_channel};
use rcgen::{
    CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose as Purpose, KeyPair,
    KeyUsagePurpose as Usage, SanType,
};
use tonic::Code;

/// One wish at a time, by what failures call it.
fn wishes() -> Vec<(String, CertificateParams)> {
    let mut all = vec![];
    let mut wish = |what: &str, change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        change(&mut params);
        all.push((what.to_owned(), params));
    };
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    for names in [
        vec![uri("spiffe://example.org/admin")],
        vec![uri("spiffe://example.org/spire/server")],
        vec![uri("spiffe://other.org/web")],
        vec![uri("spiffe://example.org/web"), uri("spiffe://example.org/admin")],
        vec![uri("https://example.org")],
        vec![dns("admin.example.org")],
        vec![dns("*.example.org")],
        vec![SanType::IpAddress([10, 0, 0, 1].into())],
        vec![SanType::Rfc822Name("root@example.org".try_into().unwrap())],
    ] {
        wish(&format!("{names:?}"), &|params| {
            params.subject_alt_names = names.clone();
        });
    }
    for usage in [
        Usage::DigitalSignature,
        Usage::ContentCommitment,
        Usage::KeyEncipherment,
        Usage::DataEncipherment,
        Usage::KeyAgreement,
        Usage::KeyCertSign,
        Usage::CrlSign,
        Usage::EncipherOnly,
        Usage::DecipherOnly,
    ] {
        wish(&format!("{usage:?}"), &|params| params.key_usages = vec![usage]);
    }
    for purpose in [
        Purpose::Any,
        Purpose::ServerAuth,
        Purpose::ClientAuth,
        Purpose::CodeSigning,
        Purpose::EmailProtection,
        Purpose::TimeStamping,
        Purpose::OcspSigning,
    ] {
        wish(&format!("{purpose:?}"), &|params| {
            params.extended_key_usages = vec![purpose.clone()];
        });
    }
    for kind in [
        DnType::CommonName,
        DnType::CountryName,
        DnType::OrganizationName,
        DnType::OrganizationalUnitName,
        DnType::StateOrProvinceName,
        DnType::LocalityName,
        DnType::CustomDnType(vec![2, 5, 4, 5]),
        DnType::CustomDnType(vec![2, 5, 4, 45]),
    ] {
        wish(&format!("subject {kind:?}"), &|params| {
            params.distinguished_name.push(kind.clone(), "XX");
        });
    }
    for (what, oid, value) in [
        ("an authority", &[2, 5, 29, 19][..], &[0x30, 3, 1, 1, 0xff][..]),
        (
            "an authority of authorities",
            &[2, 5, 29, 19],
            &[0x30, 6, 1, 1, 0xff, 2, 1, 9],
        ),
        ("a subject key id", &[2, 5, 29, 14], &[4, 2, 7, 7]),
        ("an authority key id", &[2, 5, 29, 35], &[0x30, 4, 0x80, 2, 7, 7]),
        (
            "an issuer's other name",
            &[2, 5, 29, 18],
            &[0x30, 3, 0x82, 1, b'a'],
        ),
        (
            "a name constraint",
            &[2, 5, 29, 30],
            &[0x30, 7, 0xa0, 5, 0x30, 3, 0x82, 1, b'a'],
        ),
        ("a policy", &[2, 5, 29, 32], &[0x30, 4, 0x30, 2, 6, 0]),
        (
            "any policy",
            &[2, 5, 29, 32],
            &[0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0],
        ),
        ("a policy constraint", &[2, 5, 29, 36], &[0x30, 3, 0x80, 1, 0]),
        ("no policy", &[2, 5, 29, 54], &[2, 1, 0]),
        (
            "a place of revocations",
            &[2, 5, 29, 31],
            &[0x30, 9, 0x30, 7, 0xa0, 5, 0xa0, 3, 0x86, 1, b'a'],
        ),
        (
            "an OCSP responder",
            &[1, 3, 6, 1, 5, 5, 7, 1, 1],
            &[
                0x30, 15, 0x30, 13, 6, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, 1, b'a',
            ],
        ),
        ("stapling", &[1, 3, 6, 1, 5, 5, 7, 1, 24], &[0x30, 3, 2, 1, 5]),
        ("what nobody knows", &[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0]),
    ] {
        for critical in [false, true] {
            wish(&format!("{what}, critical: {critical}"), &|params| {
                let mut extension = CustomExtension::from_oid_content(oid, value.to_vec());
                extension.set_criticality(critical);
                params.custom_extensions = vec![extension];
            });
        }
    }
    all
}

/// What a certificate says beside its serial number, its times and its signature: the fields of its signed part.
fn said_by(certificate: &[u8]) -> Vec<Vec<u8>> {
    let signed = children(content(certificate)).swap_remove(0);
    let mut fields = children(content(&signed));
    // [0] version, serial, algorithm, issuer, validity, subject, key, extensions.
    assert!(fields.len() >= 8, "{} fields", fields.len());
    fields.remove(4);
    fields.remove(1);
    fields
}

fn children(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![];
    while !der.is_empty() {
        let length = length(der);
        all.push(der[..length].to_vec());
        der = &der[length..];
    }
    all
}

fn content(der: &[u8]) -> &[u8] {
    &der[header(der)..length(der)]
}

fn header(der: &[u8]) -> usize {
    match der[1] {
        0..=0x7f => 2,
        long => 2 + usize::from(long & 0x7f),
    }
}

fn length(der: &[u8]) -> usize {
    let header = header(der);
    let content = match der[1] {
        short @ 0..=0x7f => usize::from(short),
        _ => der[2..header]
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte)),
    };
    header + content
}

#[test]
fn a_node_gets_the_same_certificate_whatever_its_request_wishes_for() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let key = KeyPair::generate().unwrap();
    let (mut signed, mut refused, mut kinds) = (0, 0, 0);
    cluster.block_on(async {
        let node = Identity::joined(&cluster).await;
        let member = |path: &str| types::Spiffeid {
            trust_domain: TRUST_DOMAIN.into(),
            path: path.into(),
        };
        let mut entry = cluster.entry("/web", &["unix:uid:1"]);
        entry.parent_id = Some(member(node.svid.id().path().as_str()));
        entry.dns_names = vec!["web.example.org".into()];
        let entry_id = register(&cluster, entry).await;
        let mut client = SvidClient::new(tcp_channel(&cluster, Some(&node)).await);
        let mut usual: Option<Vec<Vec<u8>>> = None;
        let nothing = ("nothing".to_owned(), CertificateParams::default());
        for (what, params) in std::iter::once(nothing).chain(wishes()) {
            // What can't even be asked for is no danger.
            let Ok(csr) = params.serialize_request(&key) else {
                continue;
            };
            kinds += 1;
            let request = BatchNewX509svidRequest {
                params: vec![NewX509svidParams {
                    entry_id: entry_id.clone(),
                    csr: csr.der().to_vec(),
                }],
            };
            let answer = client.batch_new_x509svid(request).await.unwrap().into_inner();
            let result = answer.results.into_iter().next().unwrap();
            let Some(svid) = result.svid else {
                let status = result.status.unwrap();
                assert_eq!(status.code, Code::InvalidArgument as i32, "{what}: {status:?}");
                refused += 1;
                continue;
            };
            let fields = said_by(&svid.cert_chain[0]);
            assert_eq!(&fields, usual.get_or_insert_with(|| fields.clone()), "{what}");
            signed += 1;
        }
    });
    println!(
        "figure: {kinds} requests by a node, one wish each: {signed} certificates equal but for serial and times, {refused} refused"
    );
    assert!(signed > 40, "{signed} of {kinds} were signed, {refused} refused");
}

#[test]
fn whoever_mints_gets_names_and_nothing_else_of_a_request() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let key = KeyPair::generate().unwrap();
    let mut usual: Option<Vec<Vec<u8>>> = None;
    let mut signed = 0;
    cluster.block_on(async {
        let mut client = SvidClient::new(cluster.channel().await);
        for (what, mut params) in wishes() {
            // Its names are what minting is for; one that asks for other names is another certificate.
            if !params.subject_alt_names.is_empty() || what.starts_with("subject") {
                continue;
            }
            let name = SanType::URI("spiffe://example.org/web".try_into().unwrap());
            params.subject_alt_names = vec![name];
            let Ok(csr) = params.serialize_request(&key) else {
                continue;
            };
            let request = MintX509svidRequest {
                csr: csr.der().to_vec(),
                ttl: 600,
            };
            match client.mint_x509svid(request).await {
                Ok(answer) => {
                    let chain = answer.into_inner().svid.unwrap().cert_chain;
                    let fields = said_by(&chain[0]);
                    assert_eq!(&fields, usual.get_or_insert_with(|| fields.clone()), "{what}");
                    signed += 1;
                }
                Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}"),
            }
        }
    });
    assert!(signed > 40, "{signed} were signed");
}

#[test]
fn a_request_with_a_key_of_absurd_size_costs_next_to_nothing() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let (before, used) = (cluster.server().resident_mib(), cluster.server().processor_time());
    const CALLS: u32 = 200;
    cluster.block_on(async {
        let mut client = SvidClient::new(cluster.channel().await);
        for bits in [8_192, 16_384, 65_536, 200_000] {
            for _ in 0..CALLS / 4 {
                let request = MintX509svidRequest {
                    csr: huge(bits / 8),
                    ttl: 600,
                };
                let refused = client.mint_x509svid(request).await.unwrap_err();
                assert_eq!(refused.code(), Code::InvalidArgument, "{bits} bits: {refused}");
            }
        }
    });
    let (after, used) = (
        cluster.server().resident_mib(),
        cluster.server().processor_time() - used,
    );
    println!(
        "figure: {CALLS} requests with RSA keys of 8,192 to 200,000 bits: {:.1?} of processor each; {before} MiB, then {after} MiB",
        used / CALLS
    );
    assert!(after < before + 64, "{before} MiB, then {after} MiB");
}

/// A request with an RSA key of so many bytes. Nobody makes such a key in a test: an odd number of that size will do, as
/// nothing may be computed with it.
fn huge(size: usize) -> Vec<u8> {
    let rsa = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0].to_vec();
    let sha256_with_rsa = [0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11, 5, 0].to_vec();
    let mut modulus = vec![0xc3; size + 1];
    modulus[0] = 0;
    let numbers = [value(2, &modulus), value(2, &[1, 0, 1])].concat();
    let bits = [vec![0], value(0x30, &numbers)].concat();
    let spki = value(0x30, &[rsa, value(3, &bits)].concat());
    let content = [value(2, &[0]), value(0x30, &[]), spki, value(0xa0, &[])].concat();
    let mut signature = vec![0x5a; size + 1];
    signature[0] = 0;
    value(
        0x30,
        &[value(0x30, &content), sha256_with_rsa, value(3, &signature)].concat(),
    )
}

/// One DER value.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    match content.len() {
        0 => der.push(0),
        short @ 1..128 => der.push(short.try_into().unwrap()),
        _ => {
            der.push(0x80 | u8::try_from(length.len()).unwrap());
            der.extend(length);
        }
    }
    der.extend(content);
    der
}

async fn register(cluster: &Cluster, entry: types::Entry) -> String {
    use muster_proto::spire::server::entry::{BatchCreateEntryRequest, entry_client::EntryClient};
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = EntryClient::new(cluster.channel().await)
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner();
    answer.results.into_iter().next().unwrap().entry.unwrap().id
}
