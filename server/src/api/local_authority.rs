//! `spire.api.server.localauthority.v1.LocalAuthority`: the authorities of this server, taken through their lives by command.
//!
//! Every command goes to the keeper, the one task that changes authorities; it decides, records and carries out. What is refused is recorded here.

use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Event, Object};
use muster_proto::spire::server::localauthority::local_authority_server::LocalAuthority;
use muster_proto::spire::server::localauthority::*;
use tonic::{Code, Request, Response, Status};

use super::upstream_roots::{self, Verdict};
use super::{Caller, Context, Refusal};
use crate::ca::life::{self, Authority, Command, Refused};
use crate::ca::{CommandError, Kind};

/// How long a revocation waits for the server's own certificate to be another authority's. It was ordered when the authority was tainted and takes milliseconds.
const OWN_CERTIFICATE: Duration = Duration::from_secs(10);

/// Shows and commands authorities.
#[derive(Clone)]
pub struct LocalAuthorityService {
    context: Arc<Context>,
}

/// What [`LocalAuthorityService::state`] finds.
struct State {
    active: Option<AuthorityState>,
    prepared: Option<AuthorityState>,
    old: Option<AuthorityState>,
}

impl LocalAuthorityService {
    /// Commands the authorities of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Whether there are authorities of this kind here.
    fn knows(&self, kind: Kind) -> Result<(), Refusal> {
        match kind {
            Kind::X509 => Ok(()),
            Kind::Jwt => self.context.with_tokens(),
        }
    }

    fn state(&self, kind: Kind) -> Result<State, Refusal> {
        self.knows(kind)?;
        let held = self.context.authorities.held(kind);
        let held = held.map_err(|error| Refusal::internal("the authorities can't be read").because(error))?;
        let active = life::active(&held).ok_or_else(|| refusal(kind, None, Refused::Initializing.into()))?;
        Ok(State {
            active: Some(shown(active)),
            prepared: life::prepared(&held).map(shown),
            old: life::newest_old(&held).map(shown),
        })
    }

    async fn command<T>(
        &self,
        request: Request<T>,
        kind: Kind,
        command: impl FnOnce(T) -> Command,
    ) -> Result<Authority, Status> {
        let caller = Caller::of(&request)?;
        let (service, command) = (self.clone(), command(request.into_inner()));
        let carried_out = async move { service.carried_out(&caller, kind, command).await };
        Ok(self.context.to_the_end(carried_out).await?)
    }

    async fn carried_out(&self, caller: &Caller, kind: Kind, command: Command) -> Result<Authority, Refusal> {
        if let (Kind::X509, Command::Revoke(id)) = (kind, &command) {
            self.own_certificate_moved(id).await;
        }
        let asked = async {
            // A key that signed tokens before they were disabled counts, and somebody else may hold it.
            if !command.judges() {
                self.knows(kind)?;
            }
            let authorities = &self.context.authorities;
            let asked = authorities.command(kind, command.clone(), caller.actor());
            asked.await.map_err(|error| refusal(kind, Some(&command), error))
        };
        match asked.await {
            // The keeper recorded it before it did it.
            Ok(authority) => Ok(authority),
            Err(refusal) => {
                let (action, id) = match &command {
                    Command::Prepare => (Action::AuthorityPrepare, ""),
                    Command::Activate(id) => (Action::AuthorityActivate, id.as_str()),
                    Command::Taint(id) => (Action::AuthorityTaint, id.as_str()),
                    Command::Revoke(id) => (Action::AuthorityRevoke, id.as_str()),
                };
                let event = |outcome| {
                    Event::new(caller.actor(), action, outcome)
                        .object(Object::authority(id))
                        .fact("kind", kind.name())
                };
                Err(self.context.refused(refusal, event).await)
            }
        }
    }

    /// Has a root of the upstream authority tainted or revoked.
    async fn judge<T>(
        &self,
        request: Request<T>,
        verdict: Verdict,
        subject_key_id: impl FnOnce(T) -> String,
    ) -> Result<String, Status> {
        let caller = Caller::of(&request)?;
        let (service, id) = (self.clone(), subject_key_id(request.into_inner()));
        let judged = async move {
            if verdict == Verdict::Revoke {
                service.own_certificate_moved(&id).await;
            }
            upstream_roots::judge(&service.context, &caller, verdict, &id).await
        };
        Ok(self.context.to_the_end(judged).await?)
    }

