//! A server elsewhere, by mutual TLS: this process is the administrator that the Workload API says it is.

use std::sync::Arc;

use muster_agent::sync::{Dial, ServerCertificate};
use muster_pki::bundle::BundleSet;
use muster_pki::tls::{PeerIds, SvidResolver, client_config};
use tonic::transport::Channel;

use crate::failure::{Failure, chain};
use crate::fetch;

/// Connects to the server at `host:port` and shows this process's SVID. `workload` is the Workload API's address.
pub(crate) async fn connect(server: &str, workload: &str) -> Result<Channel, Failure> {
    let (svid, key, bundle) = fetch::identity(workload).await?;
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
