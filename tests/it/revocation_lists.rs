//! Revocation lists that OpenSSL makes, judged by `muster validate x509 --crl` and by OpenSSL itself.

use std::{fs, path::Path, process::Command};

use muster_tests::{binary, need_programs};

/// What `openssl ca` is told. The last sections are the extensions of lists, by the names that the story uses.
const SETTINGS: &str = "\
[ca]
default_ca = one
[one]
database = index.txt
crlnumber = crlnumber
default_md = sha256
default_crl_days = 1
[unnumbered]
database = index.txt
default_md = sha256
default_crl_days = 1
[plain]
authorityKeyIdentifier = keyid
[users]
issuingDistributionPoint = critical,@of_users
[of_users]
onlyuser = TRUE
[authorities]
issuingDistributionPoint = critical,@of_authorities
[of_authorities]
onlyCA = TRUE
[indirect]
issuingDistributionPoint = critical,@of_others
[of_others]
indirectCRL = TRUE
[reasons]
issuingDistributionPoint = critical,@of_some_reasons
[of_some_reasons]
onlysomereasons = keyCompromise
[place]
issuingDistributionPoint = critical,@at_a_place
[at_a_place]
fullname = URI:http://example.org/1.crl
[delta]
2.5.29.27 = critical,DER:020101
[unknown]
1.3.6.1.4.1.99999 = critical,DER:0500
";

/// What each list makes of a leaf that was not revoked: the words of our refusal, and whether OpenSSL takes it, where all its releases do the same.
const LISTS: [(&str, Option<&str>, Option<bool>); 8] = [
    ("plain", None, Some(true)),
    ("users", None, Some(true)),
    ("authorities", Some("(RFC 5280 6.3.3 (b))"), Some(false)),
    ("place", Some("(RFC 5280 6.3.3 (b))"), Some(false)),
    ("indirect", Some("an indirect one"), Some(false)),
    ("reasons", Some("some reasons alone"), Some(false)),
    ("unknown", Some("1.3.6.1.4.1.99999"), Some(false)),
    ("delta", Some("is a delta"), None),
];

fn openssl(folder: &Path, args: &[&str]) {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {said}");
}

/// An authority, and a leaf of serial number 77 that it issued.
fn pki(folder: &Path, authority: &str) {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let (ca_key, ca) = (format!("{authority}.key"), format!("{authority}.pem"));
    let usage = "keyUsage=critical,keyCertSign,cRLSign";
    let made = [
        "-keyout", &ca_key, "-out", &ca, "-subj", "/CN=one", "-days", "2", "-addext", usage,
    ];
    openssl(folder, &[&["req", "-x509"][..], &key, &made].concat());
    let made = ["-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/"];
    openssl(folder, &[&["req"][..], &key, &made].concat());
    let profile = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
                   subjectAltName=critical,URI:spiffe://example.org/web\n";
    fs::write(folder.join("profile"), profile).unwrap();
    let signed = [
        "x509",
        "-req",
        "-in",
        "leaf.csr",
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-set_serial",
        "77",
        "-out",
    ];
    let leaf = format!("{authority}-leaf.pem");
    openssl(
        folder,
        &[&signed[..], &[&leaf, "-days", "1", "-extfile", "profile"]].concat(),
    );
    fs::write(folder.join("index.txt"), "").unwrap();
}

/// `openssl ca` on the authority `one`.
fn ca(folder: &Path, args: &[&str]) {
    let by = [
        "ca", "-config", "settings", "-keyfile", "one.key", "-cert", "one.pem",
    ];
    openssl(folder, &[&by[..], args].concat());
}

/// A list with these extensions, in both forms.
fn list(folder: &Path, extensions: &str, name: &str) {
    let (pem, der) = (format!("{name}.crl.pem"), format!("{name}.crl"));
    ca(folder, &["-gencrl", "-crlexts", extensions, "-out", &pem]);
    openssl(folder, &["crl", "-in", &pem, "-outform", "DER", "-out", &der]);
}

