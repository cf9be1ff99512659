//! Creating, changing and deleting entries.

use muster_identity::{EntryId, SpiffeId};
use muster_proto::{
    convert::check_status,
    spire::{
        server::entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest},
        types::EntryMask,
    },
};
use muster_runtime::{Clock, SystemClock};
use serde_json::json;
use tonic::Code;

use super::{
    client,
    fields::{Clearable, Fields},
    view,
    wait::Wait,
};
use crate::{
    args::ServerSocket,
    failure::Failure,
    output::{Answer, Style},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The identity, as spiffe://example.org/web.
    #[arg(value_name = "SPIFFE ID")]
    spiffe_id: SpiffeId,
    /// The node (or other identity) through which it is given; `muster node list` shows nodes.
    #[arg(long, visible_alias = "parent-id", value_name = "ID")]
    parent: SpiffeId,
    /// A name for the entry. [default: a random one]
    #[arg(long, value_name = "ENTRY")]
    id: Option<EntryId>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Create {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let what = format!("could not create an entry for {}", self.spiffe_id);
        if !self.fields.has_selectors() {
            return Err(Failure::usage(what, "no --selector is given")
                .next("say what a process must be, as --selector unix:uid:1000"));
        }
        let now = SystemClock.now();
        let (mut entry, _) = self
            .fields
            .to_wire(Some(&self.spiffe_id), Some(&self.parent), now);
        entry.id = self.id.as_ref().map(EntryId::to_string).unwrap_or_default();
        let mut client = client(&self.socket).await?;
        let request = BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        let answer = client
            .batch_create_entry(request)
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let result = only(answer.into_inner().results, &what)?;
        if let Err(status) = check_status(result.status.as_ref()) {
            let failure = Failure::status(what, &status);
            return Err(match (status.code(), result.entry) {
                (Code::AlreadyExists, Some(existing)) => failure.next(format!(
                    "it is entry {}: `muster entry show {0}`",
                    view::read(&existing)?.id
                )),
                _ => failure,
            });
        }
        let entry = view::read(&result.entry.unwrap_or_default())?;
        self.wait.until_delivered(&self.socket, &entry.id, style).await?;
        Ok(Answer::new(view::block(&entry, now), view::json(&entry)))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Update {
    /// The entry's id.
    #[arg(value_name = "ENTRY")]
    id: EntryId,
    /// Another identity.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    /// Another parent.
    #[arg(long, visible_alias = "parent-id", value_name = "ID")]
    parent: Option<SpiffeId>,
    #[command(flatten)]
    fields: Fields,
    /// Set a field back to what it is in a new entry.
    #[arg(long, value_enum, value_name = "FIELD")]
    clear: Vec<Clearable>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Update {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let what = format!("could not update entry {}", self.id);
        let now = SystemClock.now();
        let (mut entry, mut mask) = self
            .fields
            .to_wire(self.spiffe_id.as_ref(), self.parent.as_ref(), now);
        entry.id = self.id.to_string();
        for field in &self.clear {
            let mut cleared = EntryMask::default();
            field.put_into(&mut cleared);
            let before = mask;
            field.put_into(&mut mask);
            if before == mask {
                let name = format!("{field:?}").to_lowercase();
                return Err(Failure::usage(what, format!("{name} is both given and cleared")));
            }
        }
        if mask == EntryMask::default() {
            return Err(Failure::usage(what, "nothing to change is given")
                .next("name what is to be changed, as --x509-ttl 30m"));
        }
        let request = BatchUpdateEntryRequest {
            entries: vec![entry],
            input_mask: Some(mask),
            output_mask: None,
        };
        let answer = client(&self.socket)
            .await?
            .batch_update_entry(request)
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let result = only(answer.into_inner().results, &what)?;
        check_status(result.status.as_ref()).map_err(|status| Failure::status(&what, &status))?;
        let entry = view::read(&result.entry.unwrap_or_default())?;
        Ok(Answer::new(view::block(&entry, now), view::json(&entry)))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// Ids of entries.
    #[arg(required = true, value_name = "ENTRY")]
    ids: Vec<EntryId>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Delete {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let what = if self.ids.len() == 1 {
            format!("could not delete entry {}", self.ids[0])
        } else {
            "could not delete the entries".to_owned()
        };
        let request = BatchDeleteEntryRequest {
            ids: self.ids.iter().map(EntryId::to_string).collect(),
        };
        let answer = client(&self.socket)
            .await?
            .batch_delete_entry(request)
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let results = answer.into_inner().results;
        if results.len() != self.ids.len() {
            return Err(wrong_number(&what));
        }
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for (id, result) in self.ids.iter().zip(results) {
            match check_status(result.status.as_ref()) {
                Ok(()) => done.push(id.clone()),
                Err(status) => refused.push((id, Failure::status(&what, &status))),
            }
        }
        if let [(_, failure)] = refused.as_mut_slice()
            && done.is_empty()
        {
            let failure = Failure::refused(&failure.what, &failure.why);
            return Err(failure.next("`muster entry list` shows which there are"));
        }
        let mut text = view::deleted(&done);
        for (id, failure) in &refused {
            text.push_str(&format!("\nnot deleted: entry {id}: {}", failure.why));
        }
        let json = json!({
            "deleted": done.iter().map(EntryId::as_str).collect::<Vec<_>>(),
            "refused": refused
                .iter()
                .map(|(id, failure)| json!({"id": id.as_str(), "why": failure.why}))
                .collect::<Vec<_>>(),
        });
        Ok(Answer::new(text.trim_start(), json).incomplete(!refused.is_empty()))
    }
}

/// The one result of a batch of one.
fn only<T>(mut results: Vec<T>, what: &str) -> Result<T, Failure> {
    match (results.pop(), results.is_empty()) {
        (Some(result), true) => Ok(result),
        _ => Err(wrong_number(what)),
    }
}

fn wrong_number(what: &str) -> Failure {
    Failure::refused(
        what,
        "the server answered with another number of results than it was asked for",
    )
}
