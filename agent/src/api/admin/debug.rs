//! `spire.agent.debug.v1.Debug`: what this node agent holds.

use std::time::Duration;

use async_trait::async_trait;
use muster_identity::{SpiffeId, UnixTime};
use muster_proto::spire::agent::debug::debug_server::{Debug as DebugService, DebugServer};
use muster_proto::spire::agent::debug::get_info_response::Cert;
use muster_proto::spire::agent::debug::{GetInfoRequest, GetInfoResponse};
use muster_proto::spire::types;
use tonic::{Request, Response, Status};

/// Who knows the state of this node.
pub trait NodeInfo: Send + Sync + 'static {
    /// The state as it is now.
    fn state(&self) -> NodeState;
}

/// The state of a node agent.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// The node's own certificate and those above it.
    pub chain: Vec<ChainLink>,
    /// How long it has been running.
    pub uptime: Duration,
    /// When the server was last heard.
    pub last_sync: Option<UnixTime>,
    /// How many X.509-SVIDs are held.
    pub x509_svids: usize,
    /// How many JWT-SVIDs are held.
    pub jwt_svids: usize,
}

/// One certificate of the node's chain.
#[derive(Clone, Debug)]
pub struct ChainLink {
    /// Its SPIFFE ID, if it has one.
    pub id: Option<SpiffeId>,
    /// When it ends.
    pub expires: UnixTime,
    /// Its subject's distinguished name.
    pub subject: String,
}

/// The service.
#[derive(Debug)]
pub struct Debug<I>(I);

impl<I: NodeInfo> Debug<I> {
    /// The service over `info`.
    pub fn service(info: I) -> DebugServer<Self> {
        DebugServer::new(Self::new(info))
    }

    pub(super) fn new(info: I) -> Self {
        Self(info)
    }
}

#[async_trait]
impl<I: NodeInfo> DebugService for Debug<I> {
    async fn get_info(&self, _request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        let NodeState {
            chain,
            uptime,
            last_sync,
            x509_svids,
            jwt_svids,
        } = self.0.state();
        let svid_chain = chain.into_iter().map(|link| Cert {
            id: link.id.map(|id| types::Spiffeid {
                trust_domain: id.trust_domain().to_string(),
                path: id.path().to_string(),
            }),
            expires_at: link.expires.as_secs(),
            subject: link.subject,
        });
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        #[expect(deprecated, reason = "older tools read this field only")]
        let answer = GetInfoResponse {
            svid_chain: svid_chain.collect(),
            uptime: i32::try_from(uptime.as_secs()).unwrap_or(i32::MAX),
            svids_count: count(x509_svids),
            last_sync_success: last_sync.map_or(0, UnixTime::as_secs),
            cached_x509_svids_count: count(x509_svids),
            cached_jwt_svids_count: count(jwt_svids),
            cached_svidstore_x509_svids_count: 0,
        };
        Ok(Response::new(answer))
    }
}
