use std::sync::Arc;
use std::time::Duration;

use muster_identity::{Grant, SelectorTypes, SpiffeId, StoreId, Subject, TrustDomain, UnixTime, Verb};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_runtime::Stop;

use super::*;
use crate::registry::{CommitError, GrantRecord, NodeKey, NodeSvid, Registry, TokenGrant, grants};
use crate::store::Memory;

const NOW: UnixTime = UnixTime::EPOCH;

fn td() -> TrustDomain {
    "example.org".parse().unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test needs no supervision of its committer"
)]
pub(super) fn start() -> Registry {
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, td(), Vec::new()).unwrap();
    tokio::spawn(committer.run(Stop::new()));
    registry
}

pub(super) fn key() -> NodeKey {
    NodeKey::of(LocalKey::generate(KeyAlgorithm::EcP256).unwrap().public_key())
}

pub(super) fn svid(serial: u64, key: NodeKey) -> NodeSvid {
    NodeSvid {
        serial: serial.to_string(),
        not_after: after(3600),
        key,
    }
}

pub(super) fn after(seconds: u64) -> UnixTime {
    NOW.saturating_add(Duration::from_secs(seconds))
}

/// The word of a grant that allows everything. What it allows, and when, is tested beside that decision (`api::scope`).
fn allowed(_: &Arc<GrantRecord>, _: &SpiffeId, _: Option<&SpiffeId>) -> Result<(), &'static str> {
    Ok(())
}

/// Decides and commits, as the service does: again after a conflict.
async fn let_in(
    registry: &Registry,
    token: &str,
    key: NodeKey,
    serial: u64,
    now: UnixTime,
) -> Result<(), JoinError> {
    loop {
        let joining = join(&registry.view(), token, key, now, allowed)?;
        match registry.commit(joining.changes(svid(serial, key), now)).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn of_a_thousand_parallel_redeems_exactly_one_key_gets_in() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    let same = key();
    let redeems = (0..1000).map(|n| {
        let (registry, key) = (registry.clone(), if n % 100 == 7 { same } else { key() });
        async move { (key, let_in(&registry, "a-token", key, n, NOW).await) }
    });
    let outcomes = futures_util::future::join_all(redeems).await;
    let mut inside: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.is_ok())
        .map(|(key, _)| *key)
        .collect();
    inside.dedup();
    assert_eq!(inside.len(), 1, "one key");
    let view = registry.view();
    assert_eq!(view.node_count(), 1);
    assert!(view.nodes().all(|node| node.has_key(inside[0])));
    assert!(
        outcomes
            .iter()
            .all(|(_, outcome)| matches!(outcome, Ok(()) | Err(JoinError::UnknownToken)))
    );
}

/// A grant of tokens for any node, as of when it was created.
fn grant() -> Grant {
    Grant {
        name: "ci".parse().unwrap(),
        subject: Subject::Uid(7),
        verbs: [Verb::TokenCreate].into_iter().collect(),
        paths: [].into(),
        parents: ["/spire/agent".parse().unwrap()].into(),
        selector_types: SelectorTypes::Any,
        dns_domains: [].into(),
        max_lifetime: None,
        max_entries: None,
        expires_at: Some(after(600)),
    }
}

