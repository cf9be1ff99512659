//! Part 7: the Workload API, on a running agent.

use std::collections::BTreeSet;

use muster_pki::{LocalKey, Signer as _, x509::X509Svid};
use muster_proto::{
    spire::{
        server::bundle::{AppendBundleRequest, bundle_client::BundleClient},
        types,
    },
    workload::{X509BundlesRequest, X509svidRequest, X509svidResponse},
};
use muster_tests::{Cluster, Settings, until as watch};
use tonic::{Code, Streaming};

use crate::{
    book::Book,
    caller::{client, has, opened, ourselves, request, until, within},
    fake,
};

pub(crate) fn judge(book: &mut Book) {
    let mut cluster = Cluster::start(&Settings::default());
    book.case("WA-25", fake::an_incomplete_message_is_reported);
    book.case("WE-25", fake::a_refusal_is_not_asked_again);
    book.case("WE-26", fake::an_outage_is_waited_out);
    book.case("WA-26", fake::what_was_taken_back_is_dropped);
    book.case("WA-06", || hints_are_bounded(&cluster));
    one_identity(book, &cluster);
    book.case("WA-03", || order_is_stable(&cluster));
    book.case("WA-05", || one_svid_for_a_hint(&cluster));
    book.case("WA-07", || what_is_removed_is_gone(&cluster));
    book.case("WA-21", || dropped_connections_cost_nothing(&cluster));
    book.case("WA-23", || each_stream_hears_once(&cluster));
    book.case("WA-22", || an_ended_stream_is_taken_up_again(&mut cluster));
}

/// What a caller with one identity sees, from its first message to the loss of it.
fn one_identity(book: &mut Book, cluster: &Cluster) {
    let entry = cluster.register("/one", &[&ourselves()]);
    let (state, mut stream) = cluster.block_on(opened(cluster, &["/one"]));
    book.case("WA-01", || {
        // Nothing changes any more: the message is not the answer to an event.
        let again = cluster.block_on(async {
            let mut client = client(cluster).await;
            let mut stream = client
                .fetch_x509svid(request(X509svidRequest {}))
                .await
                .unwrap()
                .into_inner();
            within(stream.message()).await.unwrap().unwrap()
        });
        assert_eq!(again, state);
    });
    book.case("WA-04", || complete(&state));
    book.case("WA-02", || {
        cluster.block_on(append(cluster));
        let next = cluster.block_on(until(&mut stream, |_| true)).unwrap();
        complete(&next);
        assert!(has(&next, &["/one"]));
        assert!(
            next.svids[0].bundle.len() > state.svids[0].bundle.len(),
            "with the new bundle"
        );
        assert_eq!(
            next.svids[0].x509_svid, state.svids[0].x509_svid,
            "the SVID did not change"
        );
    });
    book.case("WA-10", || {
        let bundles = cluster.block_on(async {
            let mut client = client(cluster).await;
            let mut stream = client
                .fetch_x509_bundles(request(X509BundlesRequest {}))
                .await
                .unwrap()
                .into_inner();
            within(stream.message()).await.unwrap().unwrap().bundles
        });
        assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
        assert!(!bundles["spiffe://example.org"].is_empty());
    });
    book.case("WA-08", || {
        cluster.unregister(&entry);
        let ended = cluster.block_on(until(&mut stream, |_| false)).unwrap_err();
        assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    });
}

fn complete(state: &X509svidResponse) {
    assert!(!state.svids.is_empty());
    for held in &state.svids {
        let svid = X509Svid::from_der_concat(&held.x509_svid).expect("a chain, its leaf first");
        assert_eq!(svid.id().to_string(), held.spiffe_id);
        let key = LocalKey::from_pkcs8(&held.x509_svid_key).expect("an unencrypted PKCS#8 key");
        assert_eq!(key.public_key().spki_der(), svid.public_key().spki_der());
        assert!(!held.bundle.is_empty());
    }
}

fn hints_are_bounded(cluster: &Cluster) {
    let with_hint = |length: usize| {
        let mut entry = cluster.entry("/hint", &["unix:uid:4000000"]);
        entry.hint = "h".repeat(length);
        entry
    };
    cluster.unregister(&cluster.register_entry(with_hint(1024)));
    let hint = "h".repeat(1025);
    let refused = cluster.muster(&[
        "entry",
        "create",
        "/hint",
        "--selector",
        "unix:uid:4000000",
        "--hint",
        &hint,
    ]);
    assert!(!refused.status.success());
}

fn order_is_stable(cluster: &Cluster) {
    let paths = ["/order/c", "/order/a", "/order/b"];
    let entries = paths.map(|path| cluster.register(path, &[&ourselves()]));
    let orders: BTreeSet<Vec<String>> = (0..5)
        .map(|_| {
            let (state, _) = cluster.block_on(opened(cluster, &paths));
            state.svids.into_iter().map(|svid| svid.spiffe_id).collect()
        })
        .collect();
    assert_eq!(orders.len(), 1, "{orders:?}");
    for entry in entries {
        cluster.unregister(&entry);
    }
}

