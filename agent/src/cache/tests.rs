use bytes::Bytes;
use muster_identity::{Attributes, Fact, FactSource, Revision, StoreId};
use muster_pki::SecretBytes;
use muster_proto::convert::NodeEntry;
use proptest::prelude::*;

use super::super::install::Update;
use super::super::signing::{SignFailure, SignOrder};
use super::*;

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

fn store(n: u8) -> StoreId {
    StoreId::from_bytes([n; 16])
}

fn position(revision: u64) -> Position {
    Position {
        store: store(1),
        revision: Revision(revision),
    }
}

fn facts(selectors: &[&str]) -> Facts {
    selectors
        .iter()
        .map(|text| Fact::new(text.parse().unwrap(), FactSource::Kernel))
        .collect()
}

fn entry(id: &str, selectors: &[&str], version: u64) -> NodeEntry {
    NodeEntry {
        id: id.parse().unwrap(),
        version,
        x509_version: version,
        spiffe_id: format!("spiffe://example.org/{id}").parse().unwrap(),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        federates_with: [].into(),
        hint: None,
        admin: false,
        downstream: false,
        store_svid: false,
        created_at: at(0),
        expires_at: None,
        attributes: Attributes::default(),
    }
}

fn svid(order: &SignOrder, now: i64, life: i64) -> HeldX509 {
    HeldX509 {
        id: order.id.clone(),
        chain: Bytes::from_static(b"chain"),
        key: SecretBytes::new(b"key".to_vec()),
        received: at(now),
        expires: at(now + life),
        version: u64::MAX,
    }
}

fn cache() -> Cache {
    let own = Arc::new(Bundle::new("example.org".parse().unwrap()));
    let mut cache = Cache::new(own, 2, Jitter::seeded(1));
    cache.contact_settled(at(0));
    cache
}

fn update(revision: u64, upserts: Vec<NodeEntry>, removals: &[&str]) -> Update {
    let removals = removals.iter().map(|id| id.parse().unwrap()).collect();
    Update {
        position: position(revision),
        upserts,
        removals,
    }
}

/// Signs everything that is due.
fn sign(cache: &mut Cache, now: i64) -> Vec<String> {
    let orders = cache.due(at(now), 500);
    let signed = orders
        .iter()
        .map(|order| (order.entry_id.clone(), Ok(svid(order, now, 3600))))
        .collect();
    cache.signed(signed, at(now));
    orders
        .into_iter()
        .map(|order| order.entry_id.to_string())
        .collect()
}

fn shown(view: &WorkloadView) -> Vec<String> {
    view.identities
        .iter()
        .map(|identity| identity.entry_id.to_string())
        .collect()
}

#[test]
fn an_entry_that_is_created_reaches_an_open_stream_and_a_deleted_one_ends_it() {
    let mut cache = cache();
    let mut stream = cache.subscribe(&facts(&["unix:uid:1", "unix:gid:1"]), at(0));
    let view = Arc::clone(&stream.borrow_and_update());
    assert!(!view.entitled && view.ready);

    cache
        .install(
            update(
                1,
                vec![entry("a", &["unix:uid:1"], 1), entry("b", &["unix:uid:2"], 1)],
                &[],
            ),
            at(1),
        )
        .unwrap();
    let view = Arc::clone(&stream.borrow_and_update());
    assert!(view.entitled && !view.ready && view.identities[0].x509.is_none());

    sign(&mut cache, 1);
    let view = Arc::clone(&stream.borrow_and_update());
    assert!(view.ready && view.identities[0].x509.is_some());
    assert_eq!(shown(&view), ["a"]);

    cache.install(update(2, vec![], &["a"]), at(2)).unwrap();
    assert!(stream.has_changed().unwrap());
    let view = Arc::clone(&stream.borrow_and_update());
    assert!(!view.entitled && view.ready && view.identities.is_empty());
    assert!(cache.svids.len() == 1, "the key of the deleted entry is gone");
}

