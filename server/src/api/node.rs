//! `muster.node.v1.Node`: what our own agents speak. Sync pushes, Issue signs; neither can hold up the other.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, StreamExt as _, stream};
use muster_proto::{
    convert,
    node::{self, issue_request, issue_response},
};
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Context, Refusal, dismissal, issue, limits::Limited, until_dismissed};
use crate::sync::{Conversation, Outlet, StreamKind, outlet};

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

#[tonic::async_trait]
impl node::node_server::Node for NodeService {
    type SyncStream = Outlet<node::SyncResponse>;

    async fn sync(
        &self,
        request: Request<Streaming<node::SyncRequest>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let caller = Caller::of(&request)?;
        let dismissed = dismissal(&self.context, &caller, StreamKind::Sync)?;
        let (inlet, outlet) = outlet(UNREAD);
        let conversation = Conversation::new(Arc::clone(&self.context), caller, request.into_inner(), inlet)?;
        self.context
            .spawner
            .spawn_for_peer("node sync", conversation.run(dismissed));
        Ok(Response::new(outlet))
    }

    type IssueStream = Pin<Box<dyn Stream<Item = Result<node::IssueResponse, Status>> + Send>>;

    async fn issue(
        &self,
        request: Request<Streaming<node::IssueRequest>>,
    ) -> Result<Response<Self::IssueStream>, Status> {
        let caller = Caller::of(&request)?;
        let dismissed = dismissal(&self.context, &caller, StreamKind::Issue)?;
        let (context, node) = (Arc::clone(&self.context), caller.clone());
        let answers = request
            .into_inner()
            .map(move |request| {
                let (context, node) = (Arc::clone(&context), node.clone());
                async move {
                    let answer = answer(&context, &node, request?).await;
                    // What was signed first has waited for the rest of its batch.
                    context.view_for(&node)?;
                    Ok(answer)
                }
            })
            .buffer_unordered(REQUESTS_AT_ONCE);
        let answers = until_dismissed(Arc::clone(&self.context), caller, answers, dismissed);
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn answer(context: &Context, caller: &Caller, request: node::IssueRequest) -> node::IssueResponse {
    let what = match request.what {
        Some(issue_request::What::X509(batch)) => x509(context, caller, batch).await,
        Some(issue_request::What::Jwt(order)) => jwt(context, caller, order).await,
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
            match issue::x509_for_entry(context, caller, &item.entry_id, item.csr).await {
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
    order: node::JwtRequest,
) -> Result<issue_response::What, Refusal> {
    context.limits.wait(Limited::Jwt, caller, 1).await?;
    let response = match issue::jwt_for_entry(context, caller, &order.entry_id, order.audience).await {
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
