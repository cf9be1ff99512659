//! What signs: the pool, and the authorities that are kept.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::available_parallelism;

use muster_audit::Audit;
use muster_pki::x509::ca_subject;
use muster_plugin_api::KeyManager;
use muster_runtime::SigningPool;

use super::BuildError;
use super::ground::{Ground, Records};
use crate::ca::{
    Authorities, Awaited, Ca, CaMeter, Commands, Keeper, Making, Terms, Upstream, UpstreamMeter,
};
use crate::config::Config;
use crate::sync::Connections;

/// Authorities that can sign, and the task that keeps them, not yet running.
pub(super) struct Signing {
    pub(super) ca: Ca,
    pub(super) authorities: Authorities,
    pub(super) upstream: Option<Upstream>,
    /// The streams to nodes, whom a new authority waits for.
    pub(super) connections: Connections,
    pub(super) keeper: Keeper,
    pub(super) commands: Commands,
}

impl Signing {
    /// Does what is due, so that both authorities sign.
    pub(super) async fn start(
        config: &Config,
        ground: &Ground,
        records: &Records,
        keys: Arc<dyn KeyManager>,
        audit: &Audit,
    ) -> Result<Self, BuildError> {
        let ca = Ca::new(
            config.trust_domain.clone(),
            config.ca.lifetimes.clone(),
            config.ca.tokens.clone(),
            Arc::clone(&ground.clock),
            pool(config).map_err(BuildError::Threads)?,
        );
        let connections = Connections::new();
        let (authorities, commands) = Authorities::new(records.registry.clone());
        let upstream = config.upstream.as_ref().map(|told| {
            let meter = ground.metrics.register(UpstreamMeter::register);
            Upstream::new(told.open(&config.trust_domain), meter, ground.readiness.clone())
        });
        let mut keeper = Keeper {
            terms: terms(config),
            ca: ca.clone(),
            keys,
            registry: records.registry.clone(),
            bundles: records.bundles.clone(),
            connections: connections.clone(),
            audit: audit.clone(),
            clock: Arc::clone(&ground.clock),
            meter: ground.metrics.register(CaMeter::register),
            awaited: Awaited::default(),
            making: Making::default(),
            upstream: upstream.clone(),
        };
        keeper.start().await?;
        Ok(Self {
            ca,
            authorities,
            upstream,
            connections,
            keeper,
            commands,
        })
    }
}

fn terms(config: &Config) -> Terms {
    Terms {
        trust_domain: config.trust_domain.clone(),
        subject: ca_subject(),
        lifetime: config.ca.lifetime,
        x509_key: config.ca.x509_key,
        jwt_key: config.ca.jwt_key,
        refresh_hint: config.ca.refresh_hint,
    }
}

fn pool(config: &Config) -> io::Result<SigningPool> {
    let threads = match config.signing_threads {
        0 => available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    };
    SigningPool::start(threads, config.signing_queue)
}
