//! What differs between what two sides said.

/// A command whose outputs differ, and the lines that only one side has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Difference {
    pub(super) command: String,
    pub(super) spire: Vec<String>,
    pub(super) muster: Vec<String>,
}

impl Difference {
    /// The difference between two outputs, if there is one.
    pub(super) fn between(command: &str, spire: &[String], muster: &[String]) -> Option<Self> {
        if spire == muster {
            return None;
        }
        let (only_spire, only_muster) = (without(spire, muster), without(muster, spire));
        let (spire, muster) = if only_spire.is_empty() && only_muster.is_empty() {
            (spire.to_vec(), muster.to_vec())
        } else {
            (only_spire, only_muster)
        };
        Some(Self {
            command: command.into(),
            spire,
            muster,
        })
    }

    /// Whether both refuse alike, and say so in other words.
    pub(super) fn is_of_words(&self) -> bool {
        short(&self.spire) == short(&self.muster)
    }

    /// As it is listed: SPIRE's words are not ours to quote at length, and ours say no more where both refuse alike.
    pub(super) fn in_short(&self) -> Self {
        let muster = match self.is_of_words() {
            true => short(&self.muster),
            false => self.muster.clone(),
        };
        Self {
            command: self.command.clone(),
            spire: short(&self.spire),
            muster,
        }
    }
}

/// Lines with the texts of refusals left out.
fn short(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| without_words(line)).collect()
}

/// A refusal without its text, in each of the forms in which commands print one.
fn without_words(line: &str) -> String {
    for (before, after) in [
        ("msg: \"", "\")"),
        (" desc = ", ""),
        ("\"message\": \"", "\""),
        ("SVID is not valid: ", ""),
    ] {
        if let Some((head, rest)) = line.split_once(before) {
            let tail = match (after, rest.rfind(after)) {
                ("", _) | (_, None) => "",
                (_, Some(at)) => &rest[at..],
            };
            return format!("{head}{before}…{tail}");
        }
    }
    line.to_owned()
}

/// The lines of `all` without those of `others`, each as often as it is there.
fn without(all: &[String], others: &[String]) -> Vec<String> {
    let mut others = others.to_vec();
    all.iter()
        .filter(|line| match others.iter().position(|other| other == *line) {
            Some(at) => {
                others.remove(at);
                false
            }
            None => true,
        })
        .cloned()
        .collect()
}

#[test]
fn only_lines_of_one_side_differ_unless_the_order_does() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let between = |spire, muster| Difference::between("x", &lines(spire), &lines(muster));
    assert_eq!(between("a b", "a b"), None);
    let differ = between("a b b c", "a b d").unwrap();
    assert_eq!((differ.spire, differ.muster), (lines("b c"), lines("d")));
    let order = between("a b", "b a").unwrap();
    assert_eq!((order.spire, order.muster), (lines("a b"), lines("b a")));
}

#[test]
fn refusals_that_differ_in_their_words_alone_are_told_apart_from_others() {
    let between =
        |spire: &str, muster: &str| Difference::between("x", &[spire.into()], &[muster.into()]).unwrap();
    for (spire, muster, alike) in [
        (
            "(code: NotFound, msg: \"a \\\"b\\\"\"):",
            "(code: NotFound, msg: \"c\"):",
            true,
        ),
        (
            "(code: NotFound, msg: \"a\"):",
            "(code: Internal, msg: \"a\"):",
            false,
        ),
        (
            "Error: code = NotFound desc = a",
            "Error: code = NotFound desc = b",
            true,
        ),
        ("\"message\": \"a\"", "\"message\": \"b\"", true),
        ("Found 1 entry", "Found 2 entries", false),
    ] {
        let difference = between(spire, muster);
        assert_eq!(difference.is_of_words(), alike, "{difference:?}");
    }
    let short = between("(msg: \"a\"):", "(msg: \"b\"):").in_short();
    assert_eq!(
        (&short.spire, &short.muster),
        (&vec!["(msg: \"…\"):".to_owned()], &short.spire)
    );
    assert_eq!(
        between("(msg: \"a\"):", "x (msg: \"b\"):").in_short().muster,
        ["x (msg: \"b\"):"]
    );
}
