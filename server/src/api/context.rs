//! What handlers work with.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_audit::{Audit, Event, Outcome};
use muster_identity::{Lifetime, SpiffeId, TrustDomain, UnixTime};
use muster_pki::x509::X509Svid;
use muster_runtime::logging::LogLevel;
use muster_runtime::{Clock, Readiness, Spawner};
use tokio::sync::watch;

use super::downstream::UnderWay;
use super::limits::Limits;
use super::meter::Meter;
use super::scope::OneAtATime;
use super::{Changes, Refusal};
use crate::bundles::Bundles;
use crate::ca::{Authorities, Ca, SignError, Upstream, Wildcards};
use crate::federation::Federation;
use crate::node_attestors::NodeAttestors;
use crate::nodes::Nodes;
use crate::registry::Registry;
use crate::sync::Connections;

/// The parts of the server that handlers share. One value for all services, behind an `Arc`.
pub struct Context {
    /// Whose server this is.
    pub trust_domain: TrustDomain,
    /// What is registered.
    pub registry: Registry,
    /// The streams to nodes.
    pub connections: Connections,
    /// The attested nodes.
    pub nodes: Arc<Nodes>,
    /// How nodes may prove themselves beside join tokens.
    pub node_attestors: NodeAttestors,
    /// What signs.
    pub ca: Ca,
    /// The authorities that it signs with.
    pub authorities: Authorities,
    /// Who stands above our authorities, if anybody.
    pub upstream: Option<Upstream>,
    /// The longest life of a downstream server's authority, and the usual one.
    pub downstream: Lifetime,
    /// Whether DNS names may have a wildcard.
    pub wildcards: Wildcards,
    /// The bundles.
    pub bundles: Bundles,
    /// The trust domains that we federate with.
    pub federation: Federation,
    /// The audit log.
    pub audit: Audit,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts and times calls.
    pub meter: Meter,
    /// Rate limits.
    pub limits: Limits,
    /// Starts tasks that outlive a call.
    pub spawner: Spawner,
    /// Room for changes that are under way, whoever still waits for them.
    pub changes: Changes,
    /// Whose turn it is to change something by a grant, or a grant.
    pub one_at_a_time: OneAtATime,
    /// Token-signing keys of other servers that are on their way up.
    pub publishing: UnderWay,
    /// The uid of this process: it is an administrator whatever grants say.
    pub own_uid: u32,
    /// The log level.
    pub log_level: LogLevel,
    /// Administrators by configuration.
    pub admin_ids: BTreeSet<SpiffeId>,
    /// The server's own certificate.
    pub server_svid: watch::Receiver<Option<Arc<X509Svid>>>,
    /// Whether the server can serve.
    pub readiness: Readiness,
    /// When it was started.
    pub started_at: UnixTime,
}

impl Context {
    /// The server's own SPIFFE ID, `spiffe://<trust domain>/spire/server`.
    pub fn server_id(trust_domain: &TrustDomain) -> SpiffeId {
        let id = format!("{}/spire/server", trust_domain.id());
        id.parse()
            .expect("a trust domain and a fixed path make an ID; both were checked")
    }

    /// Records that something was done, and waits until the record is durable.
    pub async fn record(&self, event: Event) -> Result<(), Refusal> {
        self.audit.record(event).await?;
        Ok(())
    }

    /// Refuses what has to do with tokens where none are signed, before it is looked at, in SPIRE's words.
    pub(super) fn with_tokens(&self) -> Result<(), Refusal> {
        match self.ca.signs_tokens() {
            true => Ok(()),
            false => Err(SignError::TokensDisabled.into()),
        }
    }

    /// Records a refusal under its reference. When the audit log fails, the answer is that instead: nobody learns anything by an unrecorded call.
    pub async fn refused(&self, refusal: Refusal, event: impl FnOnce(Outcome) -> Event) -> Refusal {
        let event = event(Outcome::refused(refusal.message())).reference(refusal.reference());
        match self.audit.record(event).await {
            Ok(_) => refusal,
            Err(error) => error.into(),
        }
    }
}
