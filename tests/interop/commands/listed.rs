//! The list of differences, `docs/spire-cli.md`: a section a program, a row a difference.

use std::{
    fmt::Write as _,
    fs,
    sync::{Mutex, PoisonError},
};

use super::compared::Difference;

const PAGE: &str = "docs/spire-cli.md";
/// The head of each table.
const HEAD: &str = "| command | SPIRE | Muster | why |\n| --- | --- | --- | --- |\n";
/// The reason of a difference that nobody explained.
const UNEXPLAINED: &str = "?";
/// The reason where both refuse alike and only the words differ; the page says what that means.
const WORDS: &str = "words";
/// The page is one file, and a story may write it.
static PAGE_TURN: Mutex<()> = Mutex::new(());

/// Fails unless the section `program` of the page lists exactly `found`, each with a reason.
/// With `MUSTER_REWRITE` in the environment the section is written anew first; reasons stay, new rows get a question mark.
pub(super) fn hold(program: &str, found: &[Difference]) {
    let turn = PAGE_TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let path = muster_tests::root().join(PAGE);
    let mut page = fs::read_to_string(&path).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var_os("MUSTER_REWRITE").is_some() {
        page = rewritten(&page, program, found);
        fs::write(&path, &page).unwrap();
    }
    drop(turn);
    let listed = rows(section(&page, program));
    let wanted = rows(&table(found, &[]));
    let same = |one: &Row, other: &Row| one.difference == other.difference;
    let missing: Vec<_> = wanted
        .iter()
        .filter(|row| !listed.iter().any(|other| same(row, other)))
        .map(|row| &row.difference)
        .collect();
    let gone: Vec<_> = listed
        .iter()
        .filter(|row| !wanted.iter().any(|other| same(row, other)))
        .map(|row| &row.difference)
        .collect();
    let unexplained: Vec<_> = listed
        .iter()
        .filter(|row| row.why == UNEXPLAINED || row.why.is_empty())
        .map(|row| &row.difference)
        .collect();
    assert!(
        missing.is_empty() && gone.is_empty() && unexplained.is_empty(),
        "{PAGE}, {program}: not listed: {missing:#?}\nlisted and gone: {gone:#?}\nwithout a reason: {unexplained:#?}"
    );
}

struct Row {
    /// The cells that the comparison makes.
    difference: String,
    why: String,
}

fn rows(section: &str) -> Vec<Row> {
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let (difference, why) = line
                .trim_end_matches(" |")
                .rsplit_once(" | ")
                .expect("cells and a reason");
            Row {
                difference: difference.into(),
                why: why.trim().into(),
            }
        })
        .collect()
}

/// What stands below the heading of `program`, up to the next.
fn section<'a>(page: &'a str, program: &str) -> &'a str {
    let (_, behind) = page
        .split_once(&heading(program))
        .expect("a section of the program");
    behind.split("\n## ").next().unwrap_or_default()
}

fn heading(program: &str) -> String {
    format!("\n## {program}\n")
}

fn rewritten(page: &str, program: &str, found: &[Difference]) -> String {
    let old = section(page, program);
    let prose = old.split(HEAD).next().unwrap_or_default().trim();
    let prose = if prose.is_empty() {
        String::new()
    } else {
        format!("\n{prose}\n")
    };
    let heading = heading(program);
    let new = format!("{heading}{prose}\n{}", table(found, &rows(old)));
    page.replace(&format!("{heading}{old}"), &new)
}

/// The table of `found`, with the reasons that `old` rows of the same command give.
fn table(found: &[Difference], old: &[Row]) -> String {
    let mut table = HEAD.to_owned();
    for difference in found {
        let command = code(&difference.command);
        let short = difference.in_short();
        let (spire, muster) = (cell(&short.spire), cell(&short.muster));
        let known = old
            .iter()
            .find(|row| row.difference.starts_with(&format!("| {command} |")))
            .map(|row| row.why.as_str());
        let why = match known {
            _ if difference.is_of_words() => WORDS,
            None | Some(WORDS) => UNEXPLAINED,
            Some(why) => why,
        };
        writeln!(table, "| {command} | {spire} | {muster} | {why} |").expect("memory");
    }
    table
}

fn cell(lines: &[String]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| code(line.trim())).collect();
    lines.join("<br>")
}

/// As code in a table's cell, which a bar would end.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'").replace('|', "\\|"))
}
