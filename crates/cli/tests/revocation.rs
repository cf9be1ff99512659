//! `muster validate x509 --crl`: revocation lists, offline.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use time::OffsetDateTime;

const NOW: i64 = 1_800_000_000;
const AT: &str = "2027-01-15T08:00:00Z";
const LATER: &str = "2027-01-15T08:30:00Z";

fn moment(after_now: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(NOW + after_now).unwrap()
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (moment(-60), moment(7200));
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    (pem, Issuer::new(params, key))
}

/// A folder with the bundle and an X.509-SVID with serial number 77 of one authority, and lists of this one and of another.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    let (bundle, issuer) = authority("one");
    put("bundle.pem", bundle.as_bytes());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(SerialNumber::from(vec![77]));
    params.subject_alt_names = vec![SanType::URI("spiffe://example.org/web".try_into().unwrap())];
    (params.not_before, params.not_after) = (moment(-60), moment(3600));
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    put("chain.pem", leaf.pem().as_bytes());

    let list = |revoked: &[u8], issuer: &Issuer<'static, KeyPair>| {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(vec![*serial]),
            revocation_time: moment(-30),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: moment(-60),
            next_update: moment(600),
            crl_number: SerialNumber::from(vec![9]),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(issuer).unwrap()
    };
    let (clean, against) = (list(&[1, 2], &issuer), list(&[1, 77], &issuer));
    let other = list(&[77], &authority("other").1);
    put("clean.pem", clean.pem().unwrap().as_bytes());
    put("clean.der", clean.der());
    put("against.pem", against.pem().unwrap().as_bytes());
    put("against.der", against.der());
    put("other.pem", other.pem().unwrap().as_bytes());
    put(
        "both.pem",
        (other.pem().unwrap() + &clean.pem().unwrap()).as_bytes(),
    );
    put("nonsense.pem", b"nonsense");
    put("nonsense.der", b"\xff\xff");
    folder
}

/// Its exit code and what it prints, as from a script.
fn validated(folder: &Path, at: &str, lists: &[&str], output: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.env_clear().current_dir(folder);
    command.args(["--output", output, "validate", "x509", "chain.pem", "--at", at]);
    command.args(["--bundle", "example.org=bundle.pem"]);
    for list in lists {
        command.args(["--crl", list]);
    }
    let output = command.output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_chain_that_no_list_names_is_valid_and_the_lists_are_told() {
    let folder = folder();
    for list in ["clean.pem", "clean.der"] {
        let (code, out) = validated(folder.path(), AT, &[list], "table");
        assert_eq!(code, 0, "{out}");
        let line = format!("Revocation lists  {list}, number 9, until 2027-01-15T08:10:00Z\n");
        assert!(out.contains(&line) && !out.contains("note:"), "{out}");
    }
    let (code, out) = validated(folder.path(), AT, &["both.pem"], "table");
    assert_eq!(code, 0, "{out}");
    let note = "note: a revocation list in both.pem is not used: it comes from none of the chain's issuers\n";
    assert!(out.ends_with(note), "{out}");
    let (_, out) = validated(folder.path(), AT, &[], "table");
    assert!(!out.contains("Revocation lists"), "{out}");
}

#[test]
fn a_revoked_one_is_refused_with_serial_number_reason_and_section() {
    let folder = folder();
    let why = "the certificate with serial number 77 was revoked at 2027-01-15T07:59:30Z: keyCompromise";
    for lists in [
        &["against.pem"][..],
        &["against.der"],
        &["clean.pem", "other.pem", "against.pem"],
    ] {
        let (code, out) = validated(folder.path(), AT, lists, "table");
        assert_eq!(
            (code, out),
            (1, format!("invalid X.509-SVID: {why} (RFC 5280 6.3.3)\n"))
        );
    }
    let (code, out) = validated(folder.path(), AT, &["against.pem"], "json");
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(
        json,
        serde_json::json!({ "valid": false, "why": why, "section": "RFC 5280 6.3.3" })
    );
}

#[test]
fn lists_that_do_not_help_are_named() {
    let folder = folder();
    for (at, lists, expected) in [
        (
            LATER,
            &["other.pem", "clean.pem"][..],
            "clean.pem: revocation list 2 is out of date: a newer one was due at 2027-01-15T08:10:00Z (RFC 5280 5.1.2.5)",
        ),
        (
            AT,
            &["other.pem"],
            "no revocation list comes from the issuer of the certificate with serial number 77: whether it was revoked is not known (RFC 5280 6.3.3)",
        ),
        (
            AT,
            &["clean.pem", "nonsense.pem"],
            "nonsense.pem is neither PEM nor DER of revocation lists (RFC 5280 5.1)",
        ),
        (
            AT,
            &["nonsense.der"],
            "nonsense.der: not one DER revocation list (RFC 5280 5.1)",
        ),
        (
            AT,
            &["bundle.pem"],
            "bundle.pem is neither PEM nor DER of revocation lists (RFC 5280 5.1)",
        ),
    ] {
        let (code, out) = validated(folder.path(), at, lists, "table");
        assert_eq!((code, out), (1, format!("invalid X.509-SVID: {expected}\n")));
    }
    let (code, _) = validated(folder.path(), AT, &["not-there.pem"], "table");
    assert_eq!(code, 2, "a file that is not there is no answer");
}
