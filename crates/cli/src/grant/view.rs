//! How a grant looks.

use muster_identity::{Grant, Lifetime, UnixTime};
use muster_proto::{convert, grant as wire};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    output::{self, Answer},
};

/// A grant as the server describes it.
pub(super) struct Shown {
    pub(super) grant: Grant,
    /// As it came, after it was believed: for lists, which read the same on both sides.
    wire: wire::Grant,
}

impl Shown {
    pub(super) fn read(wire: &wire::Grant) -> Result<Self, Failure> {
        let grant = convert::grant(wire).map_err(|error| {
            Failure::refused("could not read the server's answer", error)
                .next("is it a server of another kind, or a damaged one?")
        })?;
        let wire = wire::Grant {
            entries: wire.entries,
            version: wire.version,
            created_at: wire.created_at,
            ..convert::grant_to_wire(&grant)
        };
        Ok(Self { grant, wire })
    }

    pub(super) fn answer(&self, now: UnixTime) -> Result<Answer, Failure> {
        Ok(Answer::new(self.block(now), self.json()))
    }

    pub(super) fn json(&self) -> Value {
        let Self { grant, wire } = self;
        json!({
            "name": wire.name,
            "subject": grant.subject.to_string(),
            "verbs": wire.verbs,
            "paths": wire.paths,
            "parents": wire.parents,
            "selector_types": wire.selector_types,
            "dns_domains": wire.dns_domains,
            "max_lifetime": grant.max_lifetime.map(Lifetime::as_secs),
            "max_entries": grant.max_entries,
            "expires_at": grant.expires_at.map(UnixTime::as_secs),
            "entries": wire.entries,
            "version": wire.version,
            "created_at": wire.created_at,
        })
    }

    fn block(&self, now: UnixTime) -> String {
        let Self { grant, wire } = self;
        output::block([
            ("Grant", wire.name.clone()),
            ("Subject", grant.subject.to_string()),
            ("Verbs", wire.verbs.join(", ")),
            ("Paths", wire.paths.join(", ")),
            ("Parents", wire.parents.join(", ")),
            ("Selector types", wire.selector_types.join(", ")),
            ("DNS domains", wire.dns_domains.join(", ")),
            (
                "Longest lifetime",
                grant
                    .max_lifetime
                    .map(|cap| humantime::format_duration(cap.duration()).to_string())
                    .unwrap_or_default(),
            ),
            ("Entries", self.entries()),
            ("Expires", self.expires(now)),
            (
                "Created",
                output::moment(UnixTime::from_secs(wire.created_at), now),
            ),
        ])
    }

    fn entries(&self) -> String {
        match self.grant.max_entries {
            Some(most) => format!("{} of {most}", self.wire.entries),
            None => self.wire.entries.to_string(),
        }
    }

    fn expires(&self, now: UnixTime) -> String {
        self.grant
            .expires_at
            .map(|end| output::moment(end, now))
            .unwrap_or_default()
    }
}

pub(super) fn table(grants: &[Shown], now: UnixTime) -> String {
    if grants.is_empty() {
        return "no grants".to_owned();
    }
    let rows = grants.iter().map(|shown| {
        [
            shown.wire.name.clone(),
            shown.grant.subject.to_string(),
            shown.wire.verbs.join(" "),
            shown.wire.paths.join(" "),
            shown.entries(),
            match shown.grant.is_live(now) {
                true => shown.expires(now),
                false => "ended".to_owned(),
            },
        ]
    });
    output::table(["GRANT", "SUBJECT", "VERBS", "PATHS", "ENTRIES", "EXPIRES"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown::read(&wire::Grant {
            name: "ci".into(),
            subject: Some(wire::grant::Subject::SpiffeId("spiffe://example.org/ci".into())),
            verbs: vec!["entry.create".into(), "entry.read".into()],
            paths: vec!["/ai".into()],
            parents: vec!["/".into()],
            selector_types: vec!["unix".into()],
            max_lifetime: 600,
            max_entries: 5,
            entries: 2,
            created_at: 1_795_465_260,
            ..wire::Grant::default()
        })
        .unwrap()
    }

    #[test]
    fn a_grant_is_shown_as_a_block() {
        let expected = "\
Grant             ci
Subject           spiffe://example.org/ci
Verbs             entry.read, entry.create
Paths             /ai
Parents           /
Selector types    unix
Longest lifetime  10m
Entries           2 of 5
Created           2026-11-23T20:21:00Z (5s ago)";
        assert_eq!(shown().block(UnixTime::from_secs(1_795_465_265)), expected);
    }

    #[test]
    fn grants_are_listed_as_a_table() {
        let expected = "\
GRANT  SUBJECT                  VERBS                    PATHS  ENTRIES  EXPIRES
ci     spiffe://example.org/ci  entry.read entry.create  /ai    2 of 5";
        assert_eq!(table(&[shown()], UnixTime::EPOCH), expected);
        assert_eq!(table(&[], UnixTime::EPOCH), "no grants");
    }
}