#[test]
fn nothing_is_sent_when_nothing_changed() {
    let mut cache = cache();
    cache
        .install(update(1, vec![entry("a", &["unix:uid:1"], 1)], &[]), at(0))
        .unwrap();
    sign(&mut cache, 0);
    let mut stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    stream.borrow_and_update();
    cache
        .install(
            update(
                2,
                vec![entry("a", &["unix:uid:1"], 1), entry("z", &["unix:uid:9"], 2)],
                &[],
            ),
            at(0),
        )
        .unwrap();
    cache.install_bundles(
        store(1),
        vec![Bundle::new("other.org".parse().unwrap())],
        &[],
        at(0),
    );
    sign(&mut cache, 0);
    cache.tick(at(1));
    assert!(!stream.has_changed().unwrap());
}

#[test]
fn an_older_view_is_refused_and_another_store_is_not() {
    let mut cache = cache();
    cache
        .install(update(5, vec![entry("a", &["unix:uid:1"], 1)], &[]), at(0))
        .unwrap();
    cache.install(update(4, vec![], &["a"]), at(0)).unwrap_err();
    assert_eq!((cache.position(), cache.sizes()[0]), (Some(position(5)), 1));
    let other = Position {
        store: store(2),
        revision: Revision(1),
    };
    cache
        .install(
            Update {
                position: other,
                upserts: vec![],
                removals: vec![],
            },
            at(0),
        )
        .unwrap();
    assert_eq!(cache.position(), Some(other));
}

#[test]
fn another_store_keeps_every_identity_until_its_svid_is_made_anew() {
    let mut cache = cache();
    let entries = vec![
        entry("a", &["unix:uid:1"], 900),
        entry("b", &["unix:uid:1"], 900),
        entry("c", &["unix:uid:1"], 900),
    ];
    cache.install(update(900, entries, &[]), at(0)).unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    assert_eq!(sign(&mut cache, 0).len(), 3);
    // There, "a" is as it was, the identity of "b" has another entry, and that of "c" has none. Its numbers are smaller, which means nothing.
    let elsewhere = NodeEntry {
        spiffe_id: "spiffe://example.org/b".parse().unwrap(),
        ..entry("z", &["unix:uid:1"], 1)
    };
    let moved = Update {
        position: Position {
            store: store(2),
            revision: Revision(1),
        },
        upserts: vec![entry("a", &["unix:uid:1"], 1), elsewhere],
        removals: vec!["b".parse().unwrap(), "c".parse().unwrap()],
    };
    cache.install(moved, at(5)).unwrap();
    let view = Arc::clone(&stream.borrow());
    assert_eq!(shown(&view), ["a", "z"]);
    assert!(view.ready && view.identities.iter().all(|identity| identity.x509.is_some()));
    // A restart before they are made anew does not make them count as new.
    let kept = cache.to_keep();
    assert!(kept.svids.len() == 2 && kept.svids.iter().all(|(_, svid)| svid.version == 0));
    let mut anew = sign(&mut cache, 5);
    anew.sort();
    assert_eq!(anew, ["a", "z"]);
    assert!(sign(&mut cache, 6).is_empty());
    assert!(cache.to_keep().svids.iter().all(|(_, svid)| svid.version > 0));
}

#[test]
fn an_order_that_was_not_asked_for_is_due_again_at_once() {
    let mut cache = cache();
    cache
        .install(update(1, vec![entry("a", &["unix:uid:1"], 3)], &[]), at(0))
        .unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    let orders = cache.due(at(0), 9);
    assert_eq!((orders.len(), orders[0].x509_version), (1, 3));
    cache.not_asked(&["a".parse().unwrap(), "unknown".parse().unwrap()], at(0));
    assert!(!stream.borrow().ready, "nothing has failed");
    assert_eq!(sign(&mut cache, 0), ["a"]);
}

