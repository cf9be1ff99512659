use std::sync::Arc;

use bytes::Bytes;
use muster_identity::{
    Attributes, Fact, FactSource, Facts, Lifetime, Position, Revision, SpiffeId, StoreId, TrustDomain,
};
use muster_pki::jwt::{Audience, JwtAuthority, JwtSvid, JwtSvidProfile, TokenId, issue_jwt_svid};
use muster_pki::x509::{
    IssuingAuthority, RootProfile, Subject, X509Authority, X509SvidProfile, ca_subject, issue_root,
    issue_x509_svid,
};
use muster_pki::{KeyAlgorithm, LocalKey, SecretBytes, Signer};
use muster_proto::convert::NodeEntry;

use super::*;
use crate::cache::{Kept, SignFailure, Update};
use crate::rotate::Jitter;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(NOW + seconds)
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn id() -> SpiffeId {
    "spiffe://example.org/web".parse().unwrap()
}

fn key() -> LocalKey {
    LocalKey::generate(KeyAlgorithm::EcP256).unwrap()
}

fn root() -> IssuingAuthority {
    let profile = RootProfile {
        trust_domain: trust_domain(),
        subject: ca_subject(),
        now: at(0),
        lifetime: Lifetime::from_secs(86_400).unwrap(),
    };
    issue_root(Arc::new(key()), &profile).unwrap()
}

fn bundle(sequence: u64, authorities: &[X509Authority]) -> Bundle {
    let mut bundle = Bundle::new(trust_domain());
    for authority in authorities {
        bundle.put_x509_authority(authority.clone());
    }
    bundle.set_sequence(Some(sequence));
    bundle
}

/// A chain below `root`. One for all: nobody looks at its key here.
fn chain(root: &IssuingAuthority) -> Bytes {
    let profile = X509SvidProfile {
        id: id(),
        public_key: key().public_key().clone(),
        dns_names: Vec::new(),
        subject: Subject::Usual,
        now: at(0),
        lifetime: Lifetime::from_secs(3600).unwrap(),
    };
    issue_x509_svid(root, &profile).unwrap().chain_der_concat().into()
}

fn held(chain: &Bytes) -> HeldX509 {
    HeldX509 {
        id: id(),
        chain: chain.clone(),
        key: SecretBytes::new(b"key".to_vec()),
        received: at(0),
        expires: at(3600),
        version: u64::MAX,
    }
}

