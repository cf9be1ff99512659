//! What downstream servers get: authorities below ours, and their token-signing keys in the bundle.
//!
//! A downstream server is a workload with an entry that says so. It is believed in one thing, that it serves our trust domain; the name and the life of its
//! authority are ours to give, of its request only the key is taken.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{Lifetime, SpiffeId, UnixTime};
use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::Csr;
use muster_proto::convert::jwt_authority;
use muster_proto::spire::server::bundle::PublishJwtAuthorityRequest;
use muster_proto::spire::server::svid::{NewDownstreamX509caRequest, NewDownstreamX509caResponse};
use muster_proto::spire::types;
use tonic::Code;

use super::limits::Limited;
use super::{Caller, Context, Refusal, Role};
use crate::bundles::BundleRecordError;
use crate::ca::{
    ForeignKeyError, ForeignKeys, Origins, Share, SignedAuthority, change_own_bundle, own_bundle,
};
use crate::registry::CommitError;

/// How long a token-signing key may live, if our own authorities live shorter.
const LONGEST_KEY: Duration = Duration::from_secs(90 * 86_400);

/// Signs an authority below ours.
pub(super) async fn new_x509_ca(
    context: &Context,
    caller: &Caller,
    request: NewDownstreamX509caRequest,
) -> Result<NewDownstreamX509caResponse, Refusal> {
    context.limits.wait(Limited::Csr, caller, 1).await?;
    let event = |outcome| {
        let event = Event::new(caller.actor(), Action::DownstreamCaSign, outcome);
        event.fact("asked_ttl", request.preferred_ttl)
    };
    let signed = async {
        context.still_downstream(caller)?;
        sign(context, &request).await
    };
    let SignedAuthority { chain, authority } = match signed.await {
        Ok(signed) => signed,
        Err(refusal) => return Err(context.refused(refusal, event).await),
    };
    let signed = event(Outcome::Done)
        .object(Object::authority(authority.id()))
        .fact("serial", authority.certificate().serial())
        .fact("expires_at", authority.validity().not_after);
    context.record(signed).await?;
    // The entry may have gone while it was signed and recorded (I4).
    if let Err(refusal) = context.still_downstream(caller) {
        return Err(context.refused(refusal, event).await);
    }
    let roots = context.bundles.own();
    let roots = roots.x509_authorities().iter().map(|root| root.der().to_vec());
    Ok(NewDownstreamX509caResponse {
        ca_cert_chain: chain.iter().map(|certificate| certificate.to_vec()).collect(),
        x509_authorities: roots.collect(),
    })
}

async fn sign(context: &Context, request: &NewDownstreamX509caRequest) -> Result<SignedAuthority, Refusal> {
    let asked = lifetime(request.preferred_ttl)?;
    let lifetime = asked.map_or(context.downstream, |asked| asked.min(context.downstream));
    let (ca, csr) = (context.ca.clone(), request.csr.clone());
    if csr.is_empty() {
        return Err(Refusal::invalid("csr: is missing"));
    }
    let job = move || {
        let csr = Csr::parse(&csr).map_err(|error| Refusal::invalid(format!("csr: {error}")))?;
        Ok(ca.sign_downstream(csr.public_key().clone(), lifetime)?)
    };
    context.ca.pool().run(job).await?
}

/// Puts a token-signing key of a downstream server into the bundle, further above first if somebody stands above us. Answers with all keys that there are.
pub(super) async fn publish_jwt_authority(
    context: &Context,
    caller: &Caller,
    request: &PublishJwtAuthorityRequest,
) -> Result<Vec<types::JwtKey>, Refusal> {
    let event = |outcome| {
        let event = Event::new(caller.actor(), Action::JwtKeyPublish, outcome);
        request.jwt_authority.iter().fold(event, |event, key| {
            event
                .object(Object::authority(&key.key_id))
                .fact("expires_at", key.expires_at)
        })
    };
    match publish(context, caller, request.jwt_authority.as_ref()).await {
        Ok(()) => context.record(event(Outcome::Done)).await?,
        Err(refusal) => return Err(context.refused(refusal, event).await),
    }
    let bundle = context.bundles.own();
    Ok(bundle.jwt_authorities().iter().map(types::JwtKey::from).collect())
}

