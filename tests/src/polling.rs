use std::collections::HashMap;

use muster_proto::spire::{
    server::{
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::{SyncAuthorizedEntriesRequest, entry_client::EntryClient},
    },
    types::{Entry, EntryMask},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::Home;

/// How many ids SPIRE's agent asks for at once.
const PAGE: usize = 500;

/// A node that looks at its entries and the bundle as SPIRE's agent does, and has no workloads. Hundreds fit into one process.
pub struct PollingAgent {
    channel: Channel,
    known: HashMap<String, Version>,
}

/// What one look brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Polled {
    /// Revisions that came; none where all entries came at once.
    pub revisions: usize,
    /// Whole entries that came.
    pub entries: usize,
}

/// By what SPIRE's agent tells an entry that changed: its revision, and when it was created.
type Version = (i64, i64);

impl PollingAgent {
    /// Joins by a token of its own, with `alias` for a second name.
    pub async fn join(home: &Home, alias: &str) -> Self {
        let identity = home.join(Some(alias)).await;
        Self {
            channel: home.tcp(Some(&identity)).await,
            known: HashMap::new(),
        }
    }

    /// How many entries it holds.
    pub fn held(&self) -> usize {
        self.known.len()
    }

    /// Looks once.
    pub async fn poll(&mut self) -> Result<Polled, Status> {
        let (asking, asked) = mpsc::channel(1);
        let ask = async |request| {
            asking
                .send(request)
                .await
                .map_err(|_| Status::unknown("the stream ended before the question"))
        };
        ask(SyncAuthorizedEntriesRequest {
            output_mask: Some(mask()),
            ids: vec![],
        })
        .await?;
        let mut client = EntryClient::new(self.channel.clone());
        let mut answers = client
            .sync_authorized_entries(ReceiverStream::new(asked))
            .await?
            .into_inner();
        let mut polled = Polled::default();
        let mut next = async || {
            answers
                .message()
                .await?
                .ok_or_else(|| Status::unknown("the stream ended before the answer"))
        };
        let first = next().await?;
        if first.entry_revisions.is_empty() {
            polled.entries = first.entries.len();
            self.known = first.entries.into_iter().map(version).collect();
        } else {
            let (mut revisions, mut more) = (first.entry_revisions, first.more);
            while more {
                let page = next().await?;
                more = page.more;
                revisions.extend(page.entry_revisions);
            }
            polled.revisions = revisions.len();
            let now: HashMap<_, _> = revisions
                .into_iter()
                .map(|revision| (revision.id, (revision.revision_number, revision.created_at)))
                .collect();
            let mut wanted: Vec<_> = now
                .iter()
                .filter(|(id, version)| self.known.get(*id) != Some(*version))
                .map(|(id, _)| id.clone())
                .collect();
            wanted.sort_unstable();
            self.known.retain(|id, _| now.contains_key(id));
            for ids in wanted.chunks(PAGE) {
                ask(SyncAuthorizedEntriesRequest {
                    output_mask: None,
                    ids: ids.to_vec(),
                })
                .await?;
                let mut more = true;
                while more {
                    let page = next().await?;
                    more = page.more;
                    polled.entries += page.entries.len();
                    self.known.extend(page.entries.into_iter().map(version));
                }
            }
        }
        BundleClient::new(self.channel.clone())
            .get_bundle(GetBundleRequest { output_mask: None })
            .await?;
        Ok(polled)
    }
}

fn version(entry: Entry) -> (String, Version) {
    (entry.id, (entry.revision_number, entry.created_at))
}

/// What SPIRE's agent wants of an entry.
fn mask() -> EntryMask {
    EntryMask {
        spiffe_id: true,
        selectors: true,
        federates_with: true,
        admin: true,
        downstream: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
        ..EntryMask::default()
    }
}
