//! Our verifiers beside those of others: the same certificates and tokens, thousands of them with something wrong, are shown
//! to ours, to go-spiffe and to OpenSSL. Where two disagree, `docs/differential.md` says why, or the test fails.
//!
//! A seed makes the mutations, so that a run can be had again: `MUSTER_SEED`, else a fixed one. `MUSTER_ROUNDS` sets how many.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "what can't go on fails by a panic; tokens are judged by others at the present moment, and the seed is named by the environment"
)]

mod certificates;
mod der;
mod deviations;
mod draft;
mod explained;
mod judges;
mod random;
mod tally;
mod tokens;

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use explained::{CLASSES, Judge};
use judges::Opinion;
use muster_identity::UnixTime;
use muster_pki::PublicKey;
use muster_tests::{Workload, need_programs, root, rounds};
use random::Random;
use tally::Tally;

fn seeded() -> Random {
    let seed = std::env::var("MUSTER_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or(20_261_127);
    println!("figure: seed {seed}");
    Random::new(seed)
}

fn chains() -> Vec<certificates::Chain> {
    let keys = certificates::Keys::generate();
    let mut random = seeded();
    let count = rounds(600);
    let mut all = certificates::deviating(&keys, count, &mut random);
    all.extend(certificates::bent(&keys, 2 * count, &mut random));
    all.extend(certificates::damaged(&keys, count / 2, &mut random));
    for chain in &mut all {
        chain.look_at_key_ids();
    }
    all
}

#[test]
fn chains_are_judged_as_go_spiffe_and_openssl_judge_them_or_the_reason_is_known() {
    if !Workload::Go.is_here() || !need_programs(&["openssl"]) {
        return;
    }
    let chains = chains();
    let ours: Vec<_> = chains.iter().map(judges::ours_of_chain).collect();
    let questions: Vec<_> = chains.iter().map(judges::question_of_chain).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut tally = Tally::default();
    for (judge, theirs) in [
        (Judge::Go, judges::go(&questions)),
        (Judge::OpenSsl, judges::openssl_of_chains(dir.path(), &chains)),
    ] {
        for ((chain, ours), theirs) in chains.iter().zip(&ours).zip(&theirs) {
            tally.compare(judge, &chain.what, ours, theirs);
        }
    }
    tally.print(&format!("{} chains, each beside two others", chains.len()));
    tally.check(CLASSES.iter().filter(|class| class.id.starts_with('X')));
}

#[test]
fn tokens_are_judged_as_go_spiffe_judges_them_or_the_reason_is_known() {
    if !Workload::Go.is_here() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let keys = tokens::Keys::generate(now);
    let mut all = tokens::deviating(&keys);
    all.extend(tokens::mutated(&keys, rounds(3_000), &mut seeded()));
    let ours = all
        .iter()
        .map(|token| judges::ours_of_token(token, UnixTime::from_secs(now)));
    let ours: Vec<_> = ours.collect();
    let questions: Vec<_> = all.iter().map(judges::question_of_token).collect();
    let mut tally = Tally::default();
    for ((token, ours), theirs) in all.iter().zip(&ours).zip(judges::go(&questions)) {
        tally.compare(Judge::Go, &token.what, ours, &theirs);
    }
    tally.print(&format!("{} tokens beside go-spiffe", all.len()));
    tally.check(CLASSES.iter().filter(|class| class.id.starts_with('J')));
}

#[test]
fn signatures_of_tokens_are_judged_as_openssl_judges_them() {
    if !need_programs(&["openssl"]) {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let keys = tokens::Keys::generate(now);
    let dir = tempfile::tempdir().unwrap();
    let (mut good, mut bad) = (0, 0);
    for bent in tokens::signatures(&keys, rounds(450), &mut seeded()) {
        let ours = judges::ours_of_token(&bent.token, UnixTime::from_secs(now));
        let theirs = bent.bytes.is_some_and(|bytes| {
            let spki = PublicKey::from_spki_der(keys.spki(bent.kid)).unwrap();
            judges::openssl_signature(dir.path(), bent.options, spki.spki_der(), &bent.message, &bytes)
        });
        assert_eq!(
            matches!(ours, Opinion::Accepts(_)),
            theirs,
            "{}: {ours:?}",
            bent.token.what
        );
        if theirs { good += 1 } else { bad += 1 }
    }
    println!(
        "figure: signatures of tokens beside OpenSSL: {good} good ones and {bad} bad ones, judged alike"
    );
    assert!(good > 50 && bad > 50);
}

#[test]
fn every_reason_stands_on_the_page_and_no_other() {
    let page = fs::read_to_string(root().join("docs/differential.md")).unwrap();
    let mut on_page: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"))
        .map(|(id, _)| id)
        .filter(|id| id.starts_with(['X', 'J']))
        .collect();
    on_page.sort_unstable();
    let mut known: Vec<_> = CLASSES.iter().map(|class| class.id).collect();
    known.sort_unstable();
    known.dedup();
    assert_eq!(on_page, known);
}
