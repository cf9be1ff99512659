//! An event in its place: the line that becomes a leaf of the tree.

use muster_identity::Position;
use serde::Serialize;

use crate::{
    action::Action,
    actor::Actor,
    event::{Event, Facts, Outcome},
    merkle::Hash,
    object::Object,
    text::Text,
};

/// The form of a record. Members are added only at the end and never change their meaning; the bytes of the line
/// are what is hashed, so an old record stays as it was written.
#[derive(Serialize)]
struct Line<'a> {
    index: u64,
    time: &'a str,
    /// The leaf hash of the record before: whoever changes one record must change all that follow.
    prev: String,
    actor: &'a Actor,
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a Object>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<Place>,
    #[serde(skip_serializing_if = "Facts::is_empty")]
    facts: &'a Facts,
}

#[derive(Serialize)]
struct Place {
    store: String,
    revision: u64,
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self {
            store: position.store.to_string(),
            revision: position.revision.0,
        }
    }
}

/// The line of `event` at `time` as record number `index` after a record whose leaf hash is `prev`: one JSON object without
/// a line break.
pub(crate) fn line(event: &Event, index: u64, prev: Hash, time: &str) -> Result<String, serde_json::Error> {
    let (outcome, why) = match &event.outcome {
        Outcome::Done => ("done", None),
        Outcome::Refused(why) => ("refused", Some(why)),
        Outcome::Failed(why) => ("failed", Some(why)),
    };
    serde_json::to_string(&Line {
        index,
        time,
        prev: prev.to_hex(),
        actor: &event.actor,
        action: event.action,
        object: event.object.as_ref(),
        outcome,
        why,
        reference: event.reference.as_ref(),
        position: event.position.map(Place::from),
        facts: &event.facts,
    })
}

/// What verification reads back out of a line.
#[derive(serde::Deserialize)]
pub(crate) struct Link {
    pub(crate) index: u64,
    pub(crate) prev: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_written_as_its_golden() {
        let event = Event::new(
            Actor::local(0, 77),
            Action::EntryCreate,
            Outcome::refused("no\nsuch parent"),
        )
        .object(Object::entry("e1"))
        .reference("R-7K3Q9D2M")
        .fact("spiffe_id", "spiffe://example.org/w")
        .fact_list("selectors", ["unix:uid:1000", "unix:gid:1000"]);
        let line = line(&event, 3, Hash([0xab; 32]), "2026-11-23T20:34:56Z").unwrap();
        assert_eq!(
            line,
            format!(
                concat!(
                    r#"{{"index":3,"time":"2026-11-23T20:34:56Z","prev":"{}","actor":{{"kind":"local","uid":0,"pid":77}},"#,
                    r#""action":"entry.create","object":{{"kind":"entry","name":"e1"}},"outcome":"refused","#,
                    r#""why":"no\\u{{a}}such parent","reference":"R-7K3Q9D2M","#,
                    r#""facts":{{"spiffe_id":"spiffe://example.org/w","selectors":["unix:uid:1000","unix:gid:1000"]}}}}"#
                ),
                "ab".repeat(32)
            )
        );
    }
}