#[tokio::test]
async fn a_token_made_by_a_grant_lets_in_only_while_that_grant_lives() {
    type Changed<'a> = &'a dyn Fn(&GrantRecord) -> Vec<crate::registry::Change>;
    let update = |grant: Grant| move |record: &GrantRecord| grants::update(record, &grant);
    let others = update(Grant {
        subject: Subject::Uid(8),
        ..grant()
    });
    let longer = update(Grant {
        expires_at: None,
        ..grant()
    });
    let nothing = |_: &GrantRecord| Vec::new();
    let changes: [(Changed<'_>, u64, bool); 5] = [
        (&nothing, 599, true),
        (&longer, 601, true),
        (&nothing, 600, false),
        (&grants::delete, 1, false),
        (&others, 1, false),
    ];
    for (at, (change, when, lets_in)) in changes.into_iter().enumerate() {
        let registry = start();
        registry.commit(grants::create(&grant(), NOW)).await.unwrap();
        let record = registry.view().grant(&grant().name).unwrap().clone();
        let by = TokenGrant::of(&record);
        registry
            .commit(new_token("a-token", after(3600), None, Some(&by)))
            .await
            .unwrap();
        registry.commit(change(&record)).await.unwrap();
        let outcome = let_in(&registry, "a-token", key(), 1, after(when)).await;
        let expected = match lets_in {
            true => Ok(()),
            false => Err(JoinError::GrantEnded(grant().name)),
        };
        assert_eq!(outcome, expected, "case {at}");
    }
}

#[tokio::test]
async fn a_token_made_by_a_grant_lets_nobody_in_whom_that_grant_does_not_allow() {
    let registry = start();
    registry.commit(grants::create(&grant(), NOW)).await.unwrap();
    let record = registry.view().grant(&grant().name).unwrap().clone();
    let by = TokenGrant::of(&record);
    let second = "spiffe://example.org/machines/one".parse().unwrap();
    let (own, whole) = ("own-token", "whole-token");
    for (token, by) in [(own, Some(&by)), (whole, None)] {
        let made = new_token(token, after(600), Some(&second), by);
        registry.commit(made).await.unwrap();
    }
    let (view, key) = (registry.view(), key());
    let refused = join(&view, own, key, NOW, |asked, node, alias| {
        assert_eq!(asked.grant, grant());
        assert_eq!((node, alias), (&node_id(&td(), own).unwrap(), Some(&second)));
        Err("outside")
    });
    assert_eq!(refused.unwrap_err(), JoinError::NotAllowed("outside".to_owned()));
    let unasked = |_: &Arc<GrantRecord>, _: &SpiffeId, _: Option<&SpiffeId>| Err("an administrator's");
    assert!(join(&view, whole, key, NOW, unasked).is_ok());
}

#[tokio::test]
async fn the_entry_of_a_second_name_counts_as_made_by_the_grant() {
    let registry = start();
    registry.commit(grants::create(&grant(), NOW)).await.unwrap();
    let record = registry.view().grant(&grant().name).unwrap().clone();
    let by = TokenGrant::of(&record);
    let second = "spiffe://example.org/machines/one".parse().unwrap();
    let made = new_token("a-token", after(600), Some(&second), Some(&by));
    registry.commit(made).await.unwrap();
    let_in(&registry, "a-token", key(), 1, NOW).await.unwrap();
    let view = registry.view();
    assert_eq!((view.entry_count(), view.entries_made_by(&grant().name)), (1, 1));
    let node = view.nodes().next().unwrap();
    registry.commit(evict(&view, node)).await.unwrap();
    assert_eq!(registry.view().entries_made_by(&grant().name), 0);
}

#[tokio::test]
async fn a_later_grant_of_the_same_name_does_not_bring_tokens_back() {
    let registry = start();
    registry.commit(grants::create(&grant(), NOW)).await.unwrap();
    let record = registry.view().grant(&grant().name).unwrap().clone();
    let by = TokenGrant::of(&record);
    registry
        .commit(new_token("a-token", after(600), None, Some(&by)))
        .await
        .unwrap();
    registry.commit(grants::delete(&record)).await.unwrap();
    registry.commit(grants::create(&grant(), after(5))).await.unwrap();
    let refused = let_in(&registry, "a-token", key(), 1, after(6)).await;
    assert_eq!(refused, Err(JoinError::GrantEnded(grant().name)));
}

#[tokio::test]
async fn the_same_key_may_ask_again_for_a_minute_and_no_other() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    let key_of_node = key();
    let_in(&registry, "a-token", key_of_node, 1, NOW).await.unwrap();
    assert_eq!(
        let_in(&registry, "a-token", key(), 2, after(1)).await,
        Err(JoinError::UnknownToken)
    );
    let_in(&registry, "a-token", key_of_node, 3, after(60))
        .await
        .unwrap();
    let node = registry.view().nodes().next().unwrap().clone();
    let serials = [&node.current, &node.pending].map(|svid| svid.as_ref().unwrap().serial.clone());
    assert_eq!(serials, ["1", "3"], "either answer may be the one that arrived");
    assert_eq!(
        let_in(&registry, "a-token", key_of_node, 4, after(61)).await,
        Err(JoinError::UnknownToken)
    );
}

#[tokio::test]
async fn an_expired_token_is_said_to_be_expired_and_an_unknown_one_unknown() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    assert_eq!(
        let_in(&registry, "a-token", key(), 1, after(600)).await,
        Err(JoinError::ExpiredToken)
    );
    for unknown in ["another", "", "../x", "a/b", &"x".repeat(300)] {
        assert_eq!(
            let_in(&registry, unknown, key(), 1, NOW).await,
            Err(JoinError::UnknownToken),
            "{unknown}"
        );
    }
    let stored = format!(
        "{:?}",
        registry.view().expired_tokens(UnixTime::MAX).collect::<Vec<_>>()
    );
    assert!(!stored.contains("a-token"), "the token itself is nowhere");
}

