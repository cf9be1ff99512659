use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_identity::{
    Attributes, Entry, EntryId, EntrySpec, SelectorSet, SpiffeId, StoreId, TrustDomain, UnixTime,
};
use muster_runtime::Stop;
use proptest::prelude::*;

use super::*;
use crate::store::Memory;

const NODES: u8 = 3;

fn td() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(super) fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org{path}").parse().unwrap()
}

pub(super) fn node_id(number: u8) -> SpiffeId {
    id(&format!("/spire/agent/join_token/n{number}"))
}

pub(super) fn entry(name: &str, spiffe_id: SpiffeId, parent_id: SpiffeId, selectors: &[&str]) -> Entry {
    let spec = EntrySpec {
        spiffe_id,
        parent_id,
        selectors: selectors
            .iter()
            .map(|selector| selector.parse().unwrap())
            .collect(),
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
    };
    Entry {
        id: name.parse().unwrap(),
        spec,
        revision_number: 0,
        created_at: UnixTime::from_secs(1),
    }
}

fn node(number: u8, selectors: &[&str]) -> NodeRecord {
    NodeRecord {
        id: node_id(number),
        attestation_type: "join_token".into(),
        selectors: selectors
            .iter()
            .map(|selector| selector.parse().unwrap())
            .collect::<SelectorSet>(),
        current: None,
        pending: None,
        can_reattest: false,
        agent_version: String::new(),
        attested_at: UnixTime::from_secs(1),
        version: muster_identity::Revision(0),
    }
}

fn put_node(node: &NodeRecord) -> Change {
    Change::put(Tree::Nodes, node.id.to_string(), node_bytes(node), Expect::Any)
}

pub(super) struct Running {
    pub(super) registry: Registry,
    stop: Stop,
    committer: tokio::task::JoinHandle<Result<(), CommitterError>>,
}

#[expect(clippy::disallowed_methods, reason = "a test waits for the committer itself")]
pub(super) fn start() -> Running {
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, td(), Vec::new()).unwrap();
    let stop = Stop::new();
    let committer = tokio::spawn(committer.run(stop.clone()));
    Running {
        registry,
        stop,
        committer,
    }
}

#[tokio::test]
async fn entries_are_created_updated_and_deleted_on_what_was_read() {
    let Running {
        registry,
        stop,
        committer,
    } = start();
    let first = entry("one", id("/a"), node_id(0), &["unix:uid:1"]);
    let position = registry.commit(entries::create(&first)).await.unwrap();
    assert_eq!(registry.position(), position);
    let read = registry.view().entry(&first.id).unwrap().clone();
    assert_eq!(
        (&read.entry, read.version, read.x509_version),
        (&first, position.revision, position.revision)
    );

    let similar = entry("two", id("/a"), node_id(0), &["unix:uid:1"]);
    let Err(CommitError::Conflict(conflict)) = registry.commit(entries::create(&similar)).await else {
        panic!("a similar entry was created")
    };
    assert!(entries::is_similar(&conflict));
    assert_eq!(
        entries::similar(&registry.view(), &similar.spec)
            .unwrap()
            .entry
            .id,
        first.id
    );
    let same_id = entry("one", id("/b"), node_id(0), &["unix:uid:1"]);
    assert!(matches!(
        registry.commit(entries::create(&same_id)).await,
        Err(CommitError::Conflict(_))
    ));

    let (updated, changes) = entries::update(
        &read,
        EntrySpec {
            admin: true,
            ..first.spec.clone()
        },
    );
    let second = registry.commit(changes.clone()).await.unwrap();
    let now = registry.view().entry(&first.id).unwrap().clone();
    assert_eq!(
        (now.version, now.x509_version),
        (second.revision, position.revision),
        "the certificate is the same"
    );
    assert_eq!((now.entry.revision_number, &now.entry), (1, &updated));
    assert!(registry.view().is_admin(&id("/a")));
    assert!(
        matches!(registry.commit(changes).await, Err(CommitError::Conflict(_))),
        "it was changed since"
    );

    let (_, changes) = entries::update(
        &now,
        EntrySpec {
            spiffe_id: id("/c"),
            ..now.entry.spec.clone()
        },
    );
    registry.commit(changes).await.unwrap();
    let moved = registry.view().entry(&first.id).unwrap().clone();
    assert_eq!(moved.x509_version, moved.version);
    registry.commit(entries::create(&similar)).await.unwrap();
    let onto_other = entries::update(&moved, similar.spec.clone()).1;
    assert!(
        matches!(registry.commit(onto_other).await, Err(CommitError::Conflict(_))),
        "no update makes a duplicate"
    );

    registry.commit(entries::delete(&moved)).await.unwrap();
    assert_eq!(registry.view().entry_count(), 1);
    stop.order();
    committer.await.unwrap().unwrap();
    assert!(matches!(
        registry.commit(entries::create(&first)).await,
        Err(CommitError::Stopped)
    ));
}

