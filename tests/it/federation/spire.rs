//! With the real SPIRE, unchanged: its server and its agent, by both profiles each way.

use std::{fs, net::TcpListener, process::Output};

use muster_tests::{
    Cluster, SpireAgent, SpireServer, SpireSettings, Web, shown_certificate, spire_is_here, until,
};

use super::{
    domain::{Domain, Kind, Taints},
    fates,
    pair::{OTHER, believing, follow, settings, web_endpoint},
    traffic::Traffic,
    turn_over::{Hears, turn_over},
};

/// SVIDs are renewed after 20 s; the node's own certificate stays.
const LIVES: &str = "default_x509_svid_ttl = \"40s\"\n  agent_ttl = \"1h\"\n";
/// SPIRE looks four times as often as a hint says, and takes none below a minute.
const HINT: &str = "[ca]\nrefresh_hint = \"60s\"\n";

#[test]
fn muster_and_spire_turn_over_under_traffic_muster_by_the_web_and_spire_by_its_svid() {
    muster_and_spire(["https_web", "https_spiffe"]);
}

#[test]
fn muster_and_spire_turn_over_under_traffic_muster_by_its_svid_and_spire_by_the_web() {
    muster_and_spire(["https_spiffe", "https_web"]);
}

/// The endpoints prove themselves by these profiles, ours first.
fn muster_and_spire(profiles: [&str; 2]) {
    if !spire_is_here() || !Traffic::is_possible() {
        return;
    }
    let web = Web::new();
    let config = match profiles[0] {
        "https_web" => web_endpoint(&web),
        _ => believing(&web),
    };
    let mut ours = Cluster::start(&settings(format!("{HINT}{config}")));
    let mut spire = Spire::start(profiles[1], &web);
    follow(&ours, &spire, profiles[1]);
    spire.follow(&ours, profiles[0]);
    let what = format!("Muster by {}, SPIRE by {}", profiles[0], profiles[1]);
    let mut traffic = turn_over([&ours, &spire], &what, |following, round| {
        match (following, round) {
            // Our hint lets SPIRE look each 15 s. Waiting for that each time would leave room for few turns, and its own hint is a minute at least.
            (1, 0) => Hears::ByItself,
            _ => Hears::ByOrder,
        }
    });
    fates::all(&mut ours, &mut spire, profiles[1], &web, &mut traffic, &what);
}

/// SPIRE's server with an agent that joined it.
struct Spire {
    server: SpireServer,
    agent: SpireAgent,
    node: String,
    endpoint: u16,
}

impl Spire {
    /// Its endpoint proves itself by `profile`; it believes the authority of `web` as it would the system's.
    fn start(profile: &str, web: &Web) -> Self {
        // It can't be told to choose one and say which.
        let endpoint = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .unwrap()
            .port();
        let shows = match profile {
            "https_web" => format!(
                "serving_cert_file {{ cert_file_path = \"{}\" key_file_path = \"{}\" file_sync_interval = \"1m\" }}",
                web.path("cert.pem").display(),
                web.path("key.pem").display()
            ),
            _ => String::new(),
        };
        let server = format!(
            "{LIVES}  federation {{ bundle_endpoint {{ address = \"127.0.0.1\" port = {endpoint} profile \"{profile}\" {{ {shows} }} }} }}"
        );
        let server = SpireServer::start(&SpireSettings {
            // A story's settings live as long as it does.
            server: server.leak(),
            trust_domain: Some(OTHER),
            web_authorities: Some(web.ca_file().display().to_string().leak()),
            ..SpireSettings::default()
        });
        let home = server.home();
        let mut agent = SpireAgent::install(server.path(), "agent", &home);
        let node = agent.join(&home, None);
        Self {
            server,
            agent,
            node,
            endpoint,
        }
    }

