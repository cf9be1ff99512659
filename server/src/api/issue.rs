//! SVIDs for the entries of a node: what SPIRE's agents and ours ask for by different calls.
//!
//! The server builds every name itself, from an entry that this node is entitled to at this moment (I6). A CSR gives its
//! key and nothing else. The audit record is durable before the SVID leaves (I9).

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::Revision;
use muster_pki::{
    jwt::{Audience, JwtSvid, TokenId},
    x509::{Csr, CsrError, Subject, X509Svid},
};
use muster_proto::convert;
use muster_runtime::SigningPoolError;

use super::{Caller, Context, Refusal};
use crate::{
    ca::{Holder, JwtRequest, SignError, X509Request},
    registry::Registered,
};

/// Signs an X.509-SVID of the entry for the key of the CSR. Answers what it was made from too.
pub(super) async fn x509_for_entry(
    context: &Context,
    caller: &Caller,
    entry_id: &str,
    csr: Vec<u8>,
) -> Result<(X509Svid, Revision), Refusal> {
    let signed = async {
        let registered = entitled(context, caller, entry_id)?;
        if csr.is_empty() {
            return Err(Refusal::invalid("missing CSR"));
        }
        let spec = registered.entry.spec.clone();
        let ca = context.ca.clone();
        // Checking the CSR costs a public-key operation: it belongs where they are counted.
        let job = move || {
            let csr = Csr::parse(&csr).map_err(Failure::Csr)?;
            let request = X509Request {
                id: spec.spiffe_id,
                public_key: csr.public_key().clone(),
                dns_names: spec.dns_names.to_vec(),
                subject: Subject::default(),
                holder: Holder::Workload,
                lifetime: spec.x509_svid_ttl,
            };
            ca.x509_job(request).and_then(|job| job()).map_err(Failure::Sign)
        };
        let svid = context.ca.pool().run(job).await.map_err(Failure::Pool)??;
        Ok((svid, registered))
    };
    match signed.await {
        Ok((svid, registered)) => {
            let event = Event::new(caller.actor(), Action::X509SvidSign, Outcome::Done)
                .object(Object::identity(svid.id()))
                .fact("entry_id", &registered.entry.id)
                .fact("serial", svid.serial())
                .fact("expires_at", svid.not_after());
            context.record(event).await?;
            match entitled(context, caller, entry_id) {
                Ok(_) => Ok((svid, registered.x509_version)),
                Err(refusal) => Err(refused(context, caller, Action::X509SvidSign, entry_id, refusal).await),
            }
        }
        Err(refusal) => Err(refused(context, caller, Action::X509SvidSign, entry_id, refusal).await),
    }
}

/// Signs a JWT-SVID of the entry for the audience, which stands in the token exactly as it was asked for.
pub(super) async fn jwt_for_entry(
    context: &Context,
    caller: &Caller,
    entry_id: &str,
    audience: Vec<String>,
) -> Result<JwtSvid, Refusal> {
    let recorded_audience = audience.clone();
    let signed = async {
        context.with_tokens()?;
        let registered = entitled(context, caller, entry_id)?;
        let audience =
            Audience::new(audience).map_err(|error| Refusal::invalid(format!("audience: {error}")))?;
        let spec = &registered.entry.spec;
        let token_id = if spec.attributes.jwt_svid_include_jti {
            TokenId::Random
        } else {
            TokenId::Absent
        };
        let request = JwtRequest {
            id: spec.spiffe_id.clone(),
            audience,
            lifetime: spec.jwt_svid_ttl,
            token_id,
        };
        Ok(context.ca.sign_jwt_svid(request).await?)
    };
    match signed.await {
        Ok(svid) => {
            let event = Event::new(caller.actor(), Action::JwtSvidSign, Outcome::Done)
                .object(Object::identity(svid.id()))
                .fact("entry_id", entry_id)
                .fact_list("audience", &recorded_audience)
                .fact("expires_at", svid.expires_at());
            context.record(event).await?;
            match entitled(context, caller, entry_id) {
                Ok(_) => Ok(svid),
                Err(refusal) => Err(refused(context, caller, Action::JwtSvidSign, entry_id, refusal).await),
            }
        }
        Err(refusal) => Err(refused(context, caller, Action::JwtSvidSign, entry_id, refusal).await),
    }
}

/// The entry, if the node counts and may have it now. Asked before signing, after all waiting for a turn, and once more before the answer leaves: a ban or a deletion
/// may have come while the signature and its record were made (I4). An unknown entry and somebody else's are not told apart.
fn entitled(context: &Context, caller: &Caller, entry_id: &str) -> Result<Arc<Registered>, Refusal> {
    if entry_id.is_empty() {
        return Err(Refusal::invalid("missing entry ID"));
    }
    let id = convert::entry_id("entry_id", entry_id)?;
    let view = context.view_for(caller)?;
    view.entitled(&id)
        .cloned()
        .ok_or_else(|| Refusal::not_found("entry not found or not authorized"))
}

async fn refused(
    context: &Context,
    caller: &Caller,
    action: Action,
    entry_id: &str,
    refusal: Refusal,
) -> Refusal {
    let event = |outcome| Event::new(caller.actor(), action, outcome).object(Object::entry(entry_id));
    context.refused(refusal, event).await
}

/// Why nothing was signed, as the pool's job tells it.
enum Failure {
    Csr(CsrError),
    Sign(SignError),
    Pool(SigningPoolError),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Csr(error) => Self::invalid(format!("malformed CSR: {error}")),
            Failure::Sign(error) => error.into(),
            Failure::Pool(error) => error.into(),
        }
    }
}
