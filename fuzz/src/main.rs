//! `fuzz`: tries the targets for as long as it is told to.
//!
//! ```text
//! fuzz [SECONDS] [--keep] [TARGET]...
//!
//! seeds, corpus/<target>/ ─Session─▶ mutations, SECONDS (60) for each target ─┬─ new code reached, with --keep ─▶ corpus/<target>/
//!                                                                             └─ not survived ─▶ found-<target>, exit code 1
//! ```
//!
//! What a target promises, and how inputs are mutated, is in the library. Built plainly it has no counters and mutates
//! blindly; `fuzz/run` builds with them. Exit code 2: a command line that it does not understand, or no corpus to read.

use std::{path::Path, process::ExitCode, time::Duration};

use muster_fuzz::{Session, TARGETS, is_instrumented};

fn main() -> ExitCode {
    let (mut seconds, mut keep, mut names) = (60, false, Vec::new());
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--keep" => keep = true,
            number if let Ok(number) = number.parse() => seconds = number,
            name if TARGETS.iter().any(|target| target.name == name) => names.push(name.to_owned()),
            other => return usage(&format!("no target is named {other}")),
        }
    }
    if !is_instrumented() {
        eprintln!("built without counters: inputs are mutated blindly; fuzz/run builds with them");
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut failed = false;
    for target in TARGETS.iter().filter(|target| wanted(target.name)) {
        let seed = std::process::id().into();
        let session = match Session::new(*target, &corpus, seed) {
            Ok(session) => session,
            Err(error) => return usage(&format!("reading the corpus of {}: {error}", target.name)),
        };
        let report = session.and_then(|session| {
            let mut session = if keep { session.keeping(&corpus) } else { session };
            session.run_for(Duration::from_secs(seconds))
        });
        match report {
            Ok(report) => println!(
                "figure: fuzz {}: {} inputs in {seconds} s, {} to begin from, {} edges reached, none harmful",
                target.name, report.tried, report.inputs, report.edges
            ),
            Err(finding) => {
                failed = true;
                let file = corpus.with_file_name(format!("found-{}", target.name));
                println!("found: {} ({})", finding.why, file.display());
                if let Err(error) = std::fs::write(&file, &finding.input) {
                    println!("writing it: {error}; the input is {:?}", finding.input);
                }
            }
        }
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn usage(what: &str) -> ExitCode {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    eprintln!(
        "{what}\nusage: fuzz [SECONDS] [--keep] [TARGET]...; targets: {}",
        names.join(" ")
    );
    ExitCode::from(2)
}
