use muster_pki::bundle::Bundle;
use muster_proto::spire::types;

use super::*;

fn own() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn at(store: u8, revision: u64) -> Option<node::Position> {
    Some(node::Position {
        store: vec![store; 16],
        revision,
    })
}

fn said(message: sync_response::Message) -> node::SyncResponse {
    node::SyncResponse {
        message: Some(message),
    }
}

fn welcome(plan: node::Plan) -> node::SyncResponse {
    said(sync_response::Message::Welcome(node::Welcome {
        position: at(1, 7),
        plan: plan.into(),
        server_time: 99,
        max_issue_batch: 500,
        ..Default::default()
    }))
}

fn entry(id: &str) -> node::NodeEntry {
    node::NodeEntry {
        id: id.into(),
        version: 3,
        spiffe_id: format!("spiffe://example.org/{id}"),
        selectors: vec![types::Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        ..Default::default()
    }
}

fn update(store: u8, upserts: Vec<node::NodeEntry>, removals: &[&str], last: bool) -> node::SyncResponse {
    let removals = removals.iter().map(ToString::to_string).collect();
    said(sync_response::Message::Update(node::Update {
        position: at(store, 8),
        upserts,
        removals,
        last,
    }))
}

#[test]
fn an_update_in_parts_comes_out_as_a_whole_and_only_at_its_end() {
    let mut session = Session::default();
    assert!(session.ack(0).is_none());
    let Ok(Event::Welcome(said)) = session.receive(welcome(node::Plan::Compare), &own()) else {
        panic!("no welcome")
    };
    assert_eq!(
        (said.plan, said.server_time, said.most_csrs),
        (node::Plan::Compare, 99, 500)
    );
    let part = session.receive(update(1, vec![entry("a")], &["x"], false), &own());
    assert!(matches!(part, Ok(Event::Nothing)));
    let Ok(Event::Update(whole)) = session.receive(update(1, vec![entry("b")], &[], true), &own()) else {
        panic!("no update")
    };
    assert_eq!(
        (
            whole.upserts.len(),
            whole.removals.len(),
            whole.position.revision.0
        ),
        (2, 1, 8)
    );
    assert!(session.ack(0).is_some());
}

#[test]
fn what_makes_no_sense_ends_the_session() {
    let spoken = || {
        let mut session = Session::default();
        session.receive(welcome(node::Plan::Current), &own()).unwrap();
        session
    };
    Session::default()
        .receive(update(1, vec![], &[], true), &own())
        .unwrap_err();
    Session::default()
        .receive(welcome(node::Plan::Unspecified), &own())
        .unwrap_err();
    spoken()
        .receive(welcome(node::Plan::Current), &own())
        .unwrap_err();
    spoken()
        .receive(update(2, vec![], &[], true), &own())
        .unwrap_err();
    spoken()
        .receive(
            update(
                1,
                vec![node::NodeEntry {
                    selectors: vec![],
                    ..entry("a")
                }],
                &[],
                true,
            ),
            &own(),
        )
        .unwrap_err();
    spoken()
        .receive(update(1, vec![], &["no id"], true), &own())
        .unwrap_err();
    assert!(matches!(
        spoken().receive(node::SyncResponse::default(), &own()),
        Ok(Event::Nothing)
    ));
}

#[test]
fn what_is_held_is_told_in_parts_of_which_the_last_says_so() {
    let bundle = std::sync::Arc::new(Bundle::new(own()));
    let mut cache = Cache::new(bundle, 0, crate::rotate::Jitter::seeded(1));
    let lasts = |cache: &Cache| -> Vec<bool> {
        let last = |request: node::SyncRequest| match request.message {
            Some(sync_request::Message::Have(have)) => have.last,
            other => panic!("{other:?}"),
        };
        Session::have(cache).into_iter().map(last).collect()
    };
    assert_eq!(lasts(&cache), [true]);
    let upserts = (0..4_100)
        .map(|n| convert::NodeEntry::try_from(&entry(&format!("e{n}"))).unwrap())
        .collect();
    let position = convert::position("position", at(1, 1).as_ref()).unwrap();
    cache
        .install(
            Update {
                position,
                upserts,
                removals: vec![],
            },
            muster_identity::UnixTime::EPOCH,
        )
        .unwrap();
    assert_eq!(lasts(&cache), [false, false, true]);
}

fn bundles(names: &[&str], whole: bool) -> node::Bundles {
    let bundle = |name: &&str| types::Bundle {
        trust_domain: (*name).to_owned(),
        ..types::Bundle::default()
    };
    node::Bundles {
        bundles: names.iter().map(bundle).collect(),
        whole,
        ..node::Bundles::default()
    }
}

#[test]
fn the_bundles_that_are_told_at_the_start_are_all_there_are_once_the_server_says_so() {
    let mut session = Session::default();
    session.receive(welcome(node::Plan::Current), &own()).unwrap();
    let mut hear = |message| match session.receive(said(sync_response::Message::Bundles(message)), &own()) {
        Ok(Event::Bundles(news)) => news,
        other => panic!("{other:?}"),
    };
    assert!(hear(bundles(&["example.org"], false)).named.is_none());
    let named = hear(bundles(&["b.example"], true)).named.unwrap();
    let named: Vec<_> = named.iter().map(TrustDomain::as_str).collect();
    assert_eq!(named, ["b.example", "example.org"]);
    assert!(hear(bundles(&["c.example"], false)).named.is_none());
}

#[test]
fn a_narrowing_is_read_whole_or_ends_the_session() {
    let narrowed = |prefixes: &[&str]| node::Bundles {
        scopes: vec![node::Scope {
            trust_domain: "b.example".into(),
            path_prefixes: prefixes.iter().map(ToString::to_string).collect(),
        }],
        ..bundles(&["b.example", "c.example"], false)
    };
    let hear = |message| {
        let mut session = Session::default();
        session.receive(welcome(node::Plan::Current), &own()).unwrap();
        session.receive(said(sync_response::Message::Bundles(message)), &own())
    };
    let Ok(Event::Bundles(news)) = hear(narrowed(&["/pay"])) else {
        panic!("no bundles")
    };
    let prefixes: Vec<usize> = news
        .bundles
        .iter()
        .map(|(_, scope)| scope.prefixes().len())
        .collect();
    assert_eq!(prefixes, [1, 0]);
    for wrong in ["pay", "/pay/", "", "/a/../b"] {
        assert!(hear(narrowed(&[wrong])).is_err(), "{wrong}");
    }
}