    /// Waits until the server shows nobody a certificate of a tainted authority that is to be revoked: nodes that come back in the moment after could not verify it.
    async fn own_certificate_moved(&self, id: &str) {
        let bundle = self.context.bundles.own();
        let mut all = bundle.x509_authorities().iter();
        if !all.any(|authority| authority.tainted() && authority.id().as_str() == id) {
            return;
        }
        let mut own = self.context.server_svid.clone();
        let moved = own.wait_for(|svid| {
            let below = svid.as_ref().and_then(|svid| svid.authority_id());
            below.is_none_or(|below| below.as_str() != id)
        });
        // Whatever comes of it, the command is carried out: whoever revokes may have no time.
        let _ = tokio::time::timeout(OWN_CERTIFICATE, moved).await;
    }
}

fn shown(authority: &Authority) -> AuthorityState {
    AuthorityState {
        authority_id: authority.id.clone(),
        expires_at: authority.not_after.as_secs(),
        upstream_authority_subject_key_id: authority.upstream.clone().unwrap_or_default(),
    }
}

/// The id alone, where SPIRE says no more.
fn named(authority: Authority) -> AuthorityState {
    AuthorityState {
        authority_id: authority.id,
        ..AuthorityState::default()
    }
}

/// SPIRE's words and codes, where the fault is the caller's.
fn refusal(kind: Kind, command: Option<&Command>, error: CommandError) -> Refusal {
    let what = match kind {
        Kind::X509 => "X.509",
        Kind::Jwt => "JWT",
    };
    let refused = match error {
        CommandError::Refused(refused) => refused,
        error @ CommandError::KeyGone => return Refusal::new(Code::FailedPrecondition, error.to_string()),
        error @ (CommandError::Busy | CommandError::Slow | CommandError::Stopped) => {
            return Refusal::unavailable(error.to_string());
        }
        error @ CommandError::Failed(_) => {
            let verb = match command {
                None => "read",
                Some(Command::Prepare) => "prepare",
                Some(Command::Activate(_)) => "activate",
                Some(Command::Taint(_)) => "taint",
                Some(Command::Revoke(_)) => "revoke",
            };
            return Refusal::internal(format!("failed to {verb} {what} authority")).because(error);
        }
    };
    let text = refused.to_string();
    match refused {
        Refused::Initializing => Refusal::unavailable(text),
        Refused::TooMany => Refusal::new(Code::ResourceExhausted, text),
        Refused::EndsTooSoon
        | Refused::TaintedAlready(_)
        | Refused::Untainted(_)
        | Refused::TaintsBelowUpstream
        | Refused::RevokesBelowUpstream => Refusal::new(Code::FailedPrecondition, text),
        _ if matches!(command, Some(Command::Revoke(_))) => {
            Refusal::invalid(format!("invalid authority ID: {text}"))
        }
        _ => Refusal::invalid(text),
    }
}

fn no_wit() -> Status {
    Refusal::unimplemented("WIT-SVID functionality is not yet implemented").into()
}

