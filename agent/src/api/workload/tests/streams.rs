//! Identities and bundles, now and when they change.

use super::*;

#[tokio::test]
async fn a_process_gets_the_identity_that_it_is_entitled_to() {
    let agent = Setup::with(one_identity()).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let [svid] = message.svids.as_slice() else {
        panic!("one identity is one SVID")
    };
    assert_eq!(svid.spiffe_id, "spiffe://example.org/a");
    assert_eq!(
        (svid.x509_svid.as_ref(), svid.x509_svid_key.as_slice()),
        (&b"chain"[..], &b"the key"[..])
    );
}

#[tokio::test]
async fn a_stream_follows_what_changes_and_says_nothing_else() {
    let bundles = own();
    let svids = |chain| {
        view(
            vec![identity("e1", "spiffe://example.org/a", Some(chain))],
            &bundles,
        )
    };
    let (one, two) = (held(b"one"), held(b"two"));
    let agent = Setup::with(svids(Arc::clone(&one))).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0]
            .x509_svid
            .as_ref(),
        b"one"
    );
    // The same SVID in a new view, then another one: only the other one is news.
    agent.show(svids(one));
    tokio::task::yield_now().await;
    agent.show(svids(two));
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0]
            .x509_svid
            .as_ref(),
        b"two"
    );
}

#[tokio::test]
async fn several_identities_come_in_the_order_of_the_view() {
    let identities = ["e1", "e2", "e3"]
        .map(|entry| identity(entry, &format!("spiffe://example.org/{entry}"), Some(held(b"c"))));
    let agent = Setup::with(view(identities.to_vec(), &own())).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let ids: Vec<_> = message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "spiffe://example.org/e1",
            "spiffe://example.org/e2",
            "spiffe://example.org/e3"
        ]
    );
    assert_eq!(agent.recorded("x509_svid.hand_out"), 3);
}

#[tokio::test]
async fn the_last_entry_takes_the_stream_with_it() {
    let agent = Setup::with(one_identity()).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.show(view(Vec::new(), &own()));
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().starts_with("no identity issued (reference R-"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn before_the_server_was_heard_a_caller_waits() {
    let agent = Setup::with(WorkloadView::new(Vec::new(), own(), false, false)).start();
    let mut client = agent.client().await;
    let waiting = x509(&mut client);
    let late = async {
        agent.identities.view.subscribe();
        agent.show(one_identity());
    };
    let (stream, ()) = tokio::join!(waiting, late);
    assert_eq!(stream.unwrap().message().await.unwrap().unwrap().svids.len(), 1);
}

#[tokio::test]
async fn bundles_come_by_trust_domain_id_and_those_without_keys_of_the_kind_do_not() {
    let keys = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut bundles = BundleSet::new(bundle("example.org", Some(&keys)));
    bundles.put_federated(bundle("other.org", Some(&keys))).unwrap();
    bundles.put_federated(bundle("revoked.org", None)).unwrap();
    let agent = Setup::with(view(
        vec![identity("e1", "spiffe://example.org/a", None)],
        &Arc::new(bundles),
    ))
    .start();
    let mut client = agent.client().await;
    let mut stream = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let x509 = stream.message().await.unwrap().unwrap().bundles;
    let mut stream = client
        .fetch_jwt_bundles(request(pb::JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let jwt = stream.message().await.unwrap().unwrap().bundles;
    assert_eq!(x509.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    let ids: BTreeSet<_> = jwt.keys().collect();
    assert_eq!(
        ids.into_iter().collect::<Vec<_>>(),
        ["spiffe://example.org", "spiffe://other.org"]
    );
    let own: serde_json::Value = serde_json::from_slice(&jwt["spiffe://example.org"]).unwrap();
    assert_eq!(own["keys"][0]["kid"], "key-1");
}

#[tokio::test]
async fn verifiers_without_an_identity_get_the_own_bundle_where_that_is_allowed() {
    let settings = WorkloadSettings {
        allow_unauthenticated_verifiers: true,
        ..WorkloadSettings::default()
    };
    let agent = Setup {
        settings,
        ..Setup::default()
    }
    .start();
    let mut client = agent.client().await;
    let mut stream = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let bundles = stream.message().await.unwrap().unwrap().bundles;
    assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    assert_eq!(
        x509(&mut client).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}
