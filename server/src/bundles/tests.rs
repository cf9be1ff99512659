use muster_identity::{StoreId, UnixTime};
use muster_pki::bundle::Scope;
use muster_runtime::Tasks;

use super::*;
use crate::federation::Relationship;
use crate::registry::{Change, Expect};
use crate::store::Memory;

struct Log {
    registry: Registry,
    bundles: Bundles,
    _tasks: Tasks,
}

fn name(text: &str) -> TrustDomain {
    text.parse().unwrap()
}

fn log() -> Log {
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, name("example.org"), Vec::new()).unwrap();
    let tasks = Tasks::new(Stop::new());
    tasks.spawner().spawn("registry", committer.run(tasks.stop()));
    let bundles = Bundles::read(name("example.org"), &registry.view()).unwrap();
    Log {
        registry,
        bundles,
        _tasks: tasks,
    }
}

impl Log {
    async fn commit(&self, change: Change) {
        self.registry.commit(vec![change]).await.unwrap();
        self.bundles.refresh(&self.registry.view()).unwrap();
    }

    async fn put(&self, trust_domain: &str, sequence: u64) {
        let mut bundle = Bundle::new(name(trust_domain));
        bundle.set_sequence(Some(sequence));
        let bytes = federated_to_bytes(&bundle).unwrap();
        self.commit(Change::put(Tree::Bundles, trust_domain, bytes, Expect::Any))
            .await;
    }

    async fn relate(&self, relationship: &Relationship) {
        let key = relationship.trust_domain.as_str().to_owned();
        self.commit(Change::put(
            Tree::Relationships,
            key,
            relationship.to_bytes(),
            Expect::Any,
        ))
        .await;
    }

    fn sequence(&self, trust_domain: &str) -> Option<Option<u64>> {
        self.bundles
            .set()
            .get(&name(trust_domain))
            .map(|bundle| bundle.sequence())
    }
}

#[tokio::test]
async fn federated_bundles_come_change_and_go_and_what_did_not_change_is_the_same_value() {
    let log = log();
    log.put("example.org", 1).await;
    log.put("b.example", 1).await;
    log.put("c.example", 1).await;
    let kept = Arc::clone(log.bundles.set().get(&name("c.example")).unwrap());
    log.put("b.example", 2).await;
    assert_eq!(log.sequence("b.example"), Some(Some(2)));
    assert!(Arc::ptr_eq(
        &kept,
        log.bundles.set().get(&name("c.example")).unwrap()
    ));
    log.commit(Change::delete(Tree::Bundles, "b.example", Expect::Any))
        .await;
    assert_eq!(log.sequence("b.example"), None);
    assert_eq!(log.sequence("example.org"), Some(Some(1)));
}

#[tokio::test]
async fn an_older_view_takes_nothing_back() {
    let log = log();
    let old = log.registry.view();
    log.put("b.example", 1).await;
    log.bundles.refresh(&old).unwrap();
    assert_eq!(log.sequence("b.example"), Some(Some(1)));
}

#[tokio::test]
async fn a_revoked_domain_has_no_keys_and_a_narrowed_one_its_scope_whatever_the_bundles_record_says() {
    let log = log();
    log.put("b.example", 5).await;
    let mut relationship = Relationship::without_source(name("b.example"));
    relationship.scope = Scope::new(vec!["/pay".parse().unwrap()]).unwrap();
    log.relate(&relationship).await;
    assert_eq!(
        log.bundles.set().scope(&name("b.example")),
        Some(&relationship.scope)
    );
    relationship.revoked_at = Some(UnixTime::from_secs(1));
    log.relate(&relationship).await;
    assert_eq!(log.sequence("b.example"), Some(None));
    // A record that can't be read might have revoked: nothing counts.
    log.commit(Change::put(
        Tree::Relationships,
        "b.example",
        vec![99],
        Expect::Any,
    ))
    .await;
    assert_eq!(log.sequence("b.example"), Some(None));
    log.commit(Change::delete(Tree::Relationships, "b.example", Expect::Any))
        .await;
    assert_eq!(log.sequence("b.example"), Some(Some(5)));
}

#[tokio::test]
async fn a_foreign_record_that_cannot_be_read_takes_nothing_from_the_others() {
    let log = log();
    log.put("b.example", 1).await;
    log.put("c.example", 1).await;
    log.commit(Change::put(Tree::Bundles, "b.example", vec![99], Expect::Any))
        .await;
    assert_eq!(
        log.sequence("b.example"),
        Some(Some(1)),
        "what was read before stays"
    );
    log.put("c.example", 2).await;
    assert_eq!(log.sequence("c.example"), Some(Some(2)));
    // Under another's name it is nobody's.
    let mut bundle = Bundle::new(name("d.example"));
    bundle.set_sequence(Some(9));
    log.commit(Change::put(
        Tree::Bundles,
        "c.example",
        bundle_to_bytes(&bundle),
        Expect::Any,
    ))
    .await;
    assert_eq!(
        (log.sequence("c.example"), log.sequence("d.example")),
        (Some(Some(2)), None)
    );
}
