//! FetchX509SVID: the caller's X.509-SVIDs with their keys and what to verify others with.

use std::sync::Arc;

use bytes::Bytes;
use muster_identity::{EntryId, SpiffeId};
use muster_proto::workload::{X509svid, X509svidResponse};
use prost::Message;
use zeroize::Zeroize;

use super::WorkloadSettings;
use super::bundles::same_x509_bundles;
use super::stream::{Shape, Verdict};
use crate::cache::{Encoding, HeldIdentity, HeldX509, WorkloadView};

/// The caller knows the server's word, or waits for it.
pub(super) const UNHEARD: &str = "the node agent has not heard from its server yet";
const UNSIGNED: &str = "the X.509-SVID is not signed yet";

/// `X509SVIDResponse`.
#[derive(Clone, Copy, Debug)]
pub(super) struct X509Svids;

impl Shape for X509Svids {
    fn verdict(self, view: &WorkloadView, _settings: &WorkloadSettings) -> Verdict {
        match (view.entitled, view.ready, held(view).next().is_some()) {
            (false, true, _) => Verdict::Nobody,
            (false, false, _) => Verdict::Wait(UNHEARD),
            (true, true, true) => Verdict::Send,
            (true, false, true) => Verdict::SendSoon,
            (true, _, false) => Verdict::Wait(UNSIGNED),
        }
    }

    fn encode(self, view: &WorkloadView) -> Bytes {
        view.encoded(Encoding::X509Svids, || {
            let mut response = response(view);
            let bytes = response.encode_to_vec();
            // The message was a second copy of the keys.
            response
                .svids
                .iter_mut()
                .for_each(|svid| svid.x509_svid_key.zeroize());
            bytes
        })
    }

    fn same(self, one: &WorkloadView, other: &WorkloadView) -> bool {
        let same = |(one, other): (Held<'_>, Held<'_>)| {
            Arc::ptr_eq(one.1, other.1)
                && (&one.0.entry_id, &one.0.hint) == (&other.0.entry_id, &other.0.hint)
        };
        held(one).count() == held(other).count()
            && held(one).zip(held(other)).all(same)
            && same_x509_bundles(&one.bundles, &other.bundles)
    }

    fn hands_out(self, view: &WorkloadView) -> Vec<(&EntryId, &SpiffeId)> {
        held(view)
            .map(|(identity, _)| (&identity.entry_id, &identity.id))
            .collect()
    }
}

type Held<'a> = (&'a HeldIdentity, &'a Arc<HeldX509>);

/// The identities whose SVID is there. An SVID that could not be renewed in time is no reason to hold back the others (I11).
fn held(view: &WorkloadView) -> impl Iterator<Item = Held<'_>> {
    view.identities
        .iter()
        .filter_map(|identity| Some((identity, identity.x509.as_ref()?)))
}

fn response(view: &WorkloadView) -> X509svidResponse {
    let bundle = Bytes::from(view.bundles.own().x509_der_concat());
    let svids = held(view).map(|(identity, x509)| X509svid {
        spiffe_id: identity.id.to_string(),
        x509_svid: x509.chain.clone(),
        x509_svid_key: x509.key.expose_secret().to_vec(),
        bundle: bundle.clone(),
        hint: identity
            .hint
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    });
    let federated = view.bundles.federated();
    X509svidResponse {
        svids: svids.collect(),
        crl: Vec::new(),
        federated_bundles: federated
            // One without authorities vouches for nobody, and some clients fail on empty bytes.
            .filter(|bundle| !bundle.x509_authorities().is_empty())
            .map(|bundle| (bundle.trust_domain().id().to_string(), bundle.x509_der_concat()))
            .collect(),
    }
}
