//! Writes the table into its page, between two marks; what stands around them is written by people.

use std::{fs, path::Path, process::Command};

use crate::table::Table;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

pub(crate) fn write(page: &Path, commit: &str, table: &Table) {
    let text = fs::read_to_string(page).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the page has a mark where the table begins");
    let (_, after) = rest
        .split_once(END)
        .expect("the page has a mark where the table ends");
    let (promised, kept) = table.kept();
    let text = format!(
        "{before}{BEGIN}{}\n\n{}\n{CALLERS}\n\n{kept} of {promised} budgets kept.\n{END}{after}",
        machine(commit),
        table.markdown()
    );
    fs::write(page, text).unwrap();
}

/// What is said of the build that called and gave the canned answers: this program.
const CALLERS: &str = if cfg!(debug_assertions) {
    "The daemons are release builds. The callers and the canned answers are not: they are one program with debug assertions, \
     optimised less."
} else {
    "The daemons, the callers and the canned answers are release builds."
};

/// The commit that is checked out, and whether anything beside documents differs from it. To be asked before the measurement, which takes long enough for a next commit.
pub(crate) fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changes = said("git", &["status", "--porcelain", "--", ".", ":(exclude)docs"]);
    if changes.is_empty() {
        commit
    } else {
        format!("{commit} (with changes)")
    }
}

/// What a program prints, in the folder of the sources.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(muster_tests::root())
        .output();
    let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.unwrap_or_default()
}

/// The date, the commit and the machine, in a sentence.
fn machine(commit: &str) -> String {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
    };
    format!(
        "Measured {} of daemons built at commit {commit}, on {} processors ({}), {} of memory, Linux {}.",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        first("/proc/sys/kernel/osrelease", ""),
    )
}
