//! Tokens: for whom they count, by which keys, and what becomes of a node when somebody wants too many.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use muster_proto::workload::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use muster_tests::{Cluster, Process, Settings, Workload, binary, from_pem, need_root, rounds, unix_channel};
use serde_json::{Value, json};
use tonic::{Code, Request, Status, transport::Channel};

const FLOODER: u32 = 1000;

fn own_uid() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

/// The Workload API, asked by the story itself.
struct Api<'a> {
    cluster: &'a Cluster,
    client: SpiffeWorkloadApiClient<Channel>,
}

impl<'a> Api<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let client = SpiffeWorkloadApiClient::new(cluster.block_on(unix_channel(cluster.workload_socket())));
        Self { cluster, client }
    }

    fn token(&self, audience: &[&str]) -> String {
        let request = JwtsvidRequest {
            audience: audience.iter().map(ToString::to_string).collect(),
            ..JwtsvidRequest::default()
        };
        let answer = self
            .cluster
            .block_on(self.client.clone().fetch_jwtsvid(asked(request)))
            .unwrap();
        answer.into_inner().svids.swap_remove(0).svid
    }

    fn validate(&self, audience: &str, token: &str) -> Result<ValidateJwtsvidResponse, Status> {
        let request = ValidateJwtsvidRequest {
            audience: audience.into(),
            svid: token.into(),
        };
        self.cluster
            .block_on(self.client.clone().validate_jwtsvid(asked(request)))
            .map(tonic::Response::into_inner)
    }
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

#[test]
fn a_token_counts_for_each_of_its_audiences_and_for_nobody_else() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/caller", &[&own_uid()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let api = Api::of(&cluster);
    let token = api.token(&["db", "spiffe://example.org/queue"]);
    for audience in ["db", "spiffe://example.org/queue"] {
        assert_eq!(
            api.validate(audience, &token).unwrap().spiffe_id,
            "spiffe://example.org/caller"
        );
    }
    for audience in [
        "DB",
        "d",
        "db ",
        "db,spiffe://example.org/queue",
        "*",
        "spiffe://example.org/queue/",
        "spiffe://example.org",
    ] {
        let refused = api.validate(audience, &token).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{audience}: {refused}");
    }
    for (audience, token) in [("", token.as_str()), ("db", "")] {
        assert_eq!(
            api.validate(audience, token).unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}

#[test]
fn only_a_key_that_signs_tokens_makes_a_token() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/caller", &[&own_uid()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let api = Api::of(&cluster);
    let real = api.token(&["db"]);
    let mut parts = real.split('.');
    let header: Value = decoded(parts.next().unwrap());
    let claims: Value = decoded(parts.next().unwrap());

    // What the attacker has: its own SVID with key and chain, and every public key of the trust domain.
    let folder = tempfile::tempdir().unwrap();
    cluster.muster_ok(&["fetch", "x509", "--write", folder.path().to_str().unwrap()]);
    let [key, chain] = ["svid.0.key", "svid.0.pem"]
        .map(|name| from_pem(&fs::read_to_string(folder.path().join(name)).unwrap()));
    let own = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key).unwrap();
    let bundle = cluster.bundle();
    let x509_ids: Vec<String> = bundle
        .x509_authorities
        .iter()
        .map(|authority| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &authority.asn1);
            digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        })
        .collect();
    let jwk = {
        let point = own.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]) })
    };
    let kid = &header["kid"];
    let mut headers = vec![
        (
            "its SVID's key under the authority's name",
            json!({ "alg": "ES256", "kid": kid, "typ": "JWT" }),
        ),
        (
            "its SVID's key without a name",
            json!({ "alg": "ES256", "typ": "JWT" }),
        ),
        (
            "a key that the header brings",
            json!({ "alg": "ES256", "typ": "JWT", "jwk": jwk, "kid": kid }),
        ),
        (
            "a chain that the header brings",
            json!({ "alg": "ES256", "typ": "JWT", "x5c": [STANDARD.encode(&chain)], "kid": kid }),
        ),
        (
            "a place to fetch keys from",
            json!({ "alg": "ES256", "typ": "JWT", "jku": "https://example.org/keys", "kid": kid }),
        ),
        (
            "an extension that must be understood",
            json!({ "alg": "ES256", "typ": "JWT", "crit": ["exp"], "kid": kid }),
        ),
    ];
    headers.extend(x509_ids.iter().map(|id| {
        (
            "the name of a certificate authority",
            json!({ "alg": "ES256", "typ": "JWT", "kid": id }),
        )
    }));
    for (what, header) in headers {
        let signed = encoded(&header, &claims);
        let signature = own.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        refused(
            &api,
            what,
            &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())),
        );
    }
    // Keys of the bundle, which everybody knows, as shared secrets.
    let public = bundle
        .jwt_authorities
        .iter()
        .map(|authority| &authority.public_key[..]);
    for secret in public.chain(
        bundle
            .x509_authorities
            .iter()
            .map(|authority| &authority.asn1[..]),
    ) {
        let signed = encoded(&json!({ "alg": "HS256", "kid": kid, "typ": "JWT" }), &claims);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        refused(
            &api,
            "a public key as a secret",
            &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)),
        );
    }
    // The real signature under other words.
    let signature = real.rsplit_once('.').unwrap().1;
    for (what, header) in [
        ("no algorithm", json!({ "alg": "none", "kid": kid })),
        (
            "another algorithm",
            json!({ "alg": "ES384", "kid": kid, "typ": "JWT" }),
        ),
        (
            "another type",
            json!({ "alg": "ES256", "kid": kid, "typ": "at+jwt" }),
        ),
    ] {
        for signature in [signature, ""] {
            refused(&api, what, &format!("{}.{signature}", encoded(&header, &claims)));
        }
    }
    let mut other = claims.clone();
    other["sub"] = "spiffe://example.org/somebody-else".into();
    refused(
        &api,
        "another subject",
        &format!("{}.{signature}", encoded(&header, &other)),
    );
    assert!(
        api.validate("db", &real).is_ok(),
        "the real one counts all the while"
    );
}

