//! A node that proves itself by a certificate of another PKI, each time anew.

use std::{collections::BTreeSet, path::Path, process::Command};

use muster_tests::{SpireServer, SpireSettings, need_programs, spire_is_here, until};

use super::{Joined, OurAgent, paths};

#[test]
fn our_agent_proves_itself_anew_to_a_spire_server_and_comes_back_after_an_eviction() {
    if !spire_is_here() || !need_programs(&["openssl"]) {
        return;
    }
    let pki = tempfile::tempdir().unwrap();
    let dir = pki.path().display().to_string();
    machine(pki.path());
    let plugins =
        format!("NodeAttestor \"x509pop\" {{ plugin_data {{ ca_bundle_path = \"{dir}/ca.pem\" }} }}");
    let settings = SpireSettings {
        server: "agent_ttl = \"20s\"",
        plugins: plugins.leak(),
        ..SpireSettings::default()
    };
    let server = SpireServer::start(&settings);
    let config = format!(
        "[node_attestor.x509pop]\ncertificate_path = \"{dir}/machine.crt\"\nprivate_key_path = \"{dir}/machine.key\"\n"
    );
    let agent = OurAgent::join_by_proof(server.path(), &server.home(), &config);
    assert!(
        agent
            .node
            .starts_with("spiffe://example.org/spire/agent/x509pop/"),
        "{}",
        agent.node
    );
    let joined = Joined { agent, server };
    joined.register("/proven", &[]);
    let watching = joined
        .agent
        .watching("the identity", |paths| paths == ["/proven"]);
    assert_eq!(joined.shown("Can re-attest").as_deref(), Some("true"));

    // With each answer the certificate before it ends at once, and the connection that shows it with it.
    let mut certificates = BTreeSet::new();
    until("three certificates", || {
        certificates.extend(joined.shown("Serial number"));
        certificates.len() >= 3
    });
    joined.register("/later", &[]);
    watching.event_where("both", |event| {
        assert_ne!(event["event"], "error", "{event}");
        paths(event) == ["/later", "/proven"]
    });

    let node = joined.agent.node.clone();
    joined.server.tool().ok(&["agent", "evict", "-spiffeID", &node]);
    until("the node is back", || joined.shown("Serial number").is_some());
    joined.register("/again", &[]);
    watching.event_where("three identities", |event| {
        assert_ne!(event["event"], "error", "{event}");
        paths(event) == ["/again", "/later", "/proven"]
    });
}

/// The certificate and the key of a machine, from an authority that has nothing to do with SPIFFE.
fn machine(dir: &Path) {
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl")
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args:?}: {said}");
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let mut authority = vec!["req", "-x509"];
    authority.extend(key);
    authority.extend([
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=machines",
        "-days",
        "2",
    ]);
    openssl(&authority);
    let mut request = vec!["req"];
    request.extend(key);
    request.extend([
        "-keyout",
        "machine.key",
        "-out",
        "machine.csr",
        "-subj",
        "/CN=web-1",
    ]);
    openssl(&request);
    std::fs::write(dir.join("use"), "keyUsage=critical,digitalSignature\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "machine.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "machine.crt",
        "-days",
        "2",
        "-extfile",
        "use",
    ]);
}
