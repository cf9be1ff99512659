//! One run of the Sync stream, without IO: messages in, answers and installations out.

use std::collections::{BTreeMap, BTreeSet};

use muster_identity::{EntryId, IdPath, Position, StoreId, TrustDomain};
use muster_pki::bundle::Scope;
use muster_proto::convert;
use muster_proto::node::{self, sync_request, sync_response};

use super::wire::{self, WireError};
use crate::cache::{BundleNews, Cache, StaleUpdate, Update};

/// How many entries one update may hold; a node with more would not be helped by them.
const MOST_ENTRIES: usize = 1_000_000;
/// How many (id, version) pairs go into one message: well below the transport's 4 MiB, and below the 1 MiB that the contract promises.
const PAIRS_A_MESSAGE: usize = 2_000;

/// What the node says of itself in its first message.
#[derive(Clone, Debug)]
pub(super) struct AboutNode {
    pub(super) agent_version: String,
    pub(super) facts: Vec<(String, String)>,
}

/// A view of the server that is on its way here.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Of the view that the stream stands at; none before Welcome.
    store: Option<StoreId>,
    position: Option<Position>,
    upserts: Vec<convert::NodeEntry>,
    removals: Vec<EntryId>,
    bundle_sequence: u64,
    /// The trust domains named since Welcome, until the server said that those are all.
    named: Option<BTreeSet<TrustDomain>>,
}

/// What a message means for the node.
#[derive(Debug)]
pub(super) enum Event {
    /// The server answered. It goes on with this.
    Welcome(Welcome),
    /// A whole update is here.
    Update(Update),
    /// Bundles are new or gone.
    Bundles(BundleNews),
    /// The server lives.
    Heartbeat { server_time: i64 },
    /// A part of something, or nothing that concerns us.
    Nothing,
}

