//! Whatever is asked for by a grant, and in whatever order: nothing leads out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use muster_identity::{
    Attributes, Entry, EntryId, EntrySpec, Grant, IdPath, Lifetime, Revision, SelectorSet, SelectorTypes,
    SpiffeId, StoreId, Subject, TrustDomain, UnixTime, Verb, VerbSet,
};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_plugin_api::fake::FakeNodeVerifier;
use muster_runtime::Stop;
use proptest::prelude::*;

use super::{
    Mint, Scope,
    decide::{Denied, Planned, Power, Surroundings},
    redeem,
};
use crate::{
    ca::{Lifetimes, OverCap},
    node_attestors::NodeAttestors,
    nodes::{JoinError, join, new_token},
    registry::{
        Change, Committer, Expect, NodeKey, NodeRecord, Registry, TokenGrant, Tree, View, entries, grants,
        node_bytes,
    },
    store::Memory,
};

const IDS: &[&str] = &[
    "/ai",
    "/ai/a",
    "/ai/b",
    "/ai/boss",
    "/ai/rack/one",
    "/ai/root",
    "/aix",
    "/prod",
    "/prod/db",
    "/robot",
];
/// Those that can do more than be shown, whatever is registered: a node, an administrator, subjects of grants.
const POWERS: &[&str] = &["/ai/boss", "/ai/rack/one", "/ai/root", "/robot"];
const NODES: &[&str] = &["/spire/agent/join_token/n0", "/spire/agent/join_token/n1"];
/// The node that redeems the token a-fresh-one.
const FRESH: &str = "/spire/agent/join_token/a-fresh-one";
const SERVER: &str = "/spire/server";
const PREFIXES: &[&str] = &[
    "",
    "/ai",
    "/ai/a",
    "/prod",
    "/spire",
    "/spire/agent",
    "/spire/agent/join_token/n0",
];
const SELECTORS: &[&str] = &["unix:uid:1", "unix:uid:2", "k8s:ns:a", "spiffe_id:x"];

fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org{path}").parse().unwrap()
}

fn lifetimes() -> Lifetimes {
    let secs = |secs| Lifetime::from_secs(secs).unwrap();
    Lifetimes {
        x509_svid: secs(3_600),
        jwt_svid: secs(300),
        node: secs(3_600),
        max_x509_svid: secs(14_400),
        max_jwt_svid: secs(3_600),
        over_cap: OverCap::Cut,
    }
}

/// What a caller may ask for.
#[derive(Clone, Debug)]
enum Ask {
    Create(EntrySpec),
    Update(usize, EntrySpec),
    Delete(usize),
    Mint(Verb, SpiffeId),
}

fn specs() -> impl Strategy<Value = EntrySpec> {
    let parents: Vec<_> = [SERVER].iter().chain(NODES).chain(IDS).copied().collect();
    let flag = || prop::bool::weighted(0.1);
    (
        prop::sample::select(IDS),
        prop::sample::select(parents),
        prop::sample::subsequence(SELECTORS, 1..=2),
        (flag(), flag(), flag(), flag(), flag()),
        prop::option::of(1..20_000u32),
    )
        .prop_map(|(spiffe_id, parent, selectors, flags, ttl)| EntrySpec {
            spiffe_id: id(spiffe_id),
            parent_id: id(parent),
            selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
            x509_svid_ttl: ttl.map(|secs| Lifetime::from_secs(secs).unwrap()),
            jwt_svid_ttl: None,
            federates_with: match flags.0 {
                true => ["other.org".parse().unwrap()].into(),
                false => [].into(),
            },
            dns_names: match flags.1 {
                true => ["db.prod.org".parse().unwrap()].into(),
                false => [].into(),
            },
            admin: flags.2,
            downstream: flags.3,
            store_svid: flags.4,
            expires_at: None,
            hint: None,
            attributes: Attributes::default(),
        })
}

fn asks() -> impl Strategy<Value = Ask> {
    let minted = (
        prop::sample::select(&[Verb::X509SvidMint, Verb::JwtSvidMint][..]),
        prop::sample::select(IDS),
    );
    prop_oneof![
        4 => specs().prop_map(Ask::Create),
        4 => (any::<prop::sample::Index>(), specs()).prop_map(|(at, spec)| Ask::Update(at.index(64), spec)),
        2 => any::<prop::sample::Index>().prop_map(|at| Ask::Delete(at.index(64))),
        1 => minted.prop_map(|(verb, path)| Ask::Mint(verb, id(path))),
    ]
}

