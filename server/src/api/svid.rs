//! `spire.api.server.svid.v1.SVID`: SVIDs on an administrator's word (mint) and for a node's entries (new).
//!
//! Of a node's CSR only the key and its proof are used: the entry decides the rest (I6). A mint is an administrator's own word, so names and subject are read from
//! its CSR, and checked. Authorities of downstream servers are signed in [`downstream`]. WIT-SVIDs are not served
//! yet, and say so.

mod mint;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use muster_proto::convert::{item_ok, jwt_svid_to_wire, x509_svid_to_wire};
use muster_proto::spire::server::svid::svid_server::Svid;
use muster_proto::spire::server::svid::*;
use tonic::{Request, Response, Status};

use super::limits::Limited;
use super::{Caller, Context, Refusal, downstream, issue};

/// How many items of one batch are signed side by side. One batch may not fill the signing pool's queue.
const SIDE_BY_SIDE: usize = 8;

/// Signs SVIDs.
#[derive(Clone)]
pub struct SvidService {
    context: Arc<Context>,
}

impl SvidService {
    /// Signs with the CA of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let svid = mint::x509(&self.context, &caller, request.get_ref()).await?;
        Ok(Response::new(MintX509svidResponse {
            svid: Some(x509_svid_to_wire(&svid, "")),
        }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let svid = mint::jwt(&self.context, &caller, request.get_ref()).await?;
        Ok(Response::new(MintJwtsvidResponse {
            svid: Some(jwt_svid_to_wire(&svid, "")),
        }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let params = request.into_inner().params;
        if params.is_empty() {
            return Err(Refusal::invalid("missing parameters").into());
        }
        self.context
            .limits
            .wait(Limited::Csr, &caller, params.len())
            .await?;
        let (context, caller) = (&self.context, &caller);
        let items = stream::iter(params).map(|NewX509svidParams { entry_id, csr }| async move {
            issue::x509_for_entry(context, caller, &entry_id, csr).await
        });
        let results = items.buffered(SIDE_BY_SIDE).map(|item| match item {
            Ok((svid, _)) => batch_new_x509svid_response::Result {
                status: Some(item_ok()),
                svid: Some(x509_svid_to_wire(&svid, "")),
            },
            Err(refusal) => batch_new_x509svid_response::Result {
                status: Some(refusal.into_item()),
                svid: None,
            },
        });
        let results = results.collect().await;
        // The first of them may be seconds old.
        context.view_for(caller)?;
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        self.context.limits.wait(Limited::Jwt, &caller, 1).await?;
        let svid = issue::jwt_for_entry(&self.context, &caller, &request.entry_id, request.audience).await?;
        Ok(Response::new(NewJwtsvidResponse {
            svid: Some(jwt_svid_to_wire(&svid, "")),
        }))
    }

    async fn mint_witsvid(
        &self,
        _: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(no_wit().into())
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(no_wit().into())
    }

    async fn new_downstream_x509ca(
        &self,
        request: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        let caller = Caller::of(&request)?;
        let answer = downstream::new_x509_ca(&self.context, &caller, request.into_inner()).await?;
        Ok(Response::new(answer))
    }
}

fn no_wit() -> Refusal {
    Refusal::unimplemented("WIT-SVIDs are not issued yet")
}
