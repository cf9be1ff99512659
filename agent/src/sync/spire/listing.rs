//! One run of SyncAuthorizedEntries, without IO: answers in, questions and the difference to what is held out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_identity::{EntryId, TrustDomain};
use muster_proto::convert::{self, FieldError, NodeEntry};
use muster_proto::spire::server::entry::{
    EntryRevision, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
};
use muster_proto::spire::types::{self, EntryMask};

use super::revision::version_of;

/// How many entries one node may have; a node with more would not be helped by them.
const MOST_ENTRIES: usize = 1_000_000;

/// What a node needs of an entry. Lifetimes, DNS names and the parent stay on the server.
pub(super) const MASK: EntryMask = EntryMask {
    spiffe_id: true,
    parent_id: false,
    selectors: true,
    x509_svid_ttl: false,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: false,
    dns_names: false,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: false,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

/// What is held of the same server, as it was when the run began.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    /// By id. Empty when what is held came from elsewhere: its numbers mean nothing here.
    pub(super) entries: BTreeMap<EntryId, Arc<NodeEntry>>,
    /// What is held but came from elsewhere: gone, unless the server has it too.
    pub(super) foreign: BTreeSet<EntryId>,
    /// What could not be read the last time, in which version: it is not asked for again.
    pub(super) unreadable: BTreeMap<EntryId, u64>,
}

impl Held {
    /// What is held, `known` when it came from this server.
    pub(super) fn of(entries: Vec<Arc<NodeEntry>>, known: bool, unreadable: BTreeMap<EntryId, u64>) -> Self {
        if known {
            let entries = entries.into_iter().map(|entry| (entry.id.clone(), entry));
            return Self {
                entries: entries.collect(),
                foreign: BTreeSet::new(),
                unreadable,
            };
        }
        Self {
            foreign: entries.iter().map(|entry| entry.id.clone()).collect(),
            ..Self::default()
        }
    }
}

/// A listing on its way.
#[derive(Debug)]
pub(super) struct Listing {
    held: Arc<Held>,
    /// How many ids go into one question.
    page: usize,
    step: Step,
    /// What the server has announced or sent: everything else is not this node's any more.
    present: BTreeSet<EntryId>,
    /// What is new or changed, still to be asked for; the last is the next.
    wanted: Vec<EntryId>,
    fetched: BTreeMap<EntryId, NodeEntry>,
    unreadable: BTreeMap<EntryId, u64>,
    errors: Vec<(String, FieldError)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    First,
    Revisions,
    Entries,
}

/// What is to be done next.
#[derive(Debug)]
pub(super) enum Next {
    /// Read on.
    Read,
    /// Send this, then read on.
    Ask(SyncAuthorizedEntriesRequest),
    /// All is here.
    Done,
}

/// What the server has that the cache has not, and the other way round.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// New or changed. Their `x509_version` is not set yet.
    pub(super) upserts: Vec<NodeEntry>,
    pub(super) removals: Vec<EntryId>,
    /// What can't be read, in which version.
    pub(super) unreadable: BTreeMap<EntryId, u64>,
    /// What is to be said of them, each only once.
    pub(super) errors: Vec<(String, FieldError)>,
    /// With which trust domains the node's entries federate, all of them.
    pub(super) federates_with: BTreeSet<TrustDomain>,
}

/// The server's answer is none to what was asked.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(in crate::sync) enum ListingError {
    #[error("it has entries among revisions")]
    EntriesAmongRevisions,
    #[error("it has revisions among entries")]
    RevisionsAmongEntries,
    #[error("it has more than {MOST_ENTRIES}")]
    TooMany,
}

impl Listing {
    /// A run that has not begun. At most `most_ids` go into one question: fewer than the server's page when a page would not fit into a message.
    pub(super) fn new(held: Arc<Held>, most_ids: usize) -> Self {
        Self {
            held,
            page: most_ids.max(1),
            step: Step::First,
            present: BTreeSet::new(),
            wanted: Vec::new(),
            fetched: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            errors: Vec::new(),
        }
    }

    /// The first question. It names no ids; whatever else it asks for, revision numbers must be among it.
    pub(super) fn question() -> SyncAuthorizedEntriesRequest {
        SyncAuthorizedEntriesRequest {
            output_mask: Some(MASK),
            ids: Vec::new(),
        }
    }

    /// Whether the server has been asked for entries by their ids: then a smaller question gets a smaller answer.
    pub(super) fn asks_by_id(&self) -> bool {
        self.step == Step::Entries
    }

    /// How many ids go into one question.
    pub(super) fn page(&self) -> usize {
        self.page
    }

