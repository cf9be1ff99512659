use std::sync::Arc;

use muster_identity::{DnsName, Grant, IdPath, SelectorTypes, SpiffeId, Subject, Verb, VerbSet};

use super::{
    FieldError,
    entry::{lifetime, moment},
    field::at_most,
};
use crate::grant::{self as wire, grant::Subject as WireSubject};

/// What stands for every type of selectors.
const ANY: &str = "*";
/// What stands for every path: the empty path can't be written down in a list.
const ROOT: &str = "/";

/// Reads a grant. What the server alone says of one is not looked at.
///
/// # Errors
/// Names the first field that is wrong.
pub fn grant(wire: &wire::Grant) -> Result<Grant, FieldError> {
    let subject = match &wire.subject {
        Some(WireSubject::SpiffeId(id)) => Subject::Id(parsed("spiffe_id", id)?),
        Some(WireSubject::Uid(uid)) => Subject::Uid(*uid),
        None => return Err(FieldError::missing("subject")),
    };
    Ok(Grant {
        name: parsed("name", &wire.name)?,
        subject,
        verbs: verbs(&wire.verbs)?,
        paths: list("paths", &wire.paths, path)?,
        parents: list("parents", &wire.parents, path)?,
        selector_types: selector_types(&wire.selector_types)?,
        dns_domains: list("dns_domains", &wire.dns_domains, |name| {
            name.parse::<DnsName>().map_err(|error| error.to_string())
        })?,
        max_lifetime: lifetime("max_lifetime", wire.max_lifetime)?,
        max_entries: (wire.max_entries > 0).then_some(wire.max_entries),
        expires_at: moment("expires_at", wire.expires_at)?,
    })
}

/// Writes a grant. What the server alone says of one is left to be filled in.
pub fn grant_to_wire(grant: &Grant) -> wire::Grant {
    wire::Grant {
        name: grant.name.to_string(),
        subject: Some(match &grant.subject {
            Subject::Id(id) => WireSubject::SpiffeId(id.to_string()),
            Subject::Uid(uid) => WireSubject::Uid(*uid),
        }),
        verbs: grant.verbs.iter().map(|verb| verb.name().to_owned()).collect(),
        paths: grant.paths.iter().map(path_to_wire).collect(),
        parents: grant.parents.iter().map(path_to_wire).collect(),
        selector_types: match &grant.selector_types {
            SelectorTypes::Any => vec![ANY.to_owned()],
            SelectorTypes::Of(kinds) => kinds.iter().map(|kind| kind.to_string()).collect(),
        },
        dns_domains: grant.dns_domains.iter().map(DnsName::to_string).collect(),
        max_lifetime: grant.max_lifetime.map_or(0, |lifetime| {
            i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX)
        }),
        max_entries: grant.max_entries.unwrap_or(0),
        expires_at: grant.expires_at.map_or(0, |end| end.as_secs()),
        ..wire::Grant::default()
    }
}

/// Reads a subject as people write it: a SPIFFE ID, or `uid:1000`.
///
/// # Errors
/// When it is neither.
pub fn subject(field: &'static str, text: &str) -> Result<Subject, FieldError> {
    match text.strip_prefix("uid:") {
        Some(uid) => parsed(field, uid).map(Subject::Uid),
        None => parsed::<SpiffeId>(field, text).map(Subject::Id),
    }
}

fn verbs(names: &[String]) -> Result<VerbSet, FieldError> {
    at_most("verbs", names, Grant::MOST)?;
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            name.parse::<Verb>()
                .map_err(|error| FieldError::at("verbs", index, error))
        })
        .collect()
}

