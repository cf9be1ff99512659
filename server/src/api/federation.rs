//! `muster.federation.v1.Federation`: how it stands with other trust domains, and what of them counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::{TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, BundleSet, Scope};
use muster_proto::convert::trust_domain;
use muster_proto::federation::federation_server::Federation;
use muster_proto::federation::{
    ListPeersRequest, ListPeersResponse, NarrowRequest, Peer, ReleaseRequest, RevokeRequest,
};
use tonic::{Request, Response, Status};

use super::bundle::foreign;
use super::{Caller, Context, Refusal};
use crate::bundles::{bundle_from_bytes, federated_to_bytes};
use crate::federation::{self, Relationship, Source, recorded, scope};
use crate::registry::{CommitError, View};
use crate::store::{Change, Expect, Tree};

/// How often a change is tried when others change the same trust domain at the same time.
const TRIES: usize = 8;

/// The service.
pub struct FederationService {
    context: Arc<Context>,
}

impl FederationService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Changes what counts of a trust domain, and answers how it stands then.
    async fn change(
        &self,
        caller: Caller,
        action: Action,
        name: TrustDomain,
        change: impl Fn(&mut Relationship, UnixTime) + Send + Sync + 'static,
    ) -> Result<Response<Peer>, Status> {
        let (context, of) = (Arc::clone(&self.context), name.clone());
        let changing = async move {
            let event = |outcome| Event::new(caller.actor(), action, outcome).object(Object::federation(&of));
            match commit(&context, &of, change).await {
                Ok(()) => context.record(event(Outcome::Done)).await,
                Err(refusal) => Err(context.refused(refusal, event).await),
            }
        };
        self.context.to_the_end(changing).await?;
        let peers = peers(&self.context, Some(&name));
        Ok(Response::new(peers.into_iter().next().unwrap_or_default()))
    }
}

#[tonic::async_trait]
impl Federation for FederationService {
    async fn list_peers(
        &self,
        request: Request<ListPeersRequest>,
    ) -> Result<Response<ListPeersResponse>, Status> {
        let only = match request.get_ref().trust_domain.as_str() {
            "" => None,
            name => Some(trust_domain("trust_domain", name).map_err(Refusal::from)?),
        };
        let peers = peers(&self.context, only.as_ref());
        if let (Some(name), true) = (&only, peers.is_empty()) {
            return Err(unknown(name).into());
        }
        Ok(Response::new(ListPeersResponse { peers }))
    }

    async fn revoke(&self, request: Request<RevokeRequest>) -> Result<Response<Peer>, Status> {
        let caller = Caller::of(&request)?;
        let name = foreign(&self.context, "revoking a", &request.get_ref().trust_domain)?;
        self.change(caller, Action::FederationRevoke, name, |relationship, now| {
            relationship.revoked_at.get_or_insert(now);
        })
        .await
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<Peer>, Status> {
        let caller = Caller::of(&request)?;
        let name = foreign(&self.context, "releasing a", &request.get_ref().trust_domain)?;
        self.change(caller, Action::FederationRelease, name, |relationship, _| {
            relationship.revoked_at = None;
        })
        .await
    }

    async fn narrow(&self, request: Request<NarrowRequest>) -> Result<Response<Peer>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let name = foreign(&self.context, "narrowing a", &request.trust_domain)?;
        let scope: Scope = scope("path_prefixes", &request.path_prefixes).map_err(Refusal::from)?;
        self.change(caller, Action::FederationUpdate, name, move |relationship, _| {
            relationship.scope = scope.clone();
        })
        .await
    }
}

fn unknown(name: &TrustDomain) -> Refusal {
    Refusal::not_found(format!(
        "there is neither a relationship with {name} nor a bundle of it"
    ))
}

