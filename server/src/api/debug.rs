//! `spire.api.server.debug.v1.Debug`: counters, and the server's own chain.

use std::sync::Arc;

use muster_pki::bundle::Bundle;
use muster_pki::x509::shown_chain;
use muster_proto::convert::spiffe_id_to_wire;
use muster_proto::spire::server::debug::debug_server::Debug;
use muster_proto::spire::server::debug::get_info_response::Cert;
use muster_proto::spire::server::debug::{GetInfoRequest, GetInfoResponse};
use tonic::{Request, Response, Status};

use super::Context;

/// Says how the server stands.
#[derive(Clone)]
pub struct DebugService {
    context: Arc<Context>,
}

impl DebugService {
    /// Counts what `context` holds.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Debug for DebugService {
    async fn get_info(&self, _: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let view = self.context.registry.view();
        let own = self.context.bundles.own();
        let svid = self.context.server_svid.borrow().clone();
        let chain = svid
            .iter()
            .flat_map(|svid| shown_chain(svid, Bundle::x509_authorities(&own)));
        let svid_chain = chain.map(|shown| Cert {
            id: shown.id.as_ref().map(spiffe_id_to_wire),
            expires_at: shown.not_after.as_secs(),
            subject: shown.subject,
        });
        let uptime = self.context.clock.now().since(self.context.started_at).as_secs();
        Ok(Response::new(GetInfoResponse {
            svid_chain: svid_chain.collect(),
            uptime: clamped(uptime),
            agents_count: clamped(view.node_count()),
            // SPIRE counts the server's own bundle among them.
            federated_bundles_count: clamped(self.context.bundles.set().iter().count()),
            entries_count: clamped(view.entry_count()),
        }))
    }
}

fn clamped(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}
