//! Bundles of other trust domains, set by administrators. Each item of a batch is done or refused alone.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;
use muster_proto::convert;
use muster_proto::spire::types;
use tonic::Code;

use crate::api::{Caller, Context, Refusal};
use crate::bundles::{bundle_from_bytes, federated_to_bytes};
use crate::registry::{CommitError, View};
use crate::store::{Change, Expect, Tree};

/// How often an item is tried when others change the same bundle at the same time.
const TRIES: usize = 4;

/// What is to be done with a bundle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::api) enum Put {
    /// It must not be there.
    Create,
    /// It must be there; what a mask names of it is replaced.
    Update,
    /// Either.
    Set,
}

/// What became of an item.
pub(super) struct Item {
    status: types::Status,
    bundle: Option<Bundle>,
}

impl Item {
    pub(super) fn into_wire(
        self,
        mask: Option<&types::BundleMask>,
    ) -> (Option<types::Status>, Option<types::Bundle>) {
        let bundle = self.bundle.map(|bundle| convert::bundle_to_wire(&bundle, mask));
        (Some(self.status), bundle)
    }
}

/// Puts bundles, one after the other.
pub(super) async fn put(
    context: &Arc<Context>,
    caller: Caller,
    put: Put,
    bundles: Vec<types::Bundle>,
    fields: Option<types::BundleMask>,
) -> Result<Vec<Item>, Refusal> {
    let own = Arc::clone(context);
    let putting = async move {
        let mut items = Vec::with_capacity(bundles.len());
        for wire in &bundles {
            let item = put_recorded(&own, &caller, put, wire, fields.as_ref()).await;
            items.push(match item {
                Ok(bundle) => Item {
                    status: convert::item_ok(),
                    bundle: Some(bundle),
                },
                Err(refusal) => Item {
                    status: refusal.into_item(),
                    bundle: None,
                },
            });
        }
        Ok(items)
    };
    context.to_the_end(putting).await
}

async fn put_recorded(
    context: &Context,
    caller: &Caller,
    put: Put,
    wire: &types::Bundle,
    fields: Option<&types::BundleMask>,
) -> Result<Bundle, Refusal> {
    let event = |outcome| {
        Event::new(caller.actor(), Action::BundleSet, outcome)
            .object(Object::bundle(&wire.trust_domain))
            .fact("sequence", wire.sequence_number)
            .fact("x509_authorities", wire.x509_authorities.len())
            .fact("jwt_authorities", wire.jwt_authorities.len())
    };
    match put_one(context, put, wire, fields).await {
        Ok(bundle) => {
            context.record(event(Outcome::Done)).await?;
            Ok(bundle)
        }
        Err(refusal) => Err(context.refused(refusal, event).await),
    }
}

async fn put_one(
    context: &Context,
    put: Put,
    wire: &types::Bundle,
    fields: Option<&types::BundleMask>,
) -> Result<Bundle, Refusal> {
    let verb = match put {
        Put::Create => "creating a",
        Put::Update => "updating a",
        Put::Set => "setting a",
    };
    let name = foreign(context, verb, &wire.trust_domain)?;
    let mut tries = 0;
    loop {
        let view = context.registry.view();
        not_revoked(context, &view, &name)?;
        let (bundle, change) = change(&view, put, &name, wire, fields)?;
        tries += 1;
        match context.registry.commit(vec![change]).await {
            Ok(_) => {
                context.bundles.refresh(&context.registry.view())?;
                return Ok(bundle);
            }
            Err(CommitError::Conflict(_)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The change that puts a bundle, and the bundle as it will be.
pub(in crate::api) fn change(
    view: &View,
    put: Put,
    name: &TrustDomain,
    wire: &types::Bundle,
    fields: Option<&types::BundleMask>,
) -> Result<(Bundle, Change), Refusal> {
    let held = view.document(Tree::Bundles, name.as_str().as_bytes());
    let wire = match (put, held) {
        (Put::Create, Some(_)) => return Err(Refusal::new(Code::AlreadyExists, "bundle already exists")),
        (Put::Update, None) => return Err(Refusal::not_found("bundle not found")),
        (Put::Update, Some(held)) => {
            let held = convert::bundle_to_wire(&bundle_from_bytes(&held.value)?, None);
            merged(held, wire, fields)
        }
        (Put::Create | Put::Set, _) => wire.clone(),
    };
    let bundle = imported(&convert::bundle(&wire)?, name)?;
    let bytes = federated_to_bytes(&bundle).map_err(|error| Refusal::invalid(error.to_string()))?;
    let expect = held.map_or(Expect::Absent, |held| Expect::At(held.version));
    let change = Change::put(Tree::Bundles, name.as_str().as_bytes(), bytes, expect);
    Ok((bundle, change))
}

/// A foreign trust domain by its name.
pub(in crate::api) fn foreign(context: &Context, verb: &str, name: &str) -> Result<TrustDomain, Refusal> {
    let name = convert::trust_domain("trust_domain", name)?;
    if name == context.trust_domain {
        return Err(Refusal::invalid(format!(
            "trust_domain: {verb} federated bundle for the server's own trust domain is not allowed"
        )));
    }
    Ok(name)
}

/// What is set under a revocation would count for nothing, and whoever sets it would not know.
pub(in crate::api) fn not_revoked(context: &Context, view: &View, name: &TrustDomain) -> Result<(), Refusal> {
    let peer = context.federation.peers().get(view, name);
    match peer.and_then(|peer| peer.relationship.revoked_at) {
        None => Ok(()),
        Some(at) => Err(Refusal::new(
            Code::FailedPrecondition,
            format!("{name} is revoked since {at}; release it first: muster federation release {name}"),
        )),
    }
}

/// A bundle as it is taken from others: a taint is its owner's own business, and WIT keys are not used.
fn imported(bundle: &Bundle, name: &TrustDomain) -> Result<Bundle, Refusal> {
    let mut imported = Bundle::new(name.clone());
    imported.set_refresh_hint(bundle.refresh_hint());
    imported.set_sequence(bundle.sequence());
    for authority in bundle.x509_authorities() {
        imported.put_x509_authority(authority.clone().with_taint(false));
    }
    for authority in bundle.jwt_authorities() {
        let put = imported.put_jwt_authority(authority.clone().with_taint(false));
        put.map_err(|error| Refusal::invalid(format!("jwt_authorities: {error}")))?;
    }
    Ok(imported)
}

fn merged(
    mut held: types::Bundle,
    wire: &types::Bundle,
    fields: Option<&types::BundleMask>,
) -> types::Bundle {
    let Some(fields) = fields else { return wire.clone() };
    if fields.x509_authorities {
        held.x509_authorities = wire.x509_authorities.clone();
    }
    if fields.jwt_authorities {
        held.jwt_authorities = wire.jwt_authorities.clone();
    }
    if fields.refresh_hint {
        held.refresh_hint = wire.refresh_hint;
    }
    if fields.sequence_number {
        held.sequence_number = wire.sequence_number;
    }
    held
}
