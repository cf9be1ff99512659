//! The server's TCP door, seen by OpenSSL and by a peer with the wrong papers.

use std::process::{Command, Stdio};

use muster_pki::{
    Signer,
    bundle::Bundle,
    x509::{RootProfile, Subject, X509SvidProfile, ca_subject, issue_root, issue_x509_svid},
};
use muster_tests::{Cluster, Identity, Settings, tcp_channel_trusting};

/// What `openssl s_client` says after a handshake with these arguments.
fn s_client(cluster: &Cluster, args: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &cluster.tcp_address().to_string()])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_tcp_door_gives_no_ticket_to_come_back_with() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let said = s_client(&cluster, &["-tls1_3", "-alpn", "h2", "-ign_eof"]);
    assert!(!said.contains("Post-Handshake New Session Ticket"), "{said}");
}

#[test]
fn openssl_accepts_what_the_server_signs() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let out = cluster.path().join("minted");
    cluster.muster_ok(&[
        "mint",
        "x509",
        "spiffe://example.org/web",
        "--dns",
        "web.example.org",
        "--write",
        out.to_str().unwrap(),
    ]);
    let verified = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-verify_hostname",
            "web.example.org",
            "-CAfile",
        ])
        .args([out.join("bundle.pem"), out.join("svid.pem")])
        .output()
        .expect("openssl is installed");
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-text", "-in"])
        .arg(out.join("svid.pem"))
        .output();
    let text = String::from_utf8(text.expect("openssl is installed").stdout).unwrap();
    for part in [
        "Subject: C = US, O = SPIRE",
        "URI:spiffe://example.org/web, DNS:web.example.org",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment, Key Agreement",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_certificate_of_an_authority_that_nobody_knows_is_refused_at_the_door() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let (root_key, key) = (Identity::key(), Identity::key());
    let now = muster_identity::UnixTime::from_secs(time::OffsetDateTime::now_utc().unix_timestamp());
    let lifetime = muster_identity::Lifetime::from_secs(600).unwrap();
    // The right trust domain and a node's name, from an authority of the caller's own.
    let root = RootProfile {
        trust_domain: "example.org".parse().unwrap(),
        subject: ca_subject(),
        now,
        lifetime,
    };
    let root = issue_root(root_key, &root).unwrap();
    let profile = X509SvidProfile {
        id: "spiffe://example.org/spire/agent/join_token/x".parse().unwrap(),
        public_key: key.public_key().clone(),
        dns_names: Vec::new(),
        subject: Subject::Usual,
        now,
        lifetime,
    };
    let forged = Identity {
        svid: issue_x509_svid(&root, &profile).unwrap(),
        key,
    };
    let bundle = Bundle::from_der_concat(
        "example.org".parse().unwrap(),
        &cluster.bundle().x509_authorities[0].asn1,
    )
    .unwrap();
    cluster.block_on(async {
        // A handshake of TLS 1.3 ends on the client's side before the server has judged it, so the refusal may come with the call.
        let refused = match tcp_channel_trusting(cluster.tcp_address(), bundle, Some(&forged)).await {
            Err(_) => true,
            Ok(channel) => {
                let request = muster_proto::spire::server::bundle::GetBundleRequest { output_mask: None };
                let mut client =
                    muster_proto::spire::server::bundle::bundle_client::BundleClient::new(channel);
                client.get_bundle(request).await.is_err()
            }
        };
        assert!(
            refused,
            "even what is open to everybody is closed to a forged certificate"
        );
    });
}
