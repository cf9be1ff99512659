//! FetchX509Bundles and FetchJWTBundles: what to verify others with.

use std::sync::Arc;

use bytes::Bytes;
use muster_identity::{EntryId, SpiffeId};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_proto::workload::{JwtBundlesResponse, X509BundlesResponse};
use prost::Message;

use super::WorkloadSettings;
use super::stream::{Shape, Verdict};
use super::x509::UNHEARD;
use crate::cache::{Encoding, WorkloadView};

/// `X509BundlesResponse`: the own bundle and those that the caller's entries federate with, by trust domain ID.
#[derive(Clone, Copy, Debug)]
pub(super) struct X509Bundles;

/// `JWTBundlesResponse`: the same as JWK Sets, with keys for JWT-SVIDs only.
#[derive(Clone, Copy, Debug)]
pub(super) struct JwtBundles;

impl Shape for X509Bundles {
    fn verdict(self, view: &WorkloadView, settings: &WorkloadSettings) -> Verdict {
        verdict(view, settings)
    }

    fn encode(self, view: &WorkloadView) -> Bytes {
        view.encoded(Encoding::X509Bundles, || {
            let bundles = by_id(&view.bundles, Keys::X509, |bundle| bundle.x509_der_concat());
            X509BundlesResponse {
                crl: Vec::new(),
                bundles: bundles.collect(),
            }
            .encode_to_vec()
        })
    }

    fn same(self, one: &WorkloadView, other: &WorkloadView) -> bool {
        same_x509_bundles(&one.bundles, &other.bundles)
    }

    fn hands_out(self, _view: &WorkloadView) -> Vec<(&EntryId, &SpiffeId)> {
        Vec::new()
    }
}

impl Shape for JwtBundles {
    fn verdict(self, view: &WorkloadView, settings: &WorkloadSettings) -> Verdict {
        verdict(view, settings)
    }

    fn encode(self, view: &WorkloadView) -> Bytes {
        view.encoded(Encoding::JwtBundles, || {
            let bundles = by_id(&view.bundles, Keys::Jwt, |bundle| {
                bundle.jwks_for_workload().into()
            });
            JwtBundlesResponse {
                bundles: bundles.collect(),
            }
            .encode_to_vec()
        })
    }

    fn same(self, one: &WorkloadView, other: &WorkloadView) -> bool {
        same_bundles(&one.bundles, &other.bundles, |one, other| {
            one.jwks_for_workload() == other.jwks_for_workload()
        })
    }

    fn hands_out(self, _view: &WorkloadView) -> Vec<(&EntryId, &SpiffeId)> {
        Vec::new()
    }
}

fn verdict(view: &WorkloadView, settings: &WorkloadSettings) -> Verdict {
    match (view.entitled, view.ready) {
        (true, _) => Verdict::Send,
        (false, true) if settings.allow_unauthenticated_verifiers => Verdict::Send,
        (false, true) => Verdict::Nobody,
        (false, false) => Verdict::Wait(UNHEARD),
    }
}

/// Which keys an answer is about.
#[derive(Clone, Copy)]
enum Keys {
    X509,
    Jwt,
}

/// The own bundle, and each foreign one that has keys of the kind: one without vouches for nobody (TB 4.1.3), and some clients fail on a bundle that is empty.
fn by_id<'a>(
    bundles: &'a BundleSet,
    keys: Keys,
    form: impl Fn(&Bundle) -> Vec<u8> + 'a,
) -> impl Iterator<Item = (String, Vec<u8>)> + 'a {
    let foreign = bundles.federated().filter(move |bundle| match keys {
        Keys::X509 => !bundle.x509_authorities().is_empty(),
        Keys::Jwt => !bundle.jwt_authorities().is_empty(),
    });
    std::iter::once(bundles.own())
        .chain(foreign)
        .map(move |bundle| (bundle.trust_domain().id().to_string(), form(bundle)))
}

/// Whether both sets have the same X.509 authorities: a new JWT key is no news for TLS.
pub(super) fn same_x509_bundles(one: &Arc<BundleSet>, other: &Arc<BundleSet>) -> bool {
    same_bundles(one, other, |one, other| {
        one.x509_der_concat() == other.x509_der_concat()
    })
}

fn same_bundles(
    one: &Arc<BundleSet>,
    other: &Arc<BundleSet>,
    same: impl Fn(&Bundle, &Bundle) -> bool,
) -> bool {
    Arc::ptr_eq(one, other)
        || (one.iter().count() == other.iter().count()
            && one.iter().all(|bundle| {
                other
                    .get(bundle.trust_domain())
                    .is_some_and(|other| Arc::ptr_eq(bundle, other) || same(bundle, other))
            }))
}
