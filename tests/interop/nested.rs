//! Servers below each other, of both kinds: what the lowest one's workloads get is verified by the highest one's roots.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use muster_proto::spire::{
    server::localauthority::{
        ActivateX509AuthorityRequest, GetX509AuthorityStateRequest, PrepareX509AuthorityRequest,
        RevokeX509AuthorityRequest, TaintX509AuthorityRequest, local_authority_client::LocalAuthorityClient,
    },
    types,
};
use muster_tests::{
    Cluster, Home, Settings, SpireAgent, SpireServer, SpireSettings, TRUST_DOMAIN, spire_is_here, until,
};
use tempfile::TempDir;

/// How long authorities take turns while workloads are looked at.
const WATCHED: Duration = Duration::from_secs(75);

/// Short lives on the third level; the second lives several times as long, or the third would be cut by its end.
const SECOND: &str = "[ca]\nlifetime = \"10m\"\nx509_svid = \"15s\"\nmax_x509_svid = \"15s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"15s\"\n";
const THIRD: &str = "[ca]\nlifetime = \"1m\"\nx509_svid = \"10s\"\nmax_x509_svid = \"10s\"\njwt_svid = \"5s\"\nmax_jwt_svid = \"5s\"\nnode = \"10s\"\n";

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn uid() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

/// What our server is told to stand below another.
fn below(server: &str, workload_api: &Path, more: &str) -> Settings {
    let workload_api = workload_api.display();
    let table = format!("[upstream_authority.spire]\nserver = '{server}'\nworkload_api = '{workload_api}'\n");
    Settings {
        server: leaked(format!("{table}{more}")),
        ..Settings::default()
    }
}

/// What SPIRE's server is told to stand below another.
fn spire_below(server: &str, workload_api: &Path, more: &'static str) -> SpireSettings {
    let (host, port) = server.rsplit_once(':').expect("host and port");
    let workload_api = workload_api.display();
    SpireSettings {
        server: more,
        plugins: leaked(format!(
            r#"UpstreamAuthority "spire" {{ plugin_data {{
    server_address = "{host}"
    server_port = "{port}"
    workload_api_socket = "{workload_api}"
  }} }}"#
        )),
        ..SpireSettings::default()
    }
}

/// A SPIRE server with an agent that joined it.
struct Spire {
    server: SpireServer,
    agent: SpireAgent,
    node: String,
    _dir: TempDir,
}

impl Spire {
    fn start(settings: &SpireSettings) -> Self {
        let server = SpireServer::start(settings);
        let dir = tempfile::tempdir().unwrap();
        let home = server.home();
        let mut agent = SpireAgent::install(dir.path(), "agent", &home);
        let node = agent.join(&home, None);
        Self {
            server,
            agent,
            node,
            _dir: dir,
        }
    }

    fn register(&self, path: &str, more: &[&str]) {
        let id = format!("spiffe://{TRUST_DOMAIN}{path}");
        let uid = uid();
        let mut words = vec![
            "entry",
            "create",
            "-parentID",
            &self.node,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
        ];
        words.extend(more);
        self.server.tool().ok(&words);
    }

    fn home(&self) -> Home {
        self.server.home()
    }
}

fn downstream(cluster: &Cluster, path: &str) {
    let mut entry: types::Entry = cluster.entry(path, &[&uid()]);
    entry.downstream = true;
    cluster.register_entry(entry);
}

/// A workload at some agent: what it gets, looked at with OpenSSL, which knows nothing of either side.
struct Workload {
    endpoint: String,
    folder: TempDir,
    above: BTreeSet<String>,
}

impl Workload {
    fn at(endpoint: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let above = BTreeSet::new();
        Self {
            endpoint,
            folder,
            above,
        }
    }

    /// Whether it gets an SVID now.
    fn fetch(&self) -> bool {
        Command::new(muster_tests::binary("muster"))
            .args(["fetch", "x509", "--write"])
            .arg(self.folder.path())
            .env("SPIFFE_ENDPOINT_SOCKET", &self.endpoint)
            .output()
            .unwrap()
            .status
            .success()
    }

    /// Whether the SVID that it gets leads to `roots`.
    fn verifies(&mut self, roots: &Path) -> bool {
        if !self.fetch() {
            return false;
        }
        let svid = self.folder.path().join("svid.0.pem");
        let verified = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(roots)
            .arg("-untrusted")
            .args([&svid, &svid])
            .output()
            .unwrap();
        let shown = fs::read_to_string(&svid).unwrap();
        let chain = shown.matches("BEGIN CERTIFICATE").count();
        if !verified.status.success() {
            println!(
                "{}{}",
                String::from_utf8_lossy(&verified.stdout),
                String::from_utf8_lossy(&verified.stderr)
            );
            return false;
        }
        assert!(
            chain >= 3,
            "a leaf and an authority for each level below the root: {chain}"
        );
        let issuer = shown
            .split("-----END CERTIFICATE-----")
            .nth(1)
            .unwrap_or_default();
        self.above.insert(issuer.to_owned());
        true
    }
}