fn one_svid_for_a_hint(cluster: &Cluster) {
    let mut entries = Vec::new();
    for (path, hint) in [
        ("/hint/a", "same"),
        ("/hint/b", "same"),
        ("/hint/c", "other"),
        ("/hint/d", ""),
        ("/hint/e", ""),
    ] {
        let mut entry = cluster.entry(path, &[&ourselves()]);
        entry.hint = hint.into();
        entries.push(cluster.register_entry(entry));
    }
    // One of the first two; SVIDs without a hint do not count as sharing one.
    let (state, _) = cluster.block_on(async {
        let (mut state, mut stream) = first(cluster).await;
        while state.svids.len() != 4 {
            state = until(&mut stream, |_| true).await.unwrap();
        }
        (state, stream)
    });
    let hints: Vec<_> = state
        .svids
        .iter()
        .map(|svid| svid.hint.as_str())
        .filter(|hint| !hint.is_empty())
        .collect();
    assert_eq!(
        hints.iter().collect::<BTreeSet<_>>().len(),
        hints.len(),
        "{hints:?}"
    );
    for entry in entries {
        cluster.unregister(&entry);
    }
}

fn what_is_removed_is_gone(cluster: &Cluster) {
    let stays = cluster.register("/stays", &[&ourselves()]);
    let goes = cluster.register("/goes", &[&ourselves()]);
    let (_, mut stream) = cluster.block_on(opened(cluster, &["/stays", "/goes"]));
    cluster.unregister(&goes);
    let next = cluster.block_on(until(&mut stream, |_| true)).unwrap();
    assert!(has(&next, &["/stays"]));
    cluster.unregister(&stays);
}

fn dropped_connections_cost_nothing(cluster: &Cluster) {
    let entry = cluster.register("/dropped", &[&ourselves()]);
    drop(cluster.block_on(opened(cluster, &["/dropped"])));
    let descriptors = || {
        std::fs::read_dir(format!("/proc/{}/fd", cluster.agent().pid()))
            .unwrap()
            .count()
    };
    let before = descriptors();
    for _ in 0..1000 {
        drop(cluster.block_on(first(cluster)));
    }
    // A few are still closing; a thousand that were kept could not be overlooked.
    watch("the descriptors to be given back", || {
        descriptors() <= before + 20
    });
    cluster.block_on(opened(cluster, &["/dropped"]));
    cluster.unregister(&entry);
}

fn each_stream_hears_once(cluster: &Cluster) {
    let entry = cluster.register("/many", &[&ourselves()]);
    cluster.block_on(async {
        drop(opened(cluster, &["/many"]).await);
        let mut streams = Vec::new();
        for _ in 0..40 {
            let mut client = client(cluster).await;
            for _ in 0..25 {
                streams.push(
                    client
                        .fetch_x509svid(request(X509svidRequest {}))
                        .await
                        .unwrap()
                        .into_inner(),
                );
            }
        }
        let mut seen = Vec::new();
        for round in 0..3 {
            if round > 0 {
                append(cluster).await;
            }
            for stream in &mut streams {
                let state = within(stream.message()).await.unwrap().unwrap();
                seen.push((round, state.svids[0].bundle.len()));
            }
        }
        // Each round has one size on all streams: had one heard a change twice, it would lag behind from then on.
        let sizes: BTreeSet<_> = seen.into_iter().collect();
        assert_eq!(sizes.len(), 3, "{sizes:?}");
    });
    cluster.unregister(&entry);
}

fn an_ended_stream_is_taken_up_again(cluster: &mut Cluster) {
    cluster.register("/again", &[&ourselves()]);
    let (_, mut stream) = cluster.block_on(opened(cluster, &["/again"]));
    assert!(cluster.take_agent().stop().success());
    let ended = cluster.block_on(until(&mut stream, |_| false)).unwrap_err();
    assert!(matches!(ended.code(), Code::Unavailable | Code::Ok), "{ended:?}");
    cluster.register("/meanwhile", &[&ourselves()]);
    cluster.start_agent();
    cluster.block_on(async {
        let (_, mut stream) = first(cluster).await;
        // It may begin with what was kept.
        let mut client = client(cluster).await;
        let mut second = client
            .fetch_x509svid(request(X509svidRequest {}))
            .await
            .unwrap()
            .into_inner();
        let both = |state: &X509svidResponse| has(state, &["/again", "/meanwhile"]);
        tokio::select! {
            found = until(&mut stream, both) => drop(found.unwrap()),
            found = until(&mut second, both) => drop(found.unwrap()),
        }
    });
}

async fn first(cluster: &Cluster) -> (X509svidResponse, Streaming<X509svidResponse>) {
    let end = tokio::time::Instant::now() + muster_tests::PATIENCE;
    loop {
        let mut client = client(cluster).await;
        match client.fetch_x509svid(request(X509svidRequest {})).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                return (within(stream.message()).await.unwrap().unwrap(), stream);
            }
            Err(status) => assert!(tokio::time::Instant::now() < end, "{status}"),
        }
    }
}

/// One more authority in the own bundle: a change that touches no SVID.
pub(crate) async fn append(cluster: &Cluster) {
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    root.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let root = root.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    let authority = types::X509Certificate {
        asn1: root.der().to_vec(),
        ..Default::default()
    };
    let request = AppendBundleRequest {
        x509_authorities: vec![authority],
        ..Default::default()
    };
    BundleClient::new(cluster.channel().await)
        .append_bundle(request)
        .await
        .unwrap();
}
