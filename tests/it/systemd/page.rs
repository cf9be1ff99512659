//! A page with commands and what they print: ```` ```console MACHINE ````, `$ command`, output.

/// One command of the page.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// On which machine.
    pub(super) machine: String,
    /// What is typed.
    pub(super) command: String,
    /// What the page shows as its output.
    pub(super) output: Vec<String>,
}

/// The commands of the page, in its order.
pub(super) fn steps(page: &str) -> Vec<Step> {
    let (mut steps, mut machine) = (Vec::<Step>::new(), None);
    for line in page.lines() {
        if let Some(word) = line.strip_prefix("```console ") {
            machine = Some(word.to_owned());
        } else if line.starts_with("```") {
            machine = None;
        } else if let Some(machine) = &machine {
            match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step {
                    machine: machine.clone(),
                    command: command.to_owned(),
                    output: Vec::new(),
                }),
                None => steps
                    .last_mut()
                    .expect("a block begins with a command")
                    .output
                    .push(line.to_owned()),
            }
        }
    }
    steps
}

/// Whether what was said is what is shown, up to values, times and the width of columns. A line `…` stands for any lines, `…`
/// in a line for any text. The pairs of lines that stand for each other.
pub(super) fn fits(shown: &[String], said: &str) -> Result<Vec<(String, String)>, String> {
    let said: Vec<&str> = said.lines().collect();
    let (mut pairs, mut at, mut skipping) = (Vec::new(), 0, false);
    for line in shown {
        if line == "…" {
            skipping = true;
            continue;
        }
        let here = (at..said.len()).find(|index| line_fits(line, said[*index]));
        match here {
            Some(index) if skipping || index == at => {
                pairs.push((line.clone(), said[index].to_owned()));
                at = index + 1;
            }
            _ => return Err(format!("this line was not printed: {line}")),
        }
        skipping = false;
    }
    if at < said.len() && !skipping {
        return Err(format!("this line is not on the page: {}", said[at]));
    }
    Ok(pairs)
}

/// What differs each time and is typed again: hashes, tokens, ids, serial numbers.
pub(super) fn values(line: &str) -> Vec<String> {
    of_a_value(line)
        .filter(|part| is_value(part))
        .map(str::to_owned)
        .collect()
}

fn line_fits(shown: &str, said: &str) -> bool {
    let said = plain(said);
    let plain = plain(shown);
    let Some((first, rest)) = plain.split_once('…') else {
        return plain == said;
    };
    let Some(mut left) = said.strip_prefix(first.trim_end()) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('…').map(str::trim).collect();
    let (last, between) = parts.split_last().expect("split gives one at least");
    for part in between {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// The line without what differs each time.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut depth = 0;
    for word in line.split_whitespace() {
        // How long ago, how far ahead.
        if depth == 0 && matches!(word, "(in" | "(now)") || word.starts_with('(') && line.contains(" ago)") {
            depth = 1;
        }
        if depth == 0 {
            let is_time = word.len() >= 20 && word.as_bytes()[10] == b'T' && word.starts_with("20");
            let parts = of_a_value(word).map(|part| if is_value(part) { "VALUE" } else { part });
            let word = if is_time {
                "TIME".to_owned()
            } else {
                parts.collect()
            };
            plain = plain + &word + " ";
        } else if word.ends_with(')') {
            depth = 0;
        }
        if depth == 1 && word.ends_with(')') {
            depth = 0;
        }
    }
    plain.trim_end().to_owned()
}

fn of_a_value(text: &str) -> impl Iterator<Item = &str> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    text.as_bytes()
        .chunk_by(move |one, other| digit(*one) == digit(*other))
        .scan(0, |at, part| {
            let start = *at;
            *at += part.len();
            Some(start..*at)
        })
        .map(|range| text.get(range).expect("a cut beside an ASCII byte"))
}

fn is_value(part: &str) -> bool {
    part.len() >= 16 && part.bytes().any(|byte| byte.is_ascii_digit()) && !part.contains("--")
}

#[test]
fn a_page_is_read_as_a_reader_does() {
    let page =
        "# x\n```console a\n$ one\nout …\n```\n```sh\n$ not this\n```\n```console b\n$ two\n$ three\n```\n";
    let read = steps(page);
    let commands: Vec<(&str, &str)> = read
        .iter()
        .map(|step| (step.machine.as_str(), step.command.as_str()))
        .collect();
    assert_eq!(commands, [("a", "one"), ("b", "two"), ("b", "three")]);
    assert_eq!(read[0].output, ["out …"]);
}

#[test]
fn what_differs_each_time_fits_and_what_is_wrong_does_not() {
    let fit = |shown: &[&str], said: &str| {
        fits(
            &shown.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>(),
            said,
        )
    };
    let pairs = fit(
        &[
            "…",
            "Token    e50b55f19eaef1392648ae30735c4503",
            "Ends 2026-11-24T05:23:02Z (in 10m)",
        ],
        "more\nToken  00112233445566778899aabbccddeeff\nEnds 2027-01-01T00:00:00Z (in 9m 59s)\n",
    )
    .unwrap();
    assert_eq!(values(&pairs[0].0), ["e50b55f19eaef1392648ae30735c4503"]);
    assert_eq!(values(&pairs[0].1), ["00112233445566778899aabbccddeeff"]);
    assert!(
        fit(
            &["error: refused (reference …)"],
            "error: refused (reference R-1)\n"
        )
        .is_ok()
    );
    assert!(fit(&["a", "b"], "a\nmore\nb\n").is_err());
    assert!(fit(&["a"], "a\nmore\n").is_err());
    assert!(fit(&["State ready"], "State  failed\n").is_err());
    assert!(fit(&[], "something\n").is_err());
}