/// Changes the record of a trust domain. Of one that is revoked the keys go from the log in the same commit; the sequence stays, so that no older bundle comes back.
async fn commit(
    context: &Context,
    name: &TrustDomain,
    change: impl Fn(&mut Relationship, UnixTime),
) -> Result<(), Refusal> {
    let key = name.as_str().as_bytes();
    let mut tries = 0;
    loop {
        let view = context.registry.view();
        let held = view.document(Tree::Bundles, key);
        if context.federation.peers().get(&view, name).is_none() && held.is_none() {
            return Err(unknown(name));
        }
        let record = view.document(Tree::Relationships, key);
        let mut relationship =
            recorded(&view, name).unwrap_or_else(|| Relationship::without_source(name.clone()));
        change(&mut relationship, context.clock.now());
        let expect = record.map_or(Expect::Absent, |record| Expect::At(record.version));
        let empty = relationship == Relationship::without_source(name.clone());
        let mut changes = vec![match empty {
            true => Change::delete(Tree::Relationships, key, expect),
            false => Change::put(Tree::Relationships, key, relationship.to_bytes(), expect),
        }];
        if let (Some(held), true) = (held, relationship.revoked_at.is_some()) {
            let mut cleared = Bundle::new(name.clone());
            cleared.set_sequence(
                bundle_from_bytes(&held.value)
                    .ok()
                    .and_then(|held| held.sequence()),
            );
            let bytes = federated_to_bytes(&cleared).map_err(|error| Refusal::internal(error.to_string()))?;
            changes.push(Change::put(Tree::Bundles, key, bytes, Expect::At(held.version)));
        }
        tries += 1;
        match context.registry.commit(changes).await {
            Ok(_) => return Ok(context.bundles.refresh(&context.registry.view())?),
            Err(CommitError::Conflict(_)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Everybody with a relationship or a bundle, or only one.
fn peers(context: &Context, only: Option<&TrustDomain>) -> Vec<Peer> {
    let view = context.registry.view();
    let set = context.bundles.set();
    let known = context.federation.peers().all(&view);
    let mut names: BTreeSet<&TrustDomain> = known.keys().collect();
    names.extend(set.federated().map(|bundle| bundle.trust_domain()));
    let (entries, owners) = (entries_by_peer(&view), owners(&set));
    let shown = names
        .into_iter()
        .filter(|name| only.is_none_or(|only| only == *name));
    shown
        .map(|name| {
            let mut peer = peer(context, &set, name, known.get(name));
            peer.shares_keys_with = sharing(&set, name, &owners);
            peer.entries = entries.get(name).copied().unwrap_or(0);
            peer
        })
        .collect()
}

fn entries_by_peer(view: &View) -> BTreeMap<&TrustDomain, u32> {
    let mut entries = BTreeMap::new();
    for name in view
        .entries()
        .flat_map(|registered| registered.entry.spec.federates_with.iter())
    {
        *entries.entry(name).or_insert(0) += 1;
    }
    entries
}

fn peer(context: &Context, set: &BundleSet, name: &TrustDomain, known: Option<&federation::Peer>) -> Peer {
    let now = context.clock.now();
    let status = context.federation.statuses().get(name);
    let seconds = |at: Option<UnixTime>| at.map_or(0, UnixTime::as_secs);
    let relationship = known.map(|known| &known.relationship);
    let mut peer = Peer {
        trust_domain: name.to_string(),
        relationship: relationship.map(|relationship| relationship.to_wire(None)),
        configured: known.is_some_and(|known| known.configured),
        revoked_at: seconds(relationship.and_then(|relationship| relationship.revoked_at)),
        asked_at: seconds(status.asked_at),
        confirmed_at: seconds(status.confirmed_at),
        alarm: status.alarm(now).unwrap_or_default(),
        failure: status.failure.unwrap_or_default(),
        failures: status.failures,
        interval: status.interval.map_or(0, |interval| interval.as_secs()),
        pushes: status.pushes,
        remarks: status.remarks,
        asked_us_at: seconds(status.asked_us.map(|(at, _)| at)),
        held_our_newest: status.asked_us.is_some_and(|(_, newest)| newest),
        ..Peer::default()
    };
    if let Some(relationship) = relationship {
        if let Some(Source::File(file)) = &relationship.source {
            peer.file = file.display().to_string();
        }
        let prefixes = relationship.scope.prefixes().iter();
        peer.path_prefixes = prefixes.map(ToString::to_string).collect();
    }
    if let Some(bundle) = set.get(name) {
        let count = |keys: usize| u32::try_from(keys).unwrap_or(u32::MAX);
        peer.has_bundle = true;
        peer.sequence_number = bundle.sequence().unwrap_or(0);
        peer.x509_authorities = count(bundle.x509_authorities().len());
        peer.jwt_authorities = count(bundle.jwt_authorities().len());
    }
    peer
}

/// By each key that is in more than one bundle, whose they are.
fn owners(set: &BundleSet) -> HashMap<Vec<u8>, BTreeSet<TrustDomain>> {
    let mut owners: HashMap<Vec<u8>, BTreeSet<TrustDomain>> = HashMap::new();
    for bundle in set.iter() {
        for key in keys(bundle) {
            owners
                .entry(key)
                .or_default()
                .insert(bundle.trust_domain().clone());
        }
    }
    owners.retain(|_, names| names.len() > 1);
    owners
}

fn sharing(
    set: &BundleSet,
    name: &TrustDomain,
    owners: &HashMap<Vec<u8>, BTreeSet<TrustDomain>>,
) -> Vec<String> {
    let keys = set.get(name).into_iter().flat_map(|bundle| keys(bundle));
    let others: BTreeSet<&TrustDomain> = keys
        .filter_map(|key| owners.get(&key))
        .flatten()
        .filter(|other| *other != name)
        .collect();
    others.into_iter().map(ToString::to_string).collect()
}

fn keys(bundle: &Bundle) -> impl Iterator<Item = Vec<u8>> {
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|authority| authority.public_key());
    let jwt = bundle
        .jwt_authorities()
        .iter()
        .map(|authority| authority.public_key());
    x509.chain(jwt).map(|key| key.spki_der().to_vec())
}