/// What muster says of the leaf with a list, the same in both forms; and whether OpenSSL takes it.
fn judged(folder: &Path, name: &str) -> (bool, String, bool) {
    let ours = |list: &str| {
        let mut muster = Command::new(binary("muster"));
        muster.current_dir(folder).env_clear();
        muster.args([
            "validate",
            "x509",
            "one-leaf.pem",
            "--bundle",
            "example.org=one.pem",
        ]);
        let output = muster.args(["--crl", list]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success(), text.replace(list, "LIST"))
    };
    let (pem, der) = (format!("{name}.crl.pem"), format!("{name}.crl"));
    let (valid, text) = ours(&pem);
    assert_eq!(ours(&der), (valid, text.clone()), "the same list in both forms");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "verify",
        "-crl_check",
        "-CAfile",
        "one.pem",
        "-CRLfile",
        &pem,
        "one-leaf.pem",
    ]);
    let theirs = openssl.current_dir(folder).output().unwrap();
    (valid, text, theirs.status.success())
}

#[test]
fn lists_that_openssl_makes_are_judged_as_openssl_judges_them_or_the_reason_is_told() {
    if !need_programs(&["openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("settings"), SETTINGS).unwrap();
    fs::write(folder.join("crlnumber"), "01\n").unwrap();
    pki(folder, "one");

    for (name, refusal, openssl_takes_it) in LISTS {
        list(folder, name, name);
        let (valid, text, theirs) = judged(folder, name);
        let expected = (refusal.is_none(), openssl_takes_it.unwrap_or(theirs));
        assert_eq!((valid, theirs), expected, "{name}: {text}");
        let expected = refusal.unwrap_or("Revocation lists  LIST, number ");
        assert!(text.contains(expected), "{name}: {text}");
    }

    // Without a number, which OpenSSL does not ask for.
    ca(
        folder,
        &[
            "-name",
            "unnumbered",
            "-gencrl",
            "-crlexts",
            "plain",
            "-out",
            "unnumbered.crl.pem",
        ],
    );
    openssl(
        folder,
        &[
            "crl",
            "-in",
            "unnumbered.crl.pem",
            "-outform",
            "DER",
            "-out",
            "unnumbered.crl",
        ],
    );
    let (valid, text, theirs) = judged(folder, "unnumbered");
    assert!(!valid && theirs && text.contains("(RFC 5280 5.2.3)"), "{text}");

    for (how, reason) in [
        (["-crl_reason", "keyCompromise"], "keyCompromise"),
        (["-crl_reason", "unspecified"], "unspecified"),
        (["-crl_hold", "holdInstructionReject"], "certificateHold"),
        (["-crl_CA_compromise", "20260101000000Z"], "cACompromise"),
    ] {
        fs::write(folder.join("index.txt"), "").unwrap();
        ca(folder, &[&["-revoke", "one-leaf.pem"][..], &how].concat());
        for extensions in ["plain", "users"] {
            list(folder, extensions, "against");
            let (valid, text, theirs) = judged(folder, "against");
            assert!(!valid && !theirs, "{reason}: {text}");
            let begin = "invalid X.509-SVID: the certificate with serial number 77 was revoked at ";
            let end = format!(": {reason} (RFC 5280 6.3.3)\n");
            assert!(text.starts_with(begin) && text.ends_with(&end), "{text}");
        }
    }
    // What clears nothing can't condemn: a list of somebody who has taken the authority's name.
    fs::rename(folder.join("one.pem"), folder.join("kept.pem")).unwrap();
    fs::rename(folder.join("one-leaf.pem"), folder.join("kept-leaf.pem")).unwrap();
    pki(folder, "one");
    list(folder, "plain", "forged");
    fs::rename(folder.join("kept.pem"), folder.join("one.pem")).unwrap();
    fs::rename(folder.join("kept-leaf.pem"), folder.join("one-leaf.pem")).unwrap();
    let (valid, text, theirs) = judged(folder, "forged");
    assert!(
        !valid && !theirs && text.contains("(RFC 5280 6.3.3 (g))"),
        "{text}"
    );
}