fn grants_held() -> impl Strategy<Value = Vec<Grant>> {
    let path = |prefixes: Vec<&'static str>| -> Arc<[IdPath]> {
        prefixes
            .into_iter()
            .map(|prefix| prefix.parse().unwrap())
            .collect()
    };
    // Wide ones are what finds holes: a grant that allows little proves little.
    let verbs = prop::collection::vec(prop::bool::weighted(0.8), Verb::ALL.len());
    let one = (
        verbs,
        prop::sample::subsequence(PREFIXES, 1..=2),
        prop::sample::subsequence(PREFIXES, 1..=4),
        prop::sample::subsequence(&["unix", "k8s", "spiffe_id"][..], 1..=3),
        prop::option::weighted(0.3, 1..1_000u32),
        prop::option::weighted(0.3, 1..4u32),
    )
        .prop_map(move |(verbs, paths, parents, kinds, cap, most)| Grant {
            name: "x".parse().unwrap(),
            subject: Subject::Id(id("/robot")),
            verbs: Verb::ALL
                .iter()
                .zip(verbs)
                .filter_map(|(verb, has)| has.then_some(*verb))
                .collect::<VerbSet>(),
            paths: path(paths),
            parents: path(parents),
            selector_types: SelectorTypes::Of(kinds.into_iter().map(Arc::from).collect()),
            dns_domains: [].into(),
            max_lifetime: cap.map(|secs| Lifetime::from_secs(secs).unwrap()),
            max_entries: most,
            expires_at: None,
        });
    prop::collection::vec(one, 1..=2).prop_map(|mut all| {
        for (number, grant) in all.iter_mut().enumerate() {
            grant.name = format!("g{number}").parse().unwrap();
        }
        all
    })
}

