//! What administrators are told of this node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use muster_identity::UnixTime;
use muster_pki::x509::{Name, X509Svid};
use tokio::sync::watch;

use crate::api::admin::{ChainLink, NodeInfo, NodeState};
use crate::cache::{Cache, Handle};
use crate::sync::Standing;

/// Looks at the parts when it is asked.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) handle: Handle,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) svid: Arc<ArcSwapOption<X509Svid>>,
    pub(crate) started: Instant,
}

impl NodeInfo for Report {
    fn state(&self) -> NodeState {
        let [_, x509_svids, jwt_svids, _] = self.handle.read(Cache::sizes);
        let svid = self.svid.load_full();
        NodeState {
            chain: svid.iter().map(|svid| link(svid)).collect(),
            uptime: self.started.elapsed().max(Duration::ZERO),
            last_sync: self.standing.borrow().last_heard,
            x509_svids,
            jwt_svids,
        }
    }
}

fn link(svid: &X509Svid) -> ChainLink {
    let subject = Name::parse(svid.leaf().subject())
        .map(|name| name.to_string())
        .unwrap_or_default();
    let expires: UnixTime = svid.not_after();
    ChainLink {
        id: Some(svid.id().clone()),
        expires,
        subject,
    }
}