async fn publish(context: &Context, caller: &Caller, wire: Option<&types::JwtKey>) -> Result<(), Refusal> {
    context.still_downstream(caller)?;
    let wire = wire.ok_or_else(|| Refusal::invalid("missing JWT authority"))?;
    let wrong = |why: &dyn std::fmt::Display| Refusal::invalid(format!("invalid JWT authority: {why}"));
    let key = jwt_authority(wire)
        .map_err(|error| wrong(&error))?
        .with_taint(false);
    let now = context.clock.now();
    match key.expires_at() {
        // Nobody would ever take it out again.
        None => return Err(wrong(&"expires_at: is missing")),
        Some(end) if end <= now => return Err(wrong(&"expires_at: it has ended")),
        Some(end) if end > longest(context, now) => {
            let most = longest(context, now).since(now).as_secs() / 86_400;
            return Err(wrong(&format_args!(
                "expires_at: it lives longer than the {most} days that this server takes; have authorities of the caller live shorter"
            )));
        }
        Some(_) => {}
    }
    let from = caller.svid().map(|svid| svid.id().clone());
    let from = from.ok_or_else(|| Refusal::internal("a downstream server without an SVID"))?;
    let unread = |error| Refusal::internal("the authorities can't be read").because(error);
    let upstream = context.upstream.as_ref().filter(|upstream| upstream.takes_keys());
    let share = match upstream {
        None => Share::AT_ROOT,
        Some(_) => Share::BELOW_ANOTHER,
    };
    // Before it is looked at what is there: what was on its way then is in the log now, or on its way still.
    let place = context.publishing.begin(&key, &from);
    if let Some(upstream) = upstream {
        // Before it goes up: those above would keep to its end what there is no place for here.
        let view = context.registry.view();
        let foreign = ForeignKeys::new(&view, now).map_err(unread)?.with(place.others());
        let (mut tried, _) = own_bundle(&view, &context.trust_domain).map_err(PublishError::from)?;
        let fits = foreign.put_of(&mut tried, &key, &from, share);
        fits.map_err(PublishError::from)?;
        // What else is known there comes by the one who follows it.
        upstream.publish(&key).await.map_err(|error| {
            Refusal::unavailable("the upstream authority did not take the key, try again").because(error)
        })?;
    }
    // It may have taken a while: the right is asked for again.
    context.still_downstream(caller)?;
    // In turn: two at once would share the last place.
    let _turn = context.one_at_a_time.turn().await;
    let view = context.registry.view();
    let foreign = ForeignKeys::new(&view, now).map_err(unread)?;
    let published = Origins::read(&view).map_err(unread)?.published(&from, &key);
    let put =
        |bundle: &mut Bundle| -> Result<(), PublishError> { Ok(foreign.put_of(bundle, &key, &from, share)?) };
    let Context {
        registry,
        bundles,
        trust_domain,
        ..
    } = context;
    change_own_bundle(registry, bundles, trust_domain, vec![published], put)
        .await
        .map_err(Refusal::from)
}

/// Token-signing keys of servers below us that are on their way up. It may take half a minute, and nobody waits for another meanwhile.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<Vec<(String, SpiffeId)>>);

/// One of them, until it is dropped.
struct OnItsWay<'a> {
    all: &'a UnderWay,
    key: String,
    from: SpiffeId,
}

impl UnderWay {
    fn begin(&self, key: &JwtAuthority, from: &SpiffeId) -> OnItsWay<'_> {
        let (key, from) = (key.key_id().to_string(), from.clone());
        self.lock().push((key.clone(), from.clone()));
        OnItsWay { all: self, key, from }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, SpiffeId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnItsWay<'_> {
    /// The others.
    fn others(&self) -> Vec<(String, SpiffeId)> {
        let all = self.all.lock();
        all.iter().filter(|(key, _)| *key != self.key).cloned().collect()
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        let is_this = |(key, from): &(String, SpiffeId)| *key == self.key && *from == self.from;
        if let Some(at) = all.iter().position(is_this) {
            all.swap_remove(at);
        }
    }
}

/// When a key may end at the latest. It stays in the bundle until then, whatever becomes of the server that made it: nobody but an administrator takes it out before. Ninety
/// days are more than any server needs that rotates by itself; where our own authorities live longer, who trusts those may trust these as long. The hour is for clocks.
fn longest(context: &Context, now: UnixTime) -> UnixTime {
    let life = context.downstream.duration().max(LONGEST_KEY);
    now.saturating_add(life)
        .saturating_add(Duration::from_secs(3_600))
}

/// Why a key is not in the bundle.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Record(#[from] BundleRecordError),
    #[error(transparent)]
    Put(#[from] ForeignKeyError),
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Commit(error) => error.into(),
            PublishError::Record(error) => error.into(),
            PublishError::Put(error) => {
                let code = if error.is_too_many() {
                    Code::ResourceExhausted
                } else {
                    Code::InvalidArgument
                };
                Self::new(code, format!("invalid JWT authority: {error}"))
            }
        }
    }
}

impl Context {
    /// Whether a downstream server is one still.
    fn still_downstream(&self, caller: &Caller) -> Result<(), Refusal> {
        let still = caller.role() == Role::Downstream
            && caller.svid().is_some_and(|svid| {
                svid.not_after() >= self.clock.now() && self.registry.view().has_downstream(svid.id())
            });
        if still {
            Ok(())
        } else {
            Err(Refusal::new(
                Code::PermissionDenied,
                "the caller is no downstream server any more",
            ))
        }
    }
}

/// Seconds on the wire; 0 leaves it to us.
fn lifetime(ttl: i32) -> Result<Option<Lifetime>, Refusal> {
    let secs =
        u32::try_from(ttl).map_err(|_| Refusal::invalid(format!("preferred_ttl: {ttl} is negative")))?;
    Ok(Lifetime::from_secs(secs).ok())
}