#[test]
fn of_several_with_one_hint_the_oldest_is_shown() {
    let mut cache = cache();
    let hinted = |id: &str, created| NodeEntry {
        hint: Some("db".parse().unwrap()),
        created_at: at(created),
        ..entry(id, &["unix:uid:1"], 1)
    };
    let entries = vec![
        hinted("a", 9),
        hinted("b", 3),
        hinted("c", 3),
        entry("d", &["unix:uid:1"], 1),
    ];
    cache.install(update(1, entries, &[]), at(0)).unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    assert_eq!(shown(&stream.borrow()), ["b", "d"]);
    cache.install(update(2, vec![], &["b"]), at(0)).unwrap();
    assert_eq!(shown(&stream.borrow()), ["c", "d"]);
}

#[test]
fn a_failed_renewal_takes_nothing_away_until_the_end_and_then_nothing_stale_is_shown() {
    let mut cache = cache();
    cache
        .install(update(1, vec![entry("a", &["unix:uid:1"], 1)], &[]), at(0))
        .unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    sign(&mut cache, 0);
    while let Some(wake) = cache.next_wake().filter(|wake| *wake < at(3600)) {
        cache.tick(wake);
        let orders = cache.due(wake, 500);
        cache.signed(
            orders
                .into_iter()
                .map(|o| (o.entry_id, Err(SignFailure::Unreachable)))
                .collect(),
            wake,
        );
        assert!(stream.borrow().identities[0].x509.is_some());
    }
    cache.tick(at(3600));
    let view = Arc::clone(&stream.borrow());
    assert!(view.entitled && view.ready && view.identities[0].x509.is_none());
    cache.server_is_back(at(3601));
    while stream.borrow().identities[0].x509.is_none() {
        let wake = cache.next_wake().unwrap();
        assert!(wake < at(3700));
        sign(&mut cache, wake.as_secs());
    }
}

#[test]
fn a_caller_is_not_kept_waiting_for_an_entry_that_can_not_be_signed() {
    let mut cache = cache();
    cache
        .install(
            update(
                1,
                vec![entry("a", &["unix:uid:1"], 1), entry("b", &["unix:uid:1"], 1)],
                &[],
            ),
            at(0),
        )
        .unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    let orders = cache.due(at(0), 500);
    let results = orders.iter().map(|order| match order.entry_id.as_str() {
        "a" => (order.entry_id.clone(), Err(SignFailure::Refused)),
        _ => (order.entry_id.clone(), Ok(svid(order, 0, 60))),
    });
    cache.signed(results.collect(), at(0));
    let view = Arc::clone(&stream.borrow());
    assert!(view.ready && view.identities[0].x509.is_none() && view.identities[1].x509.is_some());
}

#[test]
fn a_renamed_entry_never_shows_the_old_name() {
    let mut cache = cache();
    cache
        .install(update(1, vec![entry("a", &["unix:uid:1"], 1)], &[]), at(0))
        .unwrap();
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    sign(&mut cache, 0);
    let under_way = SignOrder {
        entry_id: "a".parse().unwrap(),
        id: "spiffe://example.org/a".parse().unwrap(),
        x509_version: 1,
    };
    let renamed = NodeEntry {
        spiffe_id: "spiffe://example.org/new".parse().unwrap(),
        ..entry("a", &["unix:uid:1"], 2)
    };
    cache.install(update(2, vec![renamed], &[]), at(1)).unwrap();
    assert!(stream.borrow().identities[0].x509.is_none());
    assert_eq!(cache.due(at(1), 9).len(), 1);
    cache.signed(
        vec![(under_way.entry_id.clone(), Ok(svid(&under_way, 1, 60)))],
        at(1),
    );
    assert!(stream.borrow().identities[0].x509.is_none());
    let retry = cache.next_wake().unwrap();
    sign(&mut cache, retry.as_secs());
    assert_eq!(
        stream.borrow().identities[0]
            .x509
            .as_ref()
            .unwrap()
            .id
            .to_string(),
        "spiffe://example.org/new"
    );
}

