mod name;
mod outside;
mod verb;

use std::sync::Arc;

use crate::{DnsName, EntrySpec, IdPath, Lifetime, SpiffeId, TrustDomain, UnixTime};

pub use name::{GrantName, ParseGrantNameError};
pub use outside::Outside;
pub use verb::{ParseVerbError, Verb, VerbSet};

/// What somebody may do who is no full administrator. What it does not name, it does not give: an empty list allows nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Its name.
    pub name: GrantName,
    /// Who holds it.
    pub subject: Subject,
    /// What its holder may do.
    pub verbs: VerbSet,
    /// Below which paths the SPIFFE IDs lie that its holder may give. `/`, the empty path, is all.
    pub paths: Arc<[IdPath]>,
    /// Below which paths the parents lie through which they are given; also the nodes that its holder sees, bans and evicts.
    pub parents: Arc<[IdPath]>,
    /// Which types of selectors entries may ask for.
    pub selector_types: SelectorTypes,
    /// At or below which domains the DNS names lie.
    pub dns_domains: Arc<[DnsName]>,
    /// The longest life of an SVID that comes of it.
    pub max_lifetime: Option<Lifetime>,
    /// How many entries made by it there may be.
    pub max_entries: Option<u32>,
    /// When it ends.
    pub expires_at: Option<UnixTime>,
}

/// Who holds a grant.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// Whoever shows an X.509-SVID of this ID.
    Id(SpiffeId),
    /// Whoever is on the admin socket under this uid.
    Uid(u32),
}

/// Types of selectors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SelectorTypes {
    /// Any.
    Any,
    /// These.
    Of(Arc<[Arc<str>]>),
}

impl Grant {
    /// The most paths, parents, selector types or domains of one grant: each is compared at each call.
    pub const MOST: usize = 64;

    /// Whether it counts at `now`.
    pub fn is_live(&self, now: UnixTime) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the entry lies inside: its name, its parent, what it asks for. What may be shown of it is another matter than what
    /// may be done to it.
    pub fn holds(&self, spec: &EntrySpec) -> bool {
        self.place(spec).is_ok()
    }

    /// Whether a node lies inside.
    pub fn holds_node(&self, id: &SpiffeId) -> bool {
        is_under_one(id.path(), &self.parents)
    }

    /// Whether the change from `before` to `after` may be made by this grant: none before is a creation, none after a deletion. Both must lie inside, with all that
    /// they give: an entry can neither be pulled into the grant nor pushed out of it.
    ///
    /// # Errors
    /// Says what lies outside.
    pub fn allows(&self, before: Option<&EntrySpec>, after: Option<&EntrySpec>) -> Result<(), Outside> {
        let verb = match (before, after) {
            (None, None) => return Ok(()),
            (None, Some(_)) => Verb::EntryCreate,
            (Some(_), Some(_)) => Verb::EntryUpdate,
            (Some(_), None) => Verb::EntryDelete,
        };
        self.needs(verb)?;
        for spec in [before, after].into_iter().flatten() {
            self.covers(spec)?;
        }
        match after {
            Some(after) => self.lives(after),
            None => Ok(()),
        }
    }

    /// Whether an entry and all that it gives lie inside, apart from lifetimes.
    ///
    /// # Errors
    /// Says what lies outside.
    pub fn covers(&self, spec: &EntrySpec) -> Result<(), Outside> {
        self.place(spec)?;
        for (gives, verb) in [
            (spec.admin, Verb::EntryAdmin),
            (spec.downstream, Verb::EntryDownstream),
            (spec.is_node_alias(), Verb::EntryAlias),
            (!spec.federates_with.is_empty(), Verb::EntryFederate),
            (spec.store_svid, Verb::EntryStore),
        ] {
            if gives {
                self.needs(verb)?;
            }
        }
        spec.dns_names
            .iter()
            .try_for_each(|name| self.covers_dns_name(name))
    }

    /// Whether the ID, one of the server's own trust domain, lies inside.
    ///
    /// # Errors
    /// When it does not.
    pub fn covers_id(&self, id: &SpiffeId) -> Result<(), Outside> {
        match is_under_one(id.path(), &self.paths) {
            true => Ok(()),
            false => Err(Outside::Path(id.clone())),
        }
    }

    /// Whether the DNS name lies inside.
    ///
    /// # Errors
    /// When it does not.
    pub fn covers_dns_name(&self, name: &DnsName) -> Result<(), Outside> {
        match self.dns_domains.iter().any(|domain| is_in_domain(name, domain)) {
            true => Ok(()),
            false => Err(Outside::DnsName(name.clone())),
        }
    }

    /// Whether the grant has the verb.
    ///
    /// # Errors
    /// When it has not.
    pub fn needs(&self, verb: Verb) -> Result<(), Outside> {
        match self.verbs.has(verb) {
            true => Ok(()),
            false => Err(Outside::Verb(verb)),
        }
    }

