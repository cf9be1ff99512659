//! How a node looks.

use muster_identity::{Selector, SelectorSet, SpiffeId, UnixTime};
use muster_proto::{
    convert::{selector_set, spiffe_id},
    spire::types,
};
use serde_json::{Value, json};

use crate::{
    failure::{Failure, clean},
    output,
};

/// A node as the server describes it.
pub(super) struct Node {
    pub(super) id: SpiffeId,
    kind: String,
    serial: String,
    pub(super) expires_at: UnixTime,
    selectors: SelectorSet,
    pub(super) banned: bool,
    pub(super) can_reattest: bool,
    version: String,
}

impl Node {
    pub(super) fn read(wire: &types::Agent) -> Result<Self, Failure> {
        let wrong = |error| Failure::refused("could not read the server's answer", error);
        Ok(Self {
            id: spiffe_id("id", wire.id.as_ref()).map_err(wrong)?,
            kind: clean(&wire.attestation_type),
            serial: clean(&wire.x509svid_serial_number),
            expires_at: UnixTime::from_secs(wire.x509svid_expires_at),
            selectors: selector_set("selectors", &wire.selectors).map_err(wrong)?,
            banned: wire.banned,
            can_reattest: wire.can_reattest,
            version: clean(&wire.agent_version),
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "id": self.id.to_string(),
            "attestation_type": self.kind,
            "x509_svid_serial_number": self.serial,
            "x509_svid_expires_at": self.expires_at.as_secs(),
            "selectors": self.selectors.iter().map(Selector::to_string).collect::<Vec<_>>(),
            "banned": self.banned,
            "can_reattest": self.can_reattest,
            "agent_version": self.version,
        })
    }

    pub(super) fn block(&self, now: UnixTime) -> String {
        let selectors: Vec<_> = self.selectors.iter().map(Selector::to_string).collect();
        output::block([
            ("Node", self.id.to_string()),
            ("Attested by", self.kind.clone()),
            ("State", self.state(now).to_owned()),
            ("Certificate ends", output::moment(self.expires_at, now)),
            ("Serial number", self.serial.clone()),
            (
                "Can attest again",
                if self.can_reattest { "yes" } else { "no" }.to_owned(),
            ),
            ("Agent version", self.version.clone()),
            ("Selectors", selectors.join(", ")),
        ])
    }

    fn state(&self, now: UnixTime) -> &'static str {
        match (self.banned, self.expires_at <= now) {
            (true, _) => "banned",
            (false, true) => "expired",
            (false, false) => "attested",
        }
    }
}

pub(super) fn table(nodes: &[Node], now: UnixTime) -> String {
    if nodes.is_empty() {
        return "no nodes".to_owned();
    }
    let rows = nodes.iter().map(|node| {
        [
            node.id.to_string(),
            node.kind.clone(),
            node.state(now).to_owned(),
            output::moment(node.expires_at, now),
            node.version.clone(),
        ]
    });
    output::table(
        ["NODE", "ATTESTED BY", "STATE", "CERTIFICATE ENDS", "VERSION"],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_listed_with_what_matters_about_them() {
        let wire = types::Agent {
            id: Some(types::Spiffeid {
                trust_domain: "example.org".into(),
                path: "/spire/agent/x".into(),
            }),
            attestation_type: "join_token".into(),
            x509svid_expires_at: 1_795_465_260,
            agent_version: "0.1.0\x1b[2J".into(),
            ..types::Agent::default()
        };
        let node = Node::read(&wire).unwrap();
        let expected = "\
NODE                              ATTESTED BY  STATE     CERTIFICATE ENDS               VERSION
spiffe://example.org/spire/agent/x  join_token   attested  2026-11-23T20:21:00Z (in 1m)  0.1.0\\u{1b}[2J";
        let text = table(&[node], UnixTime::from_secs(1_795_465_200));
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed(&text), squeezed(expected));
    }
}
