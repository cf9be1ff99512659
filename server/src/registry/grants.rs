//! Grants: as changes, and as the view holds them.

use std::sync::Arc;

use muster_identity::{Grant, GrantName, Subject, UnixTime};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use super::records::{GrantRecord, grant_bytes};
use super::{Change, Expect, Tree};

/// The changes that create a grant. They conflict with one of the same name.
pub fn create(grant: &Grant, now: UnixTime) -> Vec<Change> {
    put(grant, now, Expect::Absent)
}

/// The changes that put `grant` in the place of `current`. They conflict with any other change of it since.
pub fn update(current: &GrantRecord, grant: &Grant) -> Vec<Change> {
    put(grant, current.created_at, Expect::At(current.version))
}

/// The changes that delete a grant. They conflict with any other change of it since.
pub fn delete(current: &GrantRecord) -> Vec<Change> {
    let name = current.grant.name.as_str();
    vec![Change::delete(Tree::Grants, name, Expect::At(current.version))]
}

fn put(grant: &Grant, created_at: UnixTime, expect: Expect) -> Vec<Change> {
    let value = grant_bytes(grant, created_at);
    vec![Change::put(Tree::Grants, grant.name.as_str(), value, expect)]
}

/// All grants of one view, by name and by subject, and how many entries were made by each.
#[derive(Clone, Default)]
pub(super) struct Grants {
    by_name: RedBlackTreeMapSync<GrantName, Arc<GrantRecord>>,
    by_subject: HashTrieMapSync<Subject, Arc<[Arc<GrantRecord>]>>,
    /// Kept by the name, which outlives the grant: whoever makes a new grant of an old name has these entries.
    made: HashTrieMapSync<GrantName, usize>,
}

impl Grants {
    pub(super) fn of_name(&self, name: &GrantName) -> Option<&Arc<GrantRecord>> {
        self.by_name.get(name)
    }

    pub(super) fn of_subject(&self, subject: &Subject) -> impl Iterator<Item = &Arc<GrantRecord>> {
        self.by_subject
            .get(subject)
            .into_iter()
            .flat_map(|all| all.iter())
    }

    pub(super) fn after(&self, after: Option<&GrantName>) -> impl Iterator<Item = &Arc<GrantRecord>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.by_name
            .range::<GrantName, _>((from, Unbounded))
            .map(|(_, record)| record)
    }

    pub(super) fn count(&self) -> usize {
        self.by_name.size()
    }

    pub(super) fn entries_made_by(&self, grant: &GrantName) -> usize {
        self.made.get(grant).copied().unwrap_or(0)
    }

    pub(super) fn put(&mut self, name: &GrantName, after: Option<Arc<GrantRecord>>) {
        if let Some(before) = self.by_name.get(name).cloned() {
            self.by_name.remove_mut(name);
            self.index(&before.grant.subject);
        }
        if let Some(after) = after {
            let subject = after.grant.subject.clone();
            self.by_name.insert_mut(name.clone(), after);
            self.index(&subject);
        }
    }

    pub(super) fn entry_made(&mut self, grant: &GrantName) {
        self.made
            .insert_mut(grant.clone(), self.entries_made_by(grant).saturating_add(1));
    }

    pub(super) fn entry_gone(&mut self, grant: &GrantName) {
        match self.entries_made_by(grant) {
            0 | 1 => {
                self.made.remove_mut(grant);
            }
            more => self.made.insert_mut(grant.clone(), more - 1),
        }
    }

    /// Grants are few and seldom changed: the list of a subject is made anew from all of them.
    fn index(&mut self, subject: &Subject) {
        let all: Arc<[_]> = self
            .by_name
            .values()
            .filter(|record| record.grant.subject == *subject)
            .cloned()
            .collect();
        if all.is_empty() {
            self.by_subject.remove_mut(subject);
        } else {
            self.by_subject.insert_mut(subject.clone(), all);
        }
    }
}