    /// Takes an answer.
    pub(super) fn receive(&mut self, answer: SyncAuthorizedEntriesResponse) -> Result<Next, ListingError> {
        match self.step {
            // A server with few entries sends them all at once.
            Step::First if answer.entry_revisions.is_empty() => {
                self.take(answer.entries)?;
                Ok(Next::Done)
            }
            Step::First | Step::Revisions => {
                if !answer.entries.is_empty() {
                    return Err(ListingError::EntriesAmongRevisions);
                }
                if self.step == Step::First {
                    // As many as the server puts into a page: what is asked for comes back in one.
                    self.page = self.page.min(answer.entry_revisions.len());
                }
                self.announced(answer.entry_revisions)?;
                self.step = Step::Revisions;
                if answer.more {
                    return Ok(Next::Read);
                }
                self.step = Step::Entries;
                // Sorted, which spares the server the work. Taken from the end.
                self.wanted.sort_unstable_by(|one, other| other.cmp(one));
                self.wanted.dedup();
                Ok(self.ask())
            }
            Step::Entries => {
                if !answer.entry_revisions.is_empty() {
                    return Err(ListingError::RevisionsAmongEntries);
                }
                self.take(answer.entries)?;
                Ok(if answer.more { Next::Read } else { self.ask() })
            }
        }
    }

    /// Takes the one answer of GetAuthorizedEntries, by which servers without the stream are asked.
    pub(super) fn whole(mut self, entries: Vec<types::Entry>) -> Result<Difference, ListingError> {
        self.take(entries)?;
        Ok(self.difference())
    }

    /// What the run brought, once it is [`Next::Done`].
    pub(super) fn difference(self) -> Difference {
        let Self {
            held,
            present,
            fetched,
            mut unreadable,
            errors,
            ..
        } = self;
        // What is as it was before and could not be read then: no news, and not asked for again.
        let still = held.unreadable.iter();
        for (id, version) in still.filter(|(id, _)| present.contains(*id) && !fetched.contains_key(*id)) {
            unreadable.entry(id.clone()).or_insert(*version);
        }
        // An entry that can't be read any more is not what it was.
        let stays = |id: &EntryId| present.contains(id) && !unreadable.contains_key(id);
        let gone = held.entries.keys().chain(&held.foreign).filter(|id| !stays(id));
        let removals: Vec<EntryId> = gone.cloned().collect();
        let kept = held
            .entries
            .iter()
            .filter(|(id, _)| stays(id) && !fetched.contains_key(*id));
        let federates_with = kept
            .flat_map(|(_, entry)| entry.federates_with.iter())
            .chain(fetched.values().flat_map(|entry| entry.federates_with.iter()))
            .cloned()
            .collect();
        Difference {
            upserts: fetched.into_values().collect(),
            removals,
            unreadable,
            errors,
            federates_with,
        }
    }

    fn announced(&mut self, revisions: Vec<EntryRevision>) -> Result<(), ListingError> {
        for revision in revisions {
            let Some(id) = self.id(&revision.id) else {
                continue;
            };
            if !self.knows(&id, version_of(revision.revision_number, revision.created_at)) {
                self.wanted.push(id.clone());
            }
            self.present.insert(id);
        }
        if self.present.len() > MOST_ENTRIES {
            return Err(ListingError::TooMany);
        }
        Ok(())
    }

    fn take(&mut self, entries: Vec<types::Entry>) -> Result<(), ListingError> {
        for wire in entries {
            let Some(id) = self.id(&wire.id) else {
                continue;
            };
            let version = version_of(wire.revision_number, wire.created_at);
            if self.step == Step::Entries && !self.present.contains(&id) {
                // Nobody asked for it.
                continue;
            }
            self.present.insert(id.clone());
            // Of two answers about one entry the first counts.
            if self.knows(&id, version) || self.fetched.contains_key(&id) {
                continue;
            }
            match convert::polled_entry(&wire, version, 0) {
                Ok(entry) => drop(self.fetched.insert(id, entry)),
                Err(error) => {
                    self.errors.push((wire.id, error));
                    self.unreadable.insert(id, version);
                }
            }
        }
        if self.present.len() > MOST_ENTRIES {
            return Err(ListingError::TooMany);
        }
        Ok(())
    }

    fn knows(&self, id: &EntryId, version: u64) -> bool {
        self.held
            .entries
            .get(id)
            .is_some_and(|entry| entry.version == version)
            || self.held.unreadable.get(id) == Some(&version)
    }

    /// An id that is none can't be remembered, so it is told of at each run; no server makes such.
    fn id(&mut self, text: &str) -> Option<EntryId> {
        convert::entry_id("id", text)
            .map_err(|error| self.errors.push((text.chars().take(64).collect(), error)))
            .ok()
    }

    fn ask(&mut self) -> Next {
        if self.wanted.is_empty() {
            return Next::Done;
        }
        let rest = self.wanted.len().saturating_sub(self.page);
        let ids = self.wanted.split_off(rest);
        Next::Ask(SyncAuthorizedEntriesRequest {
            output_mask: None,
            ids: ids.iter().rev().map(EntryId::to_string).collect(),
        })
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
