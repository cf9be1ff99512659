use std::sync::{Arc, LazyLock};

use muster_identity::{
    DnsName, EntryId, GrantName, IdPath, Position, Revision, Selector, SpiffeId, Subject, TrustDomain,
    UnixTime,
};
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::grants::Grants;
use super::names::{IdSet, IdSets, join, leave};
use super::records::{self, GrantRecord, NodeRecord, RecordError, TokenHash, TokenRecord};
use crate::side_by_side;
use crate::store::{Key, Record, Tree};

/// An entry, and where in the log it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Registered {
    /// The entry.
    pub entry: muster_identity::Entry,
    /// The revision that last put it.
    pub version: Revision,
    /// The revision at which something that a certificate shows (SPIFFE ID, DNS names, lifetime) last changed.
    pub x509_version: Revision,
    /// The grant by which it was made, if it was.
    pub made_by: Option<GrantName>,
}

/// A record whose meaning belongs to another part of the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Document {
    /// The revision that put it.
    pub version: Revision,
    /// Its bytes.
    pub value: Arc<[u8]>,
}

static NO_TRUST_DOMAINS: LazyLock<Arc<[TrustDomain]>> = LazyLock::new(|| [].into());
static NO_DNS_NAMES: LazyLock<Arc<[DnsName]>> = LazyLock::new(|| [].into());

type Documents = RedBlackTreeMapSync<Box<[u8]>, Document>;

/// Everything registered, as of one position. Immutable; the next one shares all that did not change.
#[derive(Clone)]
pub struct View {
    pub(super) trust_domain: TrustDomain,
    pub(super) server_id: SpiffeId,
    position: Position,
    pub(super) entries: RedBlackTreeMapSync<EntryId, Arc<Registered>>,
    pub(super) by_parent: IdSets,
    by_spiffe_id: IdSets,
    expiring: RedBlackTreeSetSync<(UnixTime, EntryId)>,
    pub(super) nodes: RedBlackTreeMapSync<SpiffeId, Arc<NodeRecord>>,
    nodes_by_selector: HashTrieMapSync<Selector, RedBlackTreeSetSync<SpiffeId>>,
    tokens: HashTrieMapSync<[u8; 32], Arc<TokenRecord>>,
    grants: Grants,
    documents: [Documents; 6],
    /// When a record of each of these trees was last put or deleted.
    changed: [Revision; 6],
}

/// An entry before and after a commit.
type BeforeAfter = (Option<Arc<Registered>>, Option<Arc<Registered>>);

/// What a commit changed, for those who must be told.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Entries, as they were and as they are.
    pub(super) entries: Vec<BeforeAfter>,
    pub(super) nodes: Vec<SpiffeId>,
    pub(super) bundles: bool,
}

impl View {
    pub(super) fn empty(trust_domain: TrustDomain, position: Position) -> Self {
        let path: IdPath = "/spire/server".parse().expect("a path by the standard");
        let server_id = trust_domain
            .member(path)
            .expect("a trust domain and 13 bytes are within 2048 bytes");
        Self {
            trust_domain,
            server_id,
            position,
            entries: RedBlackTreeMapSync::default(),
            by_parent: IdSets::default(),
            by_spiffe_id: IdSets::default(),
            expiring: RedBlackTreeSetSync::default(),
            nodes: RedBlackTreeMapSync::default(),
            nodes_by_selector: HashTrieMapSync::default(),
            tokens: HashTrieMapSync::default(),
            grants: Grants::default(),
            documents: Default::default(),
            changed: Default::default(),
        }
    }

    /// Where in the log this view stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The server's trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// `spiffe://<trust domain>/spire/server`: the parent that makes an entry a node alias.
    pub fn server_id(&self) -> &SpiffeId {
        &self.server_id
    }

    /// The entry of that id.
    pub fn entry(&self, id: &EntryId) -> Option<&Arc<Registered>> {
        self.entries.get(id)
    }

