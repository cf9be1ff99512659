//! Looking for entries.

use muster_identity::{Entry, EntryId, Selector, SpiffeId, TrustDomain};
use muster_proto::{
    convert::spiffe_id_to_wire,
    spire::{
        server::entry::{
            CountEntriesRequest, GetEntryRequest, ListEntriesRequest, count_entries_request,
            list_entries_request,
        },
        types::{self, FederatesWithMatch, SelectorMatch},
    },
};
use muster_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{client, view};
use crate::{
    args::ServerSocket,
    failure::Failure,
    output::{self, Answer, Style},
    pages,
};

/// Which entries are meant: those that every condition holds for.
#[derive(clap::Args, Debug)]
struct Filter {
    /// Entries that give this identity.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Entries below this parent.
    #[arg(long, visible_alias = "parent-id", value_name = "ID")]
    parent: Option<SpiffeId>,
    /// Entries with this selector. Repeat it for several.
    #[arg(long = "selector", value_name = "TYPE:VALUE")]
    selectors: Vec<Selector>,
    /// How an entry's selectors stand to those you name.
    #[arg(
        long = "match",
        value_enum,
        default_value_t,
        value_name = "HOW",
        requires = "selectors"
    )]
    how: How,
    /// Entries that federate with this trust domain.
    #[arg(long, value_name = "TRUST DOMAIN")]
    federates_with: Vec<TrustDomain>,
    /// Entries with this hint; an empty one finds those without.
    #[arg(long)]
    hint: Option<String>,
    /// Entries that may ask for an authority of their own.
    #[arg(long)]
    downstream: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum How {
    /// The same ones.
    Exact,
    /// No others than these.
    Subset,
    /// At least these.
    #[default]
    Superset,
    /// One of these.
    Any,
}

impl How {
    /// The number that both match messages of the contract use for it.
    pub(crate) fn to_wire(self) -> i32 {
        match self {
            Self::Exact => 0,
            Self::Subset => 1,
            Self::Superset => 2,
            Self::Any => 3,
        }
    }
}

/// The wire form of selectors to match, when there are any.
pub(crate) fn selector_match(selectors: &[Selector], how: How) -> Option<SelectorMatch> {
    (!selectors.is_empty()).then(|| SelectorMatch {
        selectors: selectors.iter().map(types::Selector::from).collect(),
        r#match: how.to_wire(),
    })
}

impl Filter {
    fn to_wire(&self) -> list_entries_request::Filter {
        list_entries_request::Filter {
            by_spiffe_id: self.spiffe_id.as_ref().map(spiffe_id_to_wire),
            by_parent_id: self.parent.as_ref().map(spiffe_id_to_wire),
            by_selectors: selector_match(&self.selectors, self.how),
            by_federates_with: (!self.federates_with.is_empty()).then(|| FederatesWithMatch {
                trust_domains: self.federates_with.iter().map(TrustDomain::to_string).collect(),
                r#match: How::Superset.to_wire(),
            }),
            by_hint: self.hint.clone(),
            by_downstream: self.downstream.then_some(true),
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    socket: ServerSocket,
}

impl List {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let client = client(&self.socket).await?;
        let filter = self.filter.to_wire();
        let found = pages::all("entries", style, |page_token| {
            let mut client = client.clone();
            let request = ListEntriesRequest {
                filter: Some(filter.clone()),
                output_mask: None,
                page_size: pages::PAGE,
                page_token,
            };
            async move {
                let page = client.list_entries(request).await?.into_inner();
                Ok((page.entries, page.next_page_token))
            }
        })
        .await?;
        let entries = found.iter().map(view::read).collect::<Result<Vec<Entry>, _>>()?;
        Ok(Answer::new(
            view::table(&entries),
            entries.iter().map(view::json).collect::<Value>(),
        ))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Count {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Count {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let filter = self.filter.to_wire();
        let filter = count_entries_request::Filter {
            by_spiffe_id: filter.by_spiffe_id,
            by_parent_id: filter.by_parent_id,
            by_selectors: filter.by_selectors,
            by_federates_with: filter.by_federates_with,
            by_hint: filter.by_hint,
            by_downstream: filter.by_downstream,
        };
        let request = CountEntriesRequest { filter: Some(filter) };
        let answer = client(&self.socket)
            .await?
            .count_entries(request)
            .await
            .map_err(|status| Failure::status("could not count entries", &status))?;
        let count = usize::try_from(answer.into_inner().count).unwrap_or(0);
        Ok(Answer::new(
            output::count(count, "entry", "entries"),
            json!({ "count": count }),
        ))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// Ids of entries.
    #[arg(required = true, value_name = "ENTRY")]
    ids: Vec<EntryId>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Show {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let now = SystemClock.now();
        let (mut blocks, mut values) = (Vec::new(), Vec::new());
        for id in &self.ids {
            let request = GetEntryRequest {
                id: id.to_string(),
                output_mask: None,
            };
            let answer = client.get_entry(request).await.map_err(|status| {
                let failure = Failure::status(format!("could not show entry {id}"), &status);
                if status.code() == tonic::Code::NotFound {
                    return failure.next("`muster entry list` shows which there are");
                }
                failure
            })?;
            let entry = view::read(&answer.into_inner())?;
            blocks.push(view::block(&entry, now));
            values.push(view::json(&entry));
        }
        let json = if values.len() == 1 {
            values.remove(0)
        } else {
            values.into()
        };
        Ok(Answer::new(blocks.join("\n\n"), json))
    }
}