fn selector_types(kinds: &[String]) -> Result<SelectorTypes, FieldError> {
    const FIELD: &str = "selector_types";
    if kinds == [ANY] {
        return Ok(SelectorTypes::Any);
    }
    let kinds = list(FIELD, kinds, |kind| match kind {
        "" => Err("is empty".to_owned()),
        _ if kind.len() > 255 => Err("has more than 255 bytes".to_owned()),
        _ if kind.contains(':') || kind.contains(ANY) || kind.chars().any(char::is_control) => {
            Err("is no type of selectors; \"*\" stands alone, for all".to_owned())
        }
        _ => Ok(Arc::<str>::from(kind)),
    })?;
    Ok(SelectorTypes::Of(kinds))
}

fn path(text: &str) -> Result<IdPath, String> {
    match text {
        ROOT => Ok(IdPath::root()),
        // It would be everything, and look like nothing.
        "" => Err("is empty; all is \"/\"".to_owned()),
        _ => text
            .parse()
            .map_err(|error: muster_identity::ParsePathError| error.to_string()),
    }
}

fn path_to_wire(path: &IdPath) -> String {
    match path.is_root() {
        true => ROOT.to_owned(),
        false => path.to_string(),
    }
}

/// Sorted, and each once.
fn list<T: Ord>(
    field: &'static str,
    texts: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Arc<[T]>, FieldError> {
    at_most(field, texts, Grant::MOST)?;
    let read = texts
        .iter()
        .enumerate()
        .map(|(index, text)| read(text).map_err(|why| FieldError::at(field, index, why)));
    let mut all = read.collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    all.dedup();
    Ok(all.into())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<T, FieldError> {
    text.parse().map_err(|error| FieldError::new(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> wire::Grant {
        wire::Grant {
            name: "ci".into(),
            subject: Some(WireSubject::Uid(1000)),
            verbs: vec!["entry.read".into(), "entry.create".into()],
            paths: vec!["/ai".into(), "/".into()],
            parents: vec!["/spire/agent".into()],
            selector_types: vec!["unix".into()],
            dns_domains: vec!["ai.example.org".into()],
            max_lifetime: 60,
            max_entries: 3,
            expires_at: 7,
            ..wire::Grant::default()
        }
    }

    #[test]
    fn a_grant_survives_the_wire() {
        let read = grant(&wire()).unwrap();
        assert_eq!(grant(&grant_to_wire(&read)), Ok(read.clone()));
        let any = wire::Grant {
            selector_types: vec![ANY.into()],
            ..wire()
        };
        let any = grant(&any).unwrap();
        assert_eq!(any.selector_types, SelectorTypes::Any);
        assert_eq!(grant(&grant_to_wire(&any)), Ok(any));
    }

    #[test]
    fn nothing_reads_as_everything() {
        type Change = fn(&mut wire::Grant);
        let wrongs: [(&str, Change); 8] = [
            ("paths[0]", |grant| grant.paths = vec![String::new()]),
            ("parents[0]", |grant| grant.parents = vec!["ai".into()]),
            ("selector_types[1]", |grant| {
                grant.selector_types = vec!["unix".into(), "*".into()];
            }),
            ("selector_types[0]", |grant| {
                grant.selector_types = vec!["*x".into()];
            }),
            ("verbs[0]", |grant| grant.verbs = vec!["*".into()]),
            ("subject", |grant| grant.subject = None),
            ("expires_at", |grant| grant.expires_at = -1),
            ("max_lifetime", |grant| grant.max_lifetime = -1),
        ];
        for (field, change) in wrongs {
            let mut wrong = wire();
            change(&mut wrong);
            assert_eq!(grant(&wrong).unwrap_err().field(), field);
        }
    }

    #[test]
    fn subjects_are_ids_or_uids() {
        assert_eq!(subject("subject", "uid:7"), Ok(Subject::Uid(7)));
        assert!(matches!(subject("subject", "spiffe://a/b"), Ok(Subject::Id(_))));
        for wrong in ["", "7", "uid:", "uid:-1", "uid:4294967296", "a/b"] {
            assert!(subject("subject", wrong).is_err(), "{wrong}");
        }
    }
}