    /// Every entry, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Registered>> {
        self.entries.values()
    }

    /// The entries behind `after`, by id: for pages.
    pub fn entries_after(&self, after: Option<&EntryId>) -> impl Iterator<Item = &Arc<Registered>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.entries
            .range::<EntryId, _>((from, Unbounded))
            .map(|(_, entry)| entry)
    }

    /// How many entries there are.
    pub fn entry_count(&self) -> usize {
        self.entries.size()
    }

    /// The entries that give this SPIFFE ID.
    pub fn entries_of_id(&self, id: &SpiffeId) -> impl Iterator<Item = &Arc<Registered>> {
        self.by_spiffe_id
            .get(id)
            .into_iter()
            .flat_map(IdSet::iter)
            .filter_map(|id| self.entries.get(id))
    }

    /// The entries with this parent.
    pub fn children_of(&self, parent: &SpiffeId) -> impl Iterator<Item = &Arc<Registered>> {
        self.by_parent
            .get(parent)
            .into_iter()
            .flat_map(IdSet::iter)
            .filter_map(|id| self.entries.get(id))
    }

    /// The entries that have ended by `now`.
    pub fn expired_entries(&self, now: UnixTime) -> impl Iterator<Item = &EntryId> {
        self.expiring
            .iter()
            .take_while(move |(at, _)| *at <= now)
            .map(|(_, id)| id)
    }

    /// Whether an entry makes the ID an administrator.
    pub fn is_admin(&self, id: &SpiffeId) -> bool {
        self.entries_of_id(id)
            .any(|registered| registered.entry.spec.admin)
    }

    /// Whether an entry lets the ID ask for an authority of its own.
    pub fn has_downstream(&self, id: &SpiffeId) -> bool {
        self.entries_of_id(id)
            .any(|registered| registered.entry.spec.downstream)
    }

    /// The node of that ID.
    pub fn node(&self, id: &SpiffeId) -> Option<&Arc<NodeRecord>> {
        self.nodes.get(id)
    }

    /// Every node, by ID.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeRecord>> {
        self.nodes.values()
    }

    /// The nodes behind `after`, by ID: for pages.
    pub fn nodes_after(&self, after: Option<&SpiffeId>) -> impl Iterator<Item = &Arc<NodeRecord>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.nodes
            .range::<SpiffeId, _>((from, Unbounded))
            .map(|(_, node)| node)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.size()
    }

    /// The nodes that have all these selectors.
    pub(super) fn nodes_with(&self, selectors: &muster_identity::SelectorSet) -> Vec<&Arc<NodeRecord>> {
        // From the rarest selector: an alias for one machine costs one machine.
        let sets = selectors
            .iter()
            .map(|selector| self.nodes_by_selector.get(selector));
        let rarest = sets
            .min_by_key(|set| set.map_or(0, RedBlackTreeSetSync::size))
            .flatten();
        let candidates = rarest.into_iter().flat_map(RedBlackTreeSetSync::iter);
        let nodes = candidates.filter_map(|id| self.nodes.get(id));
        nodes
            .filter(|node| selectors.is_subset_of(&node.selectors))
            .collect()
    }

    /// The grant of that name.
    pub fn grant(&self, name: &GrantName) -> Option<&Arc<GrantRecord>> {
        self.grants.of_name(name)
    }

    /// The grants of a subject, also those that have ended.
    pub fn grants_of(&self, subject: &Subject) -> impl Iterator<Item = &Arc<GrantRecord>> {
        self.grants.of_subject(subject)
    }

    /// Whether a subject holds a grant, also one that has ended.
    pub fn has_grant(&self, subject: &Subject) -> bool {
        self.grants_of(subject).next().is_some()
    }

    /// The grants behind `after`, by name: for pages.
    pub fn grants_after(&self, after: Option<&GrantName>) -> impl Iterator<Item = &Arc<GrantRecord>> {
        self.grants.after(after)
    }

    /// How many grants there are.
    pub fn grant_count(&self) -> usize {
        self.grants.count()
    }

    /// How many entries made by this grant there are.
    pub fn entries_made_by(&self, grant: &GrantName) -> usize {
        self.grants.entries_made_by(grant)
    }

    /// The join token of that hash, if it was not redeemed.
    pub fn token(&self, hash: &TokenHash) -> Option<&Arc<TokenRecord>> {
        self.tokens.get(hash.as_bytes())
    }

    /// Tokens that ended before `before`.
    pub fn expired_tokens(&self, before: UnixTime) -> impl Iterator<Item = (&[u8; 32], &Arc<TokenRecord>)> {
        self.tokens
            .iter()
            .filter(move |(_, token)| token.expires_at < before)
    }

    /// A record of a tree that other parts of the server give its meaning.
    pub fn document(&self, tree: Tree, name: &[u8]) -> Option<&Document> {
        self.documents.get(document_index(tree)?)?.get(name)
    }

    /// The records of such a tree, by name. Empty for entries, nodes, tokens and grants.
    pub fn documents(&self, tree: Tree) -> impl Iterator<Item = (&[u8], &Document)> {
        let documents = document_index(tree).and_then(|index| self.documents.get(index));
        documents
            .into_iter()
            .flat_map(|documents| documents.iter())
            .map(|(name, document)| (&**name, document))
    }

    /// The revision at which such a tree last changed, as far as this view knows: whoever reads all of it looks here first.
    pub fn changed_at(&self, tree: Tree) -> Revision {
        document_index(tree)
            .and_then(|index| self.changed.get(index))
            .copied()
            .unwrap_or_default()
    }

    /// How many records such a tree has.
    pub fn document_count(&self, tree: Tree) -> usize {
        document_index(tree)
            .and_then(|index| self.documents.get(index))
            .map_or(0, |documents| documents.size())
    }

    pub(super) fn advance(&mut self, position: Position) {
        self.position = position;
    }

    /// Takes in what a start found. Entries, by far the most of it, are read on several processors.
    pub(super) fn fill(&mut self, records: &[Record]) -> Result<(), RecordError> {
        /// How many at once: names that they hold each for itself are shared only when they are taken in.
        const AT_ONCE: usize = 16_000;
        for part in records.chunks(AT_ONCE) {
            let entries = side_by_side::map(part, |record| {
                let is_entry = record.key.tree == Tree::Entries;
                is_entry.then(|| records::read_entry(&record.key, &record.value, record.version))
            });
            for (record, entry) in part.iter().zip(entries) {
                match entry {
                    Some(entry) => {
                        let entry = self.share(entry?);
                        self.put_entry(&entry.entry.id.clone(), Some(Arc::new(entry)));
                    }
                    None => self.apply(&record.key, Some(&record.value), record.version)?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply(
        &mut self,
        key: &Key,
        value: Option<&[u8]>,
        version: Revision,
    ) -> Result<(), RecordError> {
        self.apply_noting(key, value, version, &mut Touched::default())
    }

    pub(super) fn apply_noting(
        &mut self,
        key: &Key,
        value: Option<&[u8]>,
        version: Revision,
        touched: &mut Touched,
    ) -> Result<(), RecordError> {
        match key.tree {
            Tree::Similar => {} // the store judges it; the view finds similar entries by their SPIFFE ID
            Tree::Entries => {
                let after = value
                    .map(|value| records::read_entry(key, value, version))
                    .transpose()?;
                let after = after.map(|entry| Arc::new(self.share(entry)));
                let before = self.put_entry(&records::entry_name(key)?, after.clone());
                touched.entries.push((before, after));
            }
            Tree::Nodes => {
                let node = value
                    .map(|value| records::read_node(key, value, version))
                    .transpose()?;
                let id = records::node_name(key)?;
                self.put_node(&id, node.map(Arc::new));
                touched.nodes.push(id);
            }
            Tree::Tokens => {
                let hash = records::token_name(key)?;
                match value {
                    Some(value) => {
                        let token = records::read_token(key, value, version)?;
                        self.tokens.insert_mut(*hash.as_bytes(), Arc::new(token));
                    }
                    None => {
                        self.tokens.remove_mut(hash.as_bytes());
                    }
                }
            }
            Tree::Grants => {
                let grant = value
                    .map(|value| records::read_grant(key, value, version))
                    .transpose()?;
                self.grants.put(&records::grant_name(key)?, grant.map(Arc::new));
            }
            tree => {
                touched.bundles |= tree == Tree::Bundles;
                if let Some(changed) = document_index(tree).and_then(|index| self.changed.get_mut(index)) {
                    *changed = version.max(*changed);
                }
                let Some(documents) = document_index(tree).and_then(|index| self.documents.get_mut(index))
                else {
                    return Ok(());
                };
                match value {
                    Some(value) => documents.insert_mut(
                        key.name.clone(),
                        Document {
                            version,
                            value: value.into(),
                        },
                    ),
                    None => {
                        documents.remove_mut(&key.name);
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets a new entry use the memory of equal names that are there already: at 100,000 entries the parents alone
    /// would be megabytes.
    fn share(&self, mut registered: Registered) -> Registered {
        let spec = &mut registered.entry.spec;
        // An empty list is an allocation too, unless all use one.
        if spec.federates_with.is_empty() {
            spec.federates_with = NO_TRUST_DOMAINS.clone();
        }
        if spec.dns_names.is_empty() {
            spec.dns_names = NO_DNS_NAMES.clone();
        }
        if let Some((parent, _)) = self.by_parent.get_key_value(&spec.parent_id) {
            spec.parent_id = parent.clone();
        }
        match self.by_parent.get_key_value(&spec.spiffe_id) {
            Some((id, _)) => spec.spiffe_id = id.clone(),
            None => {
                if let Ok(id) = self.trust_domain.member(spec.spiffe_id.path().clone())
                    && spec.spiffe_id.is_member_of(&self.trust_domain)
                {
                    spec.spiffe_id = id;
                }
            }
        }
        registered
    }

    fn put_entry(&mut self, id: &EntryId, after: Option<Arc<Registered>>) -> Option<Arc<Registered>> {
        let before = self.entries.get(id).cloned();
        if let Some(before) = &before {
            let spec = &before.entry.spec;
            leave(&mut self.by_parent, &spec.parent_id, id);
            leave(&mut self.by_spiffe_id, &spec.spiffe_id, id);
            if let Some(at) = spec.expires_at {
                self.expiring.remove_mut(&(at, id.clone()));
            }
            if let Some(grant) = &before.made_by {
                self.grants.entry_gone(grant);
            }
        }
        match after {
            Some(after) => {
                let (id, spec) = (&after.entry.id, &after.entry.spec);
                join(&mut self.by_parent, &spec.parent_id, id);
                join(&mut self.by_spiffe_id, &spec.spiffe_id, id);
                if let Some(at) = spec.expires_at {
                    self.expiring.insert_mut((at, id.clone()));
                }
                if let Some(grant) = &after.made_by {
                    self.grants.entry_made(grant);
                }
                self.entries.insert_mut(id.clone(), after.clone());
            }
            None => {
                self.entries.remove_mut(id);
            }
        }
        before
    }

    fn put_node(&mut self, id: &SpiffeId, after: Option<Arc<NodeRecord>>) {
        if let Some(before) = self.nodes.get(id).cloned() {
            for selector in &before.selectors {
                if let Some(mut nodes) = self.nodes_by_selector.get(selector).cloned() {
                    nodes.remove_mut(id);
                    if nodes.is_empty() {
                        self.nodes_by_selector.remove_mut(selector);
                    } else {
                        self.nodes_by_selector.insert_mut(selector.clone(), nodes);
                    }
                }
            }
        }
        match after {
            Some(after) => {
                for selector in &after.selectors {
                    let mut nodes = self.nodes_by_selector.get(selector).cloned().unwrap_or_default();
                    nodes.insert_mut(id.clone());
                    self.nodes_by_selector.insert_mut(selector.clone(), nodes);
                }
                self.nodes.insert_mut(id.clone(), after);
            }
            None => {
                self.nodes.remove_mut(id);
            }
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "View at {}: {} entries, {} nodes",
            self.position,
            self.entry_count(),
            self.node_count()
        )
    }
}

fn document_index(tree: Tree) -> Option<usize> {
    const DOCUMENTS: [Tree; 6] = [
        Tree::Bundles,
        Tree::Authorities,
        Tree::Relationships,
        Tree::Holds,
        Tree::Revocations,
        Tree::Origins,
    ];
    DOCUMENTS.iter().position(|documents| *documents == tree)
}
