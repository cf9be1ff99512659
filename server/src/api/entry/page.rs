//! A page of a list: the entries behind an id, in the order of ids. A list that changes between two pages neither
//! repeats nor loses an entry that stays.

use std::sync::Arc;

use muster_identity::{EntryId, TrustDomain};
use muster_proto::convert::{self, EntryFilter, FieldError};
use muster_proto::spire::types;

use crate::{
    api::{Refusal, pages::Size, scope::Scope},
    registry::{Registered, View},
};

/// Which part of a list is asked for.
pub(super) struct Page {
    size: Size,
    after: Option<EntryId>,
}

impl Page {
    pub(super) fn new(size: i32, token: &str) -> Result<Self, Refusal> {
        let size = Size::asked(size)?;
        let after = match token {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Refusal::invalid(format!(
                    "page_token: could not parse token {:?}; send what the page before gave",
                    muster_runtime::logging::shown(token)
                ))
            })?),
        };
        Ok(Self { size, after })
    }

    /// The entries of the page that the caller may see, with the fields that `mask` names, and the token of the next one.
    pub(super) fn of(
        &self,
        view: &View,
        scope: &Scope,
        filter: &EntryFilter,
        mask: Option<&types::EntryMask>,
    ) -> (Vec<types::Entry>, String) {
        let found =
            matching(view, filter, self.after.as_ref()).filter(|found| scope.shows(&found.entry.spec));
        self.size.fill(
            found,
            |found| convert::entry_to_wire(&found.entry, mask),
            |found| found.entry.id.to_string(),
        )
    }
}

/// A filter that this server can answer: IDs of other trust domains, or of no workload, are mistakes and not lists without an entry.
pub(super) fn filter(
    trust_domain: &TrustDomain,
    read: Result<EntryFilter, FieldError>,
) -> Result<EntryFilter, Refusal> {
    const PARENT: &str = "malformed parent ID filter";
    const ID: &str = "malformed SPIFFE ID filter";
    // In SPIRE's words, by which its users know them.
    let filter = read.map_err(|error| {
        let what = match error.field() {
            field if field.starts_with("filter.by_parent_id") => PARENT,
            field if field.starts_with("filter.by_spiffe_id") => ID,
            field if field.starts_with("filter.by_selectors") => "malformed selectors filter",
            field if field.starts_with("filter.by_federates_with") => "malformed federates with filter",
            _ => return Refusal::from(error),
        };
        Refusal::invalid(format!("{what}: {}", error.reason()))
    })?;
    for (id, what) in [(&filter.parent_id, PARENT), (&filter.spiffe_id, ID)] {
        let Some(id) = id else { continue };
        if !id.is_member_of(trust_domain) || id.is_trust_domain_id() {
            return Err(Refusal::invalid(format!(
                "{what}: \"{id}\" is not a member of trust domain \"{trust_domain}\""
            )));
        }
        if what == ID && id.path().is_reserved() {
            return Err(Refusal::invalid(format!(
                "{what}: \"{id}\" is in the reserved namespace /spire"
            )));
        }
    }
    Ok(filter)
}

/// The entries behind `after` that the filter means, in the order of ids. By way of an index where the filter names one.
pub(super) fn matching<'a>(
    view: &'a View,
    filter: &'a EntryFilter,
    after: Option<&'a EntryId>,
) -> Box<dyn Iterator<Item = &'a Arc<Registered>> + 'a> {
    let behind = move |found: &&Arc<Registered>| after.is_none_or(|after| found.entry.id > *after);
    let meant = |found: &&Arc<Registered>| filter.matches(&found.entry);
    match (&filter.spiffe_id, &filter.parent_id, after) {
        (Some(id), ..) => Box::new(view.entries_of_id(id).filter(behind).filter(meant)),
        (None, Some(parent), _) => Box::new(view.children_of(parent).filter(behind).filter(meant)),
        (None, None, after) => Box::new(view.entries_after(after).filter(meant)),
    }
}
