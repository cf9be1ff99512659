//! The server's TCP door as strangers see it.

use std::process::{Command, Stdio};

use muster_tests::{Cluster, Settings};

fn s_client(cluster: &Cluster, args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", cluster.server_address(), "-alpn", "h2"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[test]
fn only_tls_1_3_is_spoken() {
    let cluster = Cluster::start(&Settings::default());
    let (_, said) = s_client(&cluster, &["-tls1_3"]);
    assert!(
        said.contains("ALPN protocol: h2") && said.contains("TLSv1.3"),
        "{said}"
    );
    for old in ["-tls1_2", "-tls1_1", "-tls1"] {
        let (succeeded, said) = s_client(&cluster, &[old]);
        assert!(!succeeded && !said.contains("ALPN protocol: h2"), "{old}: {said}");
    }
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let cluster = Cluster::start(&Settings::default());
    let second = Command::new(muster_tests::binary("muster-server"))
        .args(["run", "--config"])
        .arg(cluster.path().join("server.toml"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said =
        String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
    assert!(said.contains("in use by another server"), "{said}");
}

#[test]
fn every_mistake_of_a_configuration_is_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::write(
        &path,
        "trust_domain = \"Example.org\"\nlisten = \"nowhere\"\nsurprise = 1\n[ca]\nkey = \"dsa\"\n",
    )
    .unwrap();
    let output = Command::new(muster_tests::binary("muster-server"))
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["trust_domain", "listen", "surprise", "ca.key"] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}
