use std::collections::BTreeMap;
use std::sync::Arc;

use http::StatusCode;
use muster_identity::{Lifetime, TrustDomain, UnixTime};
use muster_pki::x509::{
    IntermediateProfile, IntermediateSubject, IssuingAuthority, RootProfile, UpheldAuthority, ca_subject,
    create_authority_csr, issue_intermediate, issue_root,
};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_plugin_api::conformance;

use super::test_server::{State, TestServer, secret};
use super::*;

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000)
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn key() -> Arc<LocalKey> {
    Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap())
}

fn root() -> IssuingAuthority {
    let profile = RootProfile {
        trust_domain: trust_domain(),
        subject: ca_subject(),
        now: now(),
        lifetime: Lifetime::from_secs(86_400).unwrap(),
    };
    issue_root(key(), &profile).unwrap()
}

fn state(ca: IssuingAuthority, ca_chain: Vec<Vec<u8>>) -> State {
    State {
        trust_domain: trust_domain(),
        now: now(),
        ca,
        ca_chain,
        tokens: BTreeMap::from([("s.configured".to_owned(), false)]),
        calls: Vec::new(),
        broken: None,
        renewals: 0,
    }
}

fn vault(server: &TestServer, auth: VaultAuth) -> Vault {
    Vault::new(VaultConfig {
        server: server.address.clone(),
        pki_mount: "pki".into(),
        namespace: None,
        ca_cert: Some(server.path("ca.pem")),
        auth,
    })
}

fn by_token(server: &TestServer) -> VaultAuth {
    let file = server.path("token");
    secret(&file, "s.configured\n");
    VaultAuth::Token { file }
}

fn request(key: &LocalKey) -> AuthorityRequest {
    let subject = ca_subject().with(NameAttribute::SerialNumber, "4711").unwrap();
    AuthorityRequest {
        trust_domain: trust_domain(),
        csr: create_authority_csr(key, &trust_domain(), &subject).unwrap(),
        lifetime: Lifetime::from_secs(600).unwrap(),
        now: now(),
    }
}

#[tokio::test]
async fn by_each_way_to_log_in_it_keeps_the_promises_of_an_upstream_authority() {
    let server = TestServer::start(state(root(), Vec::new())).await;
    secret(&server.path("secret-id"), "s3cret");
    secret(&server.path("service-account"), "service.account.token");
    let ways = [
        by_token(&server),
        VaultAuth::AppRole {
            mount: "approle".into(),
            role_id: "role".into(),
            secret_id: server.path("secret-id"),
        },
        VaultAuth::Cert {
            mount: "cert".into(),
            role: None,
            cert: server.path("client.pem"),
            key: server.path("client.key"),
        },
        VaultAuth::Kubernetes {
            mount: "kubernetes".into(),
            role: "muster".into(),
            token: server.path("service-account"),
        },
    ];
    for way in ways {
        let vault = vault(&server, way);
        conformance::upstream_authority(&vault, &trust_domain(), now()).await;
    }
    let left = server.state.lock().unwrap().tokens.clone();
    let configured = BTreeMap::from([("s.configured".to_owned(), false)]);
    assert_eq!(
        left, configured,
        "each token of a login was given back, the configured one was not"
    );
}

#[tokio::test]
async fn what_stands_between_the_authority_and_the_root_comes_with_it() {
    let (root, middle) = (root(), key());
    let profile = IntermediateProfile {
        trust_domain: trust_domain(),
        public_key: middle.public_key().clone(),
        subject: IntermediateSubject::BelowIssuer,
        now: now(),
        lifetime: Lifetime::from_secs(3600).unwrap(),
    };
    let chain = issue_intermediate(&root, &profile).unwrap();
    let roots = [root.authority().clone()];
    let middle = UpheldAuthority::accept(middle, &trust_domain(), &chain, &roots, now()).unwrap();
    let above = vec![chain[0].to_vec(), root.authority().der().to_vec()];
    let server = TestServer::start(state(middle.issuing().clone(), above)).await;
    let vault = vault(&server, by_token(&server));
    let key = key();
    let signed = vault.sign_authority(&request(&key)).await.unwrap();
    assert_eq!(signed.roots, roots);
    assert_eq!(signed.chain.len(), 2);
    UpheldAuthority::accept(key, &trust_domain(), &signed.chain, &signed.roots, now()).unwrap();
}

#[tokio::test]
async fn a_refusal_says_what_vault_said_and_a_failure_may_pass() {
    let server = TestServer::start(state(root(), Vec::new())).await;
    let vault = vault(&server, by_token(&server));
    let answered = |status, why| server.state.lock().unwrap().broken = Some((status, why));
    answered(
        StatusCode::FORBIDDEN,
        "1 error occurred:\n\t* permission denied\n\n",
    );
    let refused = vault.sign_authority(&request(&key())).await.unwrap_err();
    assert!(
        matches!(&refused, UpstreamError::Refused { reason, .. } if reason.contains("permission denied"))
    );
    assert!(!refused.to_string().contains('\n'), "it is one line");
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS] {
        answered(status, "sealed");
        let failed = vault.sign_authority(&request(&key())).await.unwrap_err();
        assert!(matches!(failed, UpstreamError::Unavailable { .. }), "{failed}");
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_learns_no_token() {
    let (server, other) = (
        TestServer::start(state(root(), Vec::new())).await,
        TestServer::start(state(root(), Vec::new())).await,
    );
    let mut vault = vault(&server, by_token(&server));
    vault.config.ca_cert = Some(other.path("ca.pem"));
    let failed = vault.sign_authority(&request(&key())).await.unwrap_err();
    assert!(matches!(failed, UpstreamError::Unavailable { .. }), "{failed}");
    assert!(server.state.lock().unwrap().calls.is_empty());
}

#[tokio::test]
async fn a_configured_token_is_renewed_while_the_roots_are_followed() {
    let server = TestServer::start(state(root(), Vec::new())).await;
    let vault = vault(&server, by_token(&server));
    let seen = UpstreamBundle::default();
    let following = async {
        tokio::select! {
            known = vault.changed(&seen) => panic!("nothing was signed yet: {known:?}"),
            () = until(|| server.state.lock().unwrap().renewals > 1) => {}
        }
    };
    following.await;
    vault.sign_authority(&request(&key())).await.unwrap();
    let known = vault.changed(&seen).await.unwrap();
    assert_eq!(known.x509_authorities.len(), 1);
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
