//! One thing that happened, before it has its place in the log.

use std::fmt::Display;

use muster_identity::Position;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{action::Action, actor::Actor, object::Object, text::Text};

/// How many facts an event carries, and how many items a list of them. Past it the rest is counted, not kept.
pub const MAX_FACTS: usize = 32;

/// How it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed, or the request was wrong.
    Refused(Text),
    /// It was allowed and did not succeed.
    Failed(Text),
}

impl Outcome {
    /// A refusal and its reason.
    pub fn refused(why: impl Display) -> Self {
        Self::Refused(Text::new(why))
    }

    /// A failure and its reason.
    pub fn failed(why: impl Display) -> Self {
        Self::Failed(Text::new(why))
    }
}

/// An event: who did what to which thing, how it ended, and what else a reader will want to know.
///
/// Values are escaped and capped when they are put in, so whatever a caller chose can stand here. Secrets can't:
/// no key, token, CSR or environment value is ever a fact.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "an event counts only once it is recorded"]
pub struct Event {
    pub(crate) actor: Actor,
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
    pub(crate) object: Option<Object>,
    pub(crate) reference: Option<Text>,
    pub(crate) position: Option<Position>,
    pub(crate) facts: Facts,
}

impl Event {
    /// An event without particulars.
    pub fn new(actor: Actor, action: Action, outcome: Outcome) -> Self {
        Self {
            actor,
            action,
            outcome,
            object: None,
            reference: None,
            position: None,
            facts: Facts::default(),
        }
    }

    /// What it was done to.
    pub fn object(mut self, object: Object) -> Self {
        self.object = Some(object);
        self
    }

    /// The same with another outcome: for what was recorded before it was done, and then was not.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The reference that the caller was given with the answer.
    pub fn reference(mut self, reference: impl Display) -> Self {
        self.reference = Some(Text::new(reference));
        self
    }

    /// Where in the server's log of changes the decision stands.
    pub fn position(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// One more thing known about it. A second value under the same name replaces the first.
    pub fn fact(mut self, name: &'static str, value: impl Display) -> Self {
        self.facts.set(name, Value::One(Text::new(value)));
        self
    }

    /// Several values under one name; past 32 the rest is counted.
    pub fn fact_list<V: Display>(mut self, name: &'static str, values: impl IntoIterator<Item = V>) -> Self {
        let mut values = values.into_iter();
        let mut list: Vec<Text> = values.by_ref().take(MAX_FACTS).map(Text::new).collect();
        let rest = values.count();
        if rest > 0 {
            list.push(Text::new(format_args!("…(+{rest} values)")));
        }
        self.facts.set(name, Value::Many(list));
        self
    }
}

/// Named values, in the order in which they were given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Facts(Vec<(&'static str, Value)>);

#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(untagged)]
enum Value {
    One(Text),
    Many(Vec<Text>),
}

impl Facts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn set(&mut self, name: &'static str, value: Value) {
        if let Some((_, old)) = self.0.iter_mut().find(|(n, _)| *n == name) {
            *old = value;
        } else if self.0.len() < MAX_FACTS {
            self.0.push((name, value));
        } else {
            debug_assert!(false, "an event with more than {MAX_FACTS} facts");
        }
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}
