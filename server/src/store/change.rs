use std::fmt;

use muster_identity::Revision;

/// What a key belongs to. The numbers are on the disk.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Tree {
    /// Registration entries, by entry id.
    Entries = 1,
    /// Which entry has this SPIFFE ID, parent and selectors: «similar» entries exclude each other.
    Similar = 2,
    /// Attested nodes, by SPIFFE ID.
    Nodes = 3,
    /// Join tokens that were not redeemed, by the token's hash.
    Tokens = 4,
    /// Trust bundles, by trust domain.
    Bundles = 5,
    /// The servers' authorities, by authority id.
    Authorities = 6,
    /// Federation relationships, by trust domain.
    Relationships = 7,
    /// Grants.
    Grants = 8,
    /// Holds.
    Holds = 9,
    /// Revocations.
    Revocations = 10,
    /// From whom authorities came that others made, by kind and authority id.
    Origins = 11,
}

impl Tree {
    /// Every tree.
    pub const ALL: [Tree; 11] = [
        Tree::Entries,
        Tree::Similar,
        Tree::Nodes,
        Tree::Tokens,
        Tree::Bundles,
        Tree::Authorities,
        Tree::Relationships,
        Tree::Grants,
        Tree::Holds,
        Tree::Revocations,
        Tree::Origins,
    ];

    /// The tree with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| *tree as u8 == number)
    }

    /// Its name, as in messages and files.
    pub fn name(self) -> &'static str {
        match self {
            Tree::Entries => "entries",
            Tree::Similar => "similar",
            Tree::Nodes => "nodes",
            Tree::Tokens => "tokens",
            Tree::Bundles => "bundles",
            Tree::Authorities => "authorities",
            Tree::Relationships => "relationships",
            Tree::Grants => "grants",
            Tree::Holds => "holds",
            Tree::Revocations => "revocations",
            Tree::Origins => "origins",
        }
    }
}

/// The name of one record.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The tree that it is in.
    pub tree: Tree,
    /// Its name there: at most [`Key::MAX_LEN`] bytes.
    pub name: Box<[u8]>,
}

impl Key {
    /// The longest name, in bytes: a SPIFFE ID fits.
    pub const MAX_LEN: usize = 2048;

    /// A key of `tree`.
    pub fn new(tree: Tree, name: impl Into<Vec<u8>>) -> Self {
        Self {
            tree,
            name: name.into().into(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tree.name(), self.name.escape_ascii())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a key must be for a change to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expect {
    /// Not there.
    Absent,
    /// There, last changed at this revision.
    At(Revision),
    /// Whatever it is.
    Any,
}

/// One key put or deleted.
#[derive(Clone, Eq, PartialEq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// Its new value; none: it goes.
    pub value: Option<Vec<u8>>,
    /// What it must be before.
    pub expect: Expect,
}

impl Change {
    /// The largest value, in bytes. A commit of one change fits into a record of the journal.
    pub const MAX_VALUE: usize = 1 << 20;

    /// Puts a value.
    pub fn put(tree: Tree, name: impl Into<Vec<u8>>, value: Vec<u8>, expect: Expect) -> Self {
        Self {
            key: Key::new(tree, name),
            value: Some(value),
            expect,
        }
    }

    /// Deletes a key. Deleting what is not there, where that is expected, does nothing.
    pub fn delete(tree: Tree, name: impl Into<Vec<u8>>, expect: Expect) -> Self {
        Self {
            key: Key::new(tree, name),
            value: None,
            expect,
        }
    }
}

/// Without the value: it may hold what does not belong into a log.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.value.is_some() { "put" } else { "delete" };
        write!(f, "{verb} {} expecting {:?}", self.key, self.expect)
    }
}

/// A precondition that did not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key} is {}", match found { Some(at) => format!("at version {at}"), None => "absent".to_owned() })]
pub struct Conflict {
    /// The key.
    pub key: Key,
    /// Its version, if it is there.
    pub found: Option<Revision>,
}

/// One key with its value, and the revision that put it.
#[derive(Clone, Eq, PartialEq)]
pub struct Record {
    /// The key.
    pub key: Key,
    /// When it was last put.
    pub version: Revision,
    /// Its value.
    pub value: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at version {}", self.key, self.version)
    }
}
