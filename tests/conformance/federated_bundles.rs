//! Part 7, as far as it is about bundles of other trust domains: what a workload gets of them on a running agent.

use std::{collections::HashMap, sync::Arc};

use muster_identity::{Lifetime, UnixTime};
use muster_pki::{
    KeyAlgorithm, LocalKey,
    bundle::Bundle,
    x509::{RootProfile, ca_subject, issue_root},
};
use muster_proto::{
    convert::bundle_to_wire,
    spire::{
        server::bundle::{BatchSetFederatedBundleRequest, bundle_client::BundleClient},
        types,
    },
    workload::{X509BundlesRequest, X509BundlesResponse, X509svidRequest},
};
use muster_tests::{Cluster, PATIENCE, Settings};
use serde_json::Value;
use tonic::Streaming;

use crate::{
    asked_tokens::validate,
    book::{Book, VECTORS, list, text},
    caller::{client, opened, ourselves, request, within},
};

const OTHER: &str = "other.example";
/// How many authorities a large bundle has: near the most that is kept.
const AUTHORITIES: usize = 500;
/// How many large bundles make a message of more than 4 MiB.
const LARGE: usize = 24;

pub(crate) fn judge(book: &mut Book) {
    let cluster = Cluster::start(&Settings::default());
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let tokens = &vectors["jwt_svids"];
    let document = tokens["bundles"][OTHER].to_string();
    let bundle = Bundle::from_document(OTHER.parse().unwrap(), document.as_bytes())
        .unwrap()
        .bundle;
    let foreign = list(&tokens["cases"])
        .iter()
        .find(|case| text(case, "id") == "JS-18")
        .expect("a token of a federated trust domain");
    let (audience, token) = (text(foreign, "audience"), text(foreign, "token"));
    let entry = cluster.register("/w", &[&ourselves()]);
    cluster.block_on(async {
        set(&cluster, vec![bundle_to_wire(&bundle, None)]).await;
        opened(&cluster, &["/w"]).await;
    });
    book.case("WA-19", || {
        // The bundle is held here, and this caller's entry does not federate with it.
        let refused = cluster.block_on(validate(&cluster, audience, token)).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    });
    cluster.unregister(&entry);
    register(&cluster, &[OTHER]);
    book.case("WA-17f", || {
        cluster.block_on(async {
            let end = tokio::time::Instant::now() + PATIENCE;
            loop {
                match validate(&cluster, audience, token).await {
                    Ok(id) => {
                        assert_eq!(id, "spiffe://other.example/w");
                        return;
                    }
                    Err(status) => assert!(tokio::time::Instant::now() < end, "{status}"),
                }
            }
        });
    });
    book.case("WA-09", || {
        cluster.block_on(async {
            // One with X.509 authorities: it is their bundles that the stream tells.
            let mut with_authority = bundle_to_wire(&bundle, None);
            with_authority.x509_authorities = authorities(1);
            set(&cluster, vec![with_authority]).await;
            let mut stream = bundles(&cluster).await;
            let name = format!("spiffe://{OTHER}");
            heard(&mut stream, |bundles| bundles.contains_key(&name)).await;
            cluster.muster_ok(&["bundle", "delete", OTHER, "--mode", "dissociate"]);
            heard(&mut stream, |bundles| !bundles.contains_key(&name)).await;
        });
    });
    book.case("WA-24", || {
        let names: Vec<String> = (0..LARGE)
            .map(|number| format!("large{number}.example"))
            .collect();
        let authorities = authorities(AUTHORITIES);
        cluster.block_on(async {
            for name in &names {
                let large = types::Bundle {
                    trust_domain: name.clone(),
                    x509_authorities: authorities.clone(),
                    ..types::Bundle::default()
                };
                set(&cluster, vec![large]).await;
            }
        });
        register(&cluster, &names.iter().map(String::as_str).collect::<Vec<_>>());
        cluster.block_on(async {
            let mut able = client(&cluster).await.max_decoding_message_size(64 << 20);
            let end = tokio::time::Instant::now() + PATIENCE;
            loop {
                let stream = within(able.fetch_x509svid(request(X509svidRequest {}))).await;
                let message = within(stream.unwrap().into_inner().message())
                    .await
                    .unwrap()
                    .unwrap();
                let bytes: usize = message
                    .federated_bundles
                    .values()
                    .map(|bundle| bundle.len())
                    .sum();
                if bytes > 4 << 20 {
                    break;
                }
                assert!(tokio::time::Instant::now() < end, "the bundles never came");
            }
            // A client that takes no more than 4 MiB is told by its own library.
            let stream = within(client(&cluster).await.fetch_x509svid(request(X509svidRequest {}))).await;
            let refused = within(stream.unwrap().into_inner().message()).await.unwrap_err();
            assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
        });
    });
}

fn register(cluster: &Cluster, federates_with: &[&str]) -> String {
    let mut entry = cluster.entry(
        "/w",
        &[&ourselves(), &format!("unix:gid:{}", nix::unistd::getgid())],
    );
    entry.federates_with = federates_with.iter().map(ToString::to_string).collect();
    if federates_with.len() > 1 {
        entry.spiffe_id = Some(types::Spiffeid {
            trust_domain: cluster.trust_domain().into(),
            path: "/large".into(),
        });
    }
    cluster.register_entry(entry)
}

async fn set(cluster: &Cluster, bundle: Vec<types::Bundle>) {
    let request = BatchSetFederatedBundleRequest {
        bundle,
        output_mask: None,
    };
    let answer = BundleClient::new(cluster.channel().await)
        .batch_set_federated_bundle(request)
        .await;
    for result in answer.unwrap().into_inner().results {
        let status = result.status.unwrap();
        assert_eq!(status.code, 0, "{}", status.message);
    }
}

fn authorities(count: usize) -> Vec<types::X509Certificate> {
    let profile = RootProfile {
        trust_domain: OTHER.parse().unwrap(),
        subject: ca_subject(),
        now: UnixTime::from_secs(1_795_000_000),
        lifetime: Lifetime::from_secs(10 * 365 * 24 * 3_600).unwrap(),
    };
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let root = |_| issue_root(key.clone(), &profile).unwrap();
    (0..count)
        .map(root)
        .map(|root| types::X509Certificate {
            asn1: root.authority().der().to_vec(),
            tainted: false,
        })
        .collect()
}

async fn bundles(cluster: &Cluster) -> Streaming<X509BundlesResponse> {
    let mut client = client(cluster).await;
    let stream = within(client.fetch_x509_bundles(request(X509BundlesRequest {}))).await;
    stream.unwrap().into_inner()
}

async fn heard(
    stream: &mut Streaming<X509BundlesResponse>,
    wanted: impl Fn(&HashMap<String, Vec<u8>>) -> bool,
) {
    loop {
        let message = within(stream.message()).await.unwrap().unwrap();
        if wanted(&message.bundles) {
            return;
        }
    }
}
