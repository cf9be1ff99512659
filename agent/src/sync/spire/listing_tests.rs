use muster_proto::spire::types::{Entry, Selector, Spiffeid};
use proptest::prelude::*;

use super::*;

fn id(text: &str) -> EntryId {
    text.parse().unwrap()
}

fn entry(id: &str, revision_number: i64) -> Entry {
    Entry {
        id: id.into(),
        spiffe_id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: format!("/{id}"),
        }),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        revision_number,
        created_at: 9,
        ..Entry::default()
    }
}

fn unreadable(id: &str, revision_number: i64) -> Entry {
    Entry {
        selectors: Vec::new(),
        ..entry(id, revision_number)
    }
}

fn held(entries: &[Entry]) -> Held {
    let read = |wire: &Entry| {
        let version = version_of(wire.revision_number, wire.created_at);
        let entry = convert::polled_entry(wire, version, 1).unwrap();
        (entry.id.clone(), Arc::new(entry))
    };
    Held {
        entries: entries.iter().map(read).collect(),
        ..Held::default()
    }
}

fn revisions(entries: &[Entry], more: bool) -> SyncAuthorizedEntriesResponse {
    let revision = |entry: &Entry| EntryRevision {
        id: entry.id.clone(),
        revision_number: entry.revision_number,
        created_at: entry.created_at,
    };
    SyncAuthorizedEntriesResponse {
        entry_revisions: entries.iter().map(revision).collect(),
        entries: Vec::new(),
        more,
    }
}

fn page(entries: &[Entry], more: bool) -> SyncAuthorizedEntriesResponse {
    SyncAuthorizedEntriesResponse {
        entry_revisions: Vec::new(),
        entries: entries.to_vec(),
        more,
    }
}

/// Plays a server with pages of `size` and with the habits of SPIRE's. Returns the difference and how many entries were asked for.
fn run(held: Held, server: &[Entry], size: usize) -> (Difference, usize) {
    let mut listing = Listing::new(Arc::new(held), usize::MAX);
    if server.len() <= size {
        assert!(matches!(listing.receive(page(server, false)), Ok(Next::Done)));
        return (listing.difference(), server.len());
    }
    let mut next = Next::Read;
    let pages = server.chunks(size).count();
    for (number, part) in server.chunks(size).enumerate() {
        assert!(matches!(next, Next::Read));
        next = listing.receive(revisions(part, number + 1 < pages)).unwrap();
    }
    let mut asked = 0;
    while let Next::Ask(question) = next {
        assert!(question.output_mask.is_none() && question.ids.is_sorted() && question.ids.len() <= size);
        asked += question.ids.len();
        let found: Vec<Entry> = server
            .iter()
            .filter(|entry| question.ids.contains(&entry.id))
            .cloned()
            .collect();
        let halves = found.split_at(found.len() / 2);
        assert!(matches!(listing.receive(page(halves.0, true)), Ok(Next::Read)));
        next = listing.receive(page(halves.1, false)).unwrap();
    }
    assert!(matches!(next, Next::Done));
    (listing.difference(), asked)
}

