//! The whole link, over TLS, on a server that is polled.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::{Fact, FactSource, Facts};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_runtime::{Readiness, SigningPool, Stop, SystemClock};
use muster_seal::KeyFile;
use tempfile::TempDir;

use super::fake::{FakeSpire, SystemNow, entry, go, own};
use crate::attest::Membership;
use crate::cache::{Cache, Handle};
use crate::keep::{NodeIdentity, NodeState, NodeStore};
use crate::rotate::Jitter;
use crate::sync::{Link, LinkMetrics, Parts};

/// A node on a server, until the test ends.
struct Node {
    server: FakeSpire,
    handle: Handle,
    stop: Stop,
    _folder: TempDir,
}

impl Node {
    /// Joined to a server with `entries`, which ends each connection at `age`.
    async fn on(server: FakeSpire, age: Duration, prefetch: usize) -> Self {
        let address = server.serve_nodes(age).await;
        let folder = tempfile::tempdir().unwrap();
        let seal = Arc::new(KeyFile::open_or_create(folder.path().join("seal.key")).unwrap());
        let (store, _) = NodeStore::open(&folder.path().join("node"), seal).unwrap();
        let (key, now) = (
            LocalKey::generate(KeyAlgorithm::EcP256).unwrap(),
            SystemNow::now(),
        );
        let id = format!("spiffe://{}/spire/agent/join_token/a", own())
            .parse()
            .unwrap();
        let bundle = Arc::new(server.bundle());
        let identity = NodeIdentity {
            svid: server.svid(&id, key.public_key(), now),
            key: key.to_pkcs8().unwrap(),
            received: now,
        };
        let state = NodeState {
            identity: Some(identity),
            ..NodeState::unjoined(address, Arc::clone(&bundle))
        };
        let cache = Cache::new(bundle, prefetch, Jitter::seeded(1));
        let (handle, orders) = Handle::new(cache, Arc::new(SystemClock));
        let (link, _) = Link::new(Parts {
            handle: handle.clone(),
            orders,
            membership: Membership::new(store, state).unwrap(),
            attestor: None,
            clock: Arc::new(SystemClock),
            pool: SigningPool::start(2, 16).unwrap(),
            algorithm: KeyAlgorithm::EcP256,
            readiness: Readiness::new(),
            metrics: LinkMetrics::default(),
            facts: Vec::new(),
        });
        let stop = Stop::new();
        let stopping = stop.clone();
        go(async move { link.run(stopping).await.unwrap() });
        Self {
            server,
            handle,
            stop,
            _folder: folder,
        }
    }

    /// Waits until `holds` of the cache.
    async fn until(&self, holds: impl Fn(&Cache) -> bool) {
        let mut changes = self.handle.changes();
        while !self.handle.read(&holds) {
            changes.changed().await.unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.order();
    }
}

fn facts() -> Facts {
    let fact = Fact::new("unix:uid:1".parse().unwrap(), FactSource::Kernel);
    [fact].into_iter().collect()
}

#[tokio::test]
async fn a_server_that_ends_its_connections_by_their_age_costs_no_token() {
    let server = FakeSpire::new(SystemNow::now());
    server.state().entries = vec![entry("a", 0, 0)];
    let node = Node::on(server, Duration::from_millis(1_200), 0).await;
    let mut asked = 0;
    while node.server.state().connections < 5 {
        asked += 1;
        let audience = vec![format!("audience-{asked}")];
        let tokens = node.handle.jwt_svids(&facts(), None, audience).await;
        assert_eq!(tokens.unwrap().len(), 1);
    }
    let calls = node.server.state().calls.clone();
    let count = |method: &str| calls.iter().filter(|call| *call == method).count();
    // Each connection asks anew what kind of server this is; this agent's version is told once.
    assert!(count("Sync") >= 4 && count("PostStatus") == 1, "{calls:?}");
}

#[tokio::test]
async fn certificates_that_do_not_fit_into_one_message_come_in_smaller_batches() {
    let server = FakeSpire::new(SystemNow::now());
    server.state().entries = (0..20).map(|n| entry(&format!("e{n}"), 0, 0)).collect();
    server.state().padding = 1 << 20;
    let node = Node::on(server, Duration::from_secs(600), 100).await;
    node.until(|cache| cache.sizes()[1] == 20).await;
    let batches = node.server.state().batches.clone();
    assert!(
        batches[0] == 20 && batches.iter().any(|batch| *batch <= 3),
        "{batches:?}"
    );
}

#[tokio::test]
async fn a_node_that_the_server_bans_forgets_everything() {
    use muster_proto::convert::{Reason, denied};
    let server = FakeSpire::new(SystemNow::now());
    server.state().entries = vec![entry("a", 0, 0)];
    let node = Node::on(server, Duration::from_secs(600), 100).await;
    node.until(|cache| cache.sizes()[1] == 1).await;
    node.server.state().refuses = Some(denied("agent is banned", Reason::AgentBanned));
    node.until(|cache| cache.sizes() == [0; 4] && cache.position().is_none())
        .await;
}
