//! What administrators are told of this node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use muster_pki::bundle::Bundle;
use muster_pki::x509::{ShownCertificate, X509Svid, shown_chain};
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
        let (svid, own) = (self.svid.load_full(), self.handle.own_bundle());
        NodeState {
            chain: svid
                .iter()
                .flat_map(|svid| shown_chain(svid, Bundle::x509_authorities(&own)))
                .map(link)
                .collect(),
            uptime: self.started.elapsed().max(Duration::ZERO),
            last_sync: self.standing.borrow().last_heard,
            x509_svids,
            jwt_svids,
        }
    }
}

fn link(shown: ShownCertificate) -> ChainLink {
    ChainLink {
        id: shown.id,
        expires: shown.not_after,
        subject: shown.subject,
    }
}
