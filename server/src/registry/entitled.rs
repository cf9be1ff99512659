//! Which entries a node is entitled to (I6).
//!
//! Directly: the entry's parent is the node. By a chain: its parent is the SPIFFE ID of another entry that the node is
//! entitled to. By an alias: an entry whose parent is the server and whose selectors the node has names an ID; the
//! node is entitled to what lies below that ID. The alias itself is not handed out.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use muster_identity::digest::{SetDigest, item_bytes};
use muster_identity::{EntryId, SpiffeId};

use super::{Registered, View};

impl View {
    /// The entry, if `node` is entitled to it.
    pub fn entitled(&self, node: &SpiffeId, entry: &EntryId) -> Option<&Arc<Registered>> {
        Reach::new(self, node).entitled(entry)
    }

    /// Those of `ids` that `node` is entitled to, in their order. What leads to one of them is known to the next: many may hang below a name
    /// that hundreds of nodes have.
    pub fn entitled_among<'a>(&'a self, node: &SpiffeId, ids: &[EntryId]) -> Vec<&'a Arc<Registered>> {
        let mut reach = Reach::new(self, node);
        ids.iter().filter_map(|id| reach.entitled(id)).collect()
    }

    /// Everything that `node` is entitled to, by id.
    pub fn entitled_set(&self, node: &SpiffeId) -> Vec<Arc<Registered>> {
        let aliases = self
            .children_of(&self.server_id)
            .filter(|alias| self.is_alias_of(alias, node));
        let aliases = aliases.map(|alias| alias.entry.spec.spiffe_id.clone());
        let mut found = Vec::new();
        // An entry has one parent, and each parent is looked at once: none is found twice.
        self.descend(std::iter::once(node.clone()).chain(aliases), |child| {
            found.push(Arc::clone(child));
        });
        found.sort_unstable_by(|one, other| one.entry.id.cmp(&other.entry.id));
        found
    }

    /// The order-free digest of what `node` is entitled to.
    pub fn entitled_digest(&self, node: &SpiffeId) -> SetDigest {
        digest_of(&self.entitled_set(node))
    }

    /// What the change from `self` to `after` means for `node`, where `touched` are the entries that changed.
    ///
    /// Costs what was touched and what hangs below it.
    pub fn delta<'a>(
        &self,
        after: &View,
        node: &SpiffeId,
        touched: impl IntoIterator<Item = &'a EntryId>,
    ) -> Delta {
        let mut candidates = BTreeSet::new();
        let mut roots = BTreeSet::new();
        for id in touched {
            for registered in [self, after].into_iter().filter_map(|view| view.entries.get(id)) {
                let id = &registered.entry.spec.spiffe_id;
                if [self, after]
                    .into_iter()
                    .any(|view| view.by_parent.contains_key(id))
                {
                    roots.insert(id.clone());
                }
            }
            candidates.insert(id.clone());
        }
        // What hangs below any name that a touched entry has or had, in either view: its way may have led through it.
        for view in [self, after] {
            view.descend(roots.iter().cloned(), |child| {
                candidates.insert(child.entry.id.clone());
            });
        }
        self.compare(after, node, candidates)
    }

    /// As [`View::delta`], for a node whose own selectors changed: everything is looked at.
    pub fn delta_of_all(&self, after: &View, node: &SpiffeId) -> Delta {
        let sets = [self.entitled_set(node), after.entitled_set(node)];
        let candidates = sets
            .iter()
            .flatten()
            .map(|registered| registered.entry.id.clone())
            .collect();
        self.compare(after, node, candidates)
    }

    fn compare(&self, after: &View, node: &SpiffeId, candidates: BTreeSet<EntryId>) -> Delta {
        let (mut was, mut is) = (Reach::new(self, node), Reach::new(after, node));
        let mut delta = Delta::default();
        for id in candidates {
            let before = was.entitled(&id).map(|registered| registered.version);
            match (before, is.entitled(&id)) {
                (before, Some(now)) if before != Some(now.version) => delta.upserts.push(now.clone()),
                (Some(_), None) => delta.removals.push(id),
                _ => {}
            }
        }
        delta
    }

    /// Shows all entries below `roots`, each once.
    fn descend(&self, roots: impl Iterator<Item = SpiffeId>, mut found: impl FnMut(&Arc<Registered>)) {
        let mut seen = HashSet::new();
        let mut open: Vec<SpiffeId> = roots.filter(|root| seen.insert(root.clone())).collect();
        while let Some(parent) = open.pop() {
            if parent == self.server_id {
                continue; // below the server are aliases, which nobody is entitled to
            }
            for child in self.children_of(&parent) {
                found(child);
                let id = &child.entry.spec.spiffe_id;
                if self.by_parent.contains_key(id) && seen.insert(id.clone()) {
                    open.push(id.clone());
                }
            }
        }
    }

    /// What hangs below an ID, by whatever chain: what a node is entitled to as soon as it is entitled to that ID. None when it is more than `most`.
    pub fn below(&self, id: &SpiffeId, most: usize) -> Option<Vec<&Arc<Registered>>> {
        let (mut open, mut found) = (vec![id], Vec::new());
        let mut seen = HashSet::from([id]);
        while let Some(parent) = open.pop() {
            for child in self.children_of(parent) {
                if found.len() == most {
                    return None;
                }
                found.push(child);
                if seen.insert(&child.entry.spec.spiffe_id) {
                    open.push(&child.entry.spec.spiffe_id);
                }
            }
        }
        Some(found)
    }

    fn is_alias_of(&self, alias: &Registered, node: &SpiffeId) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| alias.entry.spec.selectors.is_subset_of(&node.selectors))
    }

    /// The nodes for whom an entry with this parent (and, for an alias, these selectors) may matter.
    pub(super) fn nodes_above(&self, registered: &Registered) -> HashSet<SpiffeId> {
        let mut nodes = HashSet::new();
        let mut seen = HashSet::new();
        let mut open = vec![registered];
        while let Some(registered) = open.pop() {
            let spec = &registered.entry.spec;
            if spec.parent_id == self.server_id {
                nodes.extend(
                    self.nodes_with(&spec.selectors)
                        .iter()
                        .map(|node| node.id.clone()),
                );
            } else if seen.insert(&spec.parent_id) {
                // A node or not: who is not connected has no mailbox.
                nodes.insert(spec.parent_id.clone());
                open.extend(self.entries_of_id(&spec.parent_id).map(|parent| &**parent));
            }
        }
        nodes
    }
}

