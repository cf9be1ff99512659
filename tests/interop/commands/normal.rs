//! What no two runs have in common, made equal: times, ids, serial numbers, keys, and the references of our refusals.

use std::fmt::Write as _;

use muster_tests::Said;
use serde_json::Value;

/// What a command said, as lines that two runs can share.
pub(super) fn lines(said: &Said, folder: &str) -> Vec<String> {
    let mut lines = vec![];
    if said.status != Some(0) {
        lines.push(format!("exit status {:?}", said.status.unwrap_or(-1)));
    }
    for (text, mark) in [(&said.out, ""), (&said.err, "! ")] {
        let text = text.replace(folder, "<dir>");
        let text = match serde_json::from_str::<Value>(&text) {
            // One value a line, so that one that differs is one line.
            Ok(value) if value.is_object() || value.is_array() => {
                serde_json::to_string_pretty(&value).expect("it was JSON")
            }
            _ => text,
        };
        let text = without_pem(&with_plain_documents(&text));
        lines.extend(
            text.lines()
                .map(normal)
                .filter(|line| !line.is_empty())
                .map(|line| format!("{mark}{line}")),
        );
    }
    lines
}

/// Documents inside of a text on one line each, with their members in one order.
fn with_plain_documents(text: &str) -> String {
    let Some((before, document)) = text.split_once("\t{") else {
        return text.to_owned();
    };
    let document = format!("{{{document}");
    let mut values = serde_json::Deserializer::from_str(&document).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            let behind = &document[values.byte_offset()..];
            format!("{before}\t{value}{}", with_plain_documents(behind))
        }
        _ => text.to_owned(),
    }
}

/// Each PEM block as one line.
fn without_pem(text: &str) -> String {
    let (mut short, mut inside) = (String::new(), false);
    for line in text.lines() {
        if let Some(what) = line.strip_prefix("-----BEGIN ") {
            inside = true;
            writeln!(short, "<PEM {}>", what.trim_end_matches('-')).expect("memory");
        }
        if !inside {
            writeln!(short, "{line}").expect("memory");
        }
        inside &= !line.starts_with("-----END ");
    }
    short
}

/// Ids, keys and whatever else is drawn by lot, in whichever form.
const RANDOM: &str = "<random>";

/// A line without what is a run's own.
fn normal(line: &str) -> String {
    let line = without_reference(line.trim_end());
    let mut normal = String::new();
    let mut word = String::new();
    for letter in line.chars() {
        if letter.is_ascii_alphanumeric() || "-_+=/".contains(letter) {
            word.push(letter);
        } else {
            normal += &run(&word);
            word.clear();
            normal.push(letter);
        }
    }
    normal += &run(&word);
    let normal = normal
        .replace("<token part>.<token part>.<random>", "<token>")
        .replace("<token part>", RANDOM);
    let normal = times(&normal);
    match normal.split_once("\"uptime\": ") {
        Some((before, _)) => format!("{before}\"uptime\": <number>"),
        None => normal,
    }
}

