//! The bundles that one verifier goes by.

use std::{collections::BTreeMap, sync::Arc};

use muster_identity::{SpiffeId, TrustDomain};

use super::{Bundle, Scope};
use crate::{
    jwt::{JwtAuthority, JwtBundleSource},
    x509::{X509Authority, X509BundleSource},
};

/// The own bundle and the federated ones. Clones share the bundles.
///
/// A trust domain has one place in it: keys of one are never looked at for another (Federation 7.3).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BundleSet {
    own: Arc<Bundle>,
    federated: BTreeMap<TrustDomain, (Arc<Bundle>, Scope)>,
}

/// The own trust domain's bundle comes from its own server and never by federation (Federation 7.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the own trust domain cannot be federated with")]
pub struct OwnTrustDomain;

impl BundleSet {
    /// A set with the own bundle only.
    pub fn new(own: Arc<Bundle>) -> Self {
        Self {
            own,
            federated: BTreeMap::new(),
        }
    }

    /// The own bundle.
    pub fn own(&self) -> &Arc<Bundle> {
        &self.own
    }

    /// The federated bundles, by trust domain.
    pub fn federated(&self) -> impl ExactSizeIterator<Item = &Arc<Bundle>> {
        self.federated.values().map(|(bundle, _)| bundle)
    }

    /// Own and federated, the own first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        std::iter::once(&self.own).chain(self.federated())
    }

    /// The bundle of a trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        if trust_domain == self.own.trust_domain() {
            Some(&self.own)
        } else {
            self.federated.get(trust_domain).map(|(bundle, _)| bundle)
        }
    }

    /// What a federated trust domain is narrowed to.
    pub fn scope(&self, trust_domain: &TrustDomain) -> Option<&Scope> {
        self.federated.get(trust_domain).map(|(_, scope)| scope)
    }

    /// Replaces the own bundle by a newer one.
    ///
    /// # Errors
    /// When it is another trust domain's.
    pub fn set_own(&mut self, own: Arc<Bundle>) -> Result<(), OwnTrustDomain> {
        if own.trust_domain() != self.own.trust_domain() {
            return Err(OwnTrustDomain);
        }
        self.own = own;
        Ok(())
    }

    /// Puts in a federated bundle, in the place of an older one.
    ///
    /// # Errors
    /// When it claims to be the own trust domain's.
    pub fn put_federated(&mut self, bundle: Arc<Bundle>) -> Result<(), OwnTrustDomain> {
        self.put_scoped(bundle, Scope::all())
    }

    /// The same, narrowed to some paths.
    ///
    /// # Errors
    /// When it claims to be the own trust domain's.
    pub fn put_scoped(&mut self, bundle: Arc<Bundle>, scope: Scope) -> Result<(), OwnTrustDomain> {
        if bundle.trust_domain() == self.own.trust_domain() {
            return Err(OwnTrustDomain);
        }
        self.federated
            .insert(bundle.trust_domain().clone(), (bundle, scope));
        Ok(())
    }

    /// Takes a federated bundle out.
    pub fn remove_federated(&mut self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.federated.remove(trust_domain).map(|(bundle, _)| bundle)
    }

    /// The own bundle and those of `wanted` that there are: what a workload with these federations gets.
    pub fn select<'a>(&self, wanted: impl IntoIterator<Item = &'a TrustDomain>) -> Self {
        let federated = wanted
            .into_iter()
            .filter_map(|name| self.federated.get_key_value(name))
            .map(|(name, held)| (name.clone(), held.clone()))
            .collect();
        Self {
            own: Arc::clone(&self.own),
            federated,
        }
    }
}

impl X509BundleSource for BundleSet {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.get(trust_domain)
            .map(|bundle| Bundle::x509_authorities(bundle))
    }

    fn admits(&self, id: &SpiffeId) -> bool {
        covers(self, id)
    }
}

impl JwtBundleSource for BundleSet {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        self.get(trust_domain)
            .map(|bundle| Bundle::jwt_authorities(bundle))
    }

    fn admits(&self, id: &SpiffeId) -> bool {
        covers(self, id)
    }
}

fn covers(set: &BundleSet, id: &SpiffeId) -> bool {
    set.scope(id.trust_domain()).is_none_or(|scope| scope.covers(id))
}
