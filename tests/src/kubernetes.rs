//! A cluster's API server, as far as node attestation asks it: TokenReview, pods and nodes, over TLS.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What the account of our server shows.
const SERVERS_TOKEN: &str = "of-the-server";

/// The API server. It runs until the story ends.
pub struct Kubernetes {
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

/// A pod, with everything that is asked of one.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// The node that it runs on.
    pub node: String,
}

#[derive(Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    /// The status of a TokenReview, by token.
    tokens: BTreeMap<String, Value>,
    asked: Vec<String>,
    down: bool,
}

impl Default for Pod {
    fn default() -> Self {
        Self {
            namespace: "muster".into(),
            name: "muster-agent-x1".into(),
            uid: "pod-uid-1".into(),
            service_account: "muster-agent".into(),
            node: "node-1".into(),
        }
    }
}

impl Kubernetes {
    /// Starts one without objects, and writes a kubeconfig file for it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (config, ca) = tls();
        let state = Arc::new(Mutex::new(State::default()));
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, state) = (Arc::clone(&config), Arc::clone(&served));
                // A caller that hangs up ends its own connection and nothing else.
                thread::spawn(move || serve(stream, config, &state));
            }
        });
        fs::write(folder.path().join("ca.crt"), ca).unwrap();
        let kube_config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: story\ncontexts:\n- name: story\n  context: {{cluster: story, user: muster}}\n\
             clusters:\n- name: story\n  cluster:\n    server: https://{address}\n    certificate-authority: ca.crt\n\
             users:\n- name: muster\n  user: {{token: {SERVERS_TOKEN}}}\n"
        );
        fs::write(folder.path().join("kubeconfig"), kube_config).unwrap();
        Self { state, folder }
    }

    /// The kubeconfig file.
    pub fn kube_config(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A machine of the cluster.
    pub fn put_node(&self, name: &str, uid: &str, labels: &[(&str, &str)]) {
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": uid, "labels": labels}});
        self.with(|state| {
            state
                .objects
                .insert(format!("/api/v1/nodes/{name}"), node.clone())
        });
    }

    /// A pod, and a token projected into it for `audience`.
    pub fn put_pod(&self, pod: &Pod, token: &str, audience: &str) {
        let Pod {
            namespace,
            name,
            uid,
            service_account,
            node,
        } = pod;
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "uid": uid, "labels": {"app": "muster"}},
            "spec": {"nodeName": node, "serviceAccountName": service_account},
            "status": {"hostIP": "192.0.2.7"},
        });
        let status = json!({
            "authenticated": true,
            "audiences": [audience],
            "user": {
                "username": format!("system:serviceaccount:{namespace}:{service_account}"),
                "extra": {
                    "authentication.kubernetes.io/pod-name": [name],
                    "authentication.kubernetes.io/pod-uid": [uid],
                },
            },
        });
        self.with(|state| {
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
            state.objects.insert(path, object.clone());
            state.tokens.insert(token.to_owned(), status.clone())
        });
    }

    /// Changes what a TokenReview says of a token.
    pub fn change_review(&self, token: &str, change: impl Fn(&mut Value)) {
        self.with(|state| change(state.tokens.get_mut(token).expect("a token that was put")));
    }

    /// Takes a token back, as the cluster does when its pod is deleted.
    pub fn revoke(&self, token: &str) {
        self.with(|state| state.tokens.remove(token));
    }

    /// Whether every question is answered by an error.
    pub fn set_down(&self, down: bool) {
        self.with(|state| state.down = down);
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<String> {
        self.with(|state| state.asked.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap())
    }
}

fn tls() -> (Arc<ServerConfig>, String) {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca_key = KeyPair::generate().unwrap();
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let mut own = CertificateParams::default();
    own.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
    let key = KeyPair::generate().unwrap();
    let certificate = own.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(muster_pki::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (Arc::new(config), pem)
}

/// Answers the requests of one connection. None: the caller is gone.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, state: &Mutex<State>) -> Option<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
    loop {
        let head = head(&mut stream)?;
        let line = head.lines().next()?.to_owned();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines
                .into_iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let length = header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let known = header("authorization") == Some(format!("Bearer {SERVERS_TOKEN}"));
        let (status, answer) = if known {
            answer(&line, &body, &mut state.lock().unwrap())
        } else {
            ("401 Unauthorized", json!({}))
        };
        let answer = answer.to_string();
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{answer}"
        )
        .ok()?;
        stream.flush().ok()?;
    }
}

fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn answer(line: &str, body: &[u8], state: &mut State) -> (&'static str, Value) {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state.asked.push(format!("{method} {path}"));
    if state.down {
        return ("503 Service Unavailable", json!({"kind": "Status"}));
    }
    if method == "POST" && path == "/apis/authentication.k8s.io/v1/tokenreviews" {
        // Kubernetes' own client sends protobuf, in which a text stands as it is.
        let holds = |token: &String| body.windows(token.len()).any(|part| part == token.as_bytes());
        let status = state
            .tokens
            .iter()
            .find(|(token, _)| holds(token))
            .map(|(_, status)| status.clone());
        let unknown = json!({"authenticated": false, "error": "invalid bearer token"});
        let status = status.unwrap_or(unknown);
        return (
            "201 Created",
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}),
        );
    }
    match state.objects.get(path) {
        Some(object) if method == "GET" => ("200 OK", object.clone()),
        _ => ("404 Not Found", json!({"kind": "Status"})),
    }
}
