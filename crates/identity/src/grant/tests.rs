use super::*;
use crate::Attributes;

fn grant() -> Grant {
    Grant {
        name: "ci".parse().unwrap(),
        subject: Subject::Uid(1000),
        verbs: VerbSet::registrar(),
        paths: ["/ai".parse().unwrap()].into(),
        parents: ["/spire/agent/n1".parse().unwrap(), "/ai".parse().unwrap()].into(),
        selector_types: SelectorTypes::Of(["unix".into()].into()),
        dns_domains: ["ai.example.org".parse().unwrap()].into(),
        max_lifetime: None,
        max_entries: None,
        expires_at: None,
    }
}

fn id(path: &str) -> SpiffeId {
    format!("spiffe://example.org{path}").parse().unwrap()
}

fn spec(path: &str, parent: &str, selectors: &[&str]) -> EntrySpec {
    EntrySpec {
        spiffe_id: id(path),
        parent_id: id(parent),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: [].into(),
        dns_names: [].into(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        hint: None,
        attributes: Attributes::default(),
    }
}

fn inside() -> EntrySpec {
    spec("/ai/a", "/spire/agent/n1", &["unix:uid:1"])
}

#[test]
fn what_lies_inside_may_be_made_changed_and_deleted() {
    let (grant, entry) = (grant(), inside());
    let other = spec("/ai/b", "/ai/a", &["unix:uid:2"]);
    for (before, after) in [
        (None, Some(&entry)),
        (Some(&entry), Some(&other)),
        (Some(&other), None),
    ] {
        assert_eq!(grant.allows(before, after), Ok(()));
    }
}

#[test]
fn an_entry_is_neither_pulled_in_nor_pushed_out() {
    let (grant, entry) = (grant(), inside());
    for (outside, why) in [
        (
            spec("/aii", "/spire/agent/n1", &["unix:uid:1"]),
            Outside::Path(id("/aii")),
        ),
        (
            spec("/ai/a", "/spire/agent/n10", &["unix:uid:1"]),
            Outside::Parent(id("/spire/agent/n10")),
        ),
        (
            spec("/ai/a", "/spire/agent/n1", &["unix:uid:1", "k8s:ns:x"]),
            Outside::SelectorType("k8s".into()),
        ),
    ] {
        assert!(!grant.holds(&outside));
        for (before, after) in [
            (None, Some(&outside)),
            (Some(&entry), Some(&outside)),
            (Some(&outside), Some(&entry)),
            (Some(&outside), None),
        ] {
            assert_eq!(grant.allows(before, after), Err(why.clone()));
        }
    }
}

#[test]
fn what_gives_more_than_a_name_needs_a_verb_of_its_own_before_and_after() {
    type Give = fn(&mut EntrySpec);
    let gives: [(Give, Verb); 5] = [
        (|spec| spec.admin = true, Verb::EntryAdmin),
        (|spec| spec.downstream = true, Verb::EntryDownstream),
        (|spec| spec.store_svid = true, Verb::EntryStore),
        (
            |spec| spec.federates_with = ["other.org".parse().unwrap()].into(),
            Verb::EntryFederate,
        ),
        (|spec| spec.parent_id = id("/spire/server"), Verb::EntryAlias),
    ];
    for (give, verb) in gives {
        let mut grant = grant();
        grant.parents = ["/spire".parse().unwrap()].into();
        let (plain, mut giving) = (inside(), inside());
        give(&mut giving);
        for (before, after) in [
            (None, Some(&giving)),
            (Some(&plain), Some(&giving)),
            (Some(&giving), Some(&plain)),
            (Some(&giving), None),
        ] {
            assert_eq!(grant.allows(before, after), Err(Outside::Verb(verb)));
            let more = Grant {
                verbs: grant.verbs.iter().chain([verb]).collect(),
                ..grant.clone()
            };
            assert_eq!(more.allows(before, after), Ok(()));
        }
    }
}

#[test]
fn dns_names_lie_in_domains_by_whole_labels() {
    let grant = grant();
    for (name, covered) in [
        ("ai.example.org", true),
        ("a.ai.example.org", true),
        ("*.ai.example.org", true),
        ("xai.example.org", false),
        ("*.example.org", false),
        ("example.org", false),
    ] {
        assert_eq!(
            grant.covers_dns_name(&name.parse().unwrap()).is_ok(),
            covered,
            "{name}"
        );
    }
}

#[test]
fn under_a_cap_every_lifetime_is_written_down() {
    let cap = Lifetime::from_secs(60).unwrap();
    let grant = Grant {
        max_lifetime: Some(cap),
        ..grant()
    };
    let short = EntrySpec {
        x509_svid_ttl: Some(cap),
        jwt_svid_ttl: Some(grant.capped(Lifetime::from_secs(3600).unwrap())),
        ..inside()
    };
    assert_eq!(grant.allows(None, Some(&short)), Ok(()));
    // The server's default may be longer, or become it.
    assert_eq!(
        grant.allows(None, Some(&inside())),
        Err(Outside::Lifetime { cap })
    );
    // What somebody else made longer may be deleted, or cut.
    assert_eq!(grant.allows(Some(&inside()), None), Ok(()));
    assert_eq!(grant.allows(Some(&inside()), Some(&short)), Ok(()));
}

#[test]
fn each_verb_is_asked_for() {
    let none = Grant {
        verbs: VerbSet::viewer(),
        ..grant()
    };
    let entry = inside();
    for (before, after, verb) in [
        (None, Some(&entry), Verb::EntryCreate),
        (Some(&entry), Some(&entry), Verb::EntryUpdate),
        (Some(&entry), None, Verb::EntryDelete),
    ] {
        assert_eq!(none.allows(before, after), Err(Outside::Verb(verb)));
    }
}

#[test]
fn a_grant_that_gives_nothing_is_refused_by_its_field() {
    let td = "example.org".parse().unwrap();
    assert_eq!(grant().check(&td), Ok(()));
    for (wrong, field) in [
        (
            Grant {
                subject: Subject::Id(id("/spire/agent/n1")),
                ..grant()
            },
            "subject:",
        ),
        (
            Grant {
                subject: Subject::Id("spiffe://example.org".parse().unwrap()),
                ..grant()
            },
            "subject:",
        ),
        (
            Grant {
                verbs: VerbSet::default(),
                ..grant()
            },
            "verbs:",
        ),
        (
            Grant {
                paths: [].into(),
                ..grant()
            },
            "paths:",
        ),
        (
            Grant {
                parents: [].into(),
                ..grant()
            },
            "parents:",
        ),
        (
            Grant {
                selector_types: SelectorTypes::Of([].into()),
                ..grant()
            },
            "selector_types:",
        ),
        (
            Grant {
                dns_domains: ["*.example.org".parse().unwrap()].into(),
                ..grant()
            },
            "dns_domains:",
        ),
    ] {
        assert!(wrong.check(&td).unwrap_err().to_string().starts_with(field));
    }
}

#[test]
fn a_grant_ends_with_its_last_second() {
    let grant = Grant {
        expires_at: Some(UnixTime::from_secs(10)),
        ..grant()
    };
    assert!(grant.is_live(UnixTime::from_secs(9)) && !grant.is_live(UnixTime::from_secs(10)));
}