/// What the server said at the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Welcome {
    pub(super) plan: node::Plan,
    pub(super) server_time: i64,
    pub(super) most_csrs: usize,
    /// Whether the server wants to hear of keys that a foreign bundle lacks.
    pub(super) hears_of_unknown_keys: bool,
}

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the server sent what can't be read")]
    Field(#[from] convert::FieldError),
    #[error(transparent)]
    Stale(#[from] StaleUpdate),
}

impl Session {
    /// The first message: who we are and what we hold.
    pub(super) fn hello(cache: &Cache, about: &AboutNode) -> node::SyncRequest {
        let hello = node::Hello {
            agent_version: about.agent_version.clone(),
            capabilities: Vec::new(),
            position: cache.position().as_ref().map(convert::position_to_wire),
            digest: wire::digest_of(cache).to_vec(),
            wire_version: node::WIRE_VERSION,
            facts: about.facts.iter().cloned().collect(),
        };
        request(sync_request::Message::Hello(hello))
    }

    /// Everything that the node holds, in messages of a bounded size; at least one.
    pub(super) fn have(cache: &Cache) -> Vec<node::SyncRequest> {
        let pairs: Vec<node::EntryVersion> = cache
            .versions()
            .map(|(id, version)| node::EntryVersion {
                id: id.to_string(),
                version,
            })
            .collect();
        let mut messages: Vec<node::Have> = pairs
            .chunks(PAIRS_A_MESSAGE)
            .map(|part| node::Have {
                entries: part.to_vec(),
                last: false,
            })
            .collect();
        match messages.last_mut() {
            Some(message) => message.last = true,
            None => messages.push(node::Have {
                entries: Vec::new(),
                last: true,
            }),
        }
        messages
            .into_iter()
            .map(|message| request(sync_request::Message::Have(message)))
            .collect()
    }

    /// What is held now, for the server: before it signs with a new authority it wants to hear that each node holds it.
    pub(super) fn ack(&self, outdated: usize) -> Option<node::SyncRequest> {
        let ack = node::Ack {
            position: Some(convert::position_to_wire(&self.position?)),
            bundle_sequence: self.bundle_sequence,
            outdated: u64::try_from(outdated).unwrap_or(u64::MAX),
        };
        Some(request(sync_request::Message::Ack(ack)))
    }

    /// A key that the bundle of `trust_domain` lacks.
    pub(super) fn unknown_key(trust_domain: &TrustDomain) -> node::SyncRequest {
        request(sync_request::Message::UnknownKey(node::UnknownKey {
            trust_domain: trust_domain.to_string(),
        }))
    }

    /// Takes a message. `own` is the trust domain that the node belongs to.
    pub(super) fn receive(
        &mut self,
        response: node::SyncResponse,
        own: &TrustDomain,
    ) -> Result<Event, SessionError> {
        match response.message {
            Some(sync_response::Message::Welcome(welcome)) => self.welcome(&welcome),
            // A kind of message that is newer than this agent: a server sends it only where it may be ignored.
            None => Ok(Event::Nothing),
            Some(_) if self.store.is_none() => {
                Err(WireError::new("something before its welcome", &"").into())
            }
            Some(sync_response::Message::Update(update)) => self.update(&update),
            Some(sync_response::Message::Bundles(bundles)) => self.bundles(&bundles, own),
            Some(sync_response::Message::Heartbeat(beat)) => Ok(Event::Heartbeat {
                server_time: beat.server_time,
            }),
        }
    }

    fn welcome(&mut self, welcome: &node::Welcome) -> Result<Event, SessionError> {
        if self.store.is_some() {
            return Err(WireError::new("a second welcome", &"").into());
        }
        let position = convert::position("position", welcome.position.as_ref())?;
        self.store = Some(position.store);
        self.named = Some(BTreeSet::new());
        if welcome.plan() == node::Plan::Unspecified {
            return Err(WireError::new("a plan that is unknown", &welcome.plan).into());
        }
        if welcome.plan() == node::Plan::Current {
            self.position = Some(position);
        }
        Ok(Event::Welcome(Welcome {
            plan: welcome.plan(),
            server_time: welcome.server_time,
            most_csrs: usize::try_from(welcome.max_issue_batch).unwrap_or(usize::MAX),
            hears_of_unknown_keys: welcome.capabilities.iter().any(|name| name == UNKNOWN_KEY),
        }))
    }

    /// Collects the parts of an update: it is installed as a whole or not at all.
    fn update(&mut self, update: &node::Update) -> Result<Event, SessionError> {
        let position = convert::position("position", update.position.as_ref())?;
        if Some(position.store) != self.store {
            return Err(WireError::new("an update of another store", &position).into());
        }
        if self.upserts.len() + update.upserts.len() > MOST_ENTRIES || self.removals.len() > MOST_ENTRIES {
            return Err(WireError::new("more entries than a node can hold", &MOST_ENTRIES).into());
        }
        for entry in &update.upserts {
            self.upserts.push(convert::NodeEntry::try_from(entry)?);
        }
        for id in &update.removals {
            self.removals.push(convert::entry_id("removals", id)?);
        }
        if !update.last {
            return Ok(Event::Nothing);
        }
        self.position = Some(position);
        let (upserts, removals) = (
            std::mem::take(&mut self.upserts),
            std::mem::take(&mut self.removals),
        );
        Ok(Event::Update(Update {
            position,
            upserts,
            removals,
        }))
    }

    fn bundles(&mut self, message: &node::Bundles, own: &TrustDomain) -> Result<Event, SessionError> {
        let mut scopes = BTreeMap::new();
        for narrowed in &message.scopes {
            let (trust_domain, scope) = scope(narrowed)?;
            scopes.insert(trust_domain, scope);
        }
        let mut bundles = Vec::with_capacity(message.bundles.len());
        for bundle in &message.bundles {
            let bundle = convert::bundle(bundle)?;
            if bundle.trust_domain() == own {
                self.bundle_sequence = bundle.sequence().unwrap_or(0);
            }
            if let Some(named) = &mut self.named {
                named.insert(bundle.trust_domain().clone());
            }
            let scope = scopes.remove(bundle.trust_domain()).unwrap_or_default();
            bundles.push((bundle, scope));
        }
        let removed = message
            .removed
            .iter()
            .map(|name| convert::trust_domain("removed", name))
            .collect::<Result<_, _>>()?;
        let store = self
            .store
            .ok_or_else(|| WireError::new("bundles before its welcome", &""))?;
        let named = if message.whole { self.named.take() } else { None };
        Ok(Event::Bundles(BundleNews {
            store,
            bundles,
            removed,
            restored: BTreeSet::new(),
            named,
        }))
    }
}

/// The capability of a server that wants to hear of keys that a foreign bundle lacks.
const UNKNOWN_KEY: &str = "unknown-key";

fn scope(wire: &node::Scope) -> Result<(TrustDomain, Scope), SessionError> {
    let trust_domain = convert::trust_domain("scopes.trust_domain", &wire.trust_domain)?;
    let prefixes: Result<Vec<IdPath>, _> = wire.path_prefixes.iter().map(|prefix| prefix.parse()).collect();
    let prefixes = prefixes.map_err(|error| convert::FieldError::new("scopes.path_prefixes", error))?;
    // One that can't be read is an error, never «all»: a narrowing that is lost would widen.
    let scope =
        Scope::new(prefixes).map_err(|error| convert::FieldError::new("scopes.path_prefixes", error))?;
    Ok((trust_domain, scope))
}

fn request(message: sync_request::Message) -> node::SyncRequest {
    node::SyncRequest {
        message: Some(message),
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
