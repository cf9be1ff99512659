//! Every socket, bound.

use std::sync::Arc;

use muster_pki::tls::SvidResolver;
use muster_runtime::http::HttpDoor;
use muster_seal::Seal;

use super::BuildError;
use super::ground::{Ground, Records};
use crate::config::Config;
use crate::doors::Doors;
use crate::federation::Federation;
use crate::federation::endpoint::Endpoint;
use crate::oidc::Discovery;
use crate::web::WebState;

/// Where the server is spoken to.
pub(super) struct Openings {
    pub(super) doors: Doors,
    /// Other trust domains ask for our bundle here.
    pub(super) endpoint: Option<Endpoint>,
    /// OAuth servers ask for our keys here.
    pub(super) discovery: Option<Discovery>,
    /// Probes.
    pub(super) http: Option<HttpDoor>,
}

impl Openings {
    pub(super) async fn bind(
        config: &Config,
        ground: &Ground,
        records: &Records,
        resolver: SvidResolver,
        federation: &Federation,
        seal: &Arc<dyn Seal>,
    ) -> Result<Self, BuildError> {
        let web = WebState {
            trust_domain: &config.trust_domain,
            data_dir: &config.data_dir,
            seal,
            addresses: config.federation.addresses,
        };
        let endpoint = match config.federation.endpoint.clone() {
            None => None,
            Some(endpoint) => Some(Endpoint::bind(endpoint, resolver.clone(), &web).await?),
        };
        let doors = Doors::bind(config, &records.bundles, resolver, &ground.clock, federation).await?;
        let discovery = match config.oidc.clone() {
            None => None,
            Some(oidc) => Some(Discovery::bind(oidc, &web).await?),
        };
        let http = match config.http {
            None => None,
            Some(address) => Some(
                HttpDoor::bind(address)
                    .await
                    .map_err(|source| BuildError::Http { address, source })?,
            ),
        };
        Ok(Self {
            doors,
            endpoint,
            discovery,
            http,
        })
    }
}
