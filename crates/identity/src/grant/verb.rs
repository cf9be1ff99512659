use std::{fmt, str::FromStr};

macro_rules! verbs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that a grant lets its holder do: one closed list, and by default nothing of it.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Verb { $($(#[$doc])* $variant,)* }

        impl Verb {
            /// Every verb, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name on the wire, on the command line and in records. Names are added to, never reused.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

verbs! {
    /// Count, list and show entries, and follow them to the nodes.
    EntryRead = "entry.read",
    /// Create entries.
    EntryCreate = "entry.create",
    /// Change entries.
    EntryUpdate = "entry.update",
    /// Delete entries.
    EntryDelete = "entry.delete",
    /// Touch entries that make administrators.
    EntryAdmin = "entry.admin",
    /// Touch entries that let servers ask for authorities of their own.
    EntryDownstream = "entry.downstream",
    /// Touch node aliases: entries whose parent is the server.
    EntryAlias = "entry.alias",
    /// Touch entries that come with bundles of other trust domains.
    EntryFederate = "entry.federate",
    /// Touch entries whose SVIDs go to a store.
    EntryStore = "entry.store",
    /// Sign X.509-SVIDs by name.
    X509SvidMint = "x509_svid.mint",
    /// Sign JWT-SVIDs by name.
    JwtSvidMint = "jwt_svid.mint",
    /// Count, list and show nodes.
    NodeRead = "node.read",
    /// Ban nodes.
    NodeBan = "node.ban",
    /// Evict nodes.
    NodeEvict = "node.evict",
    /// Create join tokens.
    TokenCreate = "token.create",
    /// Count and show bundles of other trust domains.
    BundleRead = "bundle.read",
    /// Show federation relationships.
    FederationRead = "federation.read",
    /// Show how the authorities stand.
    AuthorityRead = "authority.read",
    /// Show grants.
    GrantRead = "grant.read",
    /// Ask the server how it stands: health, counters, log level.
    ServerRead = "server.read",
}

impl FromStr for Verb {
    type Err = ParseVerbError;

    fn from_str(text: &str) -> Result<Self, ParseVerbError> {
        let found = Self::ALL.iter().find(|verb| verb.name() == text);
        found.copied().ok_or(ParseVerbError)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text is no verb.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown verb; there are {}", Verb::ALL.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", "))]
pub struct ParseVerbError;

/// Verbs without order or duplicates.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct VerbSet(u32);

// The set is a bit for each verb.
const _: () = assert!(Verb::ALL.len() <= 32);

impl VerbSet {
    /// Whoever looks and touches nothing.
    pub fn viewer() -> Self {
        [
            Verb::EntryRead,
            Verb::NodeRead,
            Verb::BundleRead,
            Verb::FederationRead,
            Verb::AuthorityRead,
            Verb::ServerRead,
        ]
        .into_iter()
        .collect()
    }

    /// A viewer who also sees who may do what.
    pub fn auditor() -> Self {
        Self::viewer().iter().chain([Verb::GrantRead]).collect()
    }

    /// Whoever keeps entries.
    pub fn registrar() -> Self {
        [
            Verb::EntryRead,
            Verb::EntryCreate,
            Verb::EntryUpdate,
            Verb::EntryDelete,
        ]
        .into_iter()
        .collect()
    }

    /// Whoever shuts out what misbehaves, and gives nothing.
    pub fn responder() -> Self {
        [Verb::NodeRead, Verb::NodeBan, Verb::NodeEvict]
            .into_iter()
            .collect()
    }

    /// Whether the verb is among them.
    pub fn has(self, verb: Verb) -> bool {
        self.0 & bit(verb) != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The verbs, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        Verb::ALL.iter().copied().filter(move |verb| self.has(*verb))
    }
}

impl FromIterator<Verb> for VerbSet {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Self(verbs.into_iter().fold(0, |set, verb| set | bit(verb)))
    }
}

fn bit(verb: Verb) -> u32 {
    1 << verb as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_read_as_it_is_written() {
        for verb in Verb::ALL {
            assert_eq!(verb.name().parse(), Ok(*verb));
        }
        assert!("entry".parse::<Verb>().is_err());
    }

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let set: VerbSet = [Verb::EntryRead, Verb::ServerRead, Verb::EntryRead]
            .into_iter()
            .collect();
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            [Verb::EntryRead, Verb::ServerRead]
        );
        assert!(!set.has(Verb::EntryCreate) && !set.is_empty());
    }

    #[test]
    fn only_a_registrar_changes_entries() {
        for looks_on in [VerbSet::viewer(), VerbSet::auditor(), VerbSet::responder()] {
            assert!(!looks_on.has(Verb::EntryCreate) && !looks_on.has(Verb::X509SvidMint));
        }
        assert!(VerbSet::registrar().has(Verb::EntryDelete));
    }
}
