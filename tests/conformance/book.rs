use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::Value;

/// Parts 1 to 5: inputs with the verdict that the standard demands.
pub(crate) const VECTORS: &str = include_str!("spiffe_vectors.json");
/// Parts that are behaviour, tried against running daemons.
const BEHAVIOUR: &str = include_str!("behaviour.json");

/// How much a standard says about a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Level {
    /// The standard decides.
    Must,
    /// What it asks of whoever makes something is also asked when it is checked.
    Strict,
    /// It is left open, and decided here.
    Policy,
}

/// One thing that conforms or does not.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) level: Level,
    pub(crate) what: String,
    pub(crate) expect: String,
    pub(crate) section: String,
    /// Why it can't be tried: what it is about is not offered.
    pub(crate) not_offered: Option<String>,
}

/// Cases of one subject.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) number: String,
    pub(crate) title: String,
    pub(crate) cases: Vec<Case>,
}

/// What came of a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    Conforms,
    Fails(String),
}

/// The verdicts so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    verdicts: BTreeMap<String, Verdict>,
}

impl Book {
    /// Tries a case: `judge` panics when it fails. Once failed it stays so, whatever else is tried of it.
    pub(crate) fn case(&mut self, id: &str, judge: impl FnOnce()) {
        let verdict = match catch_unwind(AssertUnwindSafe(judge)) {
            Ok(()) => Verdict::Conforms,
            Err(panic) => Verdict::Fails(text_of(&*panic)),
        };
        self.enter(id, verdict);
    }

    /// Adds what another book has.
    pub(crate) fn add(&mut self, other: Self) {
        for (id, verdict) in other.verdicts {
            self.enter(&id, verdict);
        }
    }

    /// Of a case; what nobody tried has failed.
    pub(crate) fn verdict(&self, id: &str) -> Verdict {
        let untried = || Verdict::Fails("nothing tries it".to_owned());
        self.verdicts.get(id).cloned().unwrap_or_else(untried)
    }

    /// The ids that were tried.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.verdicts.keys().map(String::as_str)
    }

    fn enter(&mut self, id: &str, verdict: Verdict) {
        let held = self.verdicts.entry(id.to_owned()).or_insert(Verdict::Conforms);
        if *held == Verdict::Conforms {
            *held = verdict;
        }
    }
}

/// Every part, in the order of the page.
pub(crate) fn parts() -> Vec<Part> {
    let vectors: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    let behaviour: Value = serde_json::from_str(BEHAVIOUR).expect("the cases are JSON");
    let decided = |number: &str, title: &str, cases: &Value| Part {
        number: number.to_owned(),
        title: title.to_owned(),
        cases: list(cases).iter().map(|case| vector(title, case)).collect(),
    };
    let mut parts = vec![
        decided("1", "SPIFFE IDs", &vectors["spiffe_ids"]),
        decided("2", "X.509-SVIDs", &vectors["x509_svids"]),
        decided("3", "JWT-SVIDs", &vectors["jwt_svids"]["cases"]),
        decided("4", "WIT-SVIDs", &vectors["wit_svids"]["cases"]),
        decided("5", "Bundles", &vectors["bundles"]),
        decided("5b", "Maps of bundles", &vectors["bundle_maps"]),
    ];
    parts.extend(list(&behaviour).iter().map(|part| Part {
        number: text(part, "part").to_owned(),
        title: text(part, "title").to_owned(),
        cases: list(&part["cases"]).iter().map(behaviour_case).collect(),
    }));
    parts
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

pub(crate) fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} of {case}"))
}

fn vector(title: &str, case: &Value) -> Case {
    let why = text(case, "why");
    let what = case["input"]
        .as_str()
        .map(|input| format!("{} ({why})", shown(input)));
    Case {
        id: text(case, "id").to_owned(),
        level: level(case["level"].as_str().unwrap_or("must")),
        what: what.unwrap_or_else(|| why.to_owned()),
        expect: text(case, "expect").to_owned(),
        section: text(case, "ref").to_owned(),
        not_offered: (title == "WIT-SVIDs")
            .then(|| "WIT-SVIDs are neither issued nor checked yet".to_owned()),
    }
}

fn behaviour_case(case: &Value) -> Case {
    Case {
        id: text(case, "id").to_owned(),
        level: level(text(case, "level")),
        what: text(case, "what").to_owned(),
        expect: text(case, "expect").to_owned(),
        section: text(case, "ref").to_owned(),
        not_offered: case["not_offered"].as_str().map(str::to_owned),
    }
}

fn level(name: &str) -> Level {
    match name {
        "must" => Level::Must,
        "strict" => Level::Strict,
        "policy" => Level::Policy,
        other => panic!("no level is named {other}"),
    }
}

/// An input as a page can show it: control characters escaped, the very long ones cut.
fn shown(input: &str) -> String {
    let length = input.len();
    let text: String = input.chars().take(48).flat_map(char::escape_default).collect();
    let cut = if length > 48 {
        format!("… {length} bytes")
    } else {
        String::new()
    };
    format!("`{text}{cut}`")
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
        .to_owned()
}
