//! SVIDs by name, on an administrator's word or by a grant.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{DnsName, GrantName, Lifetime, SpiffeId, TrustDomain, Verb};
use muster_pki::jwt::{Audience, JwtSvid, TokenId};
use muster_pki::x509::{Csr, Subject, X509Svid};
use muster_proto::convert::spiffe_id;
use muster_proto::spire::server::svid::{MintJwtsvidRequest, MintX509svidRequest};

use crate::api::limits::Limited;
use crate::api::scope::Mint;
use crate::api::{Caller, Context, Refusal, Role};
use crate::ca::{Holder, JwtRequest, X509Request};

/// The most names in a minted certificate.
const MOST_DNS_NAMES: usize = 64;

/// Each mint is a signature and a durable record: whoever holds a grant gets so many a second.
async fn bounded(context: &Context, caller: &Caller) -> Result<(), Refusal> {
    match caller.role() {
        Role::Granted => context.limits.wait(Limited::Change, caller, 1).await,
        _ => Ok(()),
    }
}

/// Signs an X.509-SVID for the names and the key of a CSR.
pub(super) async fn x509(
    context: &Arc<Context>,
    caller: &Caller,
    request: &MintX509svidRequest,
) -> Result<X509Svid, Refusal> {
    let event =
        |outcome| Event::new(caller.actor(), Action::X509SvidMint, outcome).fact("asked_ttl", request.ttl);
    bounded(context, caller).await?;
    let (svid, dns_names, grant) = match sign_x509(context, caller, request).await {
        Ok(signed) => signed,
        Err(refusal) => return Err(context.refused(refusal, event).await),
    };
    let event = |outcome| {
        let event = event(outcome)
            .object(Object::identity(svid.id()))
            .fact("serial", svid.serial())
            .fact("expires_at", svid.not_after());
        grant
            .iter()
            .fold(event, |event, grant| event.fact("grant", grant))
    };
    context.record(event(Outcome::Done)).await?;
    let mint = Mint {
        verb: Verb::X509SvidMint,
        id: svid.id(),
        dns_names: &dns_names,
        lifetime: None,
    };
    still_allowed(context, caller, &mint, event).await?;
    Ok(svid)
}

/// Signs a JWT-SVID.
pub(super) async fn jwt(
    context: &Context,
    caller: &Caller,
    request: &MintJwtsvidRequest,
) -> Result<JwtSvid, Refusal> {
    let event = |outcome| {
        Event::new(caller.actor(), Action::JwtSvidMint, outcome)
            .fact_list("audience", &request.audience)
            .fact("asked_ttl", request.ttl)
    };
    bounded(context, caller).await?;
    let (svid, grant) = match sign_jwt(context, caller, request).await {
        Ok(signed) => signed,
        Err(refusal) => return Err(context.refused(refusal, event).await),
    };
    let event = |outcome| {
        let event = event(outcome)
            .object(Object::identity(svid.id()))
            .fact("expires_at", svid.expires_at());
        grant
            .iter()
            .fold(event, |event, grant| event.fact("grant", grant))
    };
    context.record(event(Outcome::Done)).await?;
    let mint = Mint {
        verb: Verb::JwtSvidMint,
        id: svid.id(),
        dns_names: &[],
        lifetime: None,
    };
    still_allowed(context, caller, &mint, event).await?;
    Ok(svid)
}

