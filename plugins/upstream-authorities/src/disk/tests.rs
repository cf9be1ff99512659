use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use muster_identity::{Lifetime, UnixTime};
use muster_pki::x509::{Certificate, UpheldAuthority, ca_subject, create_authority_csr};
use muster_pki::{KeyAlgorithm, Signer};
use muster_plugin_api::conformance;

use super::*;

/// OpenSSL makes what operators have: names with `DC` twice, and two attributes in one part.
const NAME: &str = "/DC=org/DC=example/O=Example+OU=PKI/CN=root";

fn openssl(folder: &Path, arguments: &[&str]) {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn private(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A root in `folder`: `name.crt` and `name.key`.
fn make_root(folder: &Path, name: &str, key: &[&str]) {
    let (crt, pem) = (format!("{name}.crt"), format!("{name}.key"));
    let mut arguments = vec![
        "req",
        "-x509",
        "-nodes",
        "-days",
        "30",
        "-multivalue-rdn",
        "-subj",
        NAME,
    ];
    arguments.extend(["-out", &crt, "-keyout", &pem]);
    arguments.extend(["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-newkey"]);
    arguments.extend(key);
    openssl(folder, &arguments);
    private(&folder.join(pem));
}

const EC: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

fn disk(folder: &Path, cert: &str, key: &str, bundle: Option<&str>) -> Disk {
    let config = DiskConfig {
        cert: folder.join(cert),
        key: folder.join(key),
        bundle: bundle.map(|bundle| folder.join(bundle)),
    };
    Disk::new(config, trust_domain())
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

/// OpenSSL's certificates begin when they are made.
fn now() -> UnixTime {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    UnixTime::from_secs(now + 1)
}

fn request(key: &LocalKey) -> AuthorityRequest {
    let serial = "4711";
    let subject = ca_subject()
        .with(muster_pki::x509::NameAttribute::SerialNumber, serial)
        .unwrap();
    AuthorityRequest {
        trust_domain: trust_domain(),
        csr: create_authority_csr(key, &trust_domain(), &subject).unwrap(),
        lifetime: Lifetime::from_secs(3600).unwrap(),
        now: now(),
    }
}

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap())
}

#[tokio::test]
async fn a_root_with_any_name_keeps_the_promises_of_an_upstream_authority() {
    let folder = tempfile::tempdir().unwrap();
    for (name, key) in [("ec", EC), ("rsa", &["rsa:2048"])] {
        make_root(folder.path(), name, key);
        let disk = disk(
            folder.path(),
            &format!("{name}.crt"),
            &format!("{name}.key"),
            None,
        );
        conformance::upstream_authority(&disk, &trust_domain(), now()).await;
    }
}

#[tokio::test]
async fn openssl_accepts_what_the_authority_signs_under_a_root_with_any_name() {
    let folder = tempfile::tempdir().unwrap();
    make_root(folder.path(), "root", EC);
    let disk = disk(folder.path(), "root.crt", "root.key", None);
    let key = key();
    let signed = disk.sign_authority(&request(&key)).await.unwrap();
    let root = Certificate::parse(signed.roots[0].der()).unwrap();
    let authority = Certificate::parse(&signed.chain[0]).unwrap();
    assert_eq!(authority.issuer(), root.subject(), "byte by byte");
    fs::write(folder.path().join("authority.der"), &signed.chain[0]).unwrap();
    openssl(
        folder.path(),
        &[
            "x509",
            "-inform",
            "DER",
            "-in",
            "authority.der",
            "-out",
            "authority.crt",
        ],
    );
    openssl(
        folder.path(),
        &["verify", "-x509_strict", "-CAfile", "root.crt", "authority.crt"],
    );
}

#[tokio::test]
async fn an_authority_below_a_ca_that_is_no_root_brings_the_chain_along() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_root(at, "root", EC);
    openssl(
        at,
        &[
            "req",
            "-new",
            "-nodes",
            "-subj",
            "/DC=org/DC=example/CN=issuing",
            "-out",
            "ca.csr",
            "-keyout",
            "ca.key",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
        ],
    );
    private(&at.join("ca.key"));
    fs::write(at.join("ca.ext"), "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n").unwrap();
    openssl(
        at,
        &[
            "x509",
            "-req",
            "-in",
            "ca.csr",
            "-CA",
            "root.crt",
            "-CAkey",
            "root.key",
            "-CAcreateserial",
            "-extfile",
            "ca.ext",
            "-days",
            "20",
            "-out",
            "ca.crt",
        ],
    );
    let alone = disk(at, "ca.crt", "ca.key", None);
    let refused = alone.sign_authority(&request(&key())).await.unwrap_err();
    assert!(
        matches!(refused, UpstreamError::Unusable { .. }),
        "it is no root: {refused}"
    );

    let disk = disk(at, "ca.crt", "ca.key", Some("root.crt"));
    conformance::upstream_authority(&disk, &trust_domain(), now()).await;
    let key = key();
    let signed = disk.sign_authority(&request(&key)).await.unwrap();
    assert_eq!(signed.chain.len(), 2);
    let upheld = UpheldAuthority::accept(key, &trust_domain(), &signed.chain, &signed.roots, now()).unwrap();
    assert_eq!(upheld.issuing().chain().len(), 2);
    assert_eq!(upheld.root().der(), signed.roots[0].der());
}

#[tokio::test]
async fn files_are_read_at_each_use_and_must_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_root(at, "one", EC);
    make_root(at, "two", EC);
    let copy = |from: &str, to: &str| fs::copy(at.join(from), at.join(to)).map(drop).unwrap();
    copy("one.crt", "root.crt");
    copy("one.key", "root.key");
    let disk = disk(at, "root.crt", "root.key", None);
    let first = disk.sign_authority(&request(&key())).await.unwrap();
    let known = disk.changed(&UpstreamBundle::default()).await.unwrap();
    assert_eq!(known.x509_authorities, first.roots);

    copy("two.crt", "root.crt");
    let refused = disk.sign_authority(&request(&key())).await.unwrap_err();
    assert!(matches!(refused, UpstreamError::Unusable { .. }), "{refused}");
    let told = disk.changed(&known).await.unwrap();
    assert_ne!(told, known, "the new root is told without a signature");

    copy("two.key", "root.key");
    let second = disk.sign_authority(&request(&key())).await.unwrap();
    assert_eq!(second.roots, told.x509_authorities);
    fs::remove_file(at.join("root.key")).unwrap();
    let away = disk.sign_authority(&request(&key())).await.unwrap_err();
    assert!(matches!(away, UpstreamError::Unavailable { .. }), "{away}");
}

#[tokio::test]
async fn a_key_that_everybody_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    make_root(folder.path(), "root", EC);
    fs::set_permissions(folder.path().join("root.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let disk = disk(folder.path(), "root.crt", "root.key", None);
    let refused = disk.sign_authority(&request(&key())).await.unwrap_err();
    assert!(refused.to_string().contains("root.key"), "{refused}");
    let _ = key().public_key();
}
