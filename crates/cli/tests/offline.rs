//! What the command prints, and its exit codes, where no daemon is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    process::{Command, Output},
    sync::Arc,
};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey, Signer,
    bundle::Bundle,
    jwt::{Audience, JwtAuthority, JwtSvidProfile, KeyId, TokenId, issue_jwt_svid},
    x509::{RootProfile, Subject, X509SvidProfile, ca_subject, issue_root, issue_x509_svid},
};
use tempfile::TempDir;

const NOW: &str = "2026-11-23T20:21:00Z";
const LATER: &str = "2026-11-23T22:21:00Z";

/// Runs the command as from a script: no terminal, no settings of the person who runs the tests.
fn muster(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster"))
        .env_clear()
        .args(args)
        .output()
        .unwrap()
}

fn says(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// A folder with a bundle of example.org, a chain and a token of spiffe://example.org/web, all made at [`NOW`].
struct Files(TempDir);

impl Files {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = UnixTime::from_secs(1_795_465_260);
        let hour = Lifetime::from_secs(3_600).unwrap();
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let trust_domain: muster_identity::TrustDomain = "example.org".parse().unwrap();
        let profile = RootProfile {
            trust_domain: trust_domain.clone(),
            subject: ca_subject(),
            now,
            lifetime: Lifetime::from_secs(86_400).unwrap(),
        };
        let root = issue_root(key.clone(), &profile).unwrap();
        let id: muster_identity::SpiffeId = "spiffe://example.org/web".parse().unwrap();
        let profile = X509SvidProfile {
            id: id.clone(),
            public_key: key.public_key().clone(),
            dns_names: vec!["web.example.org".parse().unwrap()],
            subject: Subject::default(),
            now,
            lifetime: hour,
        };
        let svid = issue_x509_svid(&root, &profile).unwrap();
        let key_id: KeyId = "key-1".parse().unwrap();
        let profile = JwtSvidProfile {
            id,
            audience: Audience::new(vec!["billing".into()]).unwrap(),
            issuer: None,
            issued_at: now,
            expires_at: now.saturating_add(hour.duration()),
            token_id: TokenId::Absent,
        };
        let token = issue_jwt_svid(&*key, &key_id, &profile).unwrap();
        let mut bundle = Bundle::new(trust_domain);
        bundle.put_x509_authority(root.authority().clone());
        bundle
            .put_jwt_authority(JwtAuthority::new(key_id, key.public_key().clone()))
            .unwrap();
        bundle.set_sequence(Some(7));

        let files = Self(folder);
        files.put("bundle.json", bundle.to_document().as_bytes());
        files.put("bundle.pem", bundle.x509_pem().as_bytes());
        files.put("chain.der", &svid.chain_der_concat());
        files.put("token", token.token().as_bytes());
        files.put("token-with-newline", format!("{}\n", token.token()).as_bytes());
        files.put("nonsense", b"nonsense");
        files
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.path().join(name), content).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn bundle(&self, name: &str) -> String {
        format!("example.org={}", self.path(name))
    }
}

#[test]
fn ids_are_judged_with_the_section_that_says_so() {
    let (code, out, err) = says(&muster(&["validate", "id", "spiffe://example.org/web"]));
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            0,
            "valid SPIFFE ID\nTrust domain  example.org\nPath          /web\n",
            ""
        )
    );
    let (code, out, err) = says(&muster(&["validate", "id", "spiffe://Example.org/web"]));
    let why = "trust domain holds 'E', allowed are a-z, 0-9, '.', '-' and '_'";
    assert_eq!(
        (code, out, err),
        (
            1,
            format!("invalid SPIFFE ID: {why} (SPIFFE-ID 2.1)\n"),
            String::new()
        )
    );
    let (code, out, _) = says(&muster(&[
        "--output",
        "json",
        "validate",
        "id",
        "spiffe://example.org//web",
    ]));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &json["valid"], &json["section"]),
        (1, &false.into(), &"SPIFFE-ID 2.2".into())
    );
}

