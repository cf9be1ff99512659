//! By a certificate of another PKI.

use muster_node_attestors::x509pop::{Challenge, Payload, Response};
use muster_pki::x509::create_csr;
use muster_plugin_api::NodeAttestor as _;
use muster_proto::convert::{Reason, denial_reason};
use muster_proto::spire::server::agent::{
    AgentX509svidParams, BanAgentRequest, DeleteAgentRequest, PostStatusRequest, RenewAgentRequest,
    agent_client::AgentClient,
};
use muster_proto::spire::types;
use muster_tests::{Cluster, Identity, MachineCa, Settings, TRUST_DOMAIN, tcp_channel, until};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256};
use time::{Duration, OffsetDateTime};
use tonic::Code;

use super::{Talk, attest, selectors, some_authority, trust, x509pop};

const X509POP: Settings = Settings {
    server: "[limits]\nattestation = false\n[node_attestors.x509pop]\nca_bundle_paths = [\"{dir}/node-ca.pem\"]\n",
    agent: "",
    before: Some(some_authority),
};
const PROOF: &str = "[node_attestor.x509pop]\ncertificate_path = \"{dir}/machine.crt\"\nprivate_key_path = \"{dir}/machine.key\"\n";

fn cluster(settings: &Settings) -> (Cluster, MachineCa) {
    let cluster = Cluster::start_server_only(settings);
    let ca = MachineCa::new("machines");
    trust(&cluster, &ca);
    (cluster, ca)
}

fn member(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path: path.into(),
    })
}

fn fetched(cluster: &Cluster) -> bool {
    let fetched = cluster.muster(&["fetch", "x509"]);
    fetched.status.success() && String::from_utf8_lossy(&fetched.stdout).contains("spiffe://example.org/web")
}