#[tokio::test]
async fn a_token_with_an_alias_makes_an_entry_that_goes_with_the_node() {
    let registry = start();
    let alias = "spiffe://example.org/machines/one".parse().unwrap();
    registry
        .commit(new_token("a-token", after(600), Some(&alias), None))
        .await
        .unwrap();
    assert_eq!(
        registry.view().entry_count(),
        0,
        "before it is redeemed the token is nowhere in clear"
    );
    let_in(&registry, "a-token", key(), 1, NOW).await.unwrap();
    let view = registry.view();
    let node = view.nodes().next().unwrap();
    let entry = view.entries_of_id(&alias).next().unwrap();
    assert_eq!(entry.entry.spec.parent_id, node.id);
    assert!(view.entitled(&node.id, &entry.entry.id).is_some());
    registry.commit(evict(&view, node)).await.unwrap();
    assert_eq!(
        (registry.view().node_count(), registry.view().entry_count()),
        (0, 0)
    );
}

#[tokio::test]
async fn a_banned_node_comes_in_no_way_until_it_is_evicted() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    let key = key();
    let_in(&registry, "a-token", key, 1, NOW).await.unwrap();
    let node = registry.view().nodes().next().unwrap().clone();
    registry.commit(ban(&node)).await.unwrap();
    assert_eq!(
        let_in(&registry, "a-token", key, 2, NOW).await,
        Err(JoinError::Banned)
    );
    assert!(matches!(
        rejoin(&registry.view(), &node.id, key, NOW),
        Err(JoinError::Banned)
    ));
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    assert_eq!(
        let_in(&registry, "a-token", key, 2, NOW).await,
        Err(JoinError::Banned),
        "nor by a new token"
    );
    let banned = registry.view().nodes().next().unwrap().clone();
    registry.commit(evict(&registry.view(), &banned)).await.unwrap();
    let_in(&registry, "a-token", key, 3, NOW).await.unwrap();
}

#[tokio::test]
async fn a_node_comes_back_by_its_key_for_seven_days() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    let (own, renewed) = (key(), key());
    let_in(&registry, "a-token", own, 1, NOW).await.unwrap();
    let node = registry.view().nodes().next().unwrap().clone();
    let days = |days: u64| after(3600 + days * 24 * 3600);
    assert!(rejoin(&registry.view(), &node.id, own, days(7)).is_ok());
    assert!(matches!(
        rejoin(&registry.view(), &node.id, key(), days(1)),
        Err(JoinError::UnknownNode)
    ));
    assert!(matches!(
        rejoin(&registry.view(), &node.id, own, days(8)),
        Err(JoinError::TooLate)
    ));
    registry.commit(renew(&node, svid(2, renewed))).await.unwrap();
    for key in [own, renewed] {
        assert!(
            rejoin(&registry.view(), &node.id, key, days(1)).is_ok(),
            "whichever certificate it went away with"
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_counts_from_its_first_use_and_ends_the_old_one() {
    let registry = start();
    registry
        .commit(new_token("a-token", after(600), None, None))
        .await
        .unwrap();
    let_in(&registry, "a-token", key(), 1, NOW).await.unwrap();
    let node = registry.view().nodes().next().unwrap().clone();
    let nodes = Nodes::new(registry.clone());
    let certificate = |serial: &str| NodeCertificate {
        id: node.id.clone(),
        serial: serial.to_owned(),
        not_after: after(3600),
    };
    let call = async |serial: &str| match nodes.authorize(&certificate(serial), NOW).await {
        Ok(_) => Ok(()),
        Err(AuthorizeError::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    };
    assert_eq!(call("1").await, Ok(()));
    assert_eq!(call("2").await, Err(NodeRefusal::NotActive));
    registry.commit(renew(&node, svid(2, key()))).await.unwrap();
    assert!(
        call("1").await.is_ok(),
        "the old one counts until the new one is used"
    );
    let (first, second) = tokio::join!(call("2"), call("2"));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(call("1").await, Err(NodeRefusal::NotActive));
    let before = registry.view();
    assert_eq!(
        NodeView::new(before.clone(), &certificate("2"), after(3601)).err(),
        Some(NodeRefusal::Expired)
    );
    registry
        .commit(ban(&registry.view().nodes().next().unwrap().clone()))
        .await
        .unwrap();
    assert_eq!(call("2").await, Err(NodeRefusal::Banned));
    assert!(
        NodeView::new(before, &certificate("2"), NOW).is_ok(),
        "a standing is that of one view"
    );
    assert_eq!(
        NodeView::new(registry.view(), &certificate("2"), NOW).err(),
        Some(NodeRefusal::Banned)
    );
    let banned = registry.view().nodes().next().unwrap().clone();
    registry.commit(evict(&registry.view(), &banned)).await.unwrap();
    assert_eq!(call("2").await, Err(NodeRefusal::NotAttested));
}

#[test]
fn tokens_are_128_random_bits() {
    let (one, two) = (token_text().unwrap(), token_text().unwrap());
    assert_eq!((one.len(), two.len()), (32, 32));
    assert_ne!(one, two);
    assert!(node_id(&td(), &one).is_some());
}
