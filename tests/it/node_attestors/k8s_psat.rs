//! By a token of a Kubernetes cluster, whose API server the story plays.

use std::fs;
use std::path::Path;

use muster_node_attestors::k8s_psat::{
    ClusterAccess, ClusterSettings, K8sPsatAttestor, K8sPsatToken, K8sPsatVerifier, Payload,
};
use muster_pki::x509::create_csr;
use muster_plugin_api::decorate::Bounded;
use muster_plugin_api::fake::shown;
use muster_plugin_api::{AttestedNode, NodeStep, NodeVerifier as _, NodeVerifyError, conformance};
use muster_tests::{Cluster, Identity, Kubernetes, Pod, Settings, until};
use serde_json::json;
use tonic::Code;

use super::{Talk, selectors};

const TOKEN: &str = "header.claims.signature";

fn kubernetes() -> Kubernetes {
    let kubernetes = Kubernetes::start();
    kubernetes.put_node("node-1", "node-uid-1", &[("zone", "b"), ("secret", "x")]);
    kubernetes.put_pod(&Pod::default(), TOKEN, "spire-server");
    kubernetes
}

fn settings(kubernetes: &Kubernetes) -> ClusterSettings {
    ClusterSettings {
        name: "production".into(),
        service_account_allow_list: vec!["muster:muster-agent".into()],
        audience: vec![ClusterSettings::AUDIENCE.into()],
        access: ClusterAccess::KubeConfig(kubernetes.kube_config()),
        allowed_node_label_keys: vec!["zone".into(), "missing".into()],
        allowed_pod_label_keys: vec!["app".into()],
        use_pod_uid_for_agent_id: false,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(future)
}

async fn judged(settings: ClusterSettings, token: &str) -> Result<AttestedNode, NodeVerifyError> {
    let verifier = Bounded::new(K8sPsatVerifier::new(vec![settings]).unwrap());
    let payload = Payload::new("production", token).unwrap();
    match verifier.begin(shown(payload.to_bytes().expose_secret())).await? {
        NodeStep::Attested(node) => Ok(node),
        other => panic!("{other:?}"),
    }
}

fn write_token(folder: &Path, token: &str) -> K8sPsatAttestor {
    let token_path = folder.join("token");
    fs::write(&token_path, token).unwrap();
    K8sPsatAttestor::new(K8sPsatToken {
        cluster: "production".into(),
        token_path,
    })
}

#[test]
fn both_halves_keep_their_promises() {
    let (kubernetes, folder) = (kubernetes(), tempfile::tempdir().unwrap());
    let attestor = write_token(folder.path(), &format!("{TOKEN}\n"));
    block_on(async {
        let verifier = Bounded::new(K8sPsatVerifier::new(vec![settings(&kubernetes)]).unwrap());
        conformance::node_attestation(&attestor, &verifier, &shown(*b"")).await;
    });
}

#[test]
fn a_node_gets_the_name_and_the_selectors_that_spire_gives() {
    let kubernetes = kubernetes();
    let td = "example.org".parse().unwrap();
    let node = block_on(judged(settings(&kubernetes), TOKEN)).unwrap();
    let id = node.path().id(&td).unwrap();
    assert_eq!(
        id.to_string(),
        "spiffe://example.org/spire/agent/k8s_psat/production/node-uid-1"
    );
    let found: Vec<_> = node
        .selectors()
        .iter()
        .map(|selector| selector.value().to_owned())
        .collect();
    let mut expected = vec![
        "cluster:production",
        "agent_ns:muster",
        "agent_sa:muster-agent",
        "agent_pod_name:muster-agent-x1",
        "agent_pod_uid:pod-uid-1",
        "agent_node_ip:192.0.2.7",
        "agent_node_name:node-1",
        "agent_node_uid:node-uid-1",
        "agent_node_label:zone:b",
        "agent_pod_label:app:muster",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let by_pod = ClusterSettings {
        use_pod_uid_for_agent_id: true,
        ..settings(&kubernetes)
    };
    let id = block_on(judged(by_pod, TOKEN)).unwrap().path().id(&td).unwrap();
    assert_eq!(
        id.to_string(),
        "spiffe://example.org/spire/agent/k8s_psat/production/pod/pod-uid-1"
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 7] = [
        ("not authenticated", |status| {
            status["authenticated"] = json!(false);
        }),
        ("audience", |status| status["audiences"] = json!(["another"])),
        ("audience", |status| status["audiences"] = json!([])),
        ("not an allowed service account", |status| {
            status["user"]["username"] = json!("system:serviceaccount:default:default");
        }),
        ("service account", |status| {
            status["user"]["username"] = json!("system:node:node-1");
        }),
        ("service account", |status| status["user"]["extra"] = json!({})),
        ("another one than the token says", |status| {
            status["user"]["extra"][NODE_NAME] = json!(["node-2"]);
        }),
    ];
    for (says, change) in changes {
        let kubernetes = kubernetes();
        kubernetes.change_review(TOKEN, change);
        let refused = block_on(judged(settings(&kubernetes), TOKEN)).unwrap_err();
        assert!(
            matches!(&refused, NodeVerifyError::Denied(text) if text.contains(says)),
            "{says}: {refused:?}"
        );
    }
    // A pod of the same name that was made later, and one that runs as somebody else.
    let kubernetes = kubernetes();
    let pod = |pod: Pod| {
        kubernetes.put_pod(&pod, "another.token.here", "spire-server");
        block_on(judged(settings(&kubernetes), TOKEN)).unwrap_err()
    };
    let later = Pod {
        uid: "pod-uid-2".into(),
        ..Pod::default()
    };
    assert!(pod(later).to_string().contains("another one has its name"));
    let other = Pod {
        service_account: "other".into(),
        ..Pod::default()
    };
    assert!(pod(other).to_string().contains("another one has its name"));
    let nowhere = Pod {
        node: "../../secrets".into(),
        ..Pod::default()
    };
    assert!(pod(nowhere).to_string().contains("no node"));
    assert!(
        !kubernetes.asked().iter().any(|asked| asked.contains("..")),
        "{:?}",
        kubernetes.asked()
    );
}

#[test]
fn an_api_server_that_is_down_or_another_one_is_no_refusal() {
    let kubernetes = kubernetes();
    kubernetes.set_down(true);
    let down = block_on(judged(settings(&kubernetes), TOKEN)).unwrap_err();
    assert!(matches!(down, NodeVerifyError::Unavailable { .. }), "{down:?}");
    kubernetes.set_down(false);
    // Its certificate is vouched for by nobody that the kubeconfig names.
    let other = Kubernetes::start();
    let folder = other.kube_config();
    let ca = folder.with_file_name("ca.crt");
    fs::copy(ca, kubernetes.kube_config().with_file_name("ca.crt")).unwrap();
    let asked = kubernetes.asked().len();
    let foreign = block_on(judged(settings(&kubernetes), TOKEN)).unwrap_err();
    assert!(
        matches!(foreign, NodeVerifyError::Unavailable { .. }),
        "{foreign:?}"
    );
    assert_eq!(kubernetes.asked().len(), asked, "it was told no token");
}

const K8S: Settings = Settings {
    server: "[limits]\nattestation = false\n[[node_attestors.k8s_psat.clusters]]\nname = \"production\"\nservice_account_allow_list = [\"muster:muster-agent\"]\nkube_config_file = \"{dir}/kubeconfig\"\n",
    agent: "",
    before: Some(some_kube_config),
};
const PROOF: &str = "[node_attestor.k8s_psat]\ncluster = \"production\"\ntoken_path = \"{dir}/token\"\n";

/// A kubeconfig file must be there when the server starts; the API server need not.
fn some_kube_config(dir: &Path) {
    use_kubernetes(dir, &Kubernetes::start());
}

fn use_kubernetes(dir: &Path, kubernetes: &Kubernetes) {
    for file in ["ca.crt", "kubeconfig"] {
        fs::copy(kubernetes.kube_config().with_file_name(file), dir.join(file)).unwrap();
    }
}

#[test]
fn our_agent_proves_its_pod_and_serves_its_workloads() {
    let kubernetes = kubernetes();
    let mut cluster = Cluster::start_server_only(&K8S);
    use_kubernetes(cluster.path(), &kubernetes);
    fs::write(cluster.path().join("token"), TOKEN).unwrap();
    cluster.attest_agent(&K8S, PROOF);
    let agents = cluster.agents();
    assert_eq!(agents.len(), 1);
    assert_eq!(
        cluster.node(),
        "spiffe://example.org/spire/agent/k8s_psat/production/node-uid-1"
    );
    assert!(selectors(&agents[0]).contains(&"k8s_psat:agent_ns:muster".to_owned()));
    cluster.register("/web", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    until("the workload has its identity", || {
        let fetched = cluster.muster(&["fetch", "x509"]);
        String::from_utf8_lossy(&fetched.stdout).contains("spiffe://example.org/web")
    });

    // The kubelet writes a new token, the old one ends, and the node is evicted: it comes back by the new one.
    kubernetes.put_pod(&Pod::default(), "the.next.token", "spire-server");
    kubernetes.revoke(TOKEN);
    fs::write(cluster.path().join("token"), "the.next.token").unwrap();
    let before = agents[0].x509svid_serial_number.clone();
    let node = cluster.node().to_owned();
    cluster.muster_ok(&["node", "evict", &node]);
    until("the node is back", || {
        cluster
            .agents()
            .first()
            .is_some_and(|agent| agent.x509svid_serial_number != before)
    });
    let said = cluster.server().said() + &cluster.agent().said();
    assert!(
        !said.contains(TOKEN) && !said.contains("the.next.token"),
        "a token is in no log"
    );
}

#[test]
fn a_stranger_with_no_token_stays_outside() {
    let kubernetes = kubernetes();
    let cluster = Cluster::start_server_only(&K8S);
    use_kubernetes(cluster.path(), &kubernetes);
    cluster.block_on(async {
        let refused = async |payload: &str| {
            let csr = create_csr(&*Identity::key(), None).unwrap();
            match Talk::open(&cluster, "k8s_psat", payload.into(), csr).await {
                Ok(mut talk) => talk.next().await.unwrap_err(),
                Err(status) => status,
            }
        };
        let unknown = refused(r#"{"cluster":"production","token":"a.b.c"}"#).await;
        assert_eq!(unknown.code(), Code::PermissionDenied, "{unknown}");
        let elsewhere = refused(r#"{"cluster":"staging","token":"a.b.c"}"#).await;
        assert_eq!(elsewhere.code(), Code::InvalidArgument, "{elsewhere}");
        assert!(
            elsewhere
                .message()
                .contains("not configured for cluster \"staging\""),
            "{elsewhere}"
        );
        for junk in [
            "{}",
            "x",
            r#"{"cluster":"production"}"#,
            r#"{"cluster":"production","token":"a b"}"#,
        ] {
            assert_eq!(refused(junk).await.code(), Code::InvalidArgument, "{junk}");
        }
        kubernetes.set_down(true);
        let down = refused(&format!(r#"{{"cluster":"production","token":"{TOKEN}"}}"#)).await;
        assert_eq!(down.code(), Code::Unavailable, "{down}");
        assert!(
            !down.message().contains("127.0.0.1"),
            "a stranger learns no address: {down}"
        );
    });
    assert_eq!(cluster.agents(), []);
}
