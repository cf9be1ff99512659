//! One call: who makes it, whether it may be made now, and how it is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_identity::{EntryId, SpiffeId};
use muster_runtime::{Clock, Reference, Stop};
use muster_transport::Evidence;
use tonic::{Code, Status};
use tracing::warn;

use super::Identities;
use super::hand_outs::{Form, HandOuts};
use crate::api::ApiMetrics;
use crate::api::limiter::Limiter;
use crate::api::status::{Loudness, Refused, Whom, status};
use crate::peer::{AttestedCaller, Attestors, Peer, Turned};

/// What can be set for the Workload API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkloadSettings {
    /// Whether callers without an identity get the own bundle, to verify others with. SPIRE's `allow_unauthenticated_verifiers`.
    pub allow_unauthenticated_verifiers: bool,
    /// The claims of other trust domains' tokens that ValidateJWTSVID shows beside `sub`, `exp` and `aud`.
    pub allowed_foreign_jwt_claims: BTreeSet<String>,
    /// How many calls one uid in one control group may make each second.
    pub calls_per_second: u32,
    /// How many tokens it may have validated each second: a signature is checked for each.
    pub validations_per_second: u32,
}

/// What the Workload API is made of.
pub struct Parts {
    /// The cache.
    pub identities: Arc<dyn Identities>,
    /// Who says what a caller is.
    pub attestors: Arc<Attestors>,
    /// Where first hand-outs and refusals are recorded.
    pub audit: Audit,
    /// The time, for tokens.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: ApiMetrics,
    /// Ends the streams.
    pub stop: Stop,
}

impl Default for WorkloadSettings {
    fn default() -> Self {
        Self {
            allow_unauthenticated_verifiers: false,
            allowed_foreign_jwt_claims: BTreeSet::new(),
            calls_per_second: 50_000,
            validations_per_second: 2_000,
        }
    }
}

/// What all calls share.
pub(super) struct Desk {
    pub(super) parts: Parts,
    settings: ArcSwap<WorkloadSettings>,
    hand_outs: HandOuts,
    calls: Limiter,
    validations: Limiter,
    /// Refusals of one caller that are logged and recorded; the others are counted only, so that no caller can fill a disk.
    refusals: Limiter,
}

impl Desk {
    pub(super) fn new(parts: Parts, settings: WorkloadSettings) -> Self {
        let (calls, validations) = (settings.calls_per_second, settings.validations_per_second);
        Self {
            parts,
            settings: ArcSwap::from_pointee(settings),
            hand_outs: HandOuts::default(),
            calls: Limiter::new(calls, calls),
            validations: Limiter::new(validations, validations),
            refusals: Limiter::new(5, 50),
        }
    }

    /// What is set now.
    pub(super) fn settings(&self) -> arc_swap::Guard<Arc<WorkloadSettings>> {
        self.settings.load()
    }

    /// Sets it anew, for calls from now on and for what open streams are sent next.
    pub(super) fn set(&self, settings: WorkloadSettings) {
        let (calls, validations) = (settings.calls_per_second, settings.validations_per_second);
        self.calls.set_rate(calls, calls);
        self.validations.set_rate(validations, validations);
        self.settings.store(Arc::new(settings));
    }
}

/// One call under way.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) desk: Arc<Desk>,
    pub(super) method: &'static str,
    peer: Peer,
}

impl Call {
    pub(super) fn new(desk: Arc<Desk>, method: &'static str, peer: Peer) -> Self {
        Self { desk, method, peer }
    }

    /// Whether the caller may call now. Costs no attestation.
    pub(super) fn admit(&self) -> Result<(), Refused> {
        if self.desk.parts.stop.is_ordered() {
            return Err(Refused::Stopping);
        }
        self.within(&self.desk.calls)
    }

    /// Whether it may have one more token checked now.
    pub(super) fn admit_validation(&self) -> Result<(), Refused> {
        self.within(&self.desk.validations)
    }

    fn within(&self, limiter: &Limiter) -> Result<(), Refused> {
        // Without evidence there is no account; attestation will say why there is none.
        match self.peer.witness().evidence() {
            Ok(evidence) if !limiter.allows(&evidence) => {
                self.desk.parts.metrics.limited();
                Err(Refused::TooMany)
            }
            _ => Ok(()),
        }
    }