#[test]
fn what_was_kept_is_served_before_the_server_is_heard() {
    let mut before = cache();
    before
        .install(
            update(
                7,
                vec![entry("a", &["unix:uid:1"], 1), entry("b", &["unix:uid:2"], 1)],
                &[],
            ),
            at(0),
        )
        .unwrap();
    sign(&mut before, 0);
    let kept = before.to_keep();

    let own = Arc::new(Bundle::new("example.org".parse().unwrap()));
    let mut cache = Cache::new(own, 2, Jitter::seeded(1));
    cache.restore(kept, at(10));
    assert_eq!(cache.position(), Some(position(7)));
    let known = cache.subscribe(&facts(&["unix:uid:1"]), at(10));
    assert!(known.borrow().ready && known.borrow().identities[0].x509.is_some());
    let unknown = cache.subscribe(&facts(&["unix:uid:3"]), at(10));
    assert!(!unknown.borrow().ready && !unknown.borrow().entitled);
    cache.contact_settled(at(11));
    assert!(unknown.borrow().ready);
}

#[test]
fn could_match_asks_for_what_lacks_and_only_that() {
    let mut cache = cache();
    cache
        .install(
            update(1, vec![entry("a", &["unix:uid:1", "unix:sha256:x"], 1)], &[]),
            at(0),
        )
        .unwrap();
    let hash = |selector: &Selector| selector.value().starts_with("sha256:");
    assert!(cache.could_match(&facts(&["unix:uid:1"]), &hash));
    assert!(!cache.could_match(&facts(&["unix:uid:2"]), &hash));
    assert!(!cache.could_match(&facts(&["unix:uid:1", "unix:sha256:x"]), &hash));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>, bool),
    Remove(u8),
    Subscribe(Vec<u8>),
    Leave(usize),
    Sign(bool),
    Pass(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some =
        || prop::collection::btree_set(0..5u8, 1..4).prop_map(|set| set.into_iter().collect::<Vec<u8>>());
    let one = prop_oneof![
        3 => (0..8u8, some(), any::<bool>()).prop_map(|(id, of, hint)| Step::Put(id, of, hint)),
        1 => (0..8u8).prop_map(Step::Remove),
        2 => some().prop_map(Step::Subscribe),
        1 => (0..8usize).prop_map(Step::Leave),
        2 => any::<bool>().prop_map(Step::Sign),
        2 => (0..3000u16).prop_map(Step::Pass),
    ];
    prop::collection::vec(one, 1..120)
}

fn names(of: &[u8]) -> Vec<String> {
    of.iter().map(|n| format!("unix:uid:{n}")).collect()
}

