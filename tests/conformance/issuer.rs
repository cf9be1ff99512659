//! Part 10: what a running server signs, and for whom.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_identity::UnixTime;
use muster_pki::{
    Signer as _,
    bundle::{Bundle, BundleSet},
    x509::{
        CertificateDer, Csr, Name, RootProfile, Serial, Subject, X509Svid, X509SvidProfile, ca_subject,
        create_named_csr, issue_root, issue_x509_svid, verify_x509_svid,
    },
};
use muster_tests::{Cluster, Identity, Settings, need_programs};
use serde_json::{Value, json};
use tonic::Code;

use crate::{book::Book, requests};

pub(crate) fn judge(book: &mut Book) {
    let cluster = Cluster::start_server_only(&Settings::default());
    let minted = cluster
        .block_on(Identity::minted(&cluster, "spiffe://example.org/minted", 600))
        .svid;
    book.case("IS-01", || {
        conforms(&cluster, &minted);
        conforms(&cluster, &cluster.block_on(Identity::joined(&cluster)).svid);
    });
    book.case("IS-02", a_leaf_without_subject);
    book.case("IS-04", || {
        if !need_programs(&["openssl"]) {
            panic!("openssl makes the requests");
        }
        requests_for_keys(&cluster);
    });
    book.case("IS-05", || times(&cluster));
    book.case("IS-06", || lifetimes(&cluster));
    book.case("IS-07", a_million_serials);
    book.case("IS-08", || dns_names(&cluster));
    book.case("IS-09", || {
        for path in [
            "/spire/server",
            "/spire/agent/join_token/x",
            "/spire/agent",
            "/spire/other",
        ] {
            assert_eq!(entry(&cluster, path, None), Code::InvalidArgument, "{path}");
        }
    });
    book.case("IS-10", || token(&cluster));
    book.case("IS-16", || on_record(&cluster));
}

/// Whether it passes part 2 with its strict rules, under the server's bundle of now.
pub(crate) fn conforms(cluster: &Cluster, svid: &X509Svid) {
    let verified = verify_x509_svid(svid.chain(), &bundles(cluster), now());
    assert_eq!(verified.expect("it verifies").id(), svid.id());
}

pub(crate) fn bundles(cluster: &Cluster) -> BundleSet {
    let der: Vec<u8> = cluster
        .bundle()
        .x509_authorities
        .iter()
        .flat_map(|one| one.asn1.clone())
        .collect();
    BundleSet::new(Arc::new(
        Bundle::from_der_concat("example.org".parse().unwrap(), &der).unwrap(),
    ))
}

pub(crate) fn now() -> UnixTime {
    UnixTime::from_secs(time::OffsetDateTime::now_utc().unix_timestamp())
}

fn a_leaf_without_subject() {
    let lifetime = muster_identity::Lifetime::from_secs(600).unwrap();
    let root = RootProfile {
        trust_domain: "example.org".parse().unwrap(),
        subject: ca_subject(),
        now: now(),
        lifetime,
    };
    let root = issue_root(Identity::key(), &root).unwrap();
    let profile = X509SvidProfile {
        id: "spiffe://example.org/nameless".parse().unwrap(),
        public_key: Identity::key().public_key().clone(),
        dns_names: Vec::new(),
        subject: Subject::Named(Name::empty()),
        now: now(),
        lifetime,
    };
    let svid = issue_x509_svid(&root, &profile).unwrap();
    let mut bundle = Bundle::new("example.org".parse().unwrap());
    bundle.put_x509_authority(root.authority().clone());
    // A SAN that is not critical is refused there (XS-53).
    verify_x509_svid(svid.chain(), &BundleSet::new(Arc::new(bundle)), now()).expect("a critical SAN");
    assert_eq!(
        svid.leaf().subject(),
        [0x30, 0x00],
        "its subject is the empty sequence"
    );
}

/// A key outside the policy is refused for itself, whatever its signature is worth; the key of a bad signature is a good one.
fn requests_for_keys(cluster: &Cluster) {
    for (what, request) in requests::good() {
        Csr::parse(&request).expect(what);
        cluster.block_on(requests::mint(cluster, request, 0)).expect(what);
    }
    for (what, request, wanted) in requests::refused() {
        let spoiled = requests::spoiled(request.clone());
        for request in [request, spoiled] {
            assert_eq!(Csr::parse(&request).unwrap_err(), wanted, "{what}");
            let refused = cluster.block_on(requests::mint(cluster, request, 0)).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
        }
    }
}

fn times(cluster: &Cluster) {
    let before = now().as_secs();
    let svid = cluster
        .block_on(Identity::minted(cluster, "spiffe://example.org/times", 600))
        .svid;
    let set = bundles(cluster);
    let end = set
        .own()
        .x509_authorities()
        .iter()
        .map(|authority| authority.validity().not_after)
        .max();
    assert!(svid.not_after() <= end.expect("an authority"));
    assert!(
        svid.not_before().as_secs() >= before - 60,
        "backdated by more than a minute"
    );
    assert!(svid.not_before() <= now());
}

