//! `spire.api.server.svid.v1.SVID`: SVIDs on an administrator's word (mint) and for a node's entries (new).
//!
//! Of a node's CSR only the key and its proof are used: the entry decides the rest (I6). A mint is an administrator's own word, so names and subject are read from
//! its CSR, and checked. WIT-SVIDs and downstream authorities are not served yet, and say so.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{DnsName, Lifetime, SpiffeId, TrustDomain};
use muster_pki::jwt::{Audience, JwtSvid, TokenId};
use muster_pki::x509::{Csr, Subject, X509Svid};
use muster_proto::convert::{item_ok, jwt_svid_to_wire, spiffe_id, x509_svid_to_wire};
use muster_proto::spire::server::svid::svid_server::Svid;
use muster_proto::spire::server::svid::*;
use tonic::{Request, Response, Status};

use super::limits::Limited;
use super::{Caller, Context, Refusal, issue};
use crate::ca::{Holder, JwtRequest, X509Request};

/// How many items of one batch are signed side by side. One batch may not fill the signing pool's queue.
const SIDE_BY_SIDE: usize = 8;
/// The most names in a minted certificate.
const MOST_DNS_NAMES: usize = 64;

/// Signs SVIDs.
#[derive(Clone)]
pub struct SvidService {
    context: Arc<Context>,
}

impl SvidService {
    /// Signs with the CA of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn mint_x509(&self, request: &MintX509svidRequest) -> Result<X509Svid, Refusal> {
        let (ca, trust_domain) = (self.context.ca.clone(), self.context.trust_domain.clone());
        let (csr, lifetime) = (request.csr.clone(), lifetime(request.ttl)?);
        let wildcards = self.context.wildcards;
        if csr.is_empty() {
            return Err(Refusal::invalid("csr: is missing"));
        }
        let job = move || {
            let csr = Csr::parse(&csr).map_err(|error| Refusal::invalid(format!("csr: {error}")))?;
            let request = minted(&trust_domain, &csr, lifetime)?;
            wildcards
                .check(&request.dns_names)
                .map_err(|error| Refusal::invalid(format!("csr: DNS name: {error}")))?;
            Ok(ca.x509_job(request)?()?)
        };
        self.context.ca.pool().run(job).await?
    }

    async fn mint_jwt(&self, request: &MintJwtsvidRequest) -> Result<JwtSvid, Refusal> {
        let id = spiffe_id("id", request.id.as_ref())?;
        workload_of(&self.context.trust_domain, "id", &id)?;
        let audience = audience(request.audience.clone())?;
        let lifetime = lifetime(request.ttl)?;
        Ok(self
            .context
            .ca
            .sign_jwt_svid(JwtRequest {
                id,
                audience,
                lifetime,
                token_id: TokenId::Absent,
            })
            .await?)
    }
}

#[tonic::async_trait]
impl Svid for SvidService {
    async fn mint_x509svid(
        &self,
        request: Request<MintX509svidRequest>,
    ) -> Result<Response<MintX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let event = |outcome| {
            Event::new(caller.actor(), Action::X509SvidMint, outcome).fact("asked_ttl", request.ttl)
        };
        let svid = match self.mint_x509(&request).await {
            Ok(svid) => svid,
            Err(refusal) => return Err(self.context.refused(refusal, event).await.into()),
        };
        let event = event(Outcome::Done)
            .object(Object::identity(svid.id()))
            .fact("serial", svid.serial())
            .fact("expires_at", svid.not_after());
        self.context.record(event).await?;
        Ok(Response::new(MintX509svidResponse {
            svid: Some(x509_svid_to_wire(&svid, "")),
        }))
    }

    async fn mint_jwtsvid(
        &self,
        request: Request<MintJwtsvidRequest>,
    ) -> Result<Response<MintJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let event = |outcome| {
            Event::new(caller.actor(), Action::JwtSvidMint, outcome)
                .fact_list("audience", &request.audience)
                .fact("asked_ttl", request.ttl)
        };
        let svid = match self.mint_jwt(&request).await {
            Ok(svid) => svid,
            Err(refusal) => return Err(self.context.refused(refusal, event).await.into()),
        };
        let event = event(Outcome::Done)
            .object(Object::identity(svid.id()))
            .fact("expires_at", svid.expires_at());
        self.context.record(event).await?;
        Ok(Response::new(MintJwtsvidResponse {
            svid: Some(jwt_svid_to_wire(&svid, "")),
        }))
    }

    async fn batch_new_x509svid(
        &self,
        request: Request<BatchNewX509svidRequest>,
    ) -> Result<Response<BatchNewX509svidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let params = request.into_inner().params;
        self.context
            .limits
            .wait(Limited::Csr, &caller, params.len())
            .await?;
        let (context, caller) = (&self.context, &caller);
        let items = stream::iter(params).map(|NewX509svidParams { entry_id, csr }| async move {
            issue::x509_for_entry(context, caller, &entry_id, csr).await
        });
        let results = items.buffered(SIDE_BY_SIDE).map(|item| match item {
            Ok((svid, _)) => batch_new_x509svid_response::Result {
                status: Some(item_ok()),
                svid: Some(x509_svid_to_wire(&svid, "")),
            },
            Err(refusal) => batch_new_x509svid_response::Result {
                status: Some(refusal.into_item()),
                svid: None,
            },
        });
        let results = results.collect().await;
        // The first of them may be seconds old.
        context.view_for(caller)?;
        Ok(Response::new(BatchNewX509svidResponse { results }))
    }

    async fn new_jwtsvid(
        &self,
        request: Request<NewJwtsvidRequest>,
    ) -> Result<Response<NewJwtsvidResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        self.context.limits.wait(Limited::Jwt, &caller, 1).await?;
        let svid = issue::jwt_for_entry(&self.context, &caller, &request.entry_id, request.audience).await?;
        Ok(Response::new(NewJwtsvidResponse {
            svid: Some(jwt_svid_to_wire(&svid, "")),
        }))
    }

    async fn mint_witsvid(
        &self,
        _: Request<MintWitsvidRequest>,
    ) -> Result<Response<MintWitsvidResponse>, Status> {
        Err(no_wit().into())
    }

    async fn batch_new_witsvid(
        &self,
        _: Request<BatchNewWitsvidRequest>,
    ) -> Result<Response<BatchNewWitsvidResponse>, Status> {
        Err(no_wit().into())
    }

    async fn new_downstream_x509ca(
        &self,
        _: Request<NewDownstreamX509caRequest>,
    ) -> Result<Response<NewDownstreamX509caResponse>, Status> {
        Err(Refusal::unimplemented("downstream servers are not served yet").into())
    }
}