proptest! {
    /// After any order of events each caller sees exactly the entries that a plain look at all of them gives, no ended SVID, and keys are held for nothing else.
    #[test]
    fn views_are_what_a_plain_look_at_all_entries_gives(steps in steps()) {
        let mut cache = cache();
        let (mut now, mut revision) = (1_000, 0);
        let mut model: BTreeMap<u8, (Vec<String>, bool, u64)> = BTreeMap::new();
        let mut streams: Vec<(Vec<String>, watch::Receiver<Arc<WorkloadView>>)> = Vec::new();
        for step in steps {
            match step {
                Step::Put(id, of, hint) => {
                    revision += 1;
                    let of = names(&of);
                    let mut new = entry(&format!("e{id}"), &of.iter().map(String::as_str).collect::<Vec<_>>(), revision);
                    new.hint = hint.then(|| "h".parse().unwrap());
                    new.created_at = at(i64::from(id % 3));
                    cache.install(update(revision, vec![new], &[]), at(now)).unwrap();
                    model.insert(id, (of, hint, u64::from(id % 3)));
                }
                Step::Remove(id) => {
                    revision += 1;
                    cache.install(update(revision, vec![], &[&format!("e{id}")]), at(now)).unwrap();
                    model.remove(&id);
                }
                Step::Subscribe(of) => {
                    let of = names(&of);
                    let stream = cache.subscribe(&facts(&of.iter().map(String::as_str).collect::<Vec<_>>()), at(now));
                    streams.push((of, stream));
                }
                Step::Leave(n) => if n < streams.len() { drop(streams.remove(n)); },
                Step::Sign(works) => {
                    let orders = cache.due(at(now), 3);
                    let results = orders.iter().map(|order| {
                        let result = if works { Ok(svid(order, now, 2_000)) } else { Err(SignFailure::Unreachable) };
                        (order.entry_id.clone(), result)
                    });
                    cache.signed(results.collect(), at(now));
                }
                Step::Pass(by) => { now += i64::from(by); cache.tick(at(now)); }
            }
            for (of, stream) in &streams {
                let matching: Vec<_> =
                    model.iter().filter(|(_, (needs, ..))| needs.iter().all(|need| of.contains(need))).collect();
                let oldest = matching.iter().filter(|(_, (_, hint, _))| *hint).min_by_key(|(id, (_, _, age))| (*age, **id));
                let expected: Vec<String> = matching.iter()
                    .filter(|(id, (_, hint, _))| !hint || oldest.is_some_and(|(oldest, _)| oldest == id))
                    .map(|(id, _)| format!("e{id}")).collect();
                let view = Arc::clone(&stream.borrow());
                prop_assert_eq!(shown(&view), expected);
                for identity in &view.identities {
                    prop_assert!(identity.x509.as_ref().is_none_or(|held| held.expires > at(now)));
                    let planned = cache.renewals.knows(&identity.entry_id);
                    prop_assert!(planned, "somebody waits for {} and nothing is planned", identity.entry_id);
                }
            }
            for id in cache.svids.keys() {
                prop_assert!(cache.entries.get(id).is_some() && cache.renewals.knows(id));
            }
        }
    }
}

#[test]
fn foreign_bundles_that_the_server_did_not_name_are_forgotten_and_a_narrowing_is_followed() {
    use muster_pki::bundle::Scope;
    use muster_pki::jwt::JwtBundleSource as _;

    let mut cache = cache();
    let mut federated = entry("a", &["unix:uid:1"], 1);
    federated.federates_with = ["b.example", "c.example"]
        .map(|name| name.parse().unwrap())
        .into();
    cache.install(update(1, vec![federated], &[]), at(0)).unwrap();
    let news = |names: &[&str], scope: &Scope, all: bool| {
        let names: Vec<muster_identity::TrustDomain> =
            names.iter().map(|name| name.parse().unwrap()).collect();
        crate::cache::BundleNews {
            store: store(1),
            bundles: names
                .iter()
                .map(|name| (Bundle::new(name.clone()), scope.clone()))
                .collect(),
            removed: Vec::new(),
            restored: BTreeSet::new(),
            named: all.then(|| names.into_iter().collect()),
        }
    };
    let stream = cache.subscribe(&facts(&["unix:uid:1"]), at(0));
    let held = |stream: &watch::Receiver<Arc<WorkloadView>>| stream.borrow().bundles.federated().len();
    cache.install_bundle_news(news(&["b.example", "c.example"], &Scope::all(), true), at(0));
    assert_eq!(held(&stream), 2);
    cache.install_bundle_news(news(&["b.example"], &Scope::all(), true), at(0));
    assert_eq!(held(&stream), 1);

    let id = "spiffe://b.example/db".parse().unwrap();
    assert!(stream.borrow().bundles.admits(&id));
    let narrow = Scope::new(vec!["/pay".parse().unwrap()]).unwrap();
    cache.install_bundle_news(news(&["b.example"], &narrow, false), at(0));
    assert!(!stream.borrow().bundles.admits(&id));
    // And over a restart.
    let mut again = Cache::new(
        Arc::clone(cache.own_bundle()),
        0,
        crate::rotate::Jitter::seeded(1),
    );
    again.restore(cache.to_keep(), at(0));
    let stream = again.subscribe(&facts(&["unix:uid:1"]), at(0));
    assert!(!stream.borrow().bundles.admits(&id));
}