/// The digest of a set of entries, as the node that holds it computes it.
pub(crate) fn digest_of(set: &[Arc<Registered>]) -> SetDigest {
    let mut sum = SetDigest::EMPTY;
    for registered in set {
        let hash = digest(&SHA256, &item_bytes(&registered.entry.id, registered.version.0));
        sum.add(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"));
    }
    sum
}

/// What a node must change to have what it is entitled to.
#[derive(Debug, Default)]
pub struct Delta {
    /// New or changed entries.
    pub upserts: Vec<Arc<Registered>>,
    /// Entries that are no longer its own.
    pub removals: Vec<EntryId>,
}

impl Delta {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.upserts.is_empty() && self.removals.is_empty()
    }
}

/// Asks one view about one node, remembering which parents lead to it.
pub struct Reach<'a, 'n> {
    view: &'a View,
    node: &'n SpiffeId,
    known: HashMap<SpiffeId, bool>,
}

impl<'a, 'n> Reach<'a, 'n> {
    /// About `node` in `view`.
    pub fn new(view: &'a View, node: &'n SpiffeId) -> Self {
        Self {
            view,
            node,
            known: HashMap::new(),
        }
    }

    /// The entry, if the node is entitled to it.
    pub fn entitled(&mut self, entry: &EntryId) -> Option<&'a Arc<Registered>> {
        let registered = self.view.entries.get(entry)?;
        self.reaches(&registered.entry.spec.parent_id)
            .then_some(registered)
    }

    fn reaches(&mut self, parent: &SpiffeId) -> bool {
        if parent == self.node {
            return true;
        }
        if let Some(known) = self.known.get(parent) {
            return *known;
        }
        let answer = self.climb(parent);
        self.known.insert(parent.clone(), answer);
        answer
    }

    /// Walks up from `parent` until the node is met, each ID once: chains may be long, and may be circles.
    fn climb(&self, parent: &SpiffeId) -> bool {
        let mut seen = HashSet::from([parent]);
        let mut open = vec![parent];
        while let Some(id) = open.pop() {
            if id == self.node {
                return true;
            }
            for above in self.view.entries_of_id(id) {
                let spec = &above.entry.spec;
                if spec.parent_id == self.view.server_id {
                    if self.view.is_alias_of(above, self.node) {
                        return true;
                    }
                } else if seen.insert(&spec.parent_id) {
                    open.push(&spec.parent_id);
                }
            }
        }
        false
    }
}