/// What an administrator's CSR asks for, checked name by name.
fn minted(trust_domain: &TrustDomain, csr: &Csr, lifetime: Option<Lifetime>) -> Result<X509Request, Refusal> {
    let [uri] = csr.uris() else {
        return Err(Refusal::invalid(format!(
            "csr: {} URI names, exactly one is needed",
            csr.uris().len()
        )));
    };
    let id: SpiffeId = uri
        .parse()
        .map_err(|error| Refusal::invalid(format!("csr: URI name: {error}")))?;
    workload_of(trust_domain, "csr: URI name", &id)?;
    if csr.has_other_names() {
        return Err(Refusal::invalid(
            "csr: names other than one URI and DNS names are not signed",
        ));
    }
    if csr.dns_names().len() > MOST_DNS_NAMES {
        return Err(Refusal::invalid(format!(
            "csr: more than {MOST_DNS_NAMES} DNS names"
        )));
    }
    let dns_names = csr
        .dns_names()
        .iter()
        .map(|name| name.parse::<DnsName>())
        .collect::<Result<Vec<_>, _>>();
    let dns_names = dns_names.map_err(|error| Refusal::invalid(format!("csr: DNS name: {error}")))?;
    let name = csr
        .subject()
        .map_err(|error| Refusal::invalid(format!("csr: subject: {error}")))?;
    let subject = if name.is_empty() {
        Subject::Usual
    } else {
        Subject::Named(name)
    };
    let public_key = csr.public_key().clone();
    Ok(X509Request {
        id,
        public_key,
        dns_names,
        subject,
        holder: Holder::Workload,
        lifetime,
    })
}

fn no_wit() -> Refusal {
    Refusal::unimplemented("WIT-SVIDs are not issued yet")
}

/// An ID that may be given to a workload: of our trust domain, with a path that is not the servers' and nodes' own.
fn workload_of(trust_domain: &TrustDomain, field: &str, id: &SpiffeId) -> Result<(), Refusal> {
    if !id.is_member_of(trust_domain) {
        return Err(Refusal::invalid(format!(
            "{field}: {id} is not of the trust domain {trust_domain}"
        )));
    }
    let path = id.path().to_string();
    if path.is_empty() || path == "/spire" || path.starts_with("/spire/") {
        return Err(Refusal::invalid(format!("{field}: {id} is no ID of a workload")));
    }
    Ok(())
}

fn audience(names: Vec<String>) -> Result<Audience, Refusal> {
    Audience::new(names).map_err(|error| Refusal::invalid(format!("audience: {error}")))
}

/// Seconds on the wire; 0 asks for the default.
fn lifetime(ttl: i32) -> Result<Option<Lifetime>, Refusal> {
    let secs = u32::try_from(ttl).map_err(|_| Refusal::invalid(format!("ttl: {ttl} is negative")))?;
    Ok(Lifetime::from_secs(secs).ok())
}
