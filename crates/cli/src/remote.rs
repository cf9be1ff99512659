//! A server elsewhere, by mutual TLS: this process is the administrator that the Workload API says it is.

use std::{sync::Arc, time::Duration};

use muster_agent::sync::{Dial, ServerCertificate};
use muster_pki::bundle::BundleSet;
use muster_pki::tls::{PeerIds, SvidResolver, client_config};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

use crate::failure::{Failure, chain};
use crate::fetch;

/// How long an identity below an authority that is to be revoked is waited out: the agent replaces it within seconds.
const REPLACED: Duration = Duration::from_secs(30);
/// How often the agent is asked for another.
const AGAIN: Duration = Duration::from_millis(500);

/// Connects to the server at `host:port` and shows this process's SVID, as the Workload API at `workload` gives it. One below an authority in `leaving` is replaced soon: the
/// server would cut the connection with that authority.
pub(crate) async fn connect(server: &str, workload: &str, leaving: &[String]) -> Result<Channel, Failure> {
    let until = Instant::now() + REPLACED;
    let (svid, key, bundle) = loop {
        let (svid, key, bundle) = fetch::identity(workload).await?;
        let above = svid.authority_id();
        let leaves = above.is_some_and(|above| leaving.iter().any(|id| id == above.as_str()));
        if !leaves || Instant::now() >= until {
            break (svid, key, bundle);
        }
        sleep(AGAIN).await;
    };
    let unusable = |error: &dyn std::error::Error| {
        Failure::refused("could not use this process's identity", chain(error))
    };
    let server_id = format!("{}/spire/server", svid.id().trust_domain().id());
    let expected = server_id.parse().map_err(|error| unusable(&error))?;
    let resolver = SvidResolver::new();
    resolver
        .set(&svid, Arc::new(key))
        .map_err(|error| unusable(&error))?;
    let bundles = Arc::new(arc_swap::ArcSwap::from_pointee(BundleSet::new(Arc::new(bundle))));
    let tls = client_config(bundles, PeerIds::Exactly(expected), Some(resolver));
    let dial = Dial {
        server: server.to_owned(),
        tls: tls.map_err(|error| unusable(&error))?,
        shown: ServerCertificate::default(),
    };
    dial.connect().await.map_err(|error| {
        Failure::unreachable(format!("could not reach the server at {server}"), chain(&error)).next(format!(
            "an entry with --admin, or the server's admin_ids, must make {} an administrator",
            svid.id()
        ))
    })
}
