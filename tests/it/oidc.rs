//! OAuth's side of the world: whoever takes OpenID Connect tokens takes ours, by the issuer's URL alone.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muster_tests::{AcmeDirectory, Cluster, Process, Settings, Web, client, need, need_programs, until};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What go-oidc, an unchanged relying party that knows the issuer's URL and nothing else, makes of a token.
fn rely_on(program: &Path, issuer: &str, web: &Web, audience: &str, token: &str) -> Value {
    let mut command = Command::new(program);
    command
        .args(["rely-on", issuer])
        .arg(web.ca_file())
        .args([audience, token]);
    let process = Process::start("relying party", &mut command);
    process.event_where("its verdict", |event| event["event"].is_string())
}

fn relying_party() -> Option<PathBuf> {
    let program = client("go-client");
    need("the Go client, which tests/run builds", program.is_some());
    program
}

/// The issuer is in every token, so its port must be known before the server is.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

fn settings(server: String) -> Settings {
    Settings {
        // A story's settings live as long as it does.
        server: Box::leak(server.into_boxed_str()),
        ..Settings::default()
    }
}

fn token(cluster: &Cluster, audience: &str) -> String {
    cluster
        .muster_ok(&[
            "mint",
            "jwt",
            "spiffe://example.org/batch",
            "--audience",
            audience,
        ])
        .trim()
        .to_owned()
}

#[test]
fn a_relying_party_takes_our_tokens_by_discovery_until_their_key_is_revoked() {
    let Some(program) = relying_party() else { return };
    let web = Web::new();
    let port = free_port();
    let issuer = format!("https://127.0.0.1:{port}");
    let cluster = Cluster::start_server_only(&settings(format!(
        "[ca]\njwt_issuer = \"{issuer}\"\n[oidc]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        web.path("cert.pem").display(),
        web.path("key.pem").display()
    )));
    let old = token(&cluster, "models");
    let verdict = rely_on(&program, &issuer, &web, "models", &old);
    assert_eq!(verdict["subject"], "spiffe://example.org/batch", "{verdict}");
    assert_eq!(verdict["issuer"], issuer.as_str());
    let other = rely_on(&program, &issuer, &web, "others", &old);
    assert_eq!(other["code"], "Token", "{other}");

    cluster.muster_ok(&["authority", "rotate", "jwt", "--revoke", "--now"]);
    let refused = rely_on(&program, &issuer, &web, "models", &old);
    assert_eq!(refused["code"], "Token", "{refused}");
    let new = rely_on(&program, &issuer, &web, "models", &token(&cluster, "models"));
    assert_eq!(new["event"], "accepted", "{new}");

    // A certificate that somebody else renews is taken up without a restart: the old authority knows it no more.
    let renewed = Web::new();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(renewed.path(name), web.path(name)).unwrap();
    }
    until("the new certificate", || {
        let verdict = rely_on(&program, &issuer, &renewed, "models", &token(&cluster, "models"));
        verdict["event"] == "accepted"
    });
}

#[test]
fn discovery_gets_a_certificate_by_acme_and_renews_it() {
    let Some(program) = relying_party() else { return };
    // Renewed when a third of it is left: four seconds on.
    let acme = AcmeDirectory::start_short("localhost", Duration::from_secs(6));
    let door = SocketAddr::from(([127, 0, 0, 1], free_port()));
    acme.prove_at(door);
    let issuer = format!("https://localhost:{}", door.port());
    let cluster = Cluster::start_server_only(&settings(format!(
        "[ca]\njwt_issuer = \"{issuer}\"\n[federation]\nallow_loopback = true\n[oidc]\nlisten = \"{door}\"\n[oidc.acme]\n{}",
        acme.config()
    )));
    cluster.server().line("its certificate", |line| {
        line.contains("shows a new certificate") && line.contains("OIDC discovery")
    });
    let accepted = || {
        let token = token(&cluster, "models");
        rely_on(&program, &issuer, acme.web(), "models", &token)["event"] == "accepted"
    };
    until("a relying party that believes it", accepted);
    let before = acme.orders();
    until("the renewal", || acme.orders() > before);
    until("a relying party that believes the new one", accepted);

    // Account, key and certificate are kept, sealed, and apart from the bundle endpoint's.
    let kept = std::fs::read(cluster.path().join("server/data/acme-oidc")).unwrap();
    assert!(!String::from_utf8_lossy(&kept).contains("PRIVATE KEY"));
    assert!(!cluster.path().join("server/data/acme").exists());
}

