use muster_audit::Settings;
use muster_pki::{KeyAlgorithm, LocalKey};
use muster_runtime::ManualClock;

use super::*;
use crate::registry::sweep::{AT_ONCE, SweepError};
use crate::registry::tests::{Running, entry, id, node_id, start};
use crate::registry::token_bytes;

const ENTRIES: usize = 2 * AT_ONCE + 201;
const TOKENS: usize = AT_ONCE + 3;

fn now() -> UnixTime {
    UnixTime::from_secs(1_800_000_000)
}

fn audit() -> Audit {
    let signer = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    Audit::in_memory(Settings::new("example.org/audit", signer, Arc::new(now))).unwrap()
}

/// A registry with more that has ended than goes into one commit, and one entry and one token that have not.
async fn filled() -> Running {
    let running = start();
    let until = |at: UnixTime, number: usize| {
        let name = format!("e{number}");
        let mut entry = entry(&name, id(&format!("/{name}")), node_id(0), &["unix:uid:1"]);
        entry.spec.expires_at = Some(at);
        entries::create(&entry)
    };
    let mut groups: Vec<_> = (0..ENTRIES).map(|number| until(now(), number)).collect();
    groups.push(until(now().saturating_add(EVERY), ENTRIES));
    for number in 0..=TOKENS {
        let at = if number == TOKENS {
            now()
        } else {
            UnixTime::from_secs(5)
        };
        let hash = TokenHash::of(&number.to_string());
        let put = Change::put(
            Tree::Tokens,
            hash.as_bytes().to_vec(),
            token_bytes(at, None, None),
            Expect::Absent,
        );
        groups.push(vec![put]);
    }
    for outcome in running.registry.commit_each(groups).await {
        outcome.unwrap();
    }
    running
}

fn sweeper(registry: &Registry, audit: &Audit) -> Sweeper {
    Sweeper {
        registry: registry.clone(),
        audit: audit.clone(),
        clock: Arc::new(ManualClock::new(now())),
        every: EVERY,
        failed: "",
    }
}

async fn prune_all(registry: &Registry, audit: &Audit) -> Result<(), SweepError> {
    let view = registry.view();
    sweeper(registry, audit).sweep(ended(&view, now())).await
}

fn left(registry: &Registry) -> (usize, usize) {
    let view = registry.view();
    let forever = UnixTime::from_secs(i64::MAX);
    (view.entry_count(), view.expired_tokens(forever).count())
}

#[tokio::test]
async fn all_that_ended_goes_at_once_and_each_is_on_record() {
    let (running, audit) = (filled().await, audit());
    prune_all(&running.registry, &audit).await.unwrap();
    assert_eq!(left(&running.registry), (1, 1));
    let recorded = audit.recorded();
    let count = |action: &str| recorded.iter().filter(|line| line.contains(action)).count();
    assert_eq!((count("entry.expire"), count("token.delete")), (ENTRIES, TOKENS));
    assert!(recorded[0].contains("spiffe://example.org/e"), "{}", recorded[0]);
}

#[tokio::test]
async fn what_cannot_be_recorded_stays() {
    let (running, audit) = (filled().await, audit());
    audit.set_memory_full(true);
    prune_all(&running.registry, &audit).await.unwrap_err();
    assert_eq!(left(&running.registry), (ENTRIES + 1, TOKENS + 1));
}

#[tokio::test]
async fn what_was_changed_meanwhile_stays_and_the_rest_goes() {
    let (running, audit) = (filled().await, audit());
    let registry = &running.registry;
    let stale = registry.view();
    let two: Vec<_> = stale.expired_entries(now()).take(2).cloned().collect();
    let read = |id| stale.entry(id).unwrap();
    let mut spec = read(&two[0]).entry.spec.clone();
    spec.expires_at = None;
    let (_, changes) = entries::update(read(&two[0]), spec);
    registry.commit(changes).await.unwrap();
    let both = two.iter().map(|id| ended_entry(read(id)));
    sweeper(registry, &audit).sweep(both).await.unwrap();
    assert!(registry.view().entry(&two[0]).is_some() && registry.view().entry(&two[1]).is_none());
    let recorded = audit.recorded();
    assert_eq!(recorded.len(), 3, "both before, and what came of the first");
    assert!(
        recorded[2].contains("failed") && recorded[2].contains(two[0].as_str()),
        "{}",
        recorded[2]
    );
}

#[tokio::test]
async fn a_stop_ends_it() {
    let (running, stop) = (start(), Stop::new());
    let clock = Arc::new(ManualClock::new(now()));
    let pruning = prune(running.registry.clone(), audit(), clock, stop.clone());
    stop.order();
    pruning.await;
}
