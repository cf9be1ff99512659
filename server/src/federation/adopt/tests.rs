use std::sync::Arc;

use muster_audit::Settings;
use muster_identity::{Lifetime, StoreId, UnixTime};
use muster_pki::x509::{RootProfile, X509Authority, ca_subject, issue_root};
use muster_pki::{KeyAlgorithm, LocalKey};
use muster_runtime::{Stop, Tasks};

use super::*;
use crate::federation::{Profile, Relationship};
use crate::store::Memory;

struct World {
    adopter: Adopter,
    _tasks: Tasks,
}

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000)
}

fn peer() -> TrustDomain {
    "b.example".parse().unwrap()
}

fn source() -> Source {
    Source::Endpoint {
        url: "https://b.example/".parse().unwrap(),
        profile: Profile::Spiffe("spiffe://b.example/server".parse().unwrap()),
    }
}

fn relationship() -> Relationship {
    Relationship {
        source: Some(source()),
        ..Relationship::without_source(peer())
    }
}

fn authority() -> X509Authority {
    let profile = RootProfile {
        trust_domain: peer(),
        subject: ca_subject(),
        now: now(),
        lifetime: Lifetime::from_secs(3_600).unwrap(),
    };
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    issue_root(key, &profile).unwrap().authority().clone()
}

fn bundle(sequence: u64, authorities: &[&X509Authority]) -> Bundle {
    let mut bundle = Bundle::new(peer());
    bundle.set_sequence(Some(sequence));
    for authority in authorities {
        bundle.put_x509_authority((*authority).clone());
    }
    bundle
}

/// A server that follows the peer.
async fn world() -> World {
    let own: TrustDomain = "example.org".parse().unwrap();
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, own.clone(), Vec::new()).unwrap();
    let tasks = Tasks::new(Stop::new());
    tasks.spawner().spawn("registry", committer.run(tasks.stop()));
    let signer = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let audit = Audit::in_memory(Settings::new("example.org/audit", signer, Arc::new(now))).unwrap();
    let peers = Peers::default();
    let bundles = Bundles::read_with(own, peers.clone(), &registry.view()).unwrap();
    let world = World {
        adopter: Adopter {
            registry,
            bundles,
            peers,
            audit,
        },
        _tasks: tasks,
    };
    world.relate(Some(&relationship())).await;
    world
}

impl World {
    /// As another server does: the decoded bundles learn of it later.
    async fn set(&self, bundle: &Bundle) {
        let bytes = federated_to_bytes(bundle).unwrap();
        let put = Change::put(Tree::Bundles, peer().as_str(), bytes, Expect::Any);
        self.adopter.registry.commit(vec![put]).await.unwrap();
    }

    async fn relate(&self, relationship: Option<&Relationship>) {
        let change = Change {
            value: relationship.map(Relationship::to_bytes),
            ..Change::delete(Tree::Relationships, peer().as_str(), Expect::Any)
        };
        self.adopter.registry.commit(vec![change]).await.unwrap();
    }

    fn held(&self) -> Option<u64> {
        let view = self.adopter.registry.view();
        let document = view.document(Tree::Bundles, peer().as_str().as_bytes())?;
        bundle_from_bytes(&document.value).unwrap().sequence()
    }

    /// Commits a bundle as it was decided in `view`.
    async fn commit_by(&self, view: &View, believed_by: Option<&TrustDomain>) -> Result<(), CommitError> {
        let bytes = federated_to_bytes(&bundle(1, &[])).unwrap();
        let mut changes = vec![Change::put(Tree::Bundles, peer().as_str(), bytes, Expect::Any)];
        changes.extend(as_decided(view, &peer(), believed_by));
        self.adopter.registry.commit(changes).await.map(|_| ())
    }
}

