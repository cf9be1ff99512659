//! The calls for trust bundles.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use futures_util::stream;
use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;
use muster_proto::convert;
use muster_proto::spire::server::bundle::bundle_client::BundleClient;
use muster_proto::spire::server::bundle::{GetBundleRequest, GetFederatedBundleRequest};
use muster_proto::spire::types;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::call::{CallError, MOST_BYTES};

/// How many are asked for at once.
const AT_ONCE: usize = 10;

/// What the server has of bundles.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// The own one, and those of other trust domains that can be used.
    pub(super) bundles: Vec<Bundle>,
    /// Other trust domains of which the server has none.
    pub(super) absent: BTreeSet<TrustDomain>,
    /// What is wrong with some. What is held of them stays.
    pub(super) complaints: Vec<(TrustDomain, String)>,
}

/// Asks for the own bundle and for those of `federated`. All must answer, or nothing is known.
pub(super) async fn ask(
    channel: &Channel,
    own: &TrustDomain,
    federated: BTreeSet<TrustDomain>,
) -> Result<Answered, CallError> {
    let client = BundleClient::new(channel.clone()).max_decoding_message_size(MOST_BYTES);
    let mut answered = Answered::default();
    let wire = client.clone().get_bundle(GetBundleRequest::default()).await;
    let wire = wire
        .map_err(|status| CallError::Status("GetBundle", Box::new(status)))?
        .into_inner();
    let bundle = answered.read(own, &wire);
    let bundle = bundle.filter(|bundle| !bundle.x509_authorities().is_empty());
    // Without it nothing could be verified, not even the next answer; what is held stays.
    let none = || CallError::Bundle(format!("for {own} holds no X.509 authority that can be used"));
    answered.bundles.push(bundle.ok_or_else(none)?);

    let others = federated.into_iter().filter(|name| name != own);
    let mut answers = stream::iter(others.map(|name| one(client.clone(), name))).buffer_unordered(AT_ONCE);
    while let Some((name, answer)) = answers.next().await {
        match answer {
            Ok(wire) => {
                let bundle = answered.read(&name, &wire);
                answered.bundles.extend(bundle);
            }
            Err(status) if status.code() == Code::NotFound => {
                answered.absent.insert(name);
            }
            Err(status) => return Err(CallError::Status("GetFederatedBundle", Box::new(status))),
        }
    }
    Ok(answered)
}

async fn one(
    mut client: BundleClient<Channel>,
    name: TrustDomain,
) -> (TrustDomain, Result<types::Bundle, Status>) {
    let request = GetFederatedBundleRequest {
        trust_domain: name.to_string(),
        output_mask: None,
    };
    let answer = client.get_federated_bundle(request).await;
    (name, answer.map(tonic::Response::into_inner))
}

impl Answered {
    /// What of a bundle can be used; none when it is not the one that was asked for. What is wrong is noted.
    fn read(&mut self, name: &TrustDomain, wire: &types::Bundle) -> Option<Bundle> {
        let (bundle, left_out) = match convert::usable_bundle(wire) {
            Ok((bundle, left_out)) if bundle.trust_domain() == name => (bundle, left_out),
            Ok((bundle, _)) => {
                let other = format!("it is of {}", bundle.trust_domain());
                self.complaints.push((name.clone(), other));
                return None;
            }
            Err(error) => {
                self.complaints.push((name.clone(), error.to_string()));
                return None;
            }
        };
        if let Some(first) = left_out.first() {
            let text = format!("{} of its keys can't be used; the first: {first}", left_out.len());
            self.complaints.push((name.clone(), text));
        }
        Some(bundle)
    }
}