fn ids(entries: &[NodeEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

#[test]
fn the_first_question_names_no_ids_and_asks_for_revisions() {
    let question = Listing::question();
    assert!(question.ids.is_empty());
    assert!(
        question
            .output_mask
            .is_some_and(|mask| mask.revision_number && mask.created_at)
    );
}

#[test]
fn only_what_is_new_or_changed_is_asked_for() {
    let before: Vec<Entry> = (0..9).map(|n| entry(&format!("e{n}"), 1)).collect();
    let mut after = before.clone();
    after[3].revision_number = 2;
    after[5].created_at = 10;
    after.remove(7);
    after.push(entry("new", 0));
    let (difference, asked) = run(held(&before), &after, 4);
    assert_eq!(asked, 3);
    assert_eq!(ids(&difference.upserts), ["e3", "e5", "new"]);
    assert_eq!(difference.removals, [id("e7")]);
    let (difference, asked) = run(held(&after), &after, 4);
    assert_eq!(
        (asked, difference.upserts.len(), difference.removals.len()),
        (0, 0, 0)
    );
}

#[test]
fn what_came_from_another_kind_of_server_is_compared_with_nothing() {
    let server = [entry("a", 1), entry("b", 1)];
    let before = Held {
        foreign: [id("a"), id("gone")].into(),
        ..Held::default()
    };
    let (difference, _) = run(before, &server, 500);
    assert_eq!(ids(&difference.upserts), ["a", "b"]);
    assert_eq!(difference.removals, [id("gone")]);
}

#[test]
fn an_entry_that_went_between_announcement_and_question_is_settled_by_the_next_run() {
    let mut listing = Listing::new(Arc::new(held(&[entry("a", 1)])), 500);
    let next = listing.receive(revisions(&[entry("a", 2), entry("b", 1)], false));
    assert!(matches!(next, Ok(Next::Ask(question)) if question.ids == ["a", "b"]));
    // Neither is known any more; and an entry that nobody asked for is nobody's.
    assert!(matches!(
        listing.receive(page(&[entry("c", 1)], false)),
        Ok(Next::Done)
    ));
    let difference = listing.difference();
    assert!(difference.upserts.is_empty() && difference.removals.is_empty());
}

#[test]
fn an_entry_that_can_not_be_read_is_gone_and_told_of_once() {
    let server = [entry("a", 1), unreadable("b", 2), entry("c", 1)];
    let (first, _) = run(held(&[entry("b", 1)]), &server, 2);
    assert_eq!(ids(&first.upserts), ["a", "c"]);
    assert_eq!(
        (first.removals.as_slice(), first.errors.len()),
        (&[id("b")][..], 1)
    );
    let before = Held {
        unreadable: first.unreadable,
        ..held(&[entry("a", 1), entry("c", 1)])
    };
    let (second, asked) = run(before.clone(), &server, 2);
    assert_eq!((asked, second.errors.len(), second.unreadable.len()), (0, 0, 1));
    let (third, _) = run(before, &[entry("a", 1), entry("b", 3), entry("c", 1)], 2);
    assert_eq!((ids(&third.upserts), third.unreadable.len()), (vec!["b"], 0));
}

#[test]
fn an_answer_of_the_wrong_kind_ends_the_run() {
    let begun = || {
        let mut listing = Listing::new(Arc::default(), 500);
        listing.receive(revisions(&[entry("a", 1)], true)).unwrap();
        listing
    };
    let wrong = begun().receive(page(&[entry("a", 1)], false));
    assert!(matches!(wrong, Err(ListingError::EntriesAmongRevisions)));
    let mut listing = begun();
    listing.receive(revisions(&[entry("b", 1)], false)).unwrap();
    assert!(listing.asks_by_id());
    let wrong = listing.receive(revisions(&[entry("a", 1)], false));
    assert!(matches!(wrong, Err(ListingError::RevisionsAmongEntries)));
}

#[test]
fn the_one_answer_of_an_old_server_is_taken_as_a_whole() {
    let listing = Listing::new(Arc::new(held(&[entry("a", 1), entry("b", 1)])), 500);
    let mut new = entry("c", 1);
    new.federates_with = vec!["other.org".into()];
    let difference = listing.whole(vec![entry("a", 1), new]).unwrap();
    assert_eq!(ids(&difference.upserts), ["c"]);
    assert_eq!(difference.removals, [id("b")]);
    assert!(difference.federates_with.contains(&"other.org".parse().unwrap()));
}

proptest! {
    /// Whatever was held and whatever page size a server has: afterwards exactly its entries are held, in its versions.
    #[test]
    fn after_a_run_what_is_held_is_what_the_server_has(
        before in prop::collection::btree_map(0..30u8, 0..4i64, 0..30),
        after in prop::collection::btree_map(0..30u8, 0..4i64, 0..30),
        size in 1..12usize,
    ) {
        let wire = |set: &BTreeMap<u8, i64>| -> Vec<Entry> {
            set.iter().map(|(n, revision)| entry(&format!("e{n:02}"), *revision)).collect()
        };
        let held = held(&wire(&before));
        let mut result: BTreeMap<EntryId, u64> =
            held.entries.iter().map(|(id, entry)| (id.clone(), entry.version)).collect();
        let (difference, _) = run(held, &wire(&after), size);
        for id in &difference.removals {
            prop_assert!(result.remove(id).is_some());
        }
        for entry in &difference.upserts {
            prop_assert_ne!(result.insert(entry.id.clone(), entry.version), Some(entry.version));
        }
        let expected: BTreeMap<EntryId, u64> = wire(&after)
            .iter()
            .map(|wire| (id(&wire.id), version_of(wire.revision_number, wire.created_at)))
            .collect();
        prop_assert_eq!(result, expected);
    }
}