    /// Follows `followed`'s bundle from its endpoint.
    fn follow(&self, followed: &Cluster, profile: &str) {
        let (name, url) = (followed.name(), followed.endpoint_url());
        let id = format!("spiffe://{name}/spire/server");
        let file = self.server.path().join("followed.json");
        fs::write(&file, followed.document()).unwrap();
        let file = file.display().to_string();
        let mut create = vec!["federation", "create", "-trustDomain", name];
        create.extend(["-bundleEndpointURL", &url, "-bundleEndpointProfile", profile]);
        create.extend([
            "-trustDomainBundlePath",
            &file,
            "-trustDomainBundleFormat",
            "spiffe",
        ]);
        if profile == "https_spiffe" {
            create.extend(["-endpointSpiffeID", &id]);
        }
        self.server.tool().ok(&create);
        let refreshed = self.server.tool().ok(&["federation", "refresh", "-id", name]);
        assert!(refreshed.contains("refreshed"), "{refreshed}");
    }

    fn node_serial(&self) -> String {
        let shown = self
            .server
            .tool()
            .run(&["agent", "show", "-spiffeID", &self.node]);
        shown
            .field("Serial number")
            .expect("what the command prints")
            .to_owned()
    }

    /// Whether what the server shows to nodes names this authority's key, which ids of authorities are in hex.
    fn server_is_below(&self, authority: &str) -> bool {
        let key: Vec<u8> = (0..authority.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&authority[at..at + 2], 16).unwrap())
            .collect();
        let door = self.server.home().address.parse().unwrap();
        let shown = shown_certificate(door, "server", &[b"h2"]).expect("a certificate");
        shown.windows(key.len()).any(|part| part == key)
    }

    fn authority(&self, kind: Kind, args: &[&str]) -> String {
        let command = [&["localauthority", kind.name()], args].concat();
        let said = self.server.tool().run(&command);
        let id = said.field("Authority ID");
        id.unwrap_or_else(|| panic!("{command:?}: {said:?}")).to_owned()
    }
}

impl Domain for Spire {
    fn name(&self) -> &'static str {
        OTHER
    }

    fn workload_api(&self) -> String {
        self.agent.endpoint()
    }

    fn endpoint_url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.endpoint)
    }

    fn document(&self) -> String {
        self.server.tool().ok(&["bundle", "show", "-format", "spiffe"])
    }

    fn register(&self, path: &str, other: &str) {
        let (id, uid) = (
            format!("spiffe://{OTHER}{path}"),
            format!("unix:uid:{}", nix::unistd::getuid()),
        );
        let mut create = vec!["entry", "create", "-parentID", &self.node, "-spiffeID", &id];
        create.extend(["-selector", &uid, "-federatesWith", other]);
        self.server.tool().ok(&create);
    }

    fn refresh(&self, other: &str) -> Output {
        let refresh = ["federation", "refresh", "-id", other];
        self.server.tool().command(&refresh).output().unwrap()
    }

    fn signing(&self, kind: Kind) -> String {
        self.authority(kind, &["show"])
    }

    fn prepare(&self, kind: Kind) -> String {
        self.authority(kind, &["prepare"])
    }

    fn activate(&self, kind: Kind, id: &str) {
        self.authority(kind, &["activate", "-authorityID", id]);
    }

    fn taint(&self, kind: Kind, id: &str) {
        let node = self.node_serial();
        self.authority(kind, &["taint", "-authorityID", id]);
        if kind == Kind::X509 {
            // Server and node renew their own certificates; an operator waits for that before he revokes.
            until("the node's certificate by the next authority", || {
                self.node_serial() != node
            });
            until("the server's certificate by the next authority", || {
                !self.server_is_below(id)
            });
        }
    }

    fn taints(&self, kind: Kind) -> Taints {
        match kind {
            // An operator who is in no hurry: the old authority goes when nothing of the traffic hangs below it.
            Kind::X509 => Taints::WhenRenewed,
            Kind::Jwt => Taints::AtOnce,
        }
    }

    fn revoke(&self, kind: Kind, id: &str) {
        self.authority(kind, &["revoke", "-authorityID", id]);
    }

    fn lose_server(&mut self) {
        self.server.take().kill();
    }

    fn regain_server(&mut self) {
        self.server.start_again();
    }
}
