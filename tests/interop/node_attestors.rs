//! Nodes that prove themselves by more than a join token, with SPIRE's agent on our server and ours on SPIRE's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use muster_proto::spire::server::agent::{DeleteAgentRequest, ListAgentsRequest, agent_client::AgentClient};
use muster_proto::spire::types::Agent;
use muster_tests::{
    Cluster, Home, Kubernetes, MachineCa, MachineCertificate, Pod, Settings, SpireAgent, SpireServer,
    SpireSettings, binary, spire_is_here, until,
};
use rcgen::{KeyPair, PKCS_RSA_SHA256, SanType};

const TOKEN: &str = "header.claims.signature";

/// Our server with both kinds. Its files must be there when it starts.
const OURS: Settings = Settings {
    server: "[limits]\nattestation = false\n\
        [node_attestors.x509pop]\nca_bundle_paths = [\"{dir}/node-ca.pem\"]\n\
        [[node_attestors.k8s_psat.clusters]]\nname = \"production\"\nservice_account_allow_list = [\"muster:muster-agent\"]\n\
        kube_config_file = \"{dir}/kubeconfig\"\nallowed_node_label_keys = [\"zone\"]\nallowed_pod_label_keys = [\"app\"]\n",
    agent: "",
    before: Some(some_files),
};

fn some_files(dir: &Path) {
    fs::write(dir.join("node-ca.pem"), MachineCa::new("before").pem()).unwrap();
    install(&Kubernetes::start(), dir);
}

fn install(kubernetes: &Kubernetes, dir: &Path) {
    for file in ["ca.crt", "kubeconfig"] {
        fs::copy(kubernetes.kube_config().with_file_name(file), dir.join(file)).unwrap();
    }
}

fn our_server(ca: &MachineCa, kubernetes: &Kubernetes) -> Cluster {
    let cluster = Cluster::start_server_only(&OURS);
    fs::write(cluster.path().join("node-ca.pem"), ca.pem()).unwrap();
    install(kubernetes, cluster.path());
    cluster
}

fn spires_server(ca: &MachineCa, kubernetes: &Kubernetes) -> SpireServer {
    let mut server = SpireServer::start(&SpireSettings::default());
    let dir = server.path().display().to_string();
    fs::write(server.path().join("node-ca.pem"), ca.pem()).unwrap();
    install(kubernetes, server.path());
    let plugins = format!(
        r#"NodeAttestor "x509pop" {{ plugin_data {{ ca_bundle_path = "{dir}/node-ca.pem" }} }}
  NodeAttestor "k8s_psat" {{ plugin_data {{ clusters = {{ "production" = {{
    service_account_allow_list = ["muster:muster-agent"]
    kube_config_file = "{dir}/kubeconfig"
    allowed_node_label_keys = ["zone"]
    allowed_pod_label_keys = ["app"]
  }} }} }} }}"#
    );
    server.configure(&SpireSettings {
        server: "ratelimit { attestation = false }",
        // The settings of stories are constants; this one names a folder.
        plugins: plugins.leak(),
        ..SpireSettings::default()
    });
    server.take().stop();
    server.start_again();
    server
}

fn kubernetes() -> Kubernetes {
    let kubernetes = Kubernetes::start();
    kubernetes.put_node("node-1", "node-uid-1", &[("zone", "b"), ("other", "x")]);
    kubernetes.put_pod(&Pod::default(), TOKEN, "spire-server");
    kubernetes
}

/// A machine whose certificate has everything that selectors are made from.
fn machine(ca: &MachineCa, key: &KeyPair) -> MachineCertificate {
    ca.machine_with("web-1", key, |params| {
        let uris = ["x509pop://example.org/rack/b/7", "x509pop://example.org/zone/a"];
        params.subject_alt_names = uris.map(|uri| SanType::URI(uri.try_into().unwrap())).to_vec();
    })
}

fn keys() -> [KeyPair; 2] {
    [
        KeyPair::generate().unwrap(),
        KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap(),
    ]
}

/// How SPIRE's agent is told to prove itself, with everything in `dir`.
fn spires_proof(kind: &str, dir: &Path) -> String {
    let dir = dir.display();
    match kind {
        "x509pop" => format!(
            "NodeAttestor \"x509pop\" {{ plugin_data {{\n    private_key_path = \"{dir}/machine.key\"\n    certificate_path = \"{dir}/machine.crt\"\n  }} }}"
        ),
        _ => format!(
            "NodeAttestor \"k8s_psat\" {{ plugin_data {{\n    cluster = \"production\"\n    token_path = \"{dir}/token\"\n  }} }}"
        ),
    }
}

/// Joins `home` with our agent, and returns what it printed: its SPIFFE ID.
fn join(home: &Home, kind: &str, dir: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    fs::write(&bundle, &home.bundle).unwrap();
    let (data, dir) = (folder.path().join("data"), dir.display());
    let proof = match kind {
        "x509pop" => {
            format!("certificate_path = \"{dir}/machine.crt\"\nprivate_key_path = \"{dir}/machine.key\"\n")
        }
        _ => format!("cluster = \"production\"\ntoken_path = \"{dir}/token\"\n"),
    };
    let config = folder.path().join("agent.toml");
    let text = format!(
        "data_dir = \"{}\"\n[node_attestor.{kind}]\n{proof}",
        data.display()
    );
    fs::write(&config, text).unwrap();
    let joined = Command::new(binary("muster-agent"))
        .args(["join", "--server", &home.address, "--bundle"])
        .arg(&bundle)
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    assert!(
        joined.status.success(),
        "{}",
        String::from_utf8_lossy(&joined.stderr)
    );
    String::from_utf8(joined.stdout).unwrap().trim().to_owned()
}

