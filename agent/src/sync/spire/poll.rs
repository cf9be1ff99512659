//! One poll: everything that this node may hand out, as the server has it now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::{EntryId, Position, Revision, StoreId, TrustDomain, UnixTime};
use muster_pki::bundle::Bundle;
use muster_proto::convert::NodeEntry;
use tonic::transport::Channel;
use tracing::{debug, warn};

use super::bundles;
use super::call::CallError;
use super::entries::{self, Manner};
use super::lineage::Lineage;
use super::listing::{Difference, Held};
use super::revision::store_of;
use crate::cache::{BundleNews, Cache, StaleUpdate, Update};

/// How long a poll may take.
const WITHIN: Duration = Duration::from_secs(30);

/// What a poll brought.
#[derive(Debug)]
pub(super) struct Polled {
    difference: Difference,
    bundles: bundles::Answered,
    manner: Manner,
}

/// What is remembered of the server from poll to poll, also over a change of the connection.
#[derive(Debug)]
pub(in crate::sync) struct Memory {
    own: TrustDomain,
    store: StoreId,
    manner: Manner,
    lineage: Lineage,
    unreadable: BTreeMap<EntryId, u64>,
    /// What was complained of last about each bundle: it is said once and not at every poll.
    complaints: BTreeMap<TrustDomain, String>,
    /// Whether the server knows this agent's version.
    pub(super) introduced: bool,
}

impl Memory {
    /// Nothing is known yet of the servers of `own`.
    pub(in crate::sync) fn new(own: TrustDomain) -> Self {
        let store = store_of(&own);
        Self {
            own,
            store,
            manner: Manner::UNKNOWN,
            lineage: Lineage::default(),
            unreadable: BTreeMap::new(),
            complaints: BTreeMap::new(),
            introduced: false,
        }
    }

    /// Whether the entries that are held came from here. Those of a server of another kind have ids that mean nothing here, and the other way round.
    pub(in crate::sync) fn gave(&self, position: Option<Position>) -> bool {
        position.is_some_and(|position| position.store == self.store)
    }

    /// A poll against what `cache` holds.
    pub(super) fn poll(
        &self,
        cache: &Cache,
        channel: Channel,
    ) -> impl Future<Output = Result<Polled, CallError>> + Send + use<> {
        // Whoever holds the cache up holds up its callers: what costs more than copying pointers comes after it.
        let entries: Vec<Arc<NodeEntry>> = cache.entries().cloned().collect();
        let (known, unreadable) = (self.gave(cache.position()), self.unreadable.clone());
        let (own, mut manner) = (self.own.clone(), self.manner);
        let whole = async move {
            let held = Arc::new(Held::of(entries, known, unreadable));
            let difference = entries::ask(&channel, &held, &mut manner).await?;
            let bundles = bundles::ask(&channel, &own, difference.federates_with.clone()).await?;
            Ok(Polled {
                difference,
                bundles,
                manner,
            })
        };
        async move {
            let polled = tokio::time::timeout(WITHIN, whole).await;
            polled.unwrap_or(Err(CallError::Slow {
                method: "a poll",
                within: WITHIN,
            }))
        }
    }

    /// Installs what a poll brought. Bundles first: an entry never waits for the bundle that it federates with.
    pub(super) fn install(
        &mut self,
        polled: Polled,
        cache: &mut Cache,
        now: UnixTime,
    ) -> Result<(), StaleUpdate> {
        let Polled {
            difference,
            bundles,
            manner,
        } = polled;
        self.manner = manner;
        for (id, error) in &difference.errors {
            warn!(entry_id = %id, %error, "the server sent an entry that can't be used; it is left out");
        }
        self.complain(bundles.complaints);
        self.unreadable = difference.unreadable;
        let gone: Vec<TrustDomain> = cache
            .federated()
            .map(|held| held.trust_domain())
            .filter(|name| !difference.federates_with.contains(*name) || bundles.absent.contains(*name))
            .cloned()
            .collect();
        let restored = self.lineage.judge(pairs(cache, &bundles.bundles));
        for name in &restored {
            warn!(trust_domain = %name, "every poll brings an older trust bundle than the one that is held; it counts from now on");
        }
        cache.install_bundle_news(
            BundleNews {
                removed: gone,
                restored,
                ..BundleNews::unnarrowed(self.store, bundles.bundles)
            },
            now,
        );

        let held = cache.position();
        let known = self.gave(held);
        if known && difference.upserts.is_empty() && difference.removals.is_empty() {
            return Ok(());
        }
        let revision = held
            .filter(|_| known)
            .map_or(Revision(1), |held| held.revision.next());
        let position = Position {
            store: self.store,
            revision,
        };
        debug!(%position, upserts = difference.upserts.len(), removals = difference.removals.len(), "entries changed");
        let mut upserts = difference.upserts;
        // SPIRE doesn't say what of an entry changed, and its lifetimes and DNS names are not seen here: each change makes the SVID anew.
        upserts
            .iter_mut()
            .for_each(|entry| entry.x509_version = revision.0);
        cache.install(
            Update {
                position,
                upserts,
                removals: difference.removals,
            },
            now,
        )
    }

    fn complain(&mut self, complaints: Vec<(TrustDomain, String)>) {
        let complaints: BTreeMap<TrustDomain, String> = complaints.into_iter().collect();
        for (name, text) in &complaints {
            if self.complaints.get(name) != Some(text) {
                warn!(trust_domain = %name, reason = %text, "the server sent a trust bundle that can't be used as it is");
            }
        }
        self.complaints = complaints;
    }
}

/// Each bundle that came beside the one that is held.
fn pairs<'a>(cache: &'a Cache, offered: &'a [Bundle]) -> impl Iterator<Item = (&'a Bundle, &'a Bundle)> {
    let held = std::iter::once(cache.own_bundle()).chain(cache.federated());
    let held: BTreeMap<&TrustDomain, &Bundle> =
        held.map(|bundle| (bundle.trust_domain(), &**bundle)).collect();
    offered
        .iter()
        .filter_map(move |bundle| Some((*held.get(bundle.trust_domain())?, bundle)))
}
