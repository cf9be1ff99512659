use muster_identity::Selector;
use proptest::prelude::*;

use super::*;
use crate::spire::types::{Selector as WireSelector, Spiffeid};

fn wire() -> types::Entry {
    types::Entry {
        spiffe_id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: "/web".into(),
        }),
        parent_id: Some(Spiffeid {
            trust_domain: "example.org".into(),
            path: "/spire/agent/x".into(),
        }),
        selectors: vec![WireSelector {
            r#type: "unix".into(),
            value: "uid:1000".into(),
        }],
        ..types::Entry::default()
    }
}

#[test]
fn each_wrong_field_is_refused_by_its_name() {
    type Spoil = fn(&mut types::Entry);
    let cases: &[(Spoil, &str)] = &[
        (|e| e.id = "a b".into(), "id"),
        (|e| e.spiffe_id = None, "spiffe_id"),
        (
            |e| e.spiffe_id.as_mut().unwrap().path = "/a//b".into(),
            "spiffe_id",
        ),
        (
            |e| e.parent_id.as_mut().unwrap().trust_domain = "Example.org".into(),
            "parent_id",
        ),
        (|e| e.selectors.clear(), "selectors"),
        (|e| e.selectors[0].r#type = "a:b".into(), "selectors[0]"),
        (|e| e.x509_svid_ttl = -1, "x509_svid_ttl"),
        (|e| e.jwt_svid_ttl = i32::MIN, "jwt_svid_ttl"),
        (
            |e| e.federates_with = vec!["spiffe://a/b".into()],
            "federates_with",
        ),
        (|e| e.dns_names = vec!["a".into(), "*.*.b".into()], "dns_names[1]"),
        (|e| e.dns_names = vec!["a".into(); 257], "dns_names"),
        (|e| e.expires_at = -1, "expires_at"),
        (|e| e.hint = "h".repeat(1_025), "hint"),
    ];
    for (spoil, field) in cases {
        let mut entry = wire();
        spoil(&mut entry);
        assert_eq!(new_entry(&entry).unwrap_err().field(), *field);
    }
}

#[test]
fn what_the_mask_leaves_out_is_neither_changed_nor_looked_at() {
    let (_, spec) = new_entry(&wire()).unwrap();
    let update = types::Entry {
        hint: "new".into(),
        x509_svid_ttl: -5,
        ..types::Entry::default()
    };
    let mask = EntryMask {
        hint: true,
        ..EntryMask::default()
    };
    let merged = merge_entry(&spec, &update, Some(&mask)).unwrap();
    assert_eq!(
        merged,
        EntrySpec {
            hint: Some("new".parse().unwrap()),
            ..spec.clone()
        }
    );
    assert!(merge_entry(&spec, &update, None).is_err());
}

#[test]
fn the_output_mask_keeps_the_id() {
    let (_, spec) = new_entry(&wire()).unwrap();
    let entry = Entry {
        id: "one".parse().unwrap(),
        spec,
        revision_number: 3,
        created_at: UnixTime::from_secs(7),
    };
    let bare = entry_to_wire(&entry, Some(&EntryMask::default()));
    assert_eq!(
        bare,
        types::Entry {
            id: "one".into(),
            ..types::Entry::default()
        }
    );
}

#[test]
fn dns_names_keep_their_order_and_lose_repetitions() {
    let mut entry = wire();
    entry.dns_names = ["b", "a", "b"].map(String::from).into();
    let (_, spec) = new_entry(&entry).unwrap();
    assert_eq!(
        spec.dns_names.iter().map(DnsName::as_str).collect::<Vec<_>>(),
        ["b", "a"]
    );
}

prop_compose! {
    fn specs()(
        path in "/[a-z]{1,8}",
        values in prop::collection::vec("[a-z0-9:]{1,8}", 1..5),
        x509 in prop::option::of(1..100_000u32),
        jwt in prop::option::of(1..100_000u32),
        foreign in prop::collection::btree_set("[a-z]{1,6}", 0..4),
        dns in prop::collection::btree_set("[a-z]{1,6}", 0..4),
        flags in any::<[bool; 5]>(),
        expires_at in prop::option::of(1..4_000_000_000i64),
        hint in prop::option::of("[a-z]{1,8}"),
    ) -> EntrySpec {
        EntrySpec {
            spiffe_id: format!("spiffe://example.org{path}").parse().unwrap(),
            parent_id: "spiffe://example.org/spire/agent/x".parse().unwrap(),
            selectors: values.iter().map(|value| Selector::new("t", value).unwrap()).collect(),
            x509_svid_ttl: x509.map(|secs| Lifetime::from_secs(secs).unwrap()),
            jwt_svid_ttl: jwt.map(|secs| Lifetime::from_secs(secs).unwrap()),
            federates_with: foreign.iter().map(|name| name.parse().unwrap()).collect(),
            dns_names: dns.iter().map(|name| name.parse().unwrap()).collect(),
            admin: flags[0],
            downstream: flags[1],
            store_svid: flags[2],
            expires_at: expires_at.map(UnixTime::from_secs),
            hint: hint.map(|text| text.parse().unwrap()),
            attributes: Attributes { disable_x509_svid_prefetch: flags[3], jwt_svid_include_jti: flags[4] },
        }
    }
}

proptest! {
    #[test]
    fn entries_survive_the_wire(spec in specs(), revision_number in 0..1000i64, created in 0..4_000_000_000i64) {
        let held = Entry {
            id: "some-id".parse().unwrap(),
            spec,
            revision_number,
            created_at: UnixTime::from_secs(created),
        };
        prop_assert_eq!(entry(&entry_to_wire(&held, None)), Ok(held));
    }
}