/// A server's registrations, a caller with grants, and what it may never touch.
struct World {
    registry: Registry,
    admin_ids: BTreeSet<SpiffeId>,
    lifetimes: Lifetimes,
    node_attestors: NodeAttestors,
    held: Vec<Grant>,
    next: u32,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "a test runs the committer itself")]
    async fn new(held: Vec<Grant>, there: Vec<EntrySpec>) -> Self {
        let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
        let (registry, committer): (_, Committer) =
            Registry::open(store, trust_domain(), Vec::new()).unwrap();
        tokio::spawn(committer.run(Stop::new()));
        let mut world = Self {
            registry,
            admin_ids: [id("/ai/root")].into(),
            lifetimes: lifetimes(),
            node_attestors: node_attestors(),
            held,
            next: 0,
        };
        for (node, selectors) in NODES.iter().zip([&["k8s:ns:a"][..], &["unix:uid:1", "k8s:ns:a"]]) {
            world.commit(vec![node_put(node, selectors)]).await;
        }
        let mut boss = world.held[0].clone();
        boss.name = "boss".parse().unwrap();
        boss.subject = Subject::Id(id("/ai/boss"));
        for grant in world.held.iter().chain([&boss]) {
            let made = grants::create(grant, UnixTime::EPOCH);
            world.registry.commit(made).await.unwrap();
        }
        for spec in there {
            let entry = world.entry(spec);
            // A similar one is there: as well.
            world.registry.commit(entries::create(&entry)).await.ok();
        }
        world
    }

    fn surroundings<'a>(&'a self, view: &'a View) -> Surroundings<'a> {
        Surroundings {
            view,
            admin_ids: &self.admin_ids,
            lifetimes: &self.lifetimes,
            node_attestors: &self.node_attestors,
        }
    }

    async fn commit(&self, changes: Vec<Change>) {
        self.registry.commit(changes).await.unwrap();
    }

    fn entry(&mut self, spec: EntrySpec) -> Entry {
        self.next += 1;
        Entry {
            id: format!("e{}", self.next).parse().unwrap(),
            spec,
            revision_number: 0,
            created_at: UnixTime::EPOCH,
        }
    }

    /// Does what is asked for, if the scope allows it. Answers what it came to: before and after.
    async fn ask(&mut self, ask: &Ask) -> Result<(Option<EntrySpec>, Option<EntrySpec>), Denied> {
        let view = self.registry.view();
        let records = self
            .held
            .iter()
            .filter_map(|grant| view.grant(&grant.name))
            .cloned();
        let scope = Scope::Grants(records.collect());
        let surroundings = self.surroundings(&view);
        let at = |index: &usize| view.entries().nth(index % view.entry_count().max(1));
        let planned = Planned::default();
        let (before, after, changes) = match ask {
            Ask::Create(spec) => {
                let (spec, grant) = scope.entry(&surroundings, &planned, None, Some(spec.clone()))?;
                let entry = self.entry(spec.unwrap());
                let changes = entries::create_by(&entry, grant.as_ref());
                (None, Some(entry.spec), changes)
            }
            Ask::Update(index, spec) => {
                let Some(old) = at(index) else {
                    return Ok((None, None));
                };
                let before = &old.entry.spec;
                let (spec, _) = scope.entry(&surroundings, &planned, Some(before), Some(spec.clone()))?;
                let (entry, changes) = entries::update(old, spec.unwrap());
                (Some(before.clone()), Some(entry.spec), changes)
            }
            Ask::Delete(index) => {
                let Some(old) = at(index) else {
                    return Ok((None, None));
                };
                let before = &old.entry.spec;
                scope.entry(&surroundings, &planned, Some(before), None)?;
                (Some(before.clone()), None, entries::delete(old))
            }
            Ask::Mint(verb, id) => {
                let mint = Mint {
                    verb: *verb,
                    id,
                    dns_names: &[],
                    lifetime: None,
                };
                let (lifetime, grant) = scope.mint(&surroundings, &mint)?;
                let cap = self.held.iter().find(|held| Some(&held.name) == grant.as_ref());
                assert!(
                    cap.unwrap()
                        .max_lifetime
                        .is_none_or(|cap| lifetime.unwrap() <= cap)
                );
                assert!(
                    self.held.iter().any(|grant| under(id, &grant.paths)),
                    "{id} was minted"
                );
                // Nobody comes in as a node by a token.
                let harmless = *verb == Verb::JwtSvidMint && *id == self::id("/ai/rack/one");
                assert!(
                    harmless || !POWERS.contains(&id.path().as_str()),
                    "{id} has power"
                );
                return Ok((None, None));
            }
        };
        match self.registry.commit(changes).await {
            Ok(_) => Ok((before, after)),
            Err(_) => Ok((None, None)),
        }
    }

    /// Whether a grant, read as people read it, holds the entry with all that it gives.
    fn inside(&self, spec: &EntrySpec) -> bool {
        self.held.iter().any(|grant| {
            let has = |verb| grant.verbs.has(verb);
            let SelectorTypes::Of(kinds) = &grant.selector_types else {
                return false;
            };
            under(&spec.spiffe_id, &grant.paths)
                && under(&spec.parent_id, &grant.parents)
                && spec.selectors.iter().all(|selector| {
                    kinds
                        .iter()
                        .any(|kind| selector.as_str().starts_with(&format!("{kind}:")))
                })
                && (!spec.admin || has(Verb::EntryAdmin))
                && (!spec.downstream || has(Verb::EntryDownstream))
                && (!spec.store_svid || has(Verb::EntryStore))
                && (spec.federates_with.is_empty() || has(Verb::EntryFederate))
                && (spec.parent_id != id(SERVER) || has(Verb::EntryAlias))
                && spec.dns_names.is_empty()
        })
    }

    /// What no call may change: entries outside, and on which nodes they are.
    fn outside(
        &self,
    ) -> (
        BTreeMap<EntryId, Entry>,
        BTreeMap<&'static str, BTreeSet<EntryId>>,
    ) {
        let view: Arc<View> = self.registry.view();
        let outside = |entry: &Entry| !self.inside(&entry.spec);
        let entries = view
            .entries()
            .map(|found| &found.entry)
            .filter(|entry| outside(entry));
        let entries = entries.map(|entry| (entry.id.clone(), entry.clone())).collect();
        let nodes = NODES.iter().map(|node| {
            let set = view.entitled_set(&id(node));
            let names = set.iter().filter(|found| outside(&found.entry));
            (*node, names.map(|found| found.entry.id.clone()).collect())
        });
        (entries, nodes.collect())
    }

    /// On which nodes there are names with power, and by which entries.
    fn powers(&self) -> BTreeSet<(&'static str, EntryId)> {
        let view: Arc<View> = self.registry.view();
        let on = |node: &'static str| {
            let set = view.entitled_set(&id(node));
            let with = set
                .iter()
                .filter(|found| POWERS.contains(&found.entry.spec.spiffe_id.path().as_str()));
            with.map(|found| (node, found.entry.id.clone()))
                .collect::<Vec<_>>()
        };
        NODES.iter().flat_map(|node| on(node)).collect()
    }
}

