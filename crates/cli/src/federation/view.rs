//! How a peer is shown. Every text of it came from a server, which may repeat what the peer said.

use muster_identity::UnixTime;
use muster_proto::{federation::Peer, spire::types::federation_relationship::BundleEndpointProfile};
use muster_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::{
    failure::clean,
    output::{self, Answer},
};

pub(super) fn list(peers: &[Peer]) -> Answer {
    let now = SystemClock.now();
    let rows = peers.iter().map(|peer| {
        [
            clean(&peer.trust_domain),
            source(peer),
            bundle(peer),
            moment(peer.confirmed_at, now),
            state(peer),
        ]
    });
    let text = output::table(["TRUST DOMAIN", "FROM", "BUNDLE", "CONFIRMED", "STATE"], rows);
    Answer::new(text, peers.iter().map(json).collect::<Value>())
}

pub(super) fn peer(peer: &Peer) -> Answer {
    let now = SystemClock.now();
    let head = [
        ("Trust domain", clean(&peer.trust_domain)),
        ("State", state(peer)),
        ("Relationship", relationship(peer)),
        ("Bundle from", source(peer)),
        ("Endpoint ID", endpoint_id(peer).unwrap_or_default()),
        ("Paths that count", paths(peer)),
        ("Bundle", bundle(peer)),
        ("Confirmed", moment(peer.confirmed_at, now)),
        ("Last asked", moment(peer.asked_at, now)),
        ("Asked", cadence(peer)),
        ("Last failure", clean(&peer.failure)),
        (
            "Shares keys with",
            peer.shares_keys_with
                .iter()
                .map(|name| clean(name))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("Entries", peer.entries.to_string()),
        ("Asked us", asked_us(peer, now)),
    ];
    let mut text = output::block(head);
    for remark in &peer.remarks {
        text.push_str("\nRemark: ");
        text.push_str(&clean(remark));
    }
    Answer::new(text, json(peer))
}

pub(super) fn state(peer: &Peer) -> String {
    match () {
        () if peer.revoked_at != 0 => "revoked",
        () if !peer.alarm.is_empty() => "old",
        () if !peer.failure.is_empty() => "failing",
        () if !peer.has_bundle => "no bundle",
        () if peer.x509_authorities == 0 && peer.jwt_authorities == 0 => "empty bundle",
        () => "ok",
    }
    .to_owned()
}

pub(super) fn source(peer: &Peer) -> String {
    if !peer.file.is_empty() {
        return clean(&peer.file);
    }
    let relationship = peer.relationship.as_ref();
    let url = relationship.map(|relationship| relationship.bundle_endpoint_url.as_str());
    match url.filter(|url| !url.is_empty()) {
        Some(url) => clean(url),
        None => "set by hand".to_owned(),
    }
}

fn relationship(peer: &Peer) -> String {
    let profile = match peer
        .relationship
        .as_ref()
        .and_then(|relationship| relationship.bundle_endpoint_profile.as_ref())
    {
        Some(BundleEndpointProfile::HttpsWeb(_)) => "https_web",
        Some(BundleEndpointProfile::HttpsSpiffe(_)) => "https_spiffe",
        None if peer.file.is_empty() => return "none".to_owned(),
        None => "a file",
    };
    let by = if peer.configured { "configuration" } else { "API" };
    format!("{profile}, by {by}")
}

fn endpoint_id(peer: &Peer) -> Option<String> {
    match peer.relationship.as_ref()?.bundle_endpoint_profile.as_ref()? {
        BundleEndpointProfile::HttpsSpiffe(profile) => Some(clean(&profile.endpoint_spiffe_id)),
        BundleEndpointProfile::HttpsWeb(_) => None,
    }
}

pub(super) fn paths(peer: &Peer) -> String {
    let paths: Vec<_> = peer.path_prefixes.iter().map(|prefix| clean(prefix)).collect();
    paths.join(", ")
}

pub(super) fn bundle(peer: &Peer) -> String {
    if !peer.has_bundle {
        return "none".to_owned();
    }
    let sequence = match peer.sequence_number {
        0 => "no sequence".to_owned(),
        number => format!("sequence {number}"),
    };
    format!(
        "{sequence}, {} X.509, {} JWT",
        peer.x509_authorities, peer.jwt_authorities
    )
}

pub(super) fn cadence(peer: &Peer) -> String {
    match (peer.pushes, peer.interval) {
        (true, _) => "it tells us at once".to_owned(),
        (false, 0) => String::new(),
        (false, seconds) => format!("every {seconds}s at the latest"),
    }
}

pub(super) fn asked_us(peer: &Peer, now: UnixTime) -> String {
    if peer.asked_us_at == 0 {
        return String::new();
    }
    let held = if peer.held_our_newest {
        "held our newest bundle"
    } else {
        "did not hold our newest bundle"
    };
    format!("{}; whoever it was {held}", moment(peer.asked_us_at, now))
}

pub(super) fn moment(at: i64, now: UnixTime) -> String {
    match at {
        0 => String::new(),
        at => output::moment(UnixTime::from_secs(at), now),
    }
}

pub(super) fn json(peer: &Peer) -> Value {
    let time = |at: i64| (at != 0).then_some(at);
    json!({
        "trust_domain": peer.trust_domain,
        "state": state(peer),
        "configured": peer.configured,
        "url": peer.relationship.as_ref().map(|relationship| &relationship.bundle_endpoint_url).filter(|url| !url.is_empty()),
        "profile": relationship(peer).split(',').next(),
        "endpoint_id": endpoint_id(peer),
        "file": Some(&peer.file).filter(|file| !file.is_empty()),
        "revoked_at": time(peer.revoked_at),
        "path_prefixes": peer.path_prefixes,
        "has_bundle": peer.has_bundle,
        "sequence": peer.sequence_number,
        "x509_authorities": peer.x509_authorities,
        "jwt_authorities": peer.jwt_authorities,
        "shares_keys_with": peer.shares_keys_with,
        "asked_at": time(peer.asked_at),
        "confirmed_at": time(peer.confirmed_at),
        "failure": Some(&peer.failure).filter(|failure| !failure.is_empty()),
        "failures": peer.failures,
        "interval": peer.interval,
        "pushes": peer.pushes,
        "remarks": peer.remarks,
        "alarm": Some(&peer.alarm).filter(|alarm| !alarm.is_empty()),
        "asked_us_at": time(peer.asked_us_at),
        "held_our_newest": peer.held_our_newest,
        "entries": peer.entries,
    })
}
