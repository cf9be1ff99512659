//! What the SPIFFE standards demand, case by case: inputs with a verdict against the library, behaviour against running
//! daemons. `docs/conformance.md` is made of the verdicts and must be what they are; `MUSTER_WRITE_DOCS=1` writes it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a case that can't go on fails by a panic; the environment says whether the page is written"
)]

mod asked_tokens;
mod authorities;
mod book;
mod bundles;
mod caller;
mod certificates;
mod contract;
mod endpoint;
mod fake;
mod federated_bundles;
mod federation;
mod issuer;
mod names;
mod nodes;
mod page;
mod published;
mod requests;
mod silent;
mod tokens;
mod workload_api;

use std::{fs, thread};

use book::{Book, Verdict, parts};

/// The subjects side by side, each with a book of its own.
const SUBJECTS: &[fn(&mut Book)] = &[
    names::judge,
    certificates::judge,
    tokens::judge,
    bundles::judge,
    published::judge,
    endpoint::judge,
    workload_api::judge,
    asked_tokens::judge,
    issuer::judge,
    nodes::judge,
    authorities::judge,
    federated_bundles::judge,
    federation::judge,
];

#[test]
fn every_case_conforms_and_the_page_says_so() {
    let judging = SUBJECTS.iter().map(|judge| {
        thread::spawn(|| {
            let mut book = Book::default();
            judge(&mut book);
            book
        })
    });
    let judging: Vec<_> = judging.collect();
    let mut book = Book::default();
    for subject in judging {
        book.add(
            subject
                .join()
                .expect("cases are caught one by one; what they share could be set up"),
        );
    }
    let parts = parts();
    let known = |id: &str| {
        parts
            .iter()
            .any(|part| part.cases.iter().any(|case| case.id == id))
    };
    let unknown: Vec<_> = book.ids().filter(|id| !known(id)).collect();
    assert!(unknown.is_empty(), "tried, and in no list: {unknown:?}");

    let path = muster_tests::root().join("docs/conformance.md");
    let present = fs::read_to_string(&path).unwrap();
    let page = page::page(&present, &parts, &book);
    if std::env::var_os("MUSTER_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let failures = page::failures(&parts, &book);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        page == fs::read_to_string(&path).unwrap(),
        "docs/conformance.md is stale: MUSTER_WRITE_DOCS=1 writes it"
    );
}

#[test]
fn a_case_that_fails_turns_the_page_red() {
    let parts = parts();
    let mut book = Book::default();
    for case in parts.iter().flat_map(|part| &part.cases) {
        book.case(&case.id, || {});
    }
    let green = page::page("# Page\n", &parts, &book);
    assert!(green.contains("\n100 % of what") && !green.contains("FAILS"));
    book.case("ID-01", || panic!("made to fail"));
    let red = page::page(&green, &parts, &book);
    assert!(red.contains("**FAILS**: 99 % of what"), "{red}");
    assert_eq!(red.matches("| **FAILS** |").count(), 1);
    assert_eq!(page::failures(&parts, &book).len(), 1);
    assert_eq!(
        Book::default().verdict("ID-01"),
        Verdict::Fails("nothing tries it".to_owned())
    );
}

#[test]
fn every_policy_that_is_offered_is_among_the_decisions() {
    let page = fs::read_to_string(muster_tests::root().join("docs/conformance.md")).unwrap();
    let decisions = page::decisions(&page);
    let parts = parts();
    let offered = parts
        .iter()
        .filter(|part| part.cases.iter().any(|case| case.not_offered.is_none()));
    let policies = offered
        .flat_map(|part| &part.cases)
        .filter(|case| case.level == book::Level::Policy);
    let silent: Vec<_> = policies.filter(|case| !decisions.contains(&case.id)).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn every_case_has_one_id_and_says_what_is_decided() {
    let parts = parts();
    let mut ids = std::collections::BTreeSet::new();
    for case in parts.iter().flat_map(|part| &part.cases) {
        assert!(ids.insert(&case.id), "{} twice", case.id);
        assert!(
            !case.what.is_empty() && !case.expect.is_empty() && !case.section.is_empty(),
            "{}",
            case.id
        );
    }
}
