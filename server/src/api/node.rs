//! `muster.node.v1.Node`: what our own agents speak. Sync pushes, Issue signs; neither can hold up the other.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use muster_identity::SpiffeId;
use muster_proto::{
    convert,
    node::{self, issue_request, issue_response},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Context, Refusal, issue, limits::Limited};
use crate::sync;

/// How many items a node may have signed in one request, as with SPIRE's agents.
const MOST_ITEMS: usize = 500;
/// How many requests of one stream are worked on at once. A node needs few; a flood of them waits here, unread.
const REQUESTS_AT_ONCE: usize = 64;
/// How many items of one request are on the signing pool at once, so that one node's batch leaves room for others.
const ITEMS_AT_ONCE: usize = 8;
/// How many messages may wait for a slow node before the stream waits too. What it would be told is then told newer.
const UNREAD: usize = 4;

/// The service.
pub struct NodeService {
    context: Arc<Context>,
}

impl NodeService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl node::node_server::Node for NodeService {
    type SyncStream = Answers<node::SyncResponse>;

    async fn sync(
        &self,
        request: Request<Streaming<node::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = caller.node()?.clone();
        let (answers, answered) = mpsc::channel(UNREAD);
        let conversation = sync::Conversation::new(
            Arc::clone(&self.context),
            caller,
            id,
            request.into_inner(),
            answers,
        )?;
        self.context
            .spawner
            .spawn_for_peer("node sync", conversation.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(answered))))
    }

    type IssueStream = Answers<node::IssueResponse>;

    async fn issue(
        &self,
        request: Request<Streaming<node::IssueRequest>>,
    ) -> Result<Response<Self::IssueStream>, Status> {
        let caller = Caller::of(&request)?;
        let id = caller.node()?.clone();
        let end = sync::end_of(&caller)?;
        let clock = Arc::clone(&self.context.clock);
        let context = Arc::clone(&self.context);
        let answers = request
            .into_inner()
            .map(move |request| {
                let (context, caller, id) = (Arc::clone(&context), caller.clone(), id.clone());
                async move {
                    // The node may have been banned since the stream began: asked anew for each request (T-32).
                    sync::standing(&context, &caller, &id)?;
                    Ok(answer(&context, &caller, &id, request?).await)
                }
            })
            .buffer_unordered(REQUESTS_AT_ONCE);
        let until_the_certificate_ends = answers.take_until(async move { clock.sleep_until(end).await });
        // What comes after a failure would be answered by nobody.
        let until_failure = until_the_certificate_ends.scan(false, |failed, answer: Result<_, Status>| {
            let go_on = !std::mem::replace(failed, answer.is_err());
            std::future::ready(go_on.then_some(answer))
        });
        Ok(Response::new(Box::pin(until_failure)))
    }
}

async fn answer(
    context: &Context,
    caller: &Caller,
    node: &SpiffeId,
    request: node::IssueRequest,
) -> node::IssueResponse {
    let what = match request.what {
        Some(issue_request::What::X509(batch)) => x509(context, caller, node, batch).await,
        Some(issue_request::What::Jwt(order)) => jwt(context, caller, node, order).await,
        None => Err(Refusal::invalid("what: missing, or newer than this server")),
    };
    let what = what.unwrap_or_else(|refusal| issue_response::What::Refused(refusal.into_item()));
    node::IssueResponse {
        request: request.request,
        what: Some(what),
    }
}

async fn x509(
    context: &Context,
    caller: &Caller,
    node: &SpiffeId,
    batch: node::X509Request,
) -> Result<issue_response::What, Refusal> {
    if batch.items.len() > MOST_ITEMS {
        return Err(Refusal::invalid(format!(
            "items: {} are too many, at most {MOST_ITEMS} go into one request",
            batch.items.len()
        )));
    }
    context
        .limits
        .wait(Limited::Csr, caller, batch.items.len())
        .await?;
    let results = stream::iter(batch.items)
        .map(|item| async move {
            match issue::x509_for_entry(context, caller, node, &item.entry_id, item.csr).await {
                Ok((svid, version)) => node::X509Result {
                    status: Some(convert::item_ok()),
                    svid: Some(convert::x509_svid_to_wire(&svid, "")),
                    x509_version: version.0,
                },
                Err(refusal) => node::X509Result {
                    status: Some(refusal.into_item()),
                    svid: None,
                    x509_version: 0,
                },
            }
        })
        .buffered(ITEMS_AT_ONCE)
        .collect()
        .await;
    Ok(issue_response::What::X509(node::X509Response { results }))
}

async fn jwt(
    context: &Context,
    caller: &Caller,
    node: &SpiffeId,
    order: node::JwtRequest,
) -> Result<issue_response::What, Refusal> {
    context.limits.wait(Limited::Jwt, caller, 1).await?;
    let response = match issue::jwt_for_entry(context, caller, node, &order.entry_id, order.audience).await {
        Ok(svid) => node::JwtResponse {
            status: Some(convert::item_ok()),
            svid: Some(convert::jwt_svid_to_wire(&svid, "")),
        },
        Err(refusal) => node::JwtResponse {
            status: Some(refusal.into_item()),
            svid: None,
        },
    };
    Ok(issue_response::What::Jwt(response))
}