#[test]
fn the_keys_for_tokens_are_told_apart_from_those_for_certificates() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/caller", &[&own_uid()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let api = Api::of(&cluster);
    let told = cluster.block_on(async {
        let mut bundles = api
            .client
            .clone()
            .fetch_jwt_bundles(asked(JwtBundlesRequest {}))
            .await
            .unwrap()
            .into_inner();
        bundles.message().await.unwrap().unwrap().bundles
    });
    let document: Value = serde_json::from_slice(&told["spiffe://example.org"]).unwrap();
    let mut told: Vec<&str> = document["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            assert!(key["use"].is_null() || key["use"] == "jwt-svid", "{key}");
            assert!(key["x5c"].is_null() && key["d"].is_null(), "{key}");
            key["kid"].as_str().unwrap()
        })
        .collect();
    let bundle = cluster.bundle();
    let mut held: Vec<&str> = bundle
        .jwt_authorities
        .iter()
        .map(|authority| authority.key_id.as_str())
        .collect();
    told.sort_unstable();
    held.sort_unstable();
    assert_eq!(told, held);
    for other in ["spiffe://other.org/x", "spiffe://example.org"] {
        let minted = cluster.muster(&["mint", "jwt", other, "--audience", "db"]);
        assert!(!minted.status.success(), "{other} was minted");
    }
}

#[test]
fn a_token_that_is_nested_without_end_is_refused_and_the_agent_lives() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/caller", &[&own_uid()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let api = Api::of(&cluster);
    let real = api.token(&["db"]);
    let parts: Vec<&str> = real.split('.').collect();
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [200, 5_000] {
            let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            let nested = URL_SAFE_NO_PAD.encode(format!("{{\"aud\":\"db\",\"x\":{nested}}}"));
            refused(
                &api,
                "a nested header",
                &format!("{nested}.{}.{}", parts[1], parts[2]),
            );
            refused(
                &api,
                "nested claims",
                &format!("{}.{nested}.{}", parts[0], parts[2]),
            );
        }
    }
    refused(
        &api,
        "a token without end",
        &format!("{}.{}.{}", parts[0], "A".repeat(100_000), parts[2]),
    );
    assert!(api.validate("db", &real).is_ok());
}

fn refused(api: &Api<'_>, what: &str, token: &str) {
    let refused = api.validate("db", token).expect_err(what);
    assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
}

fn encoded(header: &Value, claims: &Value) -> String {
    [header, claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".")
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn host_who_floods_the_validation_of_tokens_holds_up_only_itself() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/served", &[&own_uid()]);
    let fetched = Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let token = fetched["svids"][0]["token"].as_str().unwrap();
    let mut flood = attack(&cluster, "bad-tokens", rounds(50_000));
    flood.event("flooding");
    let served = Workload::Rust
        .start(&cluster, &["hammer", "500"])
        .event("hammered");
    assert_eq!(served["failed"], 0, "{served}");
    let valid = Workload::Rust
        .start(&cluster, &["validate-jwt", "db", token])
        .event("valid");
    assert_eq!(valid["id"], "spiffe://example.org/served");
    let flooded = flood.event("flooded");
    println!(
        "figure: flood of bad tokens by one user: {}; {} of another's connections served",
        flooded["ended"], served["ok"]
    );
    assert_eq!(flooded["ended"]["Ok"], Value::Null, "{flooded}");
    assert!(
        flooded["ended"]["Unavailable"]
            .as_u64()
            .is_some_and(|count| count > 0),
        "nothing was limited: {flooded}"
    );
    flood.ended();
}

#[test]
fn host_who_wants_a_token_for_everybody_is_bounded_and_others_get_theirs() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/greedy", &[&format!("unix:uid:{FLOODER}")]);
    cluster.register("/modest", &[&own_uid()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let before = resident_mib(&cluster);
    let mut flood = attack(&cluster, "audiences", rounds(6_000));
    flood.event("flooding");
    for round in 0..20 {
        // Each for an audience that nobody has a token for yet, so that it must be signed.
        let answer = Workload::Rust.start(&cluster, &["fetch-jwt", &format!("modest-{round}")]);
        let answer = answer.event_where("an answer", |event| {
            event["event"] == "jwt" || event["event"] == "error"
        });
        assert_eq!(answer["event"], "jwt", "round {round}: {answer}");
    }
    let flooded = flood.event("flooded");
    flood.ended();
    let after = resident_mib(&cluster);
    println!(
        "figure: tokens for many audiences: {}; resident {before} MiB, then {after} MiB",
        flooded["ended"]
    );
    assert!(after < before + 32, "{before} MiB, then {after} MiB");
}

fn attack(cluster: &Cluster, role: &str, count: u64) -> Process {
    let mut command = Command::new(binary("attacker"));
    command
        .arg(role)
        .arg(cluster.workload_socket())
        .arg(count.to_string())
        .uid(FLOODER)
        .gid(FLOODER);
    Process::start(&format!("attacker {role}"), &mut command)
}

fn resident_mib(cluster: &Cluster) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.agent().pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