/// One that takes SVIDs below /ai/rack as the proof of a node.
fn node_attestors() -> NodeAttestors {
    let verifier = FakeNodeVerifier::new(*b"proof").svids_below("/ai/rack".parse().unwrap());
    NodeAttestors::of(vec![Arc::new(verifier)])
}

fn under(id: &SpiffeId, prefixes: &[IdPath]) -> bool {
    let path = format!("{}/", id.path());
    prefixes
        .iter()
        .any(|prefix| path.starts_with(&format!("{prefix}/")))
}

fn node_put(path: &str, selectors: &[&str]) -> Change {
    let node = NodeRecord {
        id: id(path),
        attestation_type: "join_token".into(),
        selectors: selectors
            .iter()
            .map(|text| text.parse().unwrap())
            .collect::<SelectorSet>(),
        current: None,
        pending: None,
        can_reattest: false,
        agent_version: String::new(),
        attested_at: UnixTime::EPOCH,
        version: Revision(0),
    };
    Change::put(Tree::Nodes, node.id.to_string(), node_bytes(&node), Expect::Any)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_sequence_of_allowed_calls_leads_out_of_the_grants(
        held in grants_held(),
        there in prop::collection::vec(specs(), 0..16),
        asked in prop::collection::vec(asks(), 1..48),
    ) {
        runtime().block_on(async {
            let mut world = World::new(held, there).await;
            let outside = world.outside();
            for ask in &asked {
                let powers = world.powers();
                let Ok((before, after)) = world.ask(ask).await else { continue };
                for spec in [&before, &after].into_iter().flatten() {
                    assert!(world.inside(spec), "{ask:?} touched {spec:?}");
                }
                if let Some(after) = &after {
                    let path = after.spiffe_id.path().as_str();
                    assert!(!POWERS.contains(&path), "{path} has power");
                }
                assert!(world.powers().is_subset(&powers), "{ask:?} gave a name with power to a node");
                assert_eq!(world.outside(), outside, "{ask:?} changed something outside");
            }
            let view = world.registry.view();
            for grant in &world.held {
                let made = view.entries_made_by(&grant.name);
                assert!(grant.max_entries.is_none_or(|most| made <= most as usize), "{made} were made");
            }
        });
    }
}

/// A registrar of /ai on node n0.
fn registrar() -> Grant {
    Grant {
        name: "ci".parse().unwrap(),
        subject: Subject::Id(id("/robot")),
        verbs: VerbSet::registrar().iter().chain([Verb::X509SvidMint]).collect(),
        paths: ["/ai".parse().unwrap()].into(),
        parents: ["/spire/agent".parse().unwrap(), "/ai".parse().unwrap()].into(),
        selector_types: SelectorTypes::Of(["unix".into()].into()),
        dns_domains: [].into(),
        max_lifetime: None,
        max_entries: None,
        expires_at: None,
    }
}

/// A registrar of /ai with these verbs besides.
fn registrar_and_more(verbs: &[Verb]) -> Grant {
    let grant = registrar();
    Grant {
        verbs: grant.verbs.iter().chain(verbs.iter().copied()).collect(),
        ..grant
    }
}