#[test]
fn a_relying_party_takes_our_tokens_through_a_proxy_before_a_unix_socket() {
    let Some(program) = relying_party() else { return };
    let web = Web::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("https://{}", listener.local_addr().unwrap());
    let cluster = Cluster::start_server_only(&settings(format!(
        "[ca]\njwt_issuer = \"{issuer}\"\n[oidc]\nsocket = \"{{dir}}/server/oidc.sock\"\n"
    )));
    let acceptor = TlsAcceptor::from(web.server("127.0.0.1", false, |_| {}));
    let socket = cluster.path().join("server/oidc.sock");
    listener.set_nonblocking(true).unwrap();
    cluster.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut outside) = acceptor.accept(stream).await else {
                continue;
            };
            let mut inside = UnixStream::connect(&socket).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut outside, &mut inside).await });
        }
    });
    let verdict = rely_on(&program, &issuer, &web, "models", &token(&cluster, "models"));
    assert_eq!(verdict["subject"], "spiffe://example.org/batch", "{verdict}");
}

#[test]
fn a_proxy_finds_discovery_on_a_unix_socket_and_only_for_its_hosts() {
    if !need_programs(&["curl"]) {
        return;
    }
    let cluster = Cluster::start_server_only(&settings(
        "[oidc]\nsocket = \"{dir}/server/oidc.sock\"\nhosts = [\"internal.example.org\"]\n".into(),
    ));
    let socket = cluster.path().join("server/oidc.sock");
    let asked = |host: &str, path: &str| {
        let said = Command::new("curl")
            .args(["--silent", "--show-error", "--unix-socket"])
            .arg(&socket)
            .args(["--write-out", "%{http_code}", &format!("http://{host}{path}")])
            .output()
            .unwrap();
        String::from_utf8(said.stdout).unwrap()
    };
    for host in ["example.org", "internal.example.org"] {
        let said = asked(host, "/.well-known/openid-configuration");
        assert!(
            said.contains("\"issuer\":\"https://example.org\"") && said.ends_with("200"),
            "{said}"
        );
        let keys = asked(host, "/keys");
        assert!(
            keys.contains("\"alg\":\"ES256\"") && keys.ends_with("200"),
            "{keys}"
        );
    }
    assert!(asked("evil.example", "/keys").ends_with("400"));
    assert!(asked("example.org", "/other").ends_with("404"));
}

#[test]
fn the_bundle_lies_where_the_configuration_says_at_each_change() {
    let cluster = Cluster::start_server_only(&settings(
        "[bundle_publishers.file]\npath = \"{dir}/server/bundle.json\"\n".into(),
    ));
    let lies = || -> Value {
        let text = std::fs::read_to_string(cluster.path().join("server/bundle.json"));
        serde_json::from_str(&text.unwrap_or_default()).unwrap_or_default()
    };
    until("the first bundle", || lies()["spiffe_sequence"].is_u64());
    let first = lies()["spiffe_sequence"].as_u64().unwrap();
    cluster.muster_ok(&["authority", "prepare", "jwt"]);
    until("the next bundle", || {
        lies()["spiffe_sequence"]
            .as_u64()
            .is_some_and(|next| next > first)
    });
    let shown: Value =
        serde_json::from_str(&cluster.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap();
    assert_eq!(lies(), shown);
}
