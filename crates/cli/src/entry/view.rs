//! How an entry looks.

use muster_identity::{DnsName, Entry, EntryId, Lifetime, Selector, TrustDomain, UnixTime};
use muster_proto::{convert, spire::types};
use serde_json::{Value, json};

use crate::{failure::Failure, output};

/// Reads an entry that the server sent.
pub(super) fn read(wire: &types::Entry) -> Result<Entry, Failure> {
    convert::entry(wire).map_err(|error| {
        Failure::refused("could not read the server's answer", error)
            .next("is it a server of another kind, or a damaged one?")
    })
}

pub(super) fn json(entry: &Entry) -> Value {
    let spec = &entry.spec;
    json!({
        "id": entry.id.as_str(),
        "spiffe_id": spec.spiffe_id.to_string(),
        "parent_id": spec.parent_id.to_string(),
        "selectors": texts(spec.selectors.iter().map(Selector::to_string)),
        "x509_svid_ttl": spec.x509_svid_ttl.map(Lifetime::as_secs),
        "jwt_svid_ttl": spec.jwt_svid_ttl.map(Lifetime::as_secs),
        "federates_with": texts(spec.federates_with.iter().map(TrustDomain::to_string)),
        "dns_names": texts(spec.dns_names.iter().map(DnsName::to_string)),
        "hint": spec.hint.as_ref().map(ToString::to_string),
        "expires_at": spec.expires_at.map(UnixTime::as_secs),
        "admin": spec.admin,
        "downstream": spec.downstream,
        "store_svid": spec.store_svid,
        "disable_x509_svid_prefetch": spec.attributes.disable_x509_svid_prefetch,
        "jwt_svid_include_jti": spec.attributes.jwt_svid_include_jti,
        "revision_number": entry.revision_number,
        "created_at": entry.created_at.as_secs(),
    })
}

pub(super) fn block(entry: &Entry, now: UnixTime) -> String {
    let spec = &entry.spec;
    let ttl = |ttl: Option<Lifetime>| {
        ttl.map_or("the server's default".to_owned(), |ttl| {
            humantime::format_duration(ttl.duration()).to_string()
        })
    };
    output::block([
        ("Entry", entry.id.to_string()),
        ("SPIFFE ID", spec.spiffe_id.to_string()),
        ("Parent", spec.parent_id.to_string()),
        ("Selectors", joined(spec.selectors.iter())),
        ("X.509 lifetime", ttl(spec.x509_svid_ttl)),
        ("JWT lifetime", ttl(spec.jwt_svid_ttl)),
        ("Federates with", joined(spec.federates_with.iter())),
        ("DNS names", joined(spec.dns_names.iter())),
        (
            "Hint",
            spec.hint.as_ref().map(ToString::to_string).unwrap_or_default(),
        ),
        ("Flags", flags(entry)),
        (
            "Expires",
            spec.expires_at
                .map(|at| output::moment(at, now))
                .unwrap_or_default(),
        ),
        ("Created", output::moment(entry.created_at, now)),
        ("Revision", entry.revision_number.to_string()),
    ])
}

pub(super) fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no entries".to_owned();
    }
    let rows = entries.iter().map(|entry| {
        [
            entry.id.to_string(),
            entry.spec.spiffe_id.to_string(),
            entry.spec.parent_id.to_string(),
            joined(entry.spec.selectors.iter()),
            entry
                .spec
                .hint
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            flags(entry),
        ]
    });
    output::table(
        ["ENTRY", "SPIFFE ID", "PARENT", "SELECTORS", "HINT", "FLAGS"],
        rows,
    )
}

pub(super) fn deleted(ids: &[EntryId]) -> String {
    ids.iter()
        .map(|id| format!("deleted entry {id}"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn flags(entry: &Entry) -> String {
    let spec = &entry.spec;
    [
        (spec.admin, "admin"),
        (spec.downstream, "downstream"),
        (spec.store_svid, "store"),
        (spec.attributes.disable_x509_svid_prefetch, "no-prefetch"),
        (spec.attributes.jwt_svid_include_jti, "jti"),
    ]
    .iter()
    .filter_map(|(set, name)| set.then_some(*name))
    .collect::<Vec<_>>()
    .join(" ")
}

fn joined<T: ToString>(items: impl Iterator<Item = T>) -> String {
    texts(items.map(|item| item.to_string())).join(", ")
}

fn texts(items: impl Iterator<Item = String>) -> Vec<String> {
    items.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let id = |path: &str| types::Spiffeid {
            trust_domain: "example.org".into(),
            path: path.into(),
        };
        read(&types::Entry {
            id: "web".into(),
            spiffe_id: Some(id("/web")),
            parent_id: Some(id("/dev-node")),
            selectors: vec![types::Selector {
                r#type: "unix".into(),
                value: "uid:1000".into(),
            }],
            x509_svid_ttl: 1_800,
            admin: true,
            created_at: 1_795_465_260,
            ..types::Entry::default()
        })
        .unwrap()
    }

    #[test]
    fn an_entry_is_shown_as_a_block() {
        let now = UnixTime::from_secs(1_795_465_265);
        let expected = "\
Entry           web
SPIFFE ID       spiffe://example.org/web
Parent          spiffe://example.org/dev-node
Selectors       unix:uid:1000
X.509 lifetime  30m
JWT lifetime    the server's default
Flags           admin
Created         2026-11-23T20:21:00Z (5s ago)
Revision        0";
        assert_eq!(block(&entry(), now), expected);
    }

    #[test]
    fn entries_are_listed_as_a_table() {
        let expected = "\
ENTRY  SPIFFE ID                 PARENT                         SELECTORS      HINT  FLAGS
web    spiffe://example.org/web  spiffe://example.org/dev-node  unix:uid:1000        admin";
        assert_eq!(table(&[entry()]), expected);
        assert_eq!(table(&[]), "no entries");
    }
}