fn entry(number: usize) -> NodeEntry {
    NodeEntry {
        id: format!("e{number}").parse().unwrap(),
        version: 1,
        x509_version: 1,
        spiffe_id: id(),
        selectors: ["unix:uid:1"].iter().map(|text| text.parse().unwrap()).collect(),
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

fn store() -> StoreId {
    StoreId::from_bytes([1; 16])
}

/// A cache that holds `count` SVIDs, all of this chain.
fn holding(own: Bundle, count: usize, chain: &Bytes) -> Cache {
    let mut cache = Cache::new(Arc::new(own), count, Jitter::seeded(1));
    cache.contact_settled(at(0));
    let update = Update {
        position: Position {
            store: store(),
            revision: Revision(1),
        },
        upserts: (0..count).map(entry).collect(),
        removals: Vec::new(),
    };
    cache.install(update, at(0)).unwrap();
    assert_eq!(sign(&mut cache, chain, 0), count);
    cache
}

/// Signs everything that is due; how many that was.
fn sign(cache: &mut Cache, chain: &Bytes, now: i64) -> usize {
    let orders = cache.due(at(now), usize::MAX);
    let results = orders
        .iter()
        .map(|order| (order.entry_id.clone(), Ok(held(chain))))
        .collect();
    cache.signed(results, at(now));
    orders.len()
}

fn install(cache: &mut Cache, bundle: Bundle, now: i64) {
    cache.install_bundles(store(), vec![bundle], &[], at(now));
}

#[test]
fn what_a_tainted_authority_signed_is_made_again_within_seconds_and_without_a_storm() {
    let (old, new) = (root(), root());
    let (below_old, below_new) = (chain(&old), chain(&new));
    let mut cache = holding(bundle(1, &[old.authority().clone()]), 450, &below_old);
    install(
        &mut cache,
        bundle(2, &[old.authority().clone(), new.authority().clone()]),
        1,
    );
    assert_eq!((cache.outdated(), sign(&mut cache, &below_new, 10)), (0, 0));
    let tainted = old.authority().clone().with_taint(true);
    install(&mut cache, bundle(3, &[tainted, new.authority().clone()]), 20);
    assert_eq!(
        (cache.outdated(), cache.sizes()[1]),
        (450, 450),
        "all serve until they are replaced"
    );
    let mut made = Vec::new();
    for second in 20..=30 {
        made.push(sign(&mut cache, &below_new, second));
    }
    assert_eq!((cache.outdated(), made.iter().sum::<usize>()), (0, 450));
    assert!(made.iter().all(|made| *made <= REMADE_A_SECOND), "{made:?}");
    assert_eq!(cache.outdated_totals().x509, 450);
    // The next bundle with the same taint makes nothing again.
    install(&mut cache, bundle(4, &[new.authority().clone()]), 31);
    assert_eq!((sign(&mut cache, &below_new, 40), cache.sizes()[1]), (0, 450));
}

#[test]
fn what_a_revoked_authority_signed_is_dropped_at_once_and_not_taken_again() {
    let (old, new) = (root(), root());
    let (below_old, below_new) = (chain(&old), chain(&new));
    let both = [old.authority().clone(), new.authority().clone()];
    let mut cache = holding(bundle(1, &both), 3, &below_old);
    let facts: Facts = [Fact::new("unix:uid:1".parse().unwrap(), FactSource::Kernel)]
        .into_iter()
        .collect();
    let stream = cache.subscribe(&facts, at(1));
    let shown = || {
        stream
            .borrow()
            .identities
            .iter()
            .filter(|one| one.x509.is_some())
            .count()
    };
    assert_eq!(shown(), 3);
    install(&mut cache, bundle(2, &[new.authority().clone()]), 2);
    assert_eq!((shown(), cache.sizes()[1]), (0, 0));
    // Signed before the revocation, and come after it.
    assert_eq!(sign(&mut cache, &below_old, 2), 3);
    assert_eq!(shown(), 0);
    assert_eq!(sign(&mut cache, &below_new, 10), 3);
    assert_eq!(shown(), 3);
}

#[test]
fn a_signature_that_was_under_way_during_the_taint_is_made_again() {
    let (old, new) = (root(), root());
    let both = [old.authority().clone(), new.authority().clone()];
    let (below_old, below_new) = (chain(&old), chain(&new));
    let mut cache = holding(bundle(1, &both), 1, &below_old);
    let half = 2_000;
    let orders = cache.due(at(half), 1);
    let tainted = old.authority().clone().with_taint(true);
    install(&mut cache, bundle(2, &[tainted, new.authority().clone()]), half);
    cache.signed(vec![(orders[0].entry_id.clone(), Ok(held(&below_old)))], at(half));
    assert_eq!(sign(&mut cache, &below_new, half), 1);
    assert_eq!(cache.outdated(), 0);
}

#[test]
fn a_server_that_goes_on_signing_below_a_tainted_authority_is_asked_ever_later_until_there_is_another() {
    let (old, new) = (root(), root());
    let (below, below_new) = (chain(&old), chain(&new));
    let tainted = old.authority().clone().with_taint(true);
    let mut cache = holding(bundle(1, &[old.authority().clone()]), 1, &below);
    install(&mut cache, bundle(2, std::slice::from_ref(&tainted)), 1);
    let made: Vec<i64> = (1..=1_500)
        .filter(|second| sign(&mut cache, &below, *second) == 1)
        .collect();
    let waits: Vec<i64> = made.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [30, 60, 120, 240, 480], "{made:?}");
    install(&mut cache, bundle(3, &[tainted, new.authority().clone()]), 1_500);
    let made = (1_500..1_540).map(|second| sign(&mut cache, &below_new, second));
    assert_eq!((made.sum::<usize>(), cache.outdated()), (1, 0));
}

#[test]
fn tokens_of_a_tainted_key_are_dropped_and_those_of_others_stay() {
    let (old, new) = (key(), key());
    let authority =
        |name: &str, key: &LocalKey| JwtAuthority::new(name.parse().unwrap(), key.public_key().clone());
    let own = |old_is_tainted: bool| {
        let mut own = bundle(if old_is_tainted { 2 } else { 1 }, &[root().authority().clone()]);
        own.put_jwt_authority(authority("old", &old).with_taint(old_is_tainted))
            .unwrap();
        own.put_jwt_authority(authority("new", &new)).unwrap();
        own
    };
    let token = |name: &str, key: &LocalKey, audience: &str| -> Arc<JwtSvid> {
        let profile = JwtSvidProfile {
            id: id(),
            audience: Audience::new(vec![audience.into()]).unwrap(),
            issuer: None,
            issued_at: at(0),
            expires_at: at(300),
            token_id: TokenId::Absent,
        };
        Arc::new(issue_jwt_svid(key, &name.parse().unwrap(), &profile).unwrap())
    };
    let below = chain(&root());
    let mut cache = holding(own(false), 1, &below);
    let entry: EntryId = "e0".parse().unwrap();
    let audience = |name: &str| [name.to_owned()];
    assert!(cache.token_signed(&entry, &audience("a"), &token("old", &old, "a"), at(1)));
    assert!(cache.token_signed(&entry, &audience("b"), &token("new", &new, "b"), at(1)));
    install(&mut cache, own(true), 2);
    let mut kept = |name: &str| cache.tokens.find(&entry, &audience(name), at(2)).is_some();
    assert_eq!((kept("a"), kept("b")), (false, true));
    // One that was under way is given to who waits for it, and to nobody after him.
    assert!(cache.token_signed(&entry, &audience("c"), &token("old", &old, "c"), at(2)));
    assert!(cache.tokens.find(&entry, &audience("c"), at(2)).is_none());
    // Once it is revoked, to nobody at all.
    let mut revoked = bundle(3, &[root().authority().clone()]);
    revoked.put_jwt_authority(authority("new", &new)).unwrap();
    install(&mut cache, revoked, 3);
    assert!(!cache.token_signed(&entry, &audience("d"), &token("old", &old, "d"), at(3)));
    assert_eq!(cache.outdated_totals().jwt, 1);
}

#[test]
fn after_a_restart_a_revoked_authoritys_svids_stay_away_and_a_tainted_ones_are_made_again() {
    let (revoked, tainted, good) = (root(), root(), root());
    let own = bundle(
        5,
        &[
            tainted.authority().clone().with_taint(true),
            good.authority().clone(),
        ],
    );
    let mut cache = Cache::new(Arc::new(own), 10, Jitter::seeded(1));
    let svid = |root: &IssuingAuthority| Arc::new(held(&chain(root)));
    let kept = Kept {
        position: None,
        entries: (0..3).map(|number| Arc::new(entry(number))).collect(),
        svids: vec![
            ("e0".parse().unwrap(), svid(&revoked)),
            ("e1".parse().unwrap(), svid(&tainted)),
            ("e2".parse().unwrap(), svid(&good)),
        ],
        federated: Vec::new(),
    };
    cache.restore(kept, at(1));
    assert!(!cache.svids.contains_key(&"e0".parse().unwrap()));
    assert_eq!((cache.sizes()[1], cache.outdated()), (2, 1));
    let due: Vec<String> = cache
        .due(at(5), 10)
        .into_iter()
        .map(|order| order.entry_id.to_string())
        .collect();
    assert_eq!(due, ["e0", "e1"]);
    let failed = due
        .iter()
        .map(|id| (id.parse().unwrap(), Err(SignFailure::Unreachable)));
    cache.signed(failed.collect(), at(5));
    assert_eq!(
        cache.sizes()[1],
        2,
        "what is valid stays while the server is away"
    );
}

#[test]
fn an_authority_that_is_in_the_bundle_again_counts_again() {
    let (first, other) = (root(), root());
    let (below_first, below_other) = (chain(&first), chain(&other));
    let both = [first.authority().clone(), other.authority().clone()];
    let mut cache = holding(bundle(1, &both), 3, &below_first);
    // A store that was restored, say, and the right one after it.
    install(&mut cache, bundle(2, &[other.authority().clone()]), 2);
    assert_eq!(cache.sizes()[1], 0);
    install(&mut cache, bundle(3, &both), 3);
    assert_eq!(sign(&mut cache, &below_first, 10), 3);
    assert_eq!(cache.sizes()[1], 3, "what it signs now is taken");
    install(&mut cache, bundle(4, &[other.authority().clone()]), 11);
    assert_eq!((sign(&mut cache, &below_other, 20), cache.sizes()[1]), (3, 3));
}
