//! A page of a list: the entries behind an id, in the order of ids. A list that changes between two pages neither
//! repeats nor loses an entry that stays.

use std::sync::Arc;

use muster_identity::EntryId;
use muster_proto::convert::EntryFilter;

use crate::{
    api::Refusal,
    registry::{Registered, View},
};

/// The most entries on one page, whatever is asked: the next one is a call away (T-21).
const MOST: usize = 1_000;

/// Which part of a list is asked for.
pub(super) struct Page {
    /// None: all of it.
    size: Option<usize>,
    after: Option<EntryId>,
}

impl Page {
    pub(super) fn new(size: i32, token: &str) -> Result<Self, Refusal> {
        let size = match size {
            ..=-1 => return Err(Refusal::invalid(format!("page_size: {size} is negative"))),
            0 => None,
            1.. => Some(usize::try_from(size).unwrap_or(MOST).min(MOST)),
        };
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

    /// The entries of the page, and the token of the next one: with every page that is not empty, as SPIRE has it.
    pub(super) fn of(&self, view: &View, filter: &EntryFilter) -> (Vec<Arc<Registered>>, String) {
        let found = matching(view, filter, self.after.as_ref()).cloned();
        match self.size {
            None => (found.collect(), String::new()),
            Some(size) => {
                let page: Vec<_> = found.take(size).collect();
                let token = page
                    .last()
                    .map(|last| last.entry.id.to_string())
                    .unwrap_or_default();
                (page, token)
            }
        }
    }
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