#[test]
fn our_agent_proves_its_machine_and_serves_what_is_below_its_alias() {
    let (mut cluster, ca) = cluster(&X509POP);
    ca.machine("web-1").install(cluster.path());
    cluster.attest_agent(&X509POP, PROOF);
    let agents = cluster.agents();
    let [agent] = agents.as_slice() else {
        panic!("{agents:?}");
    };
    assert_eq!(
        (agent.attestation_type.as_str(), agent.can_reattest),
        ("x509pop", true)
    );
    assert!(
        cluster
            .node()
            .starts_with("spiffe://example.org/spire/agent/x509pop/"),
        "{}",
        cluster.node()
    );
    let found = selectors(agent);
    assert!(
        found.contains(&"x509pop:subject:cn:web-1".to_owned()),
        "{found:?}"
    );
    assert_eq!(found.len(), 3, "{found:?}");

    // The machines of one name get what is below the alias that asks for it.
    let mut alias = cluster.entry("/machines/web", &["x509pop:subject:cn:web-1"]);
    alias.parent_id = member("/spire/server");
    cluster.register_entry(alias);
    let mut web = cluster.entry("/web", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    web.parent_id = member("/machines/web");
    cluster.register_entry(web);
    until("the workload has its identity", || fetched(&cluster));
}

#[test]
fn each_renewal_is_a_new_attestation_and_nobody_notices() {
    const SHORT: Settings = Settings {
        server: "[ca]\nlifetime = \"72s\"\nx509_svid = \"10s\"\nmax_x509_svid = \"10s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"8s\"\n[node_attestors.x509pop]\nca_bundle_paths = [\"{dir}/node-ca.pem\"]\n",
        ..X509POP
    };
    let (mut cluster, ca) = cluster(&SHORT);
    ca.machine_with("web-1", &KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(), |_| {})
        .install(cluster.path());
    cluster.attest_agent(&SHORT, PROOF);
    let node = cluster.node().to_owned();
    cluster.register("/web", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    until("the workload has its identity", || fetched(&cluster));
    let attested = || cluster.server().said().matches("node attested").count();
    until("the node was attested four times", || attested() >= 4);
    let agents = cluster.agents();
    assert_eq!(agents.len(), 1);
    assert!(cluster.agent().said().contains(&node));
    let said = cluster.agent().said();
    assert!(!said.contains("no connection to the server"), "{said}");
    assert!(!said.contains("has taken this node back"), "{said}");
    assert!(fetched(&cluster));
}

#[test]
fn an_evicted_node_proves_itself_again_and_one_whose_pki_is_out_of_favour_does_not() {
    let (mut cluster, ca) = cluster(&X509POP);
    ca.machine("web-1").install(cluster.path());
    cluster.attest_agent(&X509POP, PROOF);
    let node = cluster.node().to_owned();
    let serial = |cluster: &Cluster| {
        cluster
            .agents()
            .first()
            .map(|agent| agent.x509svid_serial_number.clone())
    };
    let before = serial(&cluster);
    cluster.muster_ok(&["node", "evict", &node]);
    until("the node is back with another certificate", || {
        serial(&cluster).is_some_and(|serial| Some(serial) != before)
    });
    trust(&cluster, &MachineCa::new("another"));
    cluster.muster_ok(&["node", "evict", &node]);
    cluster.agent().line("that it is not taken back", |line| {
        line.contains("does not take this node back")
    });
    assert_eq!(cluster.agents(), []);
    // Its state survives, and the agent starts and tries again.
    trust(&cluster, &ca);
    cluster.take_agent().stop();
    cluster.start_agent();
    until("the node is back", || serial(&cluster).is_some());
}

#[test]
fn a_node_that_attests_again_loses_its_earlier_certificates_and_renews_in_no_other_way() {
    let (cluster, ca) = cluster(&X509POP);
    ca.machine("web-1").install(cluster.path());
    cluster.block_on(async {
        let first = attest(&cluster, &x509pop(cluster.path())).await.unwrap();
        assert!(first.reattestable);
        let post = async |identity: &Identity| {
            let mut client = AgentClient::new(tcp_channel(&cluster, Some(identity)).await);
            client
                .post_status(PostStatusRequest::default())
                .await
                .map_err(|status| denial_reason(&status))
        };
        post(&first.identity).await.unwrap();
        let csr = create_csr(&*first.identity.key, None).unwrap();
        let mut client = AgentClient::new(tcp_channel(&cluster, Some(&first.identity)).await);
        let renewal = RenewAgentRequest {
            params: Some(AgentX509svidParams { csr: csr.clone() }),
        };
        let refused = client.renew_agent(renewal).await.unwrap_err();
        assert_eq!(denial_reason(&refused), Some(Reason::AgentMustReattest));
        let id = first.identity.svid.id().to_string();
        let refused = Talk::open(&cluster, "rejoin", id.clone().into(), csr)
            .await
            .err()
            .unwrap();
        assert_eq!(
            denial_reason(&refused),
            Some(Reason::AgentMustReattest),
            "by its last key"
        );

        let second = attest(&cluster, &x509pop(cluster.path())).await.unwrap();
        assert_eq!(second.identity.svid.id(), first.identity.svid.id());
        assert_eq!(
            post(&first.identity).await.unwrap_err(),
            Some(Reason::AgentNotActive)
        );
        post(&second.identity).await.unwrap();

        let wire = member(second.identity.svid.id().path().as_str());
        let mut admin = AgentClient::new(cluster.channel().await);
        admin
            .ban_agent(BanAgentRequest { id: wire.clone() })
            .await
            .unwrap();
        let banned = attest(&cluster, &x509pop(cluster.path())).await.err().unwrap();
        assert_eq!(denial_reason(&banned), Some(Reason::AgentBanned));
        admin.delete_agent(DeleteAgentRequest { id: wire }).await.unwrap();
        attest(&cluster, &x509pop(cluster.path())).await.unwrap();
    });
    assert_eq!(cluster.agents().len(), 1);
}

#[test]
fn impostors_stay_outside_and_are_on_record() {
    let (cluster, ca) = cluster(&X509POP);
    let (own, thief) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    ca.machine("web-1").install(own.path());
    ca.machine("thief").install(thief.path());
    cluster.block_on(async {
        let csr = || create_csr(&*Identity::key(), None).unwrap();
        let open = async || {
            let proof = x509pop(own.path()).begin().await.unwrap();
            let payload = proof.payload().expose_secret().to_vec();
            Talk::open(&cluster, "x509pop", payload, csr()).await.unwrap()
        };
        let refused = async |talk: &mut Talk, answer: Vec<u8>| talk.answer(answer).await.unwrap_err().code();

        // With the certificate and a key of its own.
        let mut talk = open().await;
        let challenge = talk.challenge().await.unwrap();
        let answer = x509pop(thief.path())
            .begin()
            .await
            .unwrap()
            .answer(&challenge)
            .await
            .unwrap();
        assert_eq!(refused(&mut talk, answer).await, Code::PermissionDenied);
        // With what the machine answered in another conversation.
        let mut first = open().await;
        let challenge = first.challenge().await.unwrap();
        let answer = x509pop(own.path())
            .begin()
            .await
            .unwrap()
            .answer(&challenge)
            .await
            .unwrap();
        let mut replayed = open().await;
        let other = replayed.challenge().await.unwrap();
        assert_ne!(challenge, other, "each conversation has a nonce of its own");
        assert_eq!(
            refused(&mut replayed, answer.clone()).await,
            Code::PermissionDenied
        );
        // With an answer about another kind of key, and with none.
        let Ok(Response::Ecdsa { nonce, .. }) = Response::parse(&answer) else {
            panic!("no answer");
        };
        let rsa = Response::Rsa {
            nonce,
            signature: vec![1; 256],
        }
        .to_bytes();
        let mut talk = open().await;
        assert!(matches!(
            Challenge::parse(&talk.challenge().await.unwrap()),
            Ok(Challenge::Ecdsa(_))
        ));
        assert_eq!(refused(&mut talk, rsa).await, Code::PermissionDenied);
        for junk in [Vec::new(), b"{}".to_vec(), vec![0xff; 15_000], vec![b'['; 20_000]] {
            let mut talk = open().await;
            talk.challenge().await.unwrap();
            assert_eq!(refused(&mut talk, junk).await, Code::InvalidArgument);
        }
        // The machine itself still comes in by the conversation that the others broke into.
        let mut proof = x509pop(own.path()).begin().await.unwrap();
        let mut talk = open().await;
        let challenge = talk.challenge().await.unwrap();
        talk.answer(proof.answer(&challenge).await.unwrap())
            .await
            .unwrap();
    });
    assert_eq!(cluster.agents().len(), 1, "the machine");
    let records = crate::audit::records(&cluster.path().join("server/data/audit"));
    let refused = crate::audit::recorded(&records, "node.attest")
        .into_iter()
        .filter(|record| {
            record
                .to_string()
                .contains("challenge response verification failed")
        });
    assert_eq!(refused.count(), 3, "each refusal is on record");
}

#[test]
fn certificates_that_prove_nothing_get_no_challenge() {
    let (cluster, ca) = cluster(&X509POP);
    let stranger = MachineCa::new("machines");
    let ec = || KeyPair::generate().unwrap();
    let expired = ca.machine_with("web-1", &ec(), |params| {
        params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    });
    let early = ca.machine_with("web-1", &ec(), |params| {
        params.not_before = OffsetDateTime::now_utc() + Duration::days(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(2);
    });
    let no_signing = ca.machine_with("web-1", &ec(), |params| params.key_usages.clear());
    let edwards = ca.machine_with("web-1", &KeyPair::generate_for(&PKCS_ED25519).unwrap(), |_| {});
    let der = |pem: &str| muster_tests::from_pem(pem);
    let good = der(&ca.machine("web-1").certificate);
    let cases = [
        (
            "expired",
            vec![der(&expired.certificate)],
            Code::PermissionDenied,
            "expired",
        ),
        (
            "not valid yet",
            vec![der(&early.certificate)],
            Code::PermissionDenied,
            "not valid before",
        ),
        (
            "of a foreign CA",
            vec![der(&stranger.machine("web-1").certificate)],
            Code::PermissionDenied,
            "verification failed",
        ),
        (
            "with the foreign CA beside it",
            vec![der(&stranger.machine("web-1").certificate), der(stranger.pem())],
            Code::PermissionDenied,
            "verification failed",
        ),
        ("the CA itself", vec![der(ca.pem())], Code::PermissionDenied, "CA"),
        (
            "without digitalSignature",
            vec![der(&no_signing.certificate)],
            Code::PermissionDenied,
            "digitalSignature",
        ),
        (
            "of a kind that can't answer",
            vec![der(&edwards.certificate)],
            Code::PermissionDenied,
            "ed25519",
        ),
        ("none", vec![], Code::InvalidArgument, "no certificate"),
        (
            "a chain too long",
            vec![good.clone(); 6],
            Code::InvalidArgument,
            "too many intermediate",
        ),
        (
            "a huge chain",
            vec![good.clone(), vec![0x30; 40_000]],
            Code::InvalidArgument,
            "longer than any",
        ),
        (
            "junk",
            vec![vec![1, 2, 3]],
            Code::InvalidArgument,
            "leaf certificate",
        ),
    ];
    cluster.block_on(async {
        let csr = || create_csr(&*Identity::key(), None).unwrap();
        let refused = async |payload: Vec<u8>| {
            let talk = Talk::open(&cluster, "x509pop", payload, csr()).await;
            match talk {
                Ok(mut talk) => talk.challenge().await.unwrap_err(),
                Err(status) => status,
            }
        };
        for (what, certificates, code, says) in cases {
            let status = refused(Payload { certificates }.to_bytes()).await;
            assert_eq!(status.code(), code, "{what}: {status}");
            assert!(status.message().contains(says), "{what}: {status}");
            assert!(status.message().contains("reference"), "{what}: {status}");
        }
        assert_eq!(
            refused(vec![b'['; 200_000]).await.code(),
            Code::ResourceExhausted,
            "more than anybody without a certificate may send"
        );
        let unknown = Talk::open(&cluster, "tpm_devid", b"x".to_vec(), csr())
            .await
            .err()
            .unwrap();
        assert_eq!(unknown.code(), Code::FailedPrecondition);
        assert!(unknown.message().contains("join_token, x509pop"), "{unknown}");
        // A P-384 key answers with SHA-256 in SPIRE's agents: the challenge is posed.
        let p384 = ca.machine_with(
            "p384",
            &KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap(),
            |_| {},
        );
        let payload = Payload {
            certificates: vec![der(&p384.certificate)],
        }
        .to_bytes();
        let mut talk = Talk::open(&cluster, "x509pop", payload, csr()).await.unwrap();
        talk.challenge().await.unwrap();
    });
    assert_eq!(cluster.agents(), []);
}