#[tokio::test]
async fn items_of_a_batch_fail_alone_and_share_one_position() {
    let Running { registry, .. } = start();
    let groups = ["a", "a", "b"]
        .map(|name| entries::create(&entry(name, id("/x"), id(&format!("/{name}")), &["t:v"])));
    let outcomes = registry.commit_each(groups.into()).await;
    assert_eq!(
        outcomes.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(outcomes[0].as_ref().unwrap(), outcomes[2].as_ref().unwrap());
}

#[tokio::test]
async fn a_restarted_registry_shows_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let open = || loop {
        match crate::store::journal_and_sled::open(
            dir.path(),
            crate::store::journal_and_sled::Settings::default(),
        ) {
            Ok(opened) => return opened,
            Err(crate::store::journal_and_sled::OpenError::Locked(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    let kept = entry("kept", id("/a"), node_id(0), &["unix:uid:1"]);
    let position = {
        let opened = open();
        let (registry, committer) = Registry::open(Arc::new(opened.store), td(), opened.records).unwrap();
        let stop = Stop::new();
        let work = async {
            registry.commit(entries::create(&kept)).await.unwrap();
            registry.commit(vec![put_node(&node(1, &["x:y"]))]).await.unwrap();
            let document = Change::put(Tree::Authorities, "k", b"bytes".to_vec(), Expect::Absent);
            let position = registry.commit(vec![document]).await.unwrap();
            stop.order();
            position
        };
        let (position, ended) = tokio::join!(work, committer.run(stop.clone()));
        ended.unwrap();
        position
    };
    let opened = open();
    let (registry, _committer) = Registry::open(Arc::new(opened.store), td(), opened.records).unwrap();
    let view = registry.view();
    assert_eq!(view.position(), position);
    assert_eq!(view.entry(&kept.id).unwrap().entry, kept);
    assert_eq!(
        view.node(&node_id(1)).unwrap().selectors,
        node(1, &["x:y"]).selectors
    );
    assert_eq!(&*view.document(Tree::Authorities, b"k").unwrap().value, b"bytes");
}

#[test]
fn aliases_and_chains_lead_to_nodes_and_circles_end() {
    let mut view = View::empty(
        td(),
        Position {
            store: StoreId::from_bytes([0; 16]),
            revision: muster_identity::Revision(0),
        },
    );
    let mut add = |change: Change| {
        view.apply(&change.key, change.value.as_deref(), muster_identity::Revision(1))
            .unwrap();
    };
    add(put_node(&node(0, &["k:1", "k:2"])));
    add(put_node(&node(1, &["k:1"])));
    for entry in [
        entry("alias", id("/cluster"), id("/spire/server"), &["k:1"]),
        entry("below-alias", id("/w"), id("/cluster"), &["u:1"]),
        entry("direct", id("/mid"), node_id(0), &["u:1"]),
        entry("chained", id("/leaf"), id("/mid"), &["u:1"]),
        entry("circle-1", id("/c1"), id("/c2"), &["u:1"]),
        entry("circle-2", id("/c2"), id("/c1"), &["u:1"]),
        entry("orphan", id("/o"), node_id(2), &["u:1"]),
    ] {
        entries::create(&entry).into_iter().for_each(&mut add);
    }
    let names = |number| {
        let set = view.entitled_set(&node_id(number));
        set.iter()
            .map(|registered| registered.entry.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["below-alias", "chained", "direct"]);
    assert_eq!(names(1), ["below-alias"]);
    assert_eq!(names(2), ["orphan"], "direct children need no record of the node");
    for number in 0..3 {
        for registered in view.entries() {
            let entitled = view.entitled(&node_id(number), &registered.entry.id).is_some();
            assert_eq!(entitled, names(number).contains(&registered.entry.id.to_string()));
        }
    }
}

#[tokio::test]
async fn an_alias_that_moves_to_other_selectors_is_told_to_both_sides() {
    let Running { registry, .. } = start();
    for node in [node(0, &["k:0"]), node(1, &["k:1"])] {
        registry.commit(vec![put_node(&node)]).await.unwrap();
    }
    let alias = entry("alias", id("/cluster"), id("/spire/server"), &["k:0"]);
    let below = entry("below", id("/w"), id("/cluster"), &["u:1"]);
    for entry in [&alias, &below] {
        registry.commit(entries::create(entry)).await.unwrap();
    }
    let mailboxes = [0, 1].map(|number| registry.mailbox(&node_id(number)));
    let read = registry.view().entry(&alias.id).unwrap().clone();
    let moved = entry("alias", id("/cluster"), id("/spire/server"), &["k:1"]);
    registry
        .commit(entries::update(&read, moved.spec).1)
        .await
        .unwrap();
    for (number, mailbox) in (0..).zip(mailboxes) {
        assert!(mailbox.take().is_some(), "nobody told node {number}");
    }
}

/// One step of a random history over a few names, so that chains, aliases, circles and renames all come about.
#[derive(Clone, Debug)]
enum Step {
    Put {
        name: u8,
        id: u8,
        parent: u8,
        selector: u8,
    },
    Delete {
        name: u8,
    },
    Node {
        number: u8,
        selectors: u8,
    },
}

/// Commits of some steps each, and a bit for each node that is too slow to look after it.
fn histories() -> impl Strategy<Value = Vec<(Vec<Step>, u8)>> {
    let put = (0..12u8, 0..5u8, 0..10u8, 0..3u8).prop_map(|(name, id, parent, selector)| Step::Put {
        name,
        id,
        parent,
        selector,
    });
    let delete = (0..12u8).prop_map(|name| Step::Delete { name });
    let node = (0..NODES, 0..8u8).prop_map(|(number, selectors)| Step::Node { number, selectors });
    let step = prop_oneof![6 => put, 2 => delete, 1 => node];
    prop::collection::vec((prop::collection::vec(step, 1..5), 0..8u8), 1..12)
}

fn changes(step: &Step, view: &View) -> Vec<Change> {
    match step {
        Step::Put {
            name,
            id: spiffe_id,
            parent,
            selector,
        } => {
            let parent = match *parent {
                0..NODES => node_id(*parent),
                NODES => id("/spire/server"),
                other => id(&format!("/i{}", other % 5)),
            };
            let (name, selector) = (format!("e{name}"), format!("k:{selector}"));
            let entry = entry(&name, id(&format!("/i{spiffe_id}")), parent, &[&selector]);
            match view.entry(&entry.id) {
                Some(current) => entries::update(current, entry.spec).1,
                None => entries::create(&entry),
            }
        }
        Step::Delete { name } => {
            let id: EntryId = format!("e{name}").parse().unwrap();
            view.entry(&id)
                .map(|current| entries::delete(current))
                .unwrap_or_default()
        }
        Step::Node { number, selectors } => {
            let all: Vec<String> = (0..3)
                .filter(|bit| selectors >> bit & 1 == 1)
                .map(|bit| format!("k:{bit}"))
                .collect();
            vec![put_node(&node(
                *number,
                &all.iter().map(String::as_str).collect::<Vec<_>>(),
            ))]
        }
    }
}

fn versions(view: &View, node: &SpiffeId) -> BTreeMap<EntryId, u64> {
    view.entitled_set(node)
        .iter()
        .map(|found| (found.entry.id.clone(), found.version.0))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens: a stream that follows its mailbox holds exactly what its node is entitled to, and the way up
    /// (may this node have this entry?) agrees with the way down (everything for this node).
    #[test]
    fn a_node_that_follows_its_mailbox_holds_what_it_is_entitled_to(history in histories()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let Running { registry, .. } = start();
            let mut followers: Vec<_> = (0..NODES)
                .map(|number| {
                    let mailbox = registry.mailbox(&node_id(number));
                    (node_id(number), mailbox, registry.view(), HashMap::<EntryId, u64>::new())
                })
                .collect();
            for (commit, slow) in history {
                let view = registry.view();
                let groups = commit.iter().map(|step| changes(step, &view)).filter(|group| !group.is_empty()).collect();
                registry.commit_each(groups).await;
                for (number, (node, mailbox, told, held)) in followers.iter_mut().enumerate() {
                    if slow >> number & 1 == 1 {
                        continue;
                    }
                    let newest = registry.view();
                    let Some(mail) = mailbox.take() else {
                        assert_eq!(versions(told, node), versions(&newest, node), "nobody told {node}");
                        continue;
                    };
                    let now = mail.view.clone().unwrap();
                    let touched: BTreeSet<EntryId> = mail.entries.iter().flat_map(|ids| ids.iter()).cloned().collect();
                    let delta = if mail.everything {
                        told.delta_of_all(&now, node)
                    } else {
                        told.delta(&now, node, &touched)
                    };
                    for id in &delta.removals {
                        assert!(held.remove(id).is_some(), "{id} was never given");
                    }
                    for upsert in delta.upserts {
                        held.insert(upsert.entry.id.clone(), upsert.version.0);
                    }
                    *told = now.clone();
                    let expected = versions(&now, node);
                    assert_eq!(held.clone().into_iter().collect::<BTreeMap<_, _>>(), expected);
                    for registered in now.entries() {
                        let id = &registered.entry.id;
                        assert_eq!(now.entitled(node, id).is_some(), expected.contains_key(id), "{id}");
                    }
                }
            }
        });
    }
}

/// What the budgets of the design are about; run by hand, in release or not, and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, asserts nothing"]
#[expect(clippy::disallowed_methods, reason = "a measurement supervises nothing")]
async fn figures_of_a_hundred_thousand_entries() {
    use crate::store::journal_and_sled::{self, Settings};
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap()
            .to_owned();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let dir = tempfile::tempdir_in(".").unwrap();
    let opened = journal_and_sled::open(dir.path(), Settings::default()).unwrap();
    let store = Arc::new(opened.store);
    let (registry, committer) = Registry::open(store.clone(), td(), opened.records).unwrap();
    let stop = Stop::new();
    let running = tokio::spawn(committer.run(stop.clone()));
    let mailbox = registry.mailbox(&node_id(0));
    println!("empty: {} KB", memory());
    let begun = std::time::Instant::now();
    for batch in 0..200u32 {
        let groups = (0..500).map(|n| {
            let number = batch * 500 + n;
            let name = format!("0d5c1e4a-7a1b-4b0e-9d6f-{number:012}");
            let selectors = [
                format!("unix:uid:{number}"),
                "unix:path:/usr/bin/service".to_owned(),
            ];
            let selectors: Vec<&str> = selectors.iter().map(String::as_str).collect();
            entries::create(&entry(
                &name,
                id(&format!("/service/{number}")),
                node_id(0),
                &selectors,
            ))
        });
        assert!(
            registry
                .commit_each(groups.collect())
                .await
                .iter()
                .all(Result::is_ok)
        );
        mailbox.take();
    }
    let took = begun.elapsed();
    println!(
        "100,000 entries in {took:?}: {:.0}/s; {} KB",
        100_000.0 / took.as_secs_f64(),
        memory()
    );
    let single = std::time::Instant::now();
    for n in 0..200 {
        let one = entry(
            &format!("single-{n}"),
            id(&format!("/single/{n}")),
            node_id(0),
            &["unix:uid:1"],
        );
        registry.commit(entries::create(&one)).await.unwrap();
    }
    println!("one entry: {:?}", single.elapsed() / 200);
    let digest = std::time::Instant::now();
    registry.view().entitled_digest(&node_id(0));
    println!("digest of 100,000: {:?}", digest.elapsed());
    stop.order();
    let close = std::time::Instant::now();
    running.await.unwrap().unwrap();
    println!("closed in {:?}; {} KB", close.elapsed(), memory());
    drop((registry, store));
    let before = memory();
    let opening = std::time::Instant::now();
    let opened = loop {
        match journal_and_sled::open(dir.path(), Settings::default()) {
            Ok(opened) => break opened,
            Err(_) => std::thread::yield_now(),
        }
    };
    println!(
        "opened in {:?}; {} KB on top of {before}",
        opening.elapsed(),
        memory() - before.min(memory())
    );
    let viewing = std::time::Instant::now();
    let (registry, _committer) = Registry::open(Arc::new(opened.store), td(), opened.records).unwrap();
    println!(
        "view in {:?}; {} KB in all; {:?}",
        viewing.elapsed(),
        memory(),
        registry.view()
    );
}

/// How much the view alone takes; by hand as above.
#[test]
#[ignore = "prints figures, asserts nothing"]
fn figures_of_the_view() {
    let memory = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS"))
            .unwrap()
            .to_owned();
        line.split_ascii_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let position = Position {
        store: StoreId::from_bytes([0; 16]),
        revision: muster_identity::Revision(0),
    };
    let mut view = View::empty(td(), position);
    let before = memory();
    let begun = std::time::Instant::now();
    for number in 0..100_000 {
        let name = format!("0d5c1e4a-7a1b-4b0e-9d6f-{number:012}");
        let selectors = [
            format!("unix:uid:{number}"),
            "unix:path:/usr/bin/service".to_owned(),
        ];
        let selectors: Vec<&str> = selectors.iter().map(String::as_str).collect();
        let entry = entry(&name, id(&format!("/service/{number}")), node_id(0), &selectors);
        for change in entries::create(&entry) {
            view.apply(&change.key, change.value.as_deref(), muster_identity::Revision(1))
                .unwrap();
        }
    }
    println!(
        "{} bytes an entry, {:?}",
        (memory() - before) * 1024 / 100_000,
        begun.elapsed()
    );
    println!(
        "Registered {} Entry {}",
        size_of::<Registered>(),
        size_of::<Entry>()
    );
}

/// A change of so many bytes, of a tree that nobody reads here.
fn sized(name: &str, bytes: usize) -> Vec<Change> {
    vec![Change::put(Tree::Holds, name, vec![7; bytes], Expect::Absent)]
}

#[tokio::test]
async fn what_is_too_large_refuses_nobody_elses_change() {
    let Running { registry, .. } = start();
    let too_large = crate::store::Change::MAX_VALUE + 1;
    let batch = vec![sized("a", 10), sized("b", too_large), sized("c", 10)];
    // Queued at once, so that they meet in one commit.
    let (batch, alone, after) = tokio::join!(
        registry.commit_each(batch),
        registry.commit(sized("d", too_large)),
        registry.commit(sized("e", 10)),
    );
    assert!(batch[0].is_ok() && batch[2].is_ok() && after.is_ok());
    for refused in [batch[1].clone(), alone] {
        assert!(matches!(refused, Err(CommitError::TooLarge(bytes)) if bytes == too_large));
    }
    assert_eq!(registry.view().document_count(Tree::Holds), 3);
}

#[tokio::test]
async fn a_batch_that_no_commit_could_hold_becomes_several() {
    let Running { registry, .. } = start();
    let batch = (0..20)
        .map(|number| sized(&format!("n{number}"), 1 << 20))
        .collect();
    let answers = registry.commit_each(batch).await;
    assert_eq!(answers.len(), 20);
    let revisions: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().revision)
        .collect();
    assert!(
        revisions.is_sorted() && revisions[0] < revisions[19],
        "in order, in several"
    );
    let conflict = registry.commit_each(vec![sized("n0", 1), sized("n20", 1)]).await;
    assert!(conflict[0].is_err() && conflict[1].is_ok());
}