/// The roots of the highest server, written anew.
fn roots(home: &Home, dir: &Path) -> PathBuf {
    let path = dir.join("roots.pem");
    fs::write(&path, home.tool().ok(&["bundle", "show"])).unwrap();
    path
}

/// Looks at the workloads again and again while authorities take turns below the root.
fn watch(workloads: &mut [Workload], roots: &Path) {
    let until = Instant::now() + WATCHED;
    let mut looks = 0;
    while Instant::now() < until {
        for workload in &mut *workloads {
            assert!(workload.verifies(roots), "look {looks} at {}", workload.endpoint);
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(500));
    }
    for workload in workloads.iter() {
        println!(
            "figure: {} looks at {}, {} authorities",
            looks,
            workload.endpoint,
            workload.above.len()
        );
    }
    assert!(
        workloads[0].above.len() >= 2,
        "authorities took turns on the third level"
    );
}

/// The root has its authority tainted and revoked; every level comes to stand under the next one.
fn force_rotation(top: &Home, dir: &Path, workloads: &mut [Workload]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut authority = LocalAuthorityClient::new(runtime.block_on(top.channel()));
    let before = fs::read_to_string(roots(top, dir)).unwrap();
    let old = runtime.block_on(async {
        let prepared = authority
            .prepare_x509_authority(PrepareX509AuthorityRequest {})
            .await;
        let authority_id = prepared
            .unwrap()
            .into_inner()
            .prepared_authority
            .unwrap()
            .authority_id;
        let activate = ActivateX509AuthorityRequest { authority_id };
        authority.activate_x509_authority(activate).await.unwrap();
        let state = authority
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        let old = state.unwrap().into_inner().old.unwrap().authority_id;
        let taint = TaintX509AuthorityRequest {
            authority_id: old.clone(),
        };
        authority.taint_x509_authority(taint).await.unwrap();
        old
    });
    // The new root alone: what leads to it stands under it.
    let all = fs::read_to_string(roots(top, dir)).unwrap();
    let next = all
        .split_inclusive("-----END CERTIFICATE-----\n")
        .find(|block| !before.contains(block.trim()));
    let new = dir.join("new.pem");
    fs::write(&new, next.expect("a root that was not there before")).unwrap();
    until("every level under the next root", || {
        workloads.iter_mut().all(|workload| workload.verifies(&new))
    });
    runtime.block_on(async {
        let revoke = RevokeX509AuthorityRequest { authority_id: old };
        authority.revoke_x509_authority(revoke).await.unwrap();
    });
    until("SVIDs after the revocation", || {
        workloads.iter_mut().all(|workload| workload.verifies(&new))
    });
}

#[test]
fn below_a_spire_server_stand_ours_and_below_it_both_kinds() {
    if !spire_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = Spire::start(&SpireSettings::default());
    top.register("/second", &["-downstream"]);
    let second = Cluster::start(&below(&top.home().address, &top.agent.workload_socket(), SECOND));
    downstream(&second, "/third");
    let address = second.server_address().to_owned();
    let ours = Cluster::start(&below(&address, &second.workload_socket(), THIRD));
    ours.register("/web", &[&uid()]);
    let theirs = spire_below(
        &address,
        &second.workload_socket(),
        "default_x509_svid_ttl = \"20s\"",
    );
    let theirs = Spire::start(&theirs);
    theirs.register("/web", &[]);

    let mut workloads = [
        Workload::at(ours.endpoint()),
        Workload::at(theirs.agent.endpoint()),
    ];
    let path = roots(&top.home(), dir.path());
    until("SVIDs on the third level", || {
        workloads.iter_mut().all(|workload| workload.verifies(&path))
    });
    // Each server's token-signing key is known on every level.
    until("four token-signing keys at the top", || {
        let shown = top.server.tool().ok(&["bundle", "show", "-format", "spiffe"]);
        shown.matches("jwt-svid").count() >= 4
    });
    watch(&mut workloads, &path);
    force_rotation(&top.home(), dir.path(), &mut workloads);
}

#[test]
fn below_ours_stands_a_spire_server_and_below_it_ours_again() {
    if !spire_is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let top = Cluster::start(&Settings::default());
    downstream(&top, "/second");
    let second = spire_below(
        top.server_address(),
        &top.workload_socket(),
        "default_x509_svid_ttl = \"20s\"",
    );
    let second = Spire::start(&second);
    second.register("/third", &["-downstream"]);
    let third = Cluster::start(&below(
        &second.home().address,
        &second.agent.workload_socket(),
        THIRD,
    ));
    third.register("/web", &[&uid()]);
    let mut workloads = [Workload::at(third.endpoint())];
    let path = roots(&top.home(), dir.path());
    until("an SVID on the third level", || workloads[0].verifies(&path));
    force_rotation(&top.home(), dir.path(), &mut workloads);
}
