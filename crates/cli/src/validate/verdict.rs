//! What a validation ends with.

use serde_json::{Map, Value, json};

use crate::{
    failure::clean,
    output::{Answer, block},
};

/// It is valid, and this is what it says. Also notes on what was left out of account.
pub(super) fn valid(what: &str, fields: Vec<(&'static str, Value)>, notes: &[String]) -> Answer {
    let shown = fields.iter().map(|(name, value)| {
        let text = match value {
            Value::String(text) => clean(text),
            Value::Null => String::new(),
            Value::Array(items) => {
                let items: Vec<String> = items
                    .iter()
                    .map(|item| item.as_str().map_or(item.to_string(), clean))
                    .collect();
                items.join(", ")
            }
            other => other.to_string(),
        };
        (*name, text)
    });
    let mut text = format!("valid {what}\n{}", block(shown));
    for note in notes {
        text.push_str(&format!("\nnote: {note}"));
    }
    let mut json = Map::from_iter([
        ("valid".to_owned(), Value::Bool(true)),
        ("notes".to_owned(), json!(notes)),
    ]);
    json.extend(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_lowercase().replace(' ', "_"), value)),
    );
    Answer::new(text.trim_end(), json.into())
}

/// It is invalid, and this is why. `section` is what says so, where the reason does not name it itself.
pub(super) fn invalid(what: &str, why: &str, section: Option<&str>) -> Answer {
    let why = clean(why);
    let (text, section) = match section {
        Some(section) => (
            format!("invalid {what}: {why} ({section})"),
            Some(section.to_owned()),
        ),
        None => (format!("invalid {what}: {why}"), section_in(&why)),
    };
    Answer::new(text, json!({ "valid": false, "why": why, "section": section })).incomplete(true)
}

/// The section that a reason names in brackets at its end or before its cause.
fn section_in(why: &str) -> Option<String> {
    const STANDARDS: [&str; 9] = [
        "SPIFFE-ID",
        "X509-SVID",
        "JWT-SVID",
        "WIT-SVID",
        "TB",
        "Workload",
        "Federation",
        "RFC",
        "ID",
    ];
    why.split('(')
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(inside, _)| inside))
        .find(|inside| STANDARDS.iter().any(|name| inside.starts_with(name)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_is_found_in_the_reason() {
        assert_eq!(
            section_in("no path (see x) (SPIFFE-ID 2.2): really").as_deref(),
            Some("SPIFFE-ID 2.2")
        );
        assert_eq!(section_in("no reason"), None);
    }

    #[test]
    fn what_a_stranger_wrote_is_escaped() {
        assert_eq!(
            invalid("SPIFFE ID", "a\x1b[2J", Some("SPIFFE-ID 2")).text(),
            "invalid SPIFFE ID: a\\u{1b}[2J (SPIFFE-ID 2)"
        );
    }
}