/// A run of what base64 consists of: all of it is random, or it is a path of words.
fn run(text: &str) -> String {
    if is_random(text) && !text.starts_with("eyJ") {
        return RANDOM.into();
    }
    let parts = text.split('/').map(|part| {
        // `name=value`; what base64 ends with is no such thing.
        let padding = part.len() - part.trim_end_matches('=').len();
        let (part, padding) = part.split_at(part.len() - padding);
        let known = part.split('=').map(known).collect::<Vec<_>>().join("=");
        // Base64 of either length.
        if known.ends_with('>') {
            known
        } else {
            known + padding
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

/// `R-…` in brackets, which our refusals end with.
fn without_reference(line: &str) -> String {
    let Some((before, rest)) = line.split_once(" (reference R-") else {
        return line.to_owned();
    };
    let behind = rest.split_once(')').map_or("", |(_, behind)| behind);
    format!("{before}{behind}")
}

/// A word, or what it stands for.
fn known(word: &str) -> String {
    let all = |test: fn(char) -> bool| word.chars().all(test);
    let parts: Vec<_> = word.split('-').map(str::len).collect();
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let kind = if parts == [8, 4, 4, 4, 12] && all(hex) {
        RANDOM
    } else if parts == [4, 2, 2] && all(|c| c.is_ascii_digit() || c == '-') {
        "<day>"
    } else if word.len() == 13 && word.as_bytes()[10] == b'T' && parts == [4, 2, 5] {
        // A day and an hour; the rest of the time of day stands behind a colon.
        "<day> 0"
    } else if word.len() >= 9 && all(|c| c.is_ascii_digit()) {
        "<number>"
    } else if word.len() >= 32 && all(|c| c.is_ascii_hexdigit()) {
        RANDOM
    } else if word.starts_with("eyJ") {
        "<token part>"
    } else if is_random(word) {
        RANDOM
    } else {
        return word.to_owned();
    };
    kind.to_owned()
}

/// Whether it looks like base64 or a random name: long, of small and capital letters and digits.
fn is_random(word: &str) -> bool {
    word.len() >= 32
        && word.contains(|c: char| c.is_ascii_lowercase())
        && word.contains(|c: char| c.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_digit())
}

/// `<day> 12:34:56`, with what may follow it, and durations such as `1.5ms`.
fn times(line: &str) -> String {
    let mut line = line.to_owned();
    while let Some(at) = line.find("<day> ") {
        let rest = &line[at + 6..];
        let end = rest
            .find(|c: char| !(c.is_ascii_digit() || ":.".contains(c)))
            .unwrap_or(rest.len());
        let behind = &rest[end..];
        let behind = [" +0000 UTC", "Z"]
            .iter()
            .find_map(|zone| behind.strip_prefix(zone))
            .unwrap_or(behind);
        line = format!("{}<time>{behind}", &line[..at]);
    }
    line.split(' ')
        .map(|word| if is_duration(word) { "<duration>" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// `1.5ms`, `2m6s`: numbers, each with its unit.
fn is_duration(word: &str) -> bool {
    let mut rest = word.trim_end_matches(':');
    let mut parts = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let behind = unit.trim_start_matches(char::is_alphabetic);
        let unit_alone = &unit[..unit.len() - behind.len()];
        if unit.len() == rest.len() || !["h", "m", "s", "ms", "µs", "ns"].contains(&unit_alone) {
            return false;
        }
        rest = behind;
        parts += 1;
    }
    parts > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_runs_own_is_made_equal() {
        for (line, wanted) in [
            (
                "Entry ID         : 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "Entry ID         : <random>",
            ),
            (
                "Serial number     : 123456789012345678901234567890",
                "Serial number     : <number>",
            ),
            (
                "Expiration time   : 2026-11-27 00:12:23 +0000 UTC",
                "Expiration time   : <time>",
            ),
            ("  Uptime:      2m6s", "  Uptime:      <duration>"),
            (
                "Received 1 svid after 1.234567ms",
                "Received 1 svid after <duration>",
            ),
            ("Expires At: 2026-11-27T01:39:16Z", "Expires At: <time>"),
            (
                "\teyJhbGciOiJFUzI1NiJ9.eyJhdWQi.zTOSsGVyy6vGLjjLe-r-Wc3lZpb9yNIlxk-4hq0pdsJ6apnu",
                "\t<token>",
            ),
            (
                "\"x5c\": \"MIICFTCCAbugAwIBAgIRAMYqFrZBr7JEm0jYZ5F+CAY/wCgYI=\"",
                "\"x5c\": \"<random>\"",
            ),
            (
                "Selector         : unix:uid:1000",
                "Selector         : unix:uid:1000",
            ),
            (
                "rpc error: code = NotFound desc = entry not found (reference R-7K3Q9D2M)",
                "rpc error: code = NotFound desc = entry not found",
            ),
            (
                "spiffe://example.org/spire/agent/join_token/6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                "spiffe://example.org/spire/agent/join_token/<random>",
            ),
        ] {
            assert_eq!(normal(line), wanted);
        }
    }

    #[test]
    fn documents_are_compared_member_by_member_and_keys_as_such() {
        let said = |out: &str| Said {
            status: Some(0),
            out: out.into(),
            err: String::new(),
        };
        let wanted = ["{", "  \"created_at\": \"<number>\"", "}"];
        assert_eq!(lines(&said("{\"created_at\":\"1795737600\"}\n"), "/none"), wanted);
        let document = "bundle(x):\n\t{\n  \"b\": [1],\n  \"a\": {}\n}\nend\n";
        let wanted = ["bundle(x):", "\t{\"a\":{},\"b\":[1]}", "end"];
        assert_eq!(lines(&said(document), "/none"), wanted);
        let pem = "-----BEGIN CERTIFICATE-----\nMIIB\nAA==\n-----END CERTIFICATE-----\nend\n";
        assert_eq!(lines(&said(pem), "/none"), ["<PEM CERTIFICATE>", "end"]);
    }
}
