//! A script: a command a line.
//!
//! - `entry count` is run as it stands. `{name}` is what that name was given before; words with spaces stand in single quotes.
//! - `< file entry create -data -` gives it a file of the fixtures as input.
//! - `entry create … => web = Entry ID` keeps what stands behind `Entry ID` in its output, or in the line below, as `{web}`.
//! - `!verb words` is no command of SPIRE but something that the test does.
//! - An empty line or one that begins with `#` is for people.

/// A line of a script.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Command(Command),
    /// What the test does: a verb, and what it is done with.
    Do(String, Vec<String>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Command {
    /// As it stands in the script: the name under which a difference is listed.
    pub(super) line: String,
    pub(super) words: Vec<String>,
    pub(super) input: Option<String>,
    /// The name to keep, and the label behind which it stands.
    pub(super) keep: Option<(String, String)>,
}

/// The steps of a script.
pub(super) fn parse(text: &str) -> Vec<Step> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(step)
        .collect()
}

fn step(line: &str) -> Step {
    if let Some(done) = line.strip_prefix('!') {
        let mut words = words(done);
        let verb = words.remove(0);
        return Step::Do(verb, words);
    }
    let (command, keep) = match line.split_once("=>") {
        Some((command, keep)) => {
            let (name, label) = keep.split_once('=').expect("a name and a label");
            (command.trim(), Some((name.trim().into(), label.trim().into())))
        }
        None => (line, None),
    };
    let mut words = words(command);
    let input = (words[0] == "<").then(|| words.drain(..2).nth(1).expect("a file"));
    Step::Command(Command {
        line: command.into(),
        words,
        input,
        keep,
    })
}

fn words(text: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (word, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').expect("a closing quote"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.into());
        rest = behind.trim_start();
    }
    words
}

#[test]
fn a_script_says_what_is_run_what_goes_in_and_what_is_kept() {
    let steps =
        parse("# people\n\n!join node1\n< entries.json entry create -data - => web = Entry ID\nx 'a b' ''\n");
    let command = |line: &str, words: &[&str], input: Option<&str>, keep: Option<(&str, &str)>| {
        Step::Command(Command {
            line: line.into(),
            words: words.iter().map(|word| (*word).into()).collect(),
            input: input.map(Into::into),
            keep: keep.map(|(name, label)| (name.into(), label.into())),
        })
    };
    let wanted = [
        Step::Do("join".into(), vec!["node1".into()]),
        command(
            "< entries.json entry create -data -",
            &["entry", "create", "-data", "-"],
            Some("entries.json"),
            Some(("web", "Entry ID")),
        ),
        command("x 'a b' ''", &["x", "a b", ""], None, None),
    ];
    assert_eq!(steps, wanted);
}