async fn sign_x509(
    context: &Arc<Context>,
    caller: &Caller,
    request: &MintX509svidRequest,
) -> Result<(X509Svid, Vec<DnsName>, Option<GrantName>), Refusal> {
    let (ca, trust_domain) = (context.ca.clone(), context.trust_domain.clone());
    let (csr, lifetime) = (request.csr.clone(), lifetime(request.ttl)?);
    let wildcards = context.wildcards;
    if csr.is_empty() {
        return Err(Refusal::invalid("missing CSR"));
    }
    let (shared, caller) = (Arc::clone(context), caller.clone());
    let job = move || {
        let csr = Csr::parse(&csr).map_err(|error| Refusal::invalid(format!("malformed CSR: {error}")))?;
        let mut request = minted(&trust_domain, &csr, lifetime)?;
        wildcards
            .check(&request.dns_names)
            .map_err(|error| Refusal::invalid(format!("CSR DNS name is invalid: {error}")))?;
        let mint = Mint {
            verb: Verb::X509SvidMint,
            id: &request.id,
            dns_names: &request.dns_names,
            lifetime: request.lifetime,
        };
        let (lifetime, grant) = may_mint(&shared, &caller, &mint)?;
        request.lifetime = lifetime;
        if caller.role() == Role::Granted {
            // A common name reads as one more name, which no grant can give.
            request.subject = Subject::Usual;
        }
        let dns_names = request.dns_names.clone();
        Ok::<_, Refusal>((ca.x509_job(request)?()?, dns_names, grant))
    };
    let (svid, dns_names, grant) = context.ca.pool().run(job).await??;
    Ok((svid, dns_names, grant))
}

async fn sign_jwt(
    context: &Context,
    caller: &Caller,
    request: &MintJwtsvidRequest,
) -> Result<(JwtSvid, Option<GrantName>), Refusal> {
    context.with_tokens()?;
    let id = spiffe_id("id", request.id.as_ref())?;
    workload_of(&context.trust_domain, "id", &id)?;
    let audience = audience(request.audience.clone())?;
    let mint = Mint {
        verb: Verb::JwtSvidMint,
        id: &id,
        dns_names: &[],
        lifetime: lifetime(request.ttl)?,
    };
    let (lifetime, grant) = may_mint(context, caller, &mint)?;
    let request = JwtRequest {
        id,
        audience,
        lifetime,
        token_id: TokenId::Absent,
    };
    Ok((context.ca.sign_jwt_svid(request).await?, grant))
}

/// What was signed leaves only if its grant still allows it (I4): it may have been deleted while the signature and its record were made.
async fn still_allowed(
    context: &Context,
    caller: &Caller,
    mint: &Mint<'_>,
    event: impl FnOnce(Outcome) -> Event,
) -> Result<(), Refusal> {
    match may_mint(context, caller, mint) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(context.refused(refusal, event).await),
    }
}

/// How long what is to be signed may live, and the grant that lets the caller ask for it, if he needs one.
fn may_mint(
    context: &Context,
    caller: &Caller,
    mint: &Mint<'_>,
) -> Result<(Option<Lifetime>, Option<GrantName>), Refusal> {
    let view = context.registry.view();
    let scope = context.scope(caller, &view)?;
    Ok(scope.mint(&context.surroundings(&view), mint)?)
}

/// What an administrator's CSR asks for, checked name by name.
fn minted(trust_domain: &TrustDomain, csr: &Csr, lifetime: Option<Lifetime>) -> Result<X509Request, Refusal> {
    let uri = match csr.uris() {
        [] => return Err(Refusal::invalid("CSR URI SAN is required")),
        [uri] => uri,
        _ => return Err(Refusal::invalid("only one URI SAN is expected")),
    };
    let id: SpiffeId = uri
        .parse()
        .map_err(|error| Refusal::invalid(format!("CSR URI SAN is invalid: {error}")))?;
    workload_of(trust_domain, "CSR URI SAN is invalid", &id)?;
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
    let dns_names =
        dns_names.map_err(|error| Refusal::invalid(format!("CSR DNS name is invalid: {error}")))?;
    if let Some(covered) = covered(&dns_names) {
        return Err(Refusal::invalid(format!(
            "CSR DNS name contains a wildcard that covers another non-wildcard name: {covered}"
        )));
    }
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

/// A name that a wildcard beside it covers already: one of the two is a mistake.
fn covered(names: &[DnsName]) -> Option<&DnsName> {
    let wildcards = || names.iter().filter(|name| name.is_wildcard());
    names
        .iter()
        .find(|name| wildcards().any(|wildcard| wildcard != *name && wildcard.covers(name)))
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