#[tokio::test]
async fn an_endpoint_that_was_believed_by_an_authority_which_went_meanwhile_is_not_heard() {
    let world = world().await;
    let (leaked, fresh) = (authority(), authority());
    let before = bundle(1, &[&leaked]);
    world.set(&before).await;
    // While the endpoint keeps us waiting, an administrator throws the authority out.
    world.set(&bundle(2, &[&fresh])).await;
    let offered = bundle(9, &[&leaked]);
    let refused = world.adopter.adopt(&offered, &source(), Some(&before)).await;
    assert!(
        matches!(&refused, Err(AdoptError::Distrusted(name)) if *name == peer()),
        "{refused:?}"
    );
    let unchanged = world
        .adopter
        .still_believed(&world.adopter.registry.view(), Some(&before));
    assert!(
        matches!(unchanged, Err(AdoptError::Distrusted(_))),
        "{unchanged:?}"
    );
    assert_eq!(world.held(), Some(2));
    // One that comes beside it takes nothing from it.
    world.set(&bundle(3, &[&leaked, &fresh])).await;
    let taken = world.adopter.adopt(&offered, &source(), Some(&before)).await;
    assert!(taken.unwrap());
    assert_eq!(world.held(), Some(9));
}

#[tokio::test]
async fn a_relationship_that_changed_after_the_look_stops_the_commit() {
    let world = world().await;
    let registry = &world.adopter.registry;
    let mut revoked = relationship();
    revoked.revoked_at = Some(now());
    let there = registry.view();
    world.relate(Some(&revoked)).await;
    let late = world.commit_by(&there, None).await;
    assert!(matches!(late, Err(CommitError::Conflict(_))), "{late:?}");
    let there = registry.view();
    world.relate(None).await;
    let late = world.commit_by(&there, None).await;
    assert!(matches!(late, Err(CommitError::Conflict(_))), "{late:?}");
    let nothing = registry.view();
    world.relate(Some(&relationship())).await;
    let late = world.commit_by(&nothing, None).await;
    assert!(matches!(late, Err(CommitError::Conflict(_))), "{late:?}");
    assert_eq!(world.held(), None);
}

#[tokio::test]
async fn a_commit_leaves_the_relationship_as_it_was() {
    let world = world().await;
    let peers = &world.adopter.peers;
    let registry = &world.adopter.registry;
    for recorded in [Some(relationship()), None] {
        world.relate(recorded.as_ref()).await;
        world.commit_by(&registry.view(), Some(&peer())).await.unwrap();
        let now = peers.get(&registry.view(), &peer()).map(|peer| peer.relationship);
        assert_eq!(now, recorded);
    }
}

#[tokio::test]
async fn a_third_trust_domain_that_changed_after_the_look_stops_the_commit() {
    let world = world().await;
    let registry = &world.adopter.registry;
    let third: TrustDomain = "c.example".parse().unwrap();
    let with = |authorities: &[&X509Authority]| {
        let mut bundle = Bundle::new(third.clone());
        for authority in authorities {
            bundle.put_x509_authority((*authority).clone());
        }
        let bytes = federated_to_bytes(&bundle).unwrap();
        Change::put(Tree::Bundles, third.as_str(), bytes, Expect::Any)
    };
    let revoked = Relationship {
        revoked_at: Some(now()),
        ..Relationship::without_source(third.clone())
    };
    let revoked = Change::put(
        Tree::Relationships,
        third.as_str(),
        revoked.to_bytes(),
        Expect::Any,
    );
    registry
        .commit(vec![with(&[&authority(), &authority()])])
        .await
        .unwrap();
    let gone = Change::delete(Tree::Bundles, third.as_str(), Expect::Any);
    for change in [with(&[&authority()]), revoked, gone] {
        let there = registry.view();
        registry.commit(vec![change]).await.unwrap();
        let late = world.commit_by(&there, Some(&third)).await;
        assert!(matches!(late, Err(CommitError::Conflict(_))), "{late:?}");
        assert_eq!(world.held(), None);
    }
    // What stands as it stood stops nothing, and stays.
    registry.commit(vec![with(&[&authority()])]).await.unwrap();
    let held = |view: &View| {
        view.document(Tree::Bundles, third.as_str().as_bytes())
            .unwrap()
            .value
            .clone()
    };
    let before = held(&registry.view());
    world.commit_by(&registry.view(), Some(&third)).await.unwrap();
    assert_eq!(world.held(), Some(1));
    assert_eq!(held(&registry.view()), before);
}

#[tokio::test]
async fn a_bundle_that_is_counted_as_zero_is_older_than_any_that_counts() {
    let world = world().await;
    world.set(&bundle(7, &[&authority()])).await;
    let adopted = world.adopter.adopt(&bundle(0, &[]), &source(), None).await;
    assert!(
        matches!(adopted, Err(AdoptError::Older { held: 7, offered: 0 })),
        "{adopted:?}"
    );
    assert_eq!(world.held(), Some(7));
}