fn plain(path: &str, parent: &str) -> EntrySpec {
    EntrySpec {
        spiffe_id: id(path),
        parent_id: id(parent),
        selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: [].into(),
        dns_names: [].into(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        hint: None,
        attributes: Attributes::default(),
    }
}

#[test]
fn an_id_below_which_others_entries_hang_does_not_change_hands() {
    runtime().block_on(async {
        // Somebody else hung /prod/db below /ai/a: whoever gets /ai/a gets it too.
        let there = vec![plain("/prod/db", "/ai/a"), plain("/ai/b", NODES[0])];
        let mut world = World::new(vec![registrar()], there).await;
        let pulled = world
            .ask(&Ask::Create(plain("/ai/a", NODES[1])))
            .await
            .unwrap_err();
        assert!(matches!(pulled, Denied::Below { .. }), "{pulled}");
        // By a detour it is the same.
        world.ask(&Ask::Create(plain("/ai/b", NODES[1]))).await.unwrap();
        world
            .ask(&Ask::Create(plain("/ai/a", "/ai/b")))
            .await
            .unwrap_err();
    });
}

#[test]
fn a_name_with_power_is_not_given_by_a_grant() {
    runtime().block_on(async {
        let mut admin = plain("/ai/b", NODES[0]);
        admin.admin = true;
        let mut world = World::new(vec![registrar()], vec![admin]).await;
        for (path, power) in [
            ("/ai/root", Power::Admin),
            ("/ai/b", Power::Admin),
            ("/ai/boss", Power::Grant),
        ] {
            for ask in [
                Ask::Create(plain(path, NODES[1])),
                Ask::Mint(Verb::X509SvidMint, id(path)),
            ] {
                match world.ask(&ask).await {
                    Err(Denied::Power { power: found, .. }) => assert_eq!(found, power, "{path}"),
                    other => panic!("{path}: {other:?}"),
                }
            }
        }
        world
            .ask(&Ask::Mint(Verb::X509SvidMint, id("/ai/a")))
            .await
            .unwrap();
    });
}

#[test]
fn a_name_that_proves_a_node_is_not_given_by_a_grant() {
    runtime().block_on(async {
        let there = vec![plain("/ai/rack/two", NODES[0]), plain("/ai/a", NODES[0])];
        let mut world = World::new(vec![registrar_and_more(&[Verb::JwtSvidMint])], there).await;
        let at = |world: &World, path| {
            let view = world.registry.view();
            let found = view
                .entries()
                .position(|found| found.entry.spec.spiffe_id == id(path));
            found.unwrap()
        };
        let (two, a) = (at(&world, "/ai/rack/two"), at(&world, "/ai/a"));
        for ask in [
            Ask::Create(plain("/ai/rack/one", NODES[1])),
            Ask::Create(plain("/ai/rack/one", "/ai/a")),
            Ask::Update(a, plain("/ai/rack/one", NODES[0])),
            // One that is there already: neither to another node nor to other workloads.
            Ask::Update(two, plain("/ai/rack/two", NODES[1])),
            Ask::Update(
                two,
                EntrySpec {
                    selectors: ["unix:uid:2".parse().unwrap()].into_iter().collect(),
                    ..plain("/ai/rack/two", NODES[0])
                },
            ),
            Ask::Mint(Verb::X509SvidMint, id("/ai/rack/one")),
        ] {
            match world.ask(&ask).await {
                Err(denied @ Denied::Power { .. }) => {
                    let text = denied.to_string();
                    assert!(
                        text.contains("proves a node to this server's node attestor fake"),
                        "{text}"
                    );
                    assert!(text.ends_with("ask an administrator"), "{text}");
                }
                other => panic!("{ask:?}: {other:?}"),
            }
        }
        for allowed in [
            // A token lets no node in.
            Ask::Mint(Verb::JwtSvidMint, id("/ai/rack/one")),
            Ask::Mint(Verb::X509SvidMint, id("/ai/racks")),
            Ask::Update(a, plain("/ai/a", NODES[1])),
            Ask::Delete(two),
        ] {
            world.ask(&allowed).await.unwrap();
        }
    });
}

#[test]
fn an_id_below_which_a_name_with_power_hangs_does_not_change_hands() {
    runtime().block_on(async {
        for (path, power) in [
            ("/ai/rack/one", Power::Node { by: "fake" }),
            ("/ai/boss", Power::Grant),
            ("/ai/root", Power::Admin),
        ] {
            // An administrator hung it there: whoever gets /ai/a gets it too.
            let there = vec![plain("/ai/b", "/ai/a"), plain(path, "/ai/b")];
            let grant = registrar_and_more(&[Verb::TokenCreate, Verb::EntryAlias]);
            let mut world = World::new(vec![grant.clone()], there).await;
            let pulled = world.ask(&Ask::Create(plain("/ai/a", NODES[1]))).await;
            match pulled {
                Err(Denied::PowerBelow { power: found, .. }) => assert_eq!(found, power, "{path}"),
                other => panic!("{path}: {other:?}"),
            }
            let view = world.registry.view();
            let scope = Scope::Grants(vec![view.grant(&grant.name).unwrap().clone()]);
            let token = scope.token(&world.surroundings(&view), &id(NODES[1]), Some(&id("/ai/a")));
            assert!(
                matches!(token, Err(Denied::PowerBelow { .. })),
                "{path}: {token:?}"
            );
        }
    });
}

#[test]
fn a_grant_makes_as_many_entries_as_it_may_and_again_when_some_are_gone() {
    runtime().block_on(async {
        let grant = Grant {
            max_entries: Some(2),
            ..registrar()
        };
        let mut world = World::new(vec![grant], vec![]).await;
        for path in ["/ai/a", "/ai/b"] {
            world.ask(&Ask::Create(plain(path, NODES[0]))).await.unwrap();
        }
        let third = Ask::Create(plain("/ai", NODES[0]));
        let full = world.ask(&third).await.unwrap_err();
        assert!(matches!(full, Denied::Full { most: 2, .. }), "{full}");
        world
            .ask(&Ask::Update(0, plain("/ai/a", NODES[1])))
            .await
            .unwrap();
        world.ask(&third).await.unwrap_err();
        world.ask(&Ask::Delete(0)).await.unwrap();
        world.ask(&third).await.unwrap();
    });
}

#[test]
fn a_batch_can_not_share_the_last_place() {
    runtime().block_on(async {
        let grant = Grant {
            max_entries: Some(1),
            ..registrar()
        };
        let world = World::new(vec![grant.clone()], vec![]).await;
        let view = world.registry.view();
        let scope = Scope::Grants(vec![view.grant(&grant.name).unwrap().clone()]);
        let surroundings = world.surroundings(&view);
        let mut planned = Planned::default();
        let first = scope.entry(&surroundings, &planned, None, Some(plain("/ai/a", NODES[0])));
        planned.add(&first.unwrap().1.unwrap());
        let second = scope.entry(&surroundings, &planned, None, Some(plain("/ai/b", NODES[0])));
        assert!(matches!(second, Err(Denied::Full { .. })));
    });
}

#[test]
fn a_token_lets_no_node_in_below_which_others_entries_hang() {
    runtime().block_on(async {
        let grant = Grant {
            verbs: [Verb::TokenCreate, Verb::EntryAlias].into_iter().collect(),
            ..registrar()
        };
        // Of a node that was evicted, say: its name is free again.
        let there = vec![plain("/prod/db", NODES[0]), plain("/prod/web", "/ai/b")];
        let world = World::new(vec![grant.clone()], there).await;
        let view = world.registry.view();
        let scope = Scope::Grants(vec![view.grant(&grant.name).unwrap().clone()]);
        let surroundings = world.surroundings(&view);
        let token =
            |node: &str, alias: Option<&str>| scope.token(&surroundings, &id(node), alias.map(id).as_ref());
        token(NODES[1], None).unwrap();
        token(NODES[1], Some("/ai/a")).unwrap();
        for (node, alias) in [(NODES[0], None), (NODES[1], Some("/ai/b"))] {
            let denied = token(node, alias).unwrap_err();
            assert!(matches!(denied, Denied::Below { .. }), "{denied}");
        }
        for (node, alias) in [
            ("/spire/server", None),
            (NODES[1], Some("/prod")),
            (NODES[1], Some("/ai/boss")),
        ] {
            token(node, alias).unwrap_err();
        }
    });
}

/// What the grant becomes after a token was made by it, what is hung somewhere meanwhile, and what the node hears.
struct Meanwhile {
    change: fn(&mut Grant),
    hung: Vec<EntrySpec>,
    expected: Result<(), &'static str>,
}

#[test]
fn a_token_is_judged_anew_when_it_is_redeemed() {
    let hung = |hung: Vec<EntrySpec>, expected| Meanwhile {
        change: |_| {},
        hung,
        expected,
    };
    let narrowed = |change: fn(&mut Grant), says| Meanwhile {
        change,
        hung: Vec::new(),
        expected: Err(says),
    };
    let admin = EntrySpec {
        admin: true,
        ..plain("/ai/a", NODES[1])
    };
    let others = Err("entries outside of it hang below");
    let cases = [
        hung(vec![], Ok(())),
        hung(vec![plain("/ai/b", "/ai/a")], Ok(())),
        // Below the node, below its second name, further below.
        hung(vec![plain("/prod/db", FRESH)], others),
        hung(vec![plain("/prod/db", "/ai/a")], others),
        hung(
            vec![plain("/ai/b", "/ai/a"), plain("/ai/boss", "/ai/b")],
            Err("holds a grant"),
        ),
        // The second name has come to power.
        hung(vec![admin], Err("is an administrator")),
        narrowed(
            |grant| grant.verbs = [Verb::EntryAlias].into_iter().collect(),
            "token.create",
        ),
        narrowed(
            |grant| grant.verbs = [Verb::TokenCreate].into_iter().collect(),
            "entry.alias",
        ),
        narrowed(
            |grant| grant.parents = [NODES[0].parse().unwrap()].into(),
            "lies under none of its parents",
        ),
        narrowed(
            |grant| grant.paths = ["/ai/b".parse().unwrap()].into(),
            "under none of its paths",
        ),
        narrowed(|grant| grant.max_entries = Some(9), "bounds lifetimes or entries"),
    ];
    runtime().block_on(async {
        for (at, meanwhile) in cases.into_iter().enumerate() {
            let Meanwhile {
                change,
                hung,
                expected,
            } = meanwhile;
            let grant = registrar_and_more(&[Verb::TokenCreate, Verb::EntryAlias]);
            let mut world = World::new(vec![grant.clone()], Vec::new()).await;
            let view = world.registry.view();
            let record = view.grant(&grant.name).unwrap().clone();
            let (node, alias) = (id(FRESH), id("/ai/a"));
            let scope = Scope::Grants(vec![record.clone()]);
            let made = scope.token(&world.surroundings(&view), &node, Some(&alias));
            let (by, _) = made.unwrap().unwrap();
            assert_eq!(by, TokenGrant::of(&record));
            world
                .commit(new_token(
                    "a-fresh-one",
                    UnixTime::from_secs(600),
                    Some(&alias),
                    Some(&by),
                ))
                .await;

            let mut changed = grant.clone();
            change(&mut changed);
            if changed != grant {
                world.commit(grants::update(&record, &changed)).await;
            }
            for spec in hung {
                let entry = world.entry(spec);
                world.commit(entries::create(&entry)).await;
            }
            let view = world.registry.view();
            let redeemed = join(
                &view,
                "a-fresh-one",
                key(),
                UnixTime::EPOCH,
                |grant, node, alias| redeem(&world.surroundings(&view), grant, node, alias),
            );
            match (redeemed, expected) {
                (Ok(joining), Ok(())) => assert_eq!(*joining.id(), node),
                (Err(JoinError::NotAllowed(text)), Err(says)) => {
                    assert!(text.contains(says), "case {at}: {text}");
                }
                (other, _) => panic!("case {at}: {other:?}"),
            }
        }
    });
}

fn key() -> NodeKey {
    NodeKey::of(LocalKey::generate(KeyAlgorithm::EcP256).unwrap().public_key())
}

#[test]
fn a_grant_with_bounds_gives_no_node_a_second_name() {
    runtime().block_on(async {
        for (max_lifetime, max_entries) in [(Some(60), None), (None, Some(1))] {
            let grant = Grant {
                verbs: [Verb::TokenCreate, Verb::EntryAlias].into_iter().collect(),
                max_lifetime: max_lifetime.map(|seconds| Lifetime::from_secs(seconds).unwrap()),
                max_entries,
                ..registrar()
            };
            let world = World::new(vec![grant.clone()], Vec::new()).await;
            let view = world.registry.view();
            let scope = Scope::Grants(vec![view.grant(&grant.name).unwrap().clone()]);
            let surroundings = world.surroundings(&view);
            scope.token(&surroundings, &id(NODES[1]), None).unwrap();
            let denied = scope.token(&surroundings, &id(NODES[1]), Some(&id("/ai/a")));
            let denied = denied.unwrap_err();
            assert!(matches!(denied, Denied::Bounded { .. }), "{denied}");
        }
    });
}

#[test]
fn each_grant_allows_what_it_allows_alone() {
    runtime().block_on(async {
        let other = Grant {
            name: "cd".parse().unwrap(),
            paths: ["/prod".parse().unwrap()].into(),
            ..registrar()
        };
        let mut world = World::new(vec![registrar(), other], vec![plain("/ai/a", NODES[0])]).await;
        world
            .ask(&Ask::Create(plain("/prod/db", NODES[0])))
            .await
            .unwrap();
        // Out of the one and into the other is out of both.
        let across = world
            .ask(&Ask::Update(0, plain("/prod", NODES[0])))
            .await
            .unwrap_err();
        assert!(matches!(across, Denied::EachOf(_)), "{across}");
    });
}