    /// Acts for the caller once its facts are known and its presence is proven; a refusal is logged, recorded and made a status.
    ///
    /// What is remembered of a caller is used without a look first, because `act` looks at it before anything leaves: the look is a good
    /// part of what a call costs. If the caller turns out to have changed, it is attested anew and acted for again.
    pub(super) async fn for_caller<T, F>(&self, act: impl Fn(AttestedCaller) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Refused>>,
    {
        let attestors = &self.desk.parts.attestors;
        if let Some(caller) = attestors.recall(&self.peer) {
            match act(caller.clone()).await {
                Ok(done) => return Ok(done),
                Err(refused) if caller.still().is_ok() => {
                    return Err(self.refuse(&refused, Some(&caller)).await);
                }
                Err(_) => {}
            }
        }
        let caller = match attestors.attest(&self.peer).await {
            Ok(caller) => caller,
            Err(turned) => return Err(self.refuse(&Refused::Attestation(turned), None).await),
        };
        match act(caller.clone()).await {
            Ok(done) => Ok(done),
            Err(refused) => Err(self.refuse(&refused, Some(&caller)).await),
        }
    }

    /// Why this caller has no identity: nobody registered it, or an attestor failed that might have known what lacks.
    pub(super) fn no_identity(&self, caller: &AttestedCaller, wanted: Option<SpiffeId>) -> Refused {
        let unknown = |selector: &_| caller.may_yet_have(selector);
        if self.desk.parts.identities.could_match(caller.facts(), &unknown) {
            return Refused::Incomplete;
        }
        wanted.map_or(Refused::NoIdentity, Refused::NotYours)
    }

    /// The last look before something is sent.
    pub(super) fn still(&self, caller: &AttestedCaller) -> Result<(), Refused> {
        caller
            .still()
            .map_err(|refusal| Refused::Attestation(Turned::Presence(refusal)))
    }

    /// Records the first hand-out of each of these identities to this process, and returns when it is durable.
    pub(super) async fn record_hand_out(
        &self,
        caller: &AttestedCaller,
        form: Form,
        identities: &[(&EntryId, &SpiffeId)],
    ) -> Result<(), Refused> {
        let (outs, evidence) = (&self.desk.hand_outs, caller.evidence());
        let new = outs.new_to(
            caller.pid(),
            evidence,
            form,
            identities.iter().map(|(entry, _)| *entry),
        );
        for entry in &new {
            let Some((_, id)) = identities.iter().find(|(candidate, _)| *candidate == entry) else {
                continue;
            };
            let action = match form {
                Form::X509 => Action::X509SvidHandOut,
                Form::Jwt => Action::JwtSvidHandOut,
            };
            let event = Event::new(actor(caller.pid(), evidence), action, Outcome::Done)
                .object(Object::identity(id))
                .fact("entry", entry)
                .fact("method", self.method)
                .fact_list(
                    "facts",
                    caller.facts().iter().map(|fact| fact.selector().to_string()),
                );
            self.desk
                .parts
                .audit
                .record(event)
                .await
                .map_err(Refused::Audit)?;
        }
        if !new.is_empty() {
            outs.recorded(caller.pid(), evidence, form, new);
        }
        Ok(())
    }

    /// Counts, logs and records a refusal, and gives its status.
    pub(super) async fn refuse(&self, refused: &Refused, caller: Option<&AttestedCaller>) -> Status {
        let (reference, pid) = (Reference::new(), self.peer.witness().process().pid());
        let evidence = match caller {
            Some(caller) => Some(Arc::clone(caller.evidence())),
            None => self.peer.witness().evidence().ok(),
        };
        // A caller without evidence is sent away with its connection, which is bounded by the door.
        let loud = evidence
            .as_ref()
            .is_none_or(|evidence| self.desk.refusals.allows(evidence));
        let loudness = if loud { Loudness::Logged } else { Loudness::Quiet };
        let uid = evidence.as_ref().map(|evidence| evidence.uids.real);
        let status = status(
            refused,
            self.method,
            Whom { pid, uid, caller },
            reference,
            loudness,
        );
        self.called(status.code());
        if loud && refused.is_decision() {
            let action = match refused {
                Refused::Attestation(_) => Action::CallerRefuse,
                _ => Action::CallRefuse,
            };
            let actor = Actor::workload(uid.unwrap_or(u32::MAX), i32::try_from(pid).unwrap_or(0));
            let mut event = Event::new(actor, action, Outcome::refused(refused))
                .object(Object::method(self.method))
                .reference(reference);
            if let Some(source) = std::error::Error::source(refused) {
                event = event.fact("reason", source);
            }
            if let Refused::NotYours(id) = refused {
                event = event.fact("spiffe_id", id);
            }
            if let Some(caller) = caller {
                event = event.fact_list(
                    "facts",
                    caller.facts().iter().map(|fact| fact.selector().to_string()),
                );
            }
            // It is refused all the same: nothing leaves that would need the record.
            if let Err(error) = self.desk.parts.audit.record(event).await {
                warn!(%reference, error = &error as &dyn std::error::Error, "a refusal could not be recorded");
            }
        }
        status
    }

    pub(super) fn called(&self, code: Code) {
        self.desk.parts.metrics.called(self.method, code_name(code));
    }
}

fn actor(pid: u32, evidence: &Evidence) -> Actor {
    Actor::workload(evidence.uids.real, i32::try_from(pid).unwrap_or(0))
}

/// As SPIRE's metrics spell it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::InvalidArgument => "InvalidArgument",
        Code::PermissionDenied => "PermissionDenied",
        Code::Unavailable => "Unavailable",
        Code::Unimplemented => "Unimplemented",
        _ => "Unknown",
    }
}
