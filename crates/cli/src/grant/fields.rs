//! What a grant says, on the command line.

use clap::ValueEnum;
use muster_identity::{Grant, UnixTime, Verb, VerbSet};
use muster_proto::grant as wire;
use muster_runtime::{Clock, SystemClock};

use crate::duration;

/// Verbs that belong together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Role {
    /// Looks at entries, nodes, bundles and authorities.
    Viewer,
    /// Looks at these and at grants.
    Auditor,
    /// Keeps entries.
    Registrar,
    /// Bans and evicts nodes.
    Responder,
}

/// A bound that can be taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Bound {
    MaxTtl,
    MaxEntries,
    Expires,
}

#[derive(clap::Args, Debug, Default)]
pub(super) struct Fields {
    /// Verbs that belong together.
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<Role>,
    /// One more thing that its holder may do, as entry.create. Repeat it for several.
    #[arg(long = "verb", value_name = "VERB")]
    verbs: Vec<Verb>,
    /// Below which path the SPIFFE IDs lie that may be given, as /ai; / is all. Repeat it for several.
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Below which path the parents and nodes lie, as /spire/agent; / is all. Repeat it for several.
    #[arg(long = "parent", value_name = "PATH")]
    parents: Vec<String>,
    /// Which type of selectors entries may ask for, as unix; * is all. Repeat it for several.
    #[arg(long = "selector-type", value_name = "TYPE")]
    selector_types: Vec<String>,
    /// At or below which domain DNS names lie. Repeat it for several.
    #[arg(long = "dns-domain", value_name = "DOMAIN")]
    dns_domains: Vec<String>,
    /// The longest life of an SVID that comes of it.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    max_ttl: Option<i32>,
    /// How many entries made by it there may be at a time.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    max_entries: Option<u32>,
    /// When it ends, as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "MOMENT", value_parser = duration::parse_moment, conflicts_with = "expires_in")]
    expires_at: Option<UnixTime>,
    /// When it ends, from now on.
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    expires_in: Option<i32>,
}

impl Fields {
    pub(super) fn is_nothing(&self) -> bool {
        let lists = [
            &self.paths,
            &self.parents,
            &self.selector_types,
            &self.dns_domains,
        ];
        self.role.is_none()
            && self.verbs.is_empty()
            && lists.iter().all(|list| list.is_empty())
            && self.max_ttl.is_none()
            && self.max_entries.is_none()
            && self.expires_at.is_none()
            && self.expires_in.is_none()
    }

    /// Puts what was named into a grant. Verbs and lists take the place of those that were there.
    pub(super) fn put_into(&self, grant: &mut wire::Grant) {
        let role = self.role.map(Role::verbs).unwrap_or_default();
        let verbs: VerbSet = role.iter().chain(self.verbs.iter().copied()).collect();
        if !verbs.is_empty() {
            grant.verbs = verbs.iter().map(|verb| verb.to_string()).collect();
        }
        for (named, list) in [
            (&self.paths, &mut grant.paths),
            (&self.parents, &mut grant.parents),
            (&self.selector_types, &mut grant.selector_types),
            (&self.dns_domains, &mut grant.dns_domains),
        ] {
            if !named.is_empty() {
                list.clone_from(named);
            }
        }
        // Whoever only looks usually looks at all.
        if matches!(self.role, Some(Role::Viewer | Role::Auditor)) {
            for (list, all) in [
                (&mut grant.paths, "/"),
                (&mut grant.parents, "/"),
                (&mut grant.selector_types, "*"),
            ] {
                if list.is_empty() {
                    list.push(all.to_owned());
                }
            }
        }
        grant.max_lifetime = self.max_ttl.unwrap_or(grant.max_lifetime);
        grant.max_entries = self.max_entries.unwrap_or(grant.max_entries);
        let from_now = self
            .expires_in
            .map(|secs| SystemClock.now().as_secs().saturating_add(secs.into()));
        let ends = self.expires_at.map(UnixTime::as_secs).or(from_now);
        grant.expires_at = ends.unwrap_or(grant.expires_at);
    }
}

impl Bound {
    pub(super) fn take_from(self, grant: &mut wire::Grant) {
        match self {
            Self::MaxTtl => grant.max_lifetime = 0,
            Self::MaxEntries => grant.max_entries = 0,
            Self::Expires => grant.expires_at = 0,
        }
    }
}

impl Role {
    fn verbs(self) -> VerbSet {
        match self {
            Self::Viewer => VerbSet::viewer(),
            Self::Auditor => VerbSet::auditor(),
            Self::Registrar => VerbSet::registrar(),
            Self::Responder => VerbSet::responder(),
        }
    }
}

/// Reads what would be sent, so that a mistake is told as one of usage.
pub(super) fn checked(grant: &wire::Grant) -> Result<Grant, String> {
    muster_proto::convert::grant(grant).map_err(|error| error.to_string())
}