/// A node as a server tells of it: kind, whether it attests again, selectors.
type Told = (String, bool, BTreeSet<String>);

async fn told(home: &Home) -> Vec<Agent> {
    let mut client = AgentClient::new(home.channel().await);
    let listed = client.list_agents(ListAgentsRequest::default()).await.unwrap();
    listed.into_inner().agents
}

async fn of(home: &Home, id: &str) -> Told {
    let agents = told(home).await;
    let known = |agent: &&Agent| agent.id.as_ref().is_some_and(|own| id.ends_with(&own.path));
    let agent = agents
        .iter()
        .find(known)
        .unwrap_or_else(|| panic!("{id} among {agents:?}"));
    let selectors = agent.selectors.iter();
    let selectors = selectors
        .map(|selector| format!("{}:{}", selector.r#type, selector.value))
        .collect();
    (agent.attestation_type.clone(), agent.can_reattest, selectors)
}

#[test]
fn both_servers_tell_the_same_of_the_same_machine() {
    if !spire_is_here() {
        return;
    }
    let (ca, kubernetes) = (MachineCa::new("machines"), kubernetes());
    let (ours, spires) = (our_server(&ca, &kubernetes), spires_server(&ca, &kubernetes));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    let mut proved = 0;
    let mut compare = |kind: &str| {
        let ids = [ours.home(), spires.home()].map(|home| (join(&home, kind, folder.path()), home));
        let [(ours_id, ours_home), (spires_id, spires_home)] = ids;
        assert_eq!(ours_id, spires_id, "the same name");
        let told =
            ours.block_on(async { [of(&ours_home, &ours_id).await, of(&spires_home, &spires_id).await] });
        let [ours_told, spires_told] = told;
        assert_eq!(ours_told, spires_told, "{ours_id}");
        assert!(ours_told.2.len() >= 5, "{ours_told:?}");
        proved += 1;
    };
    for key in keys() {
        machine(&ca, &key).install(folder.path());
        compare("x509pop");
    }
    compare("k8s_psat");
    println!("figure: {proved} proofs of our agent taken alike by both servers");
}

#[test]
fn spires_agent_lives_on_our_server_by_its_machines_certificate() {
    if !spire_is_here() {
        return;
    }
    let (ca, kubernetes) = (MachineCa::new("machines"), kubernetes());
    let cluster = our_server(&ca, &kubernetes);
    let home = cluster.home();
    for (number, key) in keys().into_iter().enumerate() {
        let known: Vec<_> = cluster.agents().into_iter().map(|node| node.id).collect();
        machine(&ca, &key).install(cluster.path());
        let proof = spires_proof("x509pop", cluster.path());
        let name = format!("spire-agent-{number}");
        let mut agent = SpireAgent::install_with(cluster.path(), &name, &home, "", &proof);
        agent.start(&[]);
        let nodes = cluster.agents();
        let node = nodes.iter().find(|node| !known.contains(&node.id)).unwrap();
        assert_eq!(
            (node.attestation_type.as_str(), node.can_reattest),
            ("x509pop", true)
        );
        // Restarted, it goes on with what it has; evicted, it proves itself again by itself.
        let serials = || -> BTreeSet<_> {
            cluster
                .agents()
                .into_iter()
                .map(|node| node.x509svid_serial_number)
                .collect()
        };
        let before = serials();
        agent.take().stop();
        agent.start(&[]);
        assert_eq!(serials(), before);
        let id = node.id.clone();
        cluster.block_on(async {
            let mut client = AgentClient::new(cluster.channel().await);
            client.delete_agent(DeleteAgentRequest { id }).await.unwrap();
        });
        until("SPIRE's agent is back with another certificate", || {
            let now = serials();
            now.len() == before.len() && now != before
        });
        agent.take().stop();
    }
    assert_eq!(cluster.agents().len(), 2);
}

#[test]
fn spires_agent_lives_on_our_server_by_its_pods_token() {
    if !spire_is_here() {
        return;
    }
    let (ca, kubernetes) = (MachineCa::new("machines"), kubernetes());
    let cluster = our_server(&ca, &kubernetes);
    fs::write(cluster.path().join("token"), TOKEN).unwrap();
    let proof = spires_proof("k8s_psat", cluster.path());
    let mut agent = SpireAgent::install_with(cluster.path(), "spire-agent", &cluster.home(), "", &proof);
    agent.start(&[]);
    let nodes = cluster.agents();
    assert_eq!(nodes.len(), 1);
    assert_eq!(
        nodes[0].id.as_ref().unwrap().path,
        "/spire/agent/k8s_psat/production/node-uid-1"
    );
    agent.take().stop();
}