#[tonic::async_trait]
impl LocalAuthority for LocalAuthorityService {
    async fn get_jwt_authority_state(
        &self,
        _: Request<GetJwtAuthorityStateRequest>,
    ) -> Result<Response<GetJwtAuthorityStateResponse>, Status> {
        let State {
            active,
            prepared,
            old,
        } = self.state(Kind::Jwt)?;
        Ok(Response::new(GetJwtAuthorityStateResponse {
            active,
            prepared,
            old,
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        request: Request<PrepareJwtAuthorityRequest>,
    ) -> Result<Response<PrepareJwtAuthorityResponse>, Status> {
        let done = self.command(request, Kind::Jwt, |_| Command::Prepare).await?;
        Ok(Response::new(PrepareJwtAuthorityResponse {
            prepared_authority: Some(shown(&done)),
        }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<ActivateJwtAuthorityRequest>,
    ) -> Result<Response<ActivateJwtAuthorityResponse>, Status> {
        let command = |asked: ActivateJwtAuthorityRequest| Command::Activate(asked.authority_id);
        let done = self.command(request, Kind::Jwt, command).await?;
        Ok(Response::new(ActivateJwtAuthorityResponse {
            activated_authority: Some(shown(&done)),
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<TaintJwtAuthorityRequest>,
    ) -> Result<Response<TaintJwtAuthorityResponse>, Status> {
        let command = |asked: TaintJwtAuthorityRequest| Command::Taint(asked.authority_id);
        let done = self.command(request, Kind::Jwt, command).await?;
        Ok(Response::new(TaintJwtAuthorityResponse {
            tainted_authority: Some(named(done)),
        }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<RevokeJwtAuthorityRequest>,
    ) -> Result<Response<RevokeJwtAuthorityResponse>, Status> {
        let command = |asked: RevokeJwtAuthorityRequest| Command::Revoke(asked.authority_id);
        let done = self.command(request, Kind::Jwt, command).await?;
        Ok(Response::new(RevokeJwtAuthorityResponse {
            revoked_authority: Some(named(done)),
        }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<GetX509AuthorityStateRequest>,
    ) -> Result<Response<GetX509AuthorityStateResponse>, Status> {
        let State {
            active,
            prepared,
            old,
        } = self.state(Kind::X509)?;
        Ok(Response::new(GetX509AuthorityStateResponse {
            active,
            prepared,
            old,
        }))
    }

    async fn prepare_x509_authority(
        &self,
        request: Request<PrepareX509AuthorityRequest>,
    ) -> Result<Response<PrepareX509AuthorityResponse>, Status> {
        let done = self.command(request, Kind::X509, |_| Command::Prepare).await?;
        Ok(Response::new(PrepareX509AuthorityResponse {
            prepared_authority: Some(shown(&done)),
        }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<ActivateX509AuthorityRequest>,
    ) -> Result<Response<ActivateX509AuthorityResponse>, Status> {
        let command = |asked: ActivateX509AuthorityRequest| Command::Activate(asked.authority_id);
        let done = self.command(request, Kind::X509, command).await?;
        Ok(Response::new(ActivateX509AuthorityResponse {
            activated_authority: Some(shown(&done)),
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<TaintX509AuthorityRequest>,
    ) -> Result<Response<TaintX509AuthorityResponse>, Status> {
        let command = |asked: TaintX509AuthorityRequest| Command::Taint(asked.authority_id);
        let done = self.command(request, Kind::X509, command).await?;
        Ok(Response::new(TaintX509AuthorityResponse {
            tainted_authority: Some(shown(&done)),
        }))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<RevokeX509AuthorityRequest>,
    ) -> Result<Response<RevokeX509AuthorityResponse>, Status> {
        let command = |asked: RevokeX509AuthorityRequest| Command::Revoke(asked.authority_id);
        let done = self.command(request, Kind::X509, command).await?;
        Ok(Response::new(RevokeX509AuthorityResponse {
            revoked_authority: Some(named(done)),
        }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        request: Request<TaintX509UpstreamAuthorityRequest>,
    ) -> Result<Response<TaintX509UpstreamAuthorityResponse>, Status> {
        let judged = self.judge(request, Verdict::Taint, |asked| asked.subject_key_id);
        Ok(Response::new(TaintX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: judged.await?,
        }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        request: Request<RevokeX509UpstreamAuthorityRequest>,
    ) -> Result<Response<RevokeX509UpstreamAuthorityResponse>, Status> {
        let judged = self.judge(request, Verdict::Revoke, |asked| asked.subject_key_id);
        Ok(Response::new(RevokeX509UpstreamAuthorityResponse {
            upstream_authority_subject_key_id: judged.await?,
        }))
    }

    async fn get_wit_authority_state(
        &self,
        _: Request<GetWitAuthorityStateRequest>,
    ) -> Result<Response<GetWitAuthorityStateResponse>, Status> {
        Err(no_wit())
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<PrepareWitAuthorityRequest>,
    ) -> Result<Response<PrepareWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn activate_wit_authority(
        &self,
        _: Request<ActivateWitAuthorityRequest>,
    ) -> Result<Response<ActivateWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn taint_wit_authority(
        &self,
        _: Request<TaintWitAuthorityRequest>,
    ) -> Result<Response<TaintWitAuthorityResponse>, Status> {
        Err(no_wit())
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<RevokeWitAuthorityRequest>,
    ) -> Result<Response<RevokeWitAuthorityResponse>, Status> {
        Err(no_wit())
    }
}
