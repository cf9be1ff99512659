//! The page that says what conforms, case by case.

use std::fmt::Write as _;

use crate::book::{Book, Case, Level, Part, Verdict};

/// The line after which the page is generated.
const MARK: &str = "<!-- From here on generated from the verdicts: MUSTER_WRITE_DOCS=1 cargo test -p muster-tests --test conformance -->";

/// The page with the verdicts of `book`; what stands before the mark in `present` is kept.
pub(crate) fn page(present: &str, parts: &[Part], book: &Book) -> String {
    let kept = present.split(MARK).next().unwrap_or_default().trim_end();
    let mut page = format!("{kept}\n\n{MARK}\n\n## Verdicts\n\n");
    page += &summary(parts, book);
    for part in parts {
        page += &cases(part, book);
    }
    page
}

/// What is decided where a standard leaves something open: the part that people write.
pub(crate) fn decisions(page: &str) -> &str {
    page.split(MARK).next().unwrap_or_default()
}

/// The cases that failed, with why.
pub(crate) fn failures(parts: &[Part], book: &Book) -> Vec<String> {
    let cases = parts.iter().flat_map(|part| &part.cases);
    let mut failures = Vec::new();
    for case in cases.filter(|case| case.not_offered.is_none()) {
        if let Verdict::Fails(why) = book.verdict(&case.id) {
            failures.push(format!("{} ({}; {}): {why}", case.id, case.what, case.expect));
        }
    }
    failures
}

fn summary(parts: &[Part], book: &Book) -> String {
    let mut text =
        "| part | must | strict | policy | not offered |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for part in parts {
        let of = |level| count(&part.cases, level, book);
        let absent = part
            .cases
            .iter()
            .filter(|case| case.not_offered.is_some())
            .count();
        let absent = if absent == 0 {
            String::new()
        } else {
            absent.to_string()
        };
        let cells = [Level::Must, Level::Strict, Level::Policy].map(of);
        writeln!(
            text,
            "| {} {} | {} | {absent} |",
            part.number,
            part.title,
            cells.join(" | ")
        )
        .expect("memory");
    }
    let all: Vec<Case> = parts.iter().flat_map(|part| part.cases.clone()).collect();
    let demanded = |level| tally(&all, level, book);
    let ((must, of_must), (strict, of_strict)) = (demanded(Level::Must), demanded(Level::Strict));
    let (held, asked) = (must + strict, of_must + of_strict);
    let mark = if held == asked { "" } else { "**FAILS**: " };
    // Rounded down: 100 % is said of nothing less.
    let percent = (held * 100).checked_div(asked).unwrap_or_default();
    write!(text, "\n{mark}{percent} % of what the standards demand (must and strict) of what Muster offers: {held} of {asked} cases.\n")
        .expect("memory");
    text
}

fn count(cases: &[Case], level: Level, book: &Book) -> String {
    match tally(cases, level, book) {
        (_, 0) => String::new(),
        (held, of) if held == of => format!("{held} of {of}"),
        (held, of) => format!("**{held} of {of}**"),
    }
}

fn tally(cases: &[Case], level: Level, book: &Book) -> (usize, usize) {
    let cases = cases
        .iter()
        .filter(|case| case.level == level && case.not_offered.is_none());
    let held = cases
        .clone()
        .filter(|case| book.verdict(&case.id) == Verdict::Conforms);
    (held.count(), cases.count())
}

fn cases(part: &Part, book: &Book) -> String {
    let mut text = format!("\n### {} {}\n\n", part.number, part.title);
    if let Some(reason) = whole_part_absent(part) {
        writeln!(text, "Not offered: {reason}.").expect("memory");
        return text;
    }
    text += "| case | level | what | expected | section | verdict |\n| --- | --- | --- | --- | --- | --- |\n";
    for case in &part.cases {
        let verdict = match (&case.not_offered, book.verdict(&case.id)) {
            (Some(reason), _) => format!("not offered: {reason}"),
            (None, Verdict::Conforms) => "conforms".to_owned(),
            (None, Verdict::Fails(_)) => "**FAILS**".to_owned(),
        };
        let level = match case.level {
            Level::Must => "must",
            Level::Strict => "strict",
            Level::Policy => "policy",
        };
        let cells = [&case.id, level, &case.what, &case.expect, &case.section, &verdict];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        writeln!(text, "| {} |", cells.join(" | ")).expect("memory");
    }
    text
}

fn whole_part_absent(part: &Part) -> Option<&str> {
    let first = part.cases.first()?.not_offered.as_deref()?;
    let all = part
        .cases
        .iter()
        .all(|case| case.not_offered.as_deref() == Some(first));
    all.then_some(first)
}
