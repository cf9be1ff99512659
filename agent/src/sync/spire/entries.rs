//! The calls behind a listing.

use std::sync::Arc;

use muster_proto::spire::server::entry::GetAuthorizedEntriesRequest;
use muster_proto::spire::server::entry::entry_client::EntryClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::info;

use super::call::{CallError, MOST_BYTES};
use super::listing::{Difference, Held, Listing, MASK, Next};

const SYNC: &str = "SyncAuthorizedEntries";
const GET: &str = "GetAuthorizedEntries";

/// How a server is asked for entries. Its answers teach it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Manner {
    /// Whether it has the stream; older servers have only the one answer.
    streams: bool,
    /// How many ids go into one question at most.
    ids: usize,
}

impl Manner {
    /// For a server that has not been asked yet.
    pub(super) const UNKNOWN: Self = Self {
        streams: true,
        ids: usize::MAX,
    };
}

/// What the server has otherwise than it is held. `manner` is what was learnt.
pub(super) async fn ask(
    channel: &Channel,
    held: &Arc<Held>,
    manner: &mut Manner,
) -> Result<Difference, CallError> {
    while manner.streams {
        let mut listing = Listing::new(Arc::clone(held), manner.ids);
        match run(channel, &mut listing).await {
            Ok(()) => return Ok(listing.difference()),
            Err(error) if is_unknown(&error) => {
                info!("the SPIRE server has no {SYNC}; it is asked by {GET}");
                manner.streams = false;
            }
            // Entries of one page may be larger together than a message: the question can be smaller.
            Err(error) if error.too_large() && listing.asks_by_id() && listing.page() > 1 => {
                manner.ids = listing.page() / 2;
            }
            Err(error) => return Err(error),
        }
    }
    let request = GetAuthorizedEntriesRequest {
        output_mask: Some(MASK),
    };
    let answer = client(channel).get_authorized_entries(request).await;
    let answer = answer.map_err(|status| CallError::Status(GET, Box::new(status)))?;
    let listing = Listing::new(Arc::clone(held), manner.ids);
    Ok(listing.whole(answer.into_inner().entries)?)
}

async fn run(channel: &Channel, listing: &mut Listing) -> Result<(), CallError> {
    let failed = |status: Status| CallError::Status(SYNC, Box::new(status));
    // One question at a time: the next is asked when the last is answered.
    let (questions, asked) = mpsc::channel(1);
    questions.try_send(Listing::question()).ok();
    let answers = client(channel)
        .sync_authorized_entries(ReceiverStream::new(asked))
        .await
        .map_err(failed)?;
    let mut answers = answers.into_inner();
    loop {
        let answer = answers.message().await.map_err(failed)?;
        match listing.receive(answer.ok_or(CallError::Short(SYNC))?)? {
            Next::Read => {}
            // A server that hangs up says why in its answer, which is read next.
            Next::Ask(question) => drop(questions.send(question).await),
            Next::Done => return Ok(()),
        }
    }
}

fn client(channel: &Channel) -> EntryClient<Channel> {
    EntryClient::new(channel.clone()).max_decoding_message_size(MOST_BYTES)
}

fn is_unknown(error: &CallError) -> bool {
    error
        .status()
        .is_some_and(|status| status.code() == Code::Unimplemented)
}
