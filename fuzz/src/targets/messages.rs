use muster_proto::{
    convert,
    node::{IssueRequest, SyncRequest, SyncResponse},
    spire::{
        server::{entry::BatchCreateEntryRequest, svid::BatchNewX509svidRequest},
        types,
    },
};
use prost::Message as _;

use crate::Target;

/// Messages of administrators and of SPIRE's tools; what is believed of them can be printed and believed again.
pub(super) const ADMINISTRATORS: Target = Target {
    name: "administrators-messages",
    run: |input| {
        if let Ok(request) = BatchCreateEntryRequest::decode(input) {
            for wire in &request.entries {
                let _ = convert::new_entry(wire);
                if let Ok(entry) = convert::entry(wire) {
                    let again =
                        convert::entry(&convert::entry_to_wire(&entry, None)).expect("what we write we read");
                    assert_eq!(again, entry);
                }
            }
        }
        if let Ok(wire) = muster_proto::grant::Grant::decode(input)
            && let Ok(grant) = convert::grant(&wire)
        {
            let again = convert::grant(&convert::grant_to_wire(&grant)).expect("what we write we read");
            assert_eq!(again, grant);
        }
        if let Ok(wire) = types::Bundle::decode(input) {
            let _ = convert::bundle(&wire);
        }
        if let Ok(wire) = types::X509svid::decode(input) {
            let _ = convert::x509_svid("svid", Some(&wire));
        }
        let _ = BatchNewX509svidRequest::decode(input);
    },
    seeds: || {
        let id = |path: &str| types::Spiffeid {
            trust_domain: "example.org".into(),
            path: path.into(),
        };
        let entry = types::Entry {
            id: "0f3c".into(),
            spiffe_id: Some(id("/web")),
            parent_id: Some(id("/spire/agent/a")),
            selectors: vec![types::Selector {
                r#type: "unix".into(),
                value: "uid:1".into(),
            }],
            dns_names: vec!["web.example.org".into()],
            federates_with: vec!["other.example".into()],
            hint: "internal".into(),
            x509_svid_ttl: 60,
            expires_at: 4_000_000_000,
            revision_number: 3,
            created_at: 1,
            ..Default::default()
        };
        let bundle = types::Bundle {
            trust_domain: "example.org".into(),
            sequence_number: 7,
            ..Default::default()
        };
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        vec![request.encode_to_vec(), bundle.encode_to_vec()]
    },
    words: &[
        "\u{a}\u{b}example.org",
        "spiffe://",
        "unix",
        "/spire/",
        "\u{8}\u{1}",
    ],
};

/// Messages between nodes and servers.
pub(super) const NODES: Target = Target {
    name: "nodes-messages",
    run: |input| {
        let _ = SyncRequest::decode(input);
        let _ = IssueRequest::decode(input);
        let _ = SyncResponse::decode(input);
        if let Ok(wire) = muster_proto::node::NodeEntry::decode(input) {
            let _ = convert::NodeEntry::try_from(&wire);
        }
        if let Ok(wire) = muster_proto::node::Position::decode(input)
            && let Ok(position) = convert::position("position", Some(&wire))
        {
            let again = convert::position("position", Some(&convert::position_to_wire(&position)));
            assert_eq!(again.expect("what we write we read"), position);
        }
        if let Ok(wire) = muster_proto::node::EntryVersion::decode(input) {
            let _ = convert::entry_version(&wire);
        }
    },
    seeds: || {
        let position = muster_proto::node::Position {
            store: vec![7; 16],
            revision: 9,
        };
        vec![position.encode_to_vec()]
    },
    words: &["\u{a}\u{10}", "\u{12}"],
};