#[test]
fn a_chain_is_valid_against_its_bundle_in_every_form_and_not_after_its_end() {
    let files = Files::make();
    for bundle in ["bundle.json", "bundle.pem"] {
        let args = [
            "validate",
            "x509",
            &files.path("chain.der"),
            "--bundle",
            &files.bundle(bundle),
            "--at",
            NOW,
        ];
        let (code, out, err) = says(&muster(&args));
        assert_eq!((code, err.as_str()), (0, ""));
        for line in [
            "valid X.509-SVID\n",
            "SPIFFE ID      spiffe://example.org/web\n",
            "Valid until    2026-11-23T21:21:00Z\n",
            "DNS names      web.example.org\n",
        ] {
            assert!(out.contains(line), "{out}");
        }
    }
    let args = [
        "validate",
        "x509",
        &files.path("chain.der"),
        "--bundle",
        &files.bundle("bundle.pem"),
        "--at",
        LATER,
    ];
    let (code, out, _) = says(&muster(&args));
    assert_eq!(code, 1);
    assert!(
        out.starts_with("invalid X.509-SVID: ") && out.contains("X509-SVID 5"),
        "{out}"
    );

    let other = format!("other.org={}", files.path("bundle.pem"));
    let (code, out, _) = says(&muster(&[
        "validate",
        "x509",
        &files.path("chain.der"),
        "--bundle",
        &other,
    ]));
    assert_eq!(
        (code, out.as_str()),
        (
            1,
            "invalid X.509-SVID: no bundle for the trust domain example.org (Workload API 4.6)\n"
        )
    );
    let args = [
        "validate",
        "x509",
        &files.path("nonsense"),
        "--bundle",
        &files.bundle("bundle.pem"),
    ];
    assert_eq!(muster(&args).status.code(), Some(1));
}

#[test]
fn a_token_is_judged_by_time_audience_and_key() {
    let files = Files::make();
    let bundle = files.bundle("bundle.json");
    let run = |token: &str, more: &[&str]| {
        let token = files.path(token);
        let args = [&["validate", "jwt", &token, "--bundle", &bundle][..], more].concat();
        says(&muster(&args))
    };
    for token in ["token", "token-with-newline"] {
        let (code, out, err) = run(token, &["--audience", "billing", "--at", NOW]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(
            out.contains("Issuer     https://example.org\n") && out.contains("Authority  key-1\n"),
            "{out}"
        );
        assert!(!out.contains("note:"), "{out}");
    }
    let (code, out, _) = run("token", &["--at", NOW]);
    assert_eq!(code, 0);
    assert!(
        out.ends_with("note: the audience was not checked: name yours with --audience\n"),
        "{out}"
    );
    let (code, out, _) = run("token", &["--audience", "shipping", "--at", NOW]);
    assert!(code == 1 && out.contains("(JWT-SVID 3.2)"), "{out}");
    let (code, out, _) = run("token", &["--audience", "billing", "--at", LATER]);
    assert!(code == 1 && out.contains("(JWT-SVID 3.3)"), "{out}");
    let (code, out, _) = run("nonsense", &["--audience", "billing"]);
    assert!(code == 1 && out.starts_with("invalid JWT-SVID: "), "{out}");
}

#[test]
fn an_audit_log_without_its_beginning_is_whole_for_whoever_says_that_it_was_put_away() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit");
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let pem = folder.path().join("audit-key.pem");
    std::fs::write(&pem, muster_audit::public_key_to_pem(key.public_key())).unwrap();
    let now = Arc::new(|| UnixTime::from_secs(1_795_465_260));
    let settings = muster_audit::Settings::new("example.org/audit", key, now).with_file_bytes(1);
    let audit = muster_audit::Audit::open(&log, settings).unwrap();
    let event = || {
        let actor = muster_audit::Actor::local(0, 1);
        muster_audit::Event::new(actor, muster_audit::Action::NodeBan, muster_audit::Outcome::Done)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for _ in 0..3 {
        // As many as are signed at once, so that each time a file begins.
        let events = (0..1_000).map(|_| event()).collect();
        runtime.block_on(audit.record_all(events)).unwrap();
    }
    audit.close();

    let (log, pem) = (log.display().to_string(), pem.display().to_string());
    let verify = |more: &[&str]| {
        let args = [
            &["audit", "verify", &log, "--key", &pem, "--output", "json"],
            more,
        ]
        .concat();
        let (code, out, err) = says(&muster(&args));
        let json: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        (code, json, err)
    };
    let (code, told, _) = verify(&[]);
    assert_eq!(
        (code, &told["first"], &told["records"]),
        (0, &0.into(), &3_000.into()),
        "{told}"
    );
    let kept = folder.path().join("kept");
    std::fs::copy(format!("{log}/checkpoint"), &kept).unwrap();

    let mut files: Vec<_> = std::fs::read_dir(&log)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|file| file.display().to_string().contains("journal-"));
    files.sort();
    for file in &files[..2] {
        std::fs::remove_file(file).unwrap();
    }
    let (code, told, _) = verify(&[]);
    assert_eq!((code, &told["whole"]), (1, &false.into()), "{told}");
    assert!(
        told["why"].as_str().unwrap().ends_with("by --first 2000"),
        "{told}"
    );
    let (code, told, _) = verify(&["--first", "1999"]);
    assert_eq!((code, &told["first_damaged"]), (1, &1_999.into()), "{told}");
    let (code, told, _) = verify(&["--first", "2000", "--checkpoint", kept.to_str().unwrap()]);
    assert_eq!(
        (code, &told["first"], &told["signed"]),
        (0, &2_000.into(), &3_000.into()),
        "{told}"
    );

    // Without saying so, what is remembered of the part that is gone changes nothing.
    let (code, told, _) = verify(&["--checkpoint", kept.to_str().unwrap()]);
    assert_eq!((code, &told["whole"]), (1, &false.into()), "{told}");

    // All but a file that has just begun: what was signed is there, and no record.
    std::fs::remove_file(&files[2]).unwrap();
    let (code, told, _) = verify(&["--first", "3000"]);
    assert_eq!((code, &told["records"]), (0, &3_000.into()), "{told}");
    assert_eq!(verify(&[]).0, 1);
}

