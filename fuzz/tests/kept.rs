//! Every test run: what was kept of earlier fuzzing, and some mutations of it. `MUSTER_ROUNDS` makes it longer.

use std::path::Path;

use muster_fuzz::{Session, TARGETS};

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how long the test runs is said by the environment"
)]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    let rounds = std::env::var("MUSTER_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    std::thread::scope(|scope| {
        for target in TARGETS {
            let corpus = &corpus;
            scope.spawn(move || {
                let session = Session::new(*target, corpus, 1).expect("the corpus can be read");
                let report = session.and_then(|mut session| session.rounds(each(target.name) * rounds));
                let report = report.unwrap_or_else(|finding| panic!("{}: {:?}", finding.why, finding.input));
                println!("figure: fuzz {}: {} inputs survived", target.name, report.tried);
            });
        }
    });
}

/// Files are written and synced for each input of these two.
fn each(target: &str) -> u64 {
    match target {
        "store" => 20,
        "journal" => 500,
        _ => 2_000,
    }
}

#[test]
fn a_target_that_panics_is_found() {
    let mut target = TARGETS[0];
    target.run = |input| assert!(!input.ends_with(b"!"), "made to fail");
    target.seeds = || vec![b"almost!?".to_vec()];
    let session = Session::new(target, Path::new("/nowhere"), 1).expect("no corpus is an empty one");
    let finding = session
        .expect("the seed is survived")
        .rounds(100_000)
        .expect_err("a truncation finds it");
    assert!(finding.input.ends_with(b"!") && finding.why.contains("made to fail"));
}