    /// How long an SVID may live for which `asked` is what it would be otherwise.
    #[must_use]
    pub fn capped(&self, asked: Lifetime) -> Lifetime {
        self.max_lifetime.map_or(asked, |cap| asked.min(cap))
    }

    /// Checks what single fields can't say, for a server of `trust_domain`.
    ///
    /// # Errors
    /// Begins with the field that is wrong.
    pub fn check(&self, trust_domain: &TrustDomain) -> Result<(), GrantError> {
        if let Subject::Id(id) = &self.subject {
            if id.is_trust_domain_id() {
                return Err(GrantError::SubjectWithoutPath(id.clone()));
            }
            // A node's standing is asked where it calls as a node, not here.
            if id.is_member_of(trust_domain) && id.path().is_reserved() {
                return Err(GrantError::ReservedSubject(id.clone()));
            }
        }
        if self.verbs.is_empty() {
            return Err(GrantError::NoVerbs);
        }
        if let Some(domain) = self.dns_domains.iter().find(|domain| domain.is_wildcard()) {
            return Err(GrantError::WildcardDomain(domain.clone()));
        }
        let any = |verbs: &[Verb]| verbs.iter().any(|verb| self.verbs.has(*verb));
        let entries = [
            Verb::EntryRead,
            Verb::EntryCreate,
            Verb::EntryUpdate,
            Verb::EntryDelete,
        ];
        let nodes = [Verb::NodeRead, Verb::NodeBan, Verb::NodeEvict, Verb::TokenCreate];
        let mints = [Verb::X509SvidMint, Verb::JwtSvidMint];
        if self.paths.is_empty() && (any(&entries) || any(&mints)) {
            return Err(GrantError::Nothing { field: "paths" });
        }
        if self.parents.is_empty() && (any(&entries) || any(&nodes)) {
            return Err(GrantError::Nothing { field: "parents" });
        }
        if self.selector_types.is_nothing() && any(&entries) {
            return Err(GrantError::Nothing {
                field: "selector_types",
            });
        }
        Ok(())
    }

    /// Whether name, parent and selectors lie inside.
    fn place(&self, spec: &EntrySpec) -> Result<(), Outside> {
        self.covers_id(&spec.spiffe_id)?;
        if !is_under_one(spec.parent_id.path(), &self.parents) {
            return Err(Outside::Parent(spec.parent_id.clone()));
        }
        let mut kinds = spec.selectors.iter().map(|selector| selector.kind());
        match kinds.find(|kind| !self.selector_types.has(kind)) {
            Some(kind) => Err(Outside::SelectorType(kind.into())),
            None => Ok(()),
        }
    }

    /// Under a cap each lifetime is written down: the server's default may grow.
    fn lives(&self, spec: &EntrySpec) -> Result<(), Outside> {
        let Some(cap) = self.max_lifetime else {
            return Ok(());
        };
        let within = |lifetime: Option<Lifetime>| lifetime.is_some_and(|lifetime| lifetime <= cap);
        match within(spec.x509_svid_ttl) && within(spec.jwt_svid_ttl) {
            true => Ok(()),
            false => Err(Outside::Lifetime { cap }),
        }
    }
}

impl SelectorTypes {
    /// Whether the type is among them.
    pub fn has(&self, kind: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Of(kinds) => kinds.iter().any(|known| **known == *kind),
        }
    }

    fn is_nothing(&self) -> bool {
        matches!(self, Self::Of(kinds) if kinds.is_empty())
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
        }
    }
}

/// What is wrong with a grant. Each text begins with the field's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GrantError {
    /// The subject is a trust domain.
    #[error("subject: {0} has no path; name a workload")]
    SubjectWithoutPath(SpiffeId),
    /// The subject is a node or a server.
    #[error("subject: {0} is in the reserved namespace /spire; name a workload")]
    ReservedSubject(SpiffeId),
    /// It gives nothing.
    #[error("verbs: none given")]
    NoVerbs,
    /// A domain is a wildcard.
    #[error("dns_domains: {0} has a wildcard; a domain stands for all names below it")]
    WildcardDomain(DnsName),
    /// A list is empty that its verbs need.
    #[error("{field}: none given, so that the verbs would allow nothing")]
    Nothing {
        /// The list.
        field: &'static str,
    },
}

fn is_under_one(path: &IdPath, prefixes: &[IdPath]) -> bool {
    prefixes.iter().any(|prefix| path.is_under(prefix))
}

/// Whether the name is the domain or lies below it, label by label. A wildcard lies below what follows it.
fn is_in_domain(name: &DnsName, domain: &DnsName) -> bool {
    match name.as_str().strip_suffix(domain.as_str()) {
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests;
