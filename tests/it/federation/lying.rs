//! Peers that lie: what is held stays, nothing of ours changes, and the server lives within its bounds.

use muster_tests::{Cluster, Reply, ScriptedEndpoint, Web};
use serde_json::{Value, json};

use super::pair::{OTHER, SPIFFE_ENDPOINT, believing, peer, settings};

#[test]
fn a_lying_peer_changes_nothing_but_its_own_standing() {
    let web = Web::new();
    let ours = Cluster::start_server_only(&settings(believing(&web)));
    let theirs = Cluster::start_server_of(
        OTHER,
        &muster_tests::Settings {
            server: SPIFFE_ENDPOINT,
            ..Default::default()
        },
    );
    let document = theirs.muster_ok(&["bundle", "show", "--format", "spiffe"]);
    let own_document = ours.muster_ok(&["bundle", "show", "--format", "spiffe"]);
    let mut good: Value = serde_json::from_str(&document).unwrap();
    good["spiffe_sequence"] = 100.into();
    let endpoint = ScriptedEndpoint::start(
        Some(web.server("127.0.0.1", false, |_| {})),
        Reply::Document(good.to_string()),
    );
    let url = endpoint.url();
    ours.muster_ok(&[
        "federation",
        "create",
        OTHER,
        "--url",
        &url,
        "--profile",
        "https_web",
    ]);
    ours.muster_ok(&["federation", "refresh", OTHER]);
    let held = peer(&ours, OTHER);
    assert_eq!(held["sequence"], 100);

    let altered = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        change(&mut document);
        Reply::Document(document.to_string())
    };
    let refused = [
        (
            "an older sequence",
            altered(&|d| d["spiffe_sequence"] = 99.into()),
        ),
        (
            "no list of keys",
            altered(&|d| {
                d.as_object_mut().unwrap().remove("keys");
            }),
        ),
        ("a private key", altered(&|d| d["keys"][0]["d"] = "AAAA".into())),
        ("no JSON", Reply::Document("<html>".into())),
        (
            "a million keys",
            altered(&|d| d["keys"] = vec![json!({"kty": "x"}); 100_000].into()),
        ),
        (
            "100 MB",
            Reply::Endless("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n"),
        ),
        (
            "an error with a document",
            Reply::Raw(format!(
                "HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n{document}",
                document.len()
            )),
        ),
        (
            "a redirect inward",
            Reply::Redirect(302, "https://169.254.169.254/".into()),
        ),
        (
            "a redirect to http",
            Reply::Redirect(301, "http://127.0.0.1/".into()),
        ),
        ("no HTTP", Reply::Raw("SSH-2.0-x\r\n".into())),
        ("silence", Reply::Raw(String::new())),
    ];
    let before = ours.server().resident_mib();
    for (what, reply) in refused {
        endpoint.say(reply);
        let refreshed = ours.muster(&["federation", "refresh", OTHER]);
        assert_eq!(refreshed.status.code(), Some(1), "{what}");
        let now = peer(&ours, OTHER);
        assert_eq!(now["sequence"], 100, "{what}");
        assert_eq!(now["x509_authorities"], held["x509_authorities"], "{what}");
        assert!(now["failure"].is_string(), "{what}");
    }
    println!(
        "figure: federation: a lying peer cost {} MiB",
        ours.server().resident_mib().saturating_sub(before)
    );

    // What is unknown in a document is left out and said; the rest counts.
    endpoint.say(altered(&|d| {
        d["spiffe_sequence"] = 101.into();
        let keys = d["keys"].as_array_mut().unwrap();
        keys.push(json!({"kty": "EC", "use": "new-svid", "crv": "P-256", "x": "a", "y": "b"}));
        keys.push(json!({"kty": "UNKNOWN", "use": "x509-svid"}));
    }));
    ours.muster_ok(&["federation", "refresh", OTHER]);
    let now = peer(&ours, OTHER);
    assert_eq!(
        (&now["sequence"], now["remarks"].as_array().map(Vec::len)),
        (&101.into(), Some(2)),
        "{now}"
    );

    // Our own keys in their name are theirs alone, and the doctor says so.
    let mut stolen: Value = serde_json::from_str(&own_document).unwrap();
    stolen["spiffe_sequence"] = 102.into();
    endpoint.say(Reply::Document(stolen.to_string()));
    ours.muster_ok(&["federation", "refresh", OTHER]);
    assert_eq!(peer(&ours, OTHER)["shares_keys_with"], json!(["example.org"]));
    assert_eq!(
        ours.muster_ok(&["bundle", "show", "--format", "spiffe"]),
        own_document
    );

    // Nothing of any body came into the log.
    let said = ours.server().said();
    for secret in ["<html>", "SSH-2.0", "\"kty\""] {
        assert!(!said.contains(secret), "{secret}");
    }
}

#[test]
fn the_endpoint_answers_one_request_and_nothing_else() {
    use std::io::{Read as _, Write as _};

    let web = Web::new();
    let theirs = Cluster::start_server_of(OTHER, &settings(super::pair::web_endpoint(&web)));
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read_to_string(web.ca_file()).unwrap();
    roots.add(muster_tests::from_pem(&pem).into()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = std::sync::Arc::new(config);
    let ask = |request: &str| {
        let name = "127.0.0.1".try_into().unwrap();
        let tls = rustls::ClientConnection::new(std::sync::Arc::clone(&config), name).unwrap();
        let tcp = std::net::TcpStream::connect(theirs.bundle_endpoint()).unwrap();
        let mut stream = rustls::StreamOwned::new(tls, tcp);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let get = |path: &str, more: &str| {
        ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n"
        ))
    };
    let plain = get("/", "");
    assert!(
        plain.starts_with("HTTP/1.1 200 OK")
            && plain.to_lowercase().contains("content-type: application/json"),
        "{plain}"
    );
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(
        body(&plain),
        theirs
            .muster_ok(&["bundle", "show", "--format", "spiffe"])
            .trim_end()
    );
    assert_eq!(body(&get("/", "authorization: Bearer x\r\n")), body(&plain));
    assert!(get("/bundle", "").starts_with("HTTP/1.1 404"));
    let post = ask("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert!(
        post.starts_with("HTTP/1.1 405") && post.to_lowercase().contains("allow: get"),
        "{post}"
    );
    assert!(!get(&format!("/{}", "a".repeat(60_000)), "").starts_with("HTTP/1.1 200"));
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    // Many at once of one address: what is past the bound is closed, and afterwards it serves again.
    let held: Vec<_> = (0..200)
        .map(|_| std::net::TcpStream::connect(theirs.bundle_endpoint()).unwrap())
        .collect();
    drop(held);
    muster_tests::until("a place at the endpoint", || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            get("/", "").starts_with("HTTP/1.1 200")
        }))
        .unwrap_or(false)
    });
}