fn lifetimes(cluster: &Cluster) {
    let csr = || requests::plain("spiffe://example.org/long");
    let svid = cluster
        .block_on(requests::mint(cluster, csr(), 10 * 365 * 86_400))
        .expect("it is cut");
    assert!(svid.not_after().as_secs() <= now().as_secs() + 4 * 3600);
    let strict = Cluster::start_server_only(&Settings {
        server: "[ca]\nover_cap = \"refuse\"\n",
        ..Settings::default()
    });
    assert!(
        strict
            .block_on(requests::mint(&strict, csr(), 10 * 365 * 86_400))
            .is_err()
    );
    assert!(strict.block_on(requests::mint(&strict, csr(), 600)).is_ok());
}

fn a_million_serials() {
    let serial = |_| {
        let serial = Serial::random().expect("randomness");
        let bytes = serial.as_be_bytes();
        assert!(
            bytes.len() >= 9 && bytes.len() <= 20,
            "positive, and more than 64 bits"
        );
        bytes
            .iter()
            .fold(0_u128, |number, byte| number << 8 | u128::from(*byte))
    };
    let mut serials: Vec<_> = (0..1_000_000).map(serial).collect();
    serials.sort_unstable();
    assert!(serials.windows(2).all(|pair| pair[0] != pair[1]), "two are alike");
}

/// A wildcard takes the switch; the switch takes nothing else.
fn dns_names(cluster: &Cluster) {
    let allowing = Cluster::start_server_only(&Settings {
        server: "[ca]\nwildcards = \"allow\"\n",
        ..Settings::default()
    });
    let minted = |cluster: &Cluster| {
        let (id, name) = ("spiffe://example.org/dns", "*.example.org");
        let names = [name.parse().unwrap()];
        let csr = create_named_csr(&*Identity::key(), Some(&id.parse().unwrap()), &names).unwrap();
        cluster.block_on(requests::mint(cluster, csr, 600))
    };
    assert_eq!(
        entry(cluster, "/dns", Some("*.example.org")),
        Code::InvalidArgument
    );
    assert_eq!(minted(cluster).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(entry(&allowing, "/dns", Some("*.example.org")), Code::Ok);
    assert_eq!(minted(&allowing).unwrap().leaf().dns_names(), ["*.example.org"]);
    let malformed = [
        "*.org",
        "*",
        "*.*",
        "a.*.b",
        "*a.example.org",
        "a.example.org.",
        "1.2.3.4",
        "ex\u{e4}mple.org",
        "a b",
        "",
    ];
    for (cluster, name) in [cluster, &allowing]
        .into_iter()
        .flat_map(|cluster| malformed.map(|name| (cluster, name)))
    {
        assert_eq!(
            entry(cluster, "/other", Some(name)),
            Code::InvalidArgument,
            "{name}"
        );
    }
}

/// What becomes of an entry with this path and DNS name.
fn entry(cluster: &Cluster, path: &str, dns: Option<&str>) -> Code {
    use muster_proto::spire::server::entry::{BatchCreateEntryRequest, entry_client::EntryClient};
    let mut entry = cluster.entry(path, &["unix:uid:4000000"]);
    entry.parent_id.as_mut().unwrap().path = "/spire/agent/join_token/none".into();
    entry.dns_names = dns.map(str::to_owned).into_iter().collect();
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = cluster.block_on(async {
        EntryClient::new(cluster.channel().await)
            .batch_create_entry(request)
            .await
    });
    let status = answer.unwrap().into_inner().results[0].status.clone().unwrap();
    Code::from(status.code)
}

fn token(cluster: &Cluster) {
    let token = cluster.muster_ok(&[
        "mint",
        "jwt",
        "spiffe://example.org/w",
        "--audience",
        "b",
        "--audience",
        "a",
        "--output",
        "json",
    ]);
    let token: Value = serde_json::from_str(&token).unwrap();
    let token = token["token"]
        .as_str()
        .or_else(|| token["svid"].as_str())
        .expect("the token");
    let part = |index| -> Value {
        let part = token.split('.').nth(index).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let (header, claims) = (part(0), part(1));
    let names = |object: &Value| {
        object
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(ToString::to_string)
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&header), set(&["alg", "kid", "typ"]));
    assert_eq!(names(&claims), set(&["iss", "sub", "aud", "exp", "iat"]));
    assert_eq!(claims["aud"], json!(["b", "a"]), "as asked for");
    assert_eq!(claims["sub"], "spiffe://example.org/w");
}

fn on_record(cluster: &Cluster) {
    let svid = cluster
        .block_on(Identity::minted(cluster, "spiffe://example.org/recorded", 600))
        .svid;
    let scan = muster_journal::scan(&cluster.path().join("server/data/audit"), 1).unwrap();
    let serial = svid.serial().to_string();
    let found = scan.records.filter_map(Result::ok).any(|record| {
        let text = String::from_utf8_lossy(&record.payload).into_owned();
        text.contains("/recorded") && text.contains(&serial)
    });
    assert!(found, "the answer is here and its record is not");
}

/// The chain of an answer.
pub(crate) fn parse(chain: Vec<impl Into<Vec<u8>>>) -> X509Svid {
    let chain = chain
        .into_iter()
        .map(|der| CertificateDer::from(der.into()))
        .collect();
    X509Svid::parse(chain).expect("an X.509-SVID")
}
