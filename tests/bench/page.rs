//! Writes the table into its page, between two marks; what stands around them is written by people.

use std::{fs, path::Path, process::Command};

use crate::table::Table;

const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

pub(crate) fn write(page: &Path, table: &Table) {
    let text = fs::read_to_string(page).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the page has a mark where the table begins");
    let (_, after) = rest
        .split_once(END)
        .expect("the page has a mark where the table ends");
    let (promised, kept) = table.kept();
    let text = format!(
        "{before}{BEGIN}{}\n\n{}\n{kept} of {promised} budgets kept.\n{END}{after}",
        machine(),
        table.markdown()
    );
    fs::write(page, text).unwrap();
}

/// The date, the commit and the machine, in a sentence.
fn machine() -> String {
    let first = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or_default();
        line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(muster_tests::root())
            .output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        said.unwrap_or_default()
    };
    format!(
        "Measured {} at commit {} on {} processors ({}), {} of memory, Linux {}.",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        said("git", &["rev-parse", "--short", "HEAD"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        first("/proc/sys/kernel/osrelease", ""),
    )
}
