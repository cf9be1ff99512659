//! Unchanged clients of two languages talk to each other all the time, while authorities of both kinds go through their whole lives.

use std::{fs, path::PathBuf, process::Command, sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use muster_pki::{
    LocalKey,
    bundle::BundleSet,
    tls::{PeerIds, SvidResolver, client_config},
    x509::{CertificateDer, X509Svid},
};
use muster_proto::{
    authority::{GetProgressRequest, rotation_client::RotationClient},
    convert,
    spire::server::agent::{CountAgentsRequest, agent_client::AgentClient},
};
use muster_tests::{Cluster, Identity, Process, Settings, Workload, from_pem, rounds, tcp_channel, until};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{active, authority};

const PEER: &str = "spiffe://example.org/peer";
/// How far handshakes and tokens are apart, in milliseconds: stories run beside this one.
const PAUSE: &str = "50";

/// The one command waits for as long as the longest token lives and a minute more. A token that is kept on the side must not end by itself before it is judged.
const SHORT_TOKENS: Settings = Settings {
    server: "[ca]\njwt_svid = \"20s\"\nmax_jwt_svid = \"20s\"\n",
    agent: "",
    before: None,
};

#[test]
fn traffic_of_two_languages_goes_on_through_all_lives_of_authorities_and_what_was_kept_counts_no_more() {
    if ![Workload::Go, Workload::Python]
        .into_iter()
        .all(Workload::is_here)
    {
        return;
    }
    let cluster = Cluster::start(&SHORT_TOKENS);
    // An administrator, so that the server's door is one of those that judge what was kept.
    let mut entry = cluster.entry("/peer", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    entry.admin = true;
    cluster.register_entry(entry);
    let began = Instant::now();
    let mut traffic = Traffic::start(&cluster);
    // More in a soak (`MUSTER_ROUNDS`).
    let rounds = rounds(10);
    for _ in 0..rounds {
        traffic.x509_authority_lives(&cluster);
        traffic.jwt_authority_lives(&cluster);
    }
    traffic.one_command_for_all(&cluster);
    traffic.end(rounds, began);
}

/// Each language serves, dials the other's server, and takes and judges tokens.
struct Traffic {
    servers: [Process; 2],
    addresses: [String; 2],
    dialers: [Process; 2],
    checkers: [Process; 2],
    judged: usize,
}

impl Traffic {
    fn start(cluster: &Cluster) -> Self {
        let languages = [Workload::Go, Workload::Python];
        let servers = languages.map(|language| language.start(cluster, &["serve", "127.0.0.1:0", PEER]));
        let addresses = servers
            .each_ref()
            .map(|server| server.event("listening")["addr"].as_str().unwrap().to_owned());
        let [go, python] = &addresses;
        let dial = |language: Workload, address: &str| {
            language.start(cluster, &["dial", address, PEER, "100000000", PAUSE])
        };
        Self {
            dialers: [dial(Workload::Go, python), dial(Workload::Python, go)],
            checkers: languages.map(|language| language.start(cluster, &["tokens", "traffic", PAUSE])),
            servers,
            addresses,
            judged: 0,
        }
    }

    /// Waits until everybody with an SVID holds what is wanted; what that is, of each.
    fn hold_svids(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let holders = self.servers.iter().chain(&self.dialers);
        holders.map(|holder| holds(holder, what, &wanted)).collect()
    }

    /// Waits until everybody with tokens holds what is wanted.
    fn hold_tokens(&self, what: &str, wanted: impl Fn(&Value) -> bool) {
        for holder in &self.checkers {
            holds(holder, what, &wanted);
        }
    }

    fn x509_authority_lives(&mut self, cluster: &Cluster) {
        let old = active(cluster, "x509");
        let kept = KeptSvid::take(cluster);
        authority(cluster, &["prepare", "x509"]);
        let before = self.hold_svids("both authorities", |held| held["authorities"] == 2);
        let serial = &before[0]["serial"];
        authority(cluster, &["activate", "x509"]);
        authority(cluster, &["taint", "x509", &old]);
        self.hold_svids("an SVID of the new authority", |held| held["serial"] != *serial);
        until_replaced(cluster);
        self.judge_svid(cluster, &kept, true);
        authority(cluster, &["revoke", "x509", &old]);
        self.hold_svids("the new authority alone", |held| held["authorities"] == 1);
        self.judge_svid(cluster, &kept, false);
    }

    fn jwt_authority_lives(&mut self, cluster: &Cluster) {
        let old = active(cluster, "jwt");
        let kept = kept_token(cluster);
        authority(cluster, &["prepare", "jwt"]);
        self.hold_tokens("both keys", |held| held["authorities"] == 2);
        authority(cluster, &["activate", "jwt"]);
        authority(cluster, &["taint", "jwt", &old]);
        self.hold_tokens("a token of the new key", |held| held["kid"] != *old);
        until_replaced(cluster);
        self.judge_token(cluster, &kept, true);
        authority(cluster, &["revoke", "jwt", &old]);
        self.hold_tokens("the new key alone", |held| held["authorities"] == 1);
        self.judge_token(cluster, &kept, false);
    }

    /// `muster authority rotate --revoke`, which knows by itself what is in use still.
    fn one_command_for_all(&mut self, cluster: &Cluster) {
        let before = ["x509", "jwt"].map(|kind| active(cluster, kind));
        let kept = KeptSvid::take(cluster);
        let rotated = authority(cluster, &["rotate", "--revoke"]);
        let turns = rotated["turns"].as_array().unwrap();
        for (turn, before) in turns.iter().zip(&before) {
            assert_eq!(
                (&turn["reached"], turn["old"]["authority_id"].as_str()),
                (&"revoked".into(), Some(before.as_str())),
                "{rotated}"
            );
        }
        assert_eq!(turns.len(), 2, "{rotated}");
        self.hold_tokens("a token of the new key", |held| {
            held["kid"] != *before[1] && held["authorities"] == 1
        });
        self.judge_svid(cluster, &kept, false);
    }

    /// Shows every verifier the SVID that was kept, and after that the present one, which counts always.
    fn judge_svid(&mut self, cluster: &Cluster, kept: &KeptSvid, counts: bool) {
        let present = KeptSvid::take(cluster);
        for (svid, counts) in [(kept, counts), (&present, true)] {
            let verdicts = svid.verdicts(cluster, &self.addresses);
            assert!(
                verdicts.iter().all(|(_, taken)| *taken == counts),
                "{counts} was expected of each: {verdicts:?}"
            );
            self.judged += verdicts.len();
        }
    }

    fn judge_token(&mut self, cluster: &Cluster, kept: &str, counts: bool) {
        for checker in &mut self.checkers {
            checker.tell(&format!("kept {kept}"));
            let judged = checker.event("judged");
            let verdicts = (judged["workload_api"].as_bool(), judged["library"].as_bool());
            assert_eq!(verdicts, (Some(counts), Some(counts)), "{judged}");
        }
        let (file, bundle) = (cluster.path().join("token"), cluster.path().join("token.bundle"));
        fs::write(&file, kept).unwrap();
        fs::write(
            &bundle,
            cluster.muster_ok(&["bundle", "show", "--format", "spiffe"]),
        )
        .unwrap();
        let bundle = format!("example.org={}", bundle.display());
        let validate = [
            "validate",
            "jwt",
            file.to_str().unwrap(),
            "--bundle",
            &bundle,
            "--audience",
            "kept",
        ];
        let validated = cluster.muster(&validate);
        assert_eq!(validated.status.code(), Some(i32::from(!counts)), "{validated:?}");
        self.judged += 5;
    }

    fn end(mut self, rounds: u64, began: Instant) {
        let mut all = Vec::new();
        for (kind, clients) in [("dialed", &mut self.dialers), ("checked", &mut self.checkers)] {
            for (client, language) in clients.iter_mut().zip(["Go", "Python"]) {
                client.close_input();
                let counted = client.event(kind);
                println!(
                    "figure: {language} {kind} {}, {} failed",
                    counted["ok"], counted["failed"]
                );
                all.push(counted);
            }
        }
        println!(
            "figure: {} s, {} lives of X.509 authorities and as many of JWT authorities, {} verdicts on what was kept",
            began.elapsed().as_secs(),
            rounds + 1,
            self.judged
        );
        for counted in all {
            assert_eq!(counted["failed"], 0, "{counted}");
            assert!(counted["ok"].as_u64().unwrap() > 100, "{counted}");
        }
    }
}

/// Waits until the node says that nothing is left of what a tainted authority signed, its own certificate included: who revokes before that cuts it off for a moment.
fn until_replaced(cluster: &Cluster) {
    until("everything to be replaced", || {
        let progress = cluster.block_on(async {
            let mut rotation = RotationClient::new(cluster.channel().await);
            rotation
                .get_progress(GetProgressRequest {})
                .await
                .unwrap()
                .into_inner()
        });
        (progress.connected, progress.informed, progress.outdated) == (1, 1, 0)
    });
}

fn holds(holder: &Process, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    holder.event_where(what, |event| {
        assert_ne!(event["event"], "error", "{event}");
        event["event"] == "holds" && wanted(event)
    })
}

fn kept_token(cluster: &Cluster) -> String {
    let fetched = cluster.muster_ok(&["--output", "json", "fetch", "jwt", "--audience", "kept"]);
    let fetched: Value = serde_json::from_str(&fetched).unwrap();
    fetched[0]["token"].as_str().unwrap().to_owned()
}

/// An SVID that somebody has copied, with its key.
struct KeptSvid {
    identity: Identity,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl KeptSvid {
    fn take(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().unwrap();
        cluster.muster_ok(&["fetch", "x509", "--write", folder.path().to_str().unwrap()]);
        let read = |name: &str| from_pem(&fs::read_to_string(folder.path().join(name)).unwrap());
        let svid = X509Svid::parse(vec![CertificateDer::from(read("svid.0.pem"))]).unwrap();
        let key = Arc::new(LocalKey::from_pkcs8(&read("svid.0.key")).unwrap());
        Self {
            identity: Identity { svid, key },
            file: folder.path().join("svid.0.pem"),
            folder,
        }
    }

    /// Who takes it, by the bundle of now.
    fn verdicts(&self, cluster: &Cluster, [go, python]: &[String; 2]) -> [(&'static str, bool); 5] {
        let roots = self.folder.path().join("roots.pem");
        fs::write(&roots, cluster.muster_ok(&["bundle", "show", "--format", "pem"])).unwrap();
        let (roots, file) = (roots.to_str().unwrap(), self.file.to_str().unwrap());
        let bundle = format!("example.org={roots}");
        let validated = cluster.muster(&["validate", "x509", file, "--bundle", &bundle]);
        let openssl = Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile", roots, file])
            .output();
        [
            ("Go's server", self.is_echoed(cluster, go)),
            ("Python's server", self.is_echoed(cluster, python)),
            ("our server's door", self.is_administrator(cluster)),
            ("muster validate", validated.status.success()),
            ("openssl verify", openssl.unwrap().status.success()),
        ]
    }

    fn is_echoed(&self, cluster: &Cluster, address: &str) -> bool {
        let bundle = convert::bundle(&cluster.bundle()).unwrap();
        let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::new(bundle))));
        let shown = SvidResolver::new();
        shown
            .set(&self.identity.svid, self.identity.key.clone())
            .expect("its key");
        let config = client_config(bundles, PeerIds::Exactly(PEER.parse().unwrap()), Some(shown)).unwrap();
        let address: std::net::SocketAddr = address.parse().unwrap();
        let echo = async {
            let tcp = tokio::net::TcpStream::connect(address).await?;
            let connector = tokio_rustls::TlsConnector::from(config);
            let mut tls = connector.connect(address.ip().into(), tcp).await?;
            tls.write_all(b"hello").await?;
            let mut heard = [0; 5];
            tls.read_exact(&mut heard).await?;
            Ok::<_, std::io::Error>(heard == *b"hello")
        };
        cluster.block_on(echo).unwrap_or(false)
    }

    fn is_administrator(&self, cluster: &Cluster) -> bool {
        cluster.block_on(async {
            let mut agents = AgentClient::new(tcp_channel(cluster, Some(&self.identity)).await);
            agents.count_agents(CountAgentsRequest::default()).await.is_ok()
        })
    }
}