#[test]
fn a_bundle_is_judged_for_the_trust_domain_that_is_named() {
    let files = Files::make();
    let args = [
        "validate",
        "bundle",
        &files.path("bundle.json"),
        "--trust-domain",
        "example.org",
    ];
    let (code, out, _) = says(&muster(&args));
    let expected = "\
valid bundle
Trust domain       example.org
X.509 authorities  1
JWT keys           1
WIT keys           0
Sequence           7
";
    assert_eq!((code, out.as_str()), (0, expected));
    let args = [
        "validate",
        "bundle",
        &files.path("nonsense"),
        "--trust-domain",
        "example.org",
    ];
    let (code, out, _) = says(&muster(&args));
    assert_eq!(code, 1);
    assert!(out.starts_with("invalid bundle: "), "{out}");
}

#[test]
fn a_daemon_that_is_not_there_is_exit_code_3_with_the_next_step() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock").display().to_string();
    for command in [
        &["entry", "list"][..],
        &["node", "count"],
        &["token", "create"],
        &["bundle", "show"],
        &["mint", "jwt", "spiffe://example.org/a", "--audience", "a"],
        &["health"],
        &["log", "level"],
    ] {
        let (code, out, err) = says(&muster(&[command, &["--socket", &socket]].concat()));
        assert_eq!((code, out.as_str()), (3, ""), "{command:?}");
        let expected = format!(
            "error: could not reach the server at {socket}: no such socket\n  next: start the daemon (or `muster dev`), or name its socket with --socket or MUSTER_SERVER_SOCKET\n"
        );
        assert_eq!(err, expected, "{command:?}");
    }
    let (code, _, err) = says(&muster(&["fetch", "x509", "--socket", &format!("unix:{socket}")]));
    assert_eq!(code, 3);
    assert!(
        err.starts_with("error: could not reach the Workload API at "),
        "{err}"
    );
    let (code, _, err) = says(&muster(&[
        "--output", "json", "health", "--agent", "--socket", &socket,
    ]));
    let json: serde_json::Value = serde_json::from_str(&err).unwrap();
    assert_eq!((code, &json["error"]["kind"]), (3, &"unreachable".into()));
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_names_the_flag() {
    for (args, named) in [
        (&["frobnicate"][..], "frobnicate"),
        (
            &[
                "entry",
                "create",
                "spiffe://Example.org/a",
                "--parent",
                "spiffe://example.org/n",
            ],
            "SPIFFE ID",
        ),
        (
            &["entry", "create", "spiffe://example.org/a", "--parent", "x"],
            "--parent",
        ),
        (
            &[
                "entry",
                "create",
                "spiffe://example.org/a",
                "--parent",
                "spiffe://a/b",
            ],
            "no --selector is given",
        ),
        (&["entry", "update", "some-id"], "nothing to change is given"),
        (
            &["entry", "update", "some-id", "--hint", "x", "--clear", "hint"],
            "both given and cleared",
        ),
        (&["token", "create", "--ttl", "0"], "--ttl"),
        (
            &["fetch", "x509", "--socket", "tcp:127.0.0.1:1"],
            "tcp:127.0.0.1:1",
        ),
        (
            &[
                "validate",
                "x509",
                "/nonexistent",
                "--bundle",
                "example.org=/nonexistent",
            ],
            "/nonexistent",
        ),
        (
            &["validate", "jwt", "-", "--bundle", "example.org"],
            "TRUST-DOMAIN=FILE",
        ),
    ] {
        let (code, out, err) = says(&muster(args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(
            err.starts_with("error: ") && err.contains(named),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn every_command_has_help() {
    let (code, out, _) = says(&muster(&["--help"]));
    assert_eq!(code, 0);
    let listed = out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let nouns: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(
        nouns.contains(&"entry") && nouns.contains(&"validate"),
        "{nouns:?}"
    );
    for noun in nouns {
        assert_eq!(muster(&[noun, "--help"]).status.code(), Some(0), "{noun}");
    }
}

#[test]
fn nothing_is_coloured_where_no_person_looks() {
    let (_, out, err) = says(&muster(&["entry", "show", "x", "--socket", "/nonexistent"]));
    assert!(!format!("{out}{err}").contains('\x1b'));
}
