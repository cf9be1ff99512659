//! Part 7: the RPCs for JWT-SVIDs, on a running agent.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use muster_pki::bundle::Bundle;
use muster_proto::{
    spire::{
        server::bundle::{AppendBundleRequest, bundle_client::BundleClient},
        types,
    },
    workload::{JwtBundlesRequest, Jwtsvid, JwtsvidRequest, ValidateJwtsvidRequest},
};
use muster_tests::{Cluster, PATIENCE, Settings};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::{
    book::{Book, VECTORS, list, text},
    caller::{client, opened, ourselves, request, within},
};

pub(crate) fn judge(book: &mut Book) {
    let cluster = Cluster::start(&Settings::default());
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    cluster.register("/w", &[&ourselves()]);
    cluster.register("/second", &[&ourselves()]);
    cluster.block_on(opened(&cluster, &["/w", "/second"]));
    let ask = |audience: &[&str], id: &str| cluster.block_on(fetch(&cluster, audience, id));
    book.case("WA-11", || {
        for audience in [&[][..], &[""], &["a", ""]] {
            assert_eq!(
                ask(audience, "").unwrap_err().code(),
                Code::InvalidArgument,
                "{audience:?}"
            );
        }
    });
    book.case("WA-12", || {
        for id in ["spiffe://example.org/other", "spiffe://other.example/w"] {
            assert_eq!(
                ask(&["a"], id).unwrap_err().code(),
                Code::PermissionDenied,
                "{id}"
            );
        }
    });
    book.case("WA-13", || {
        for case in list(&vectors["spiffe_ids"]) {
            let input = text(case, "input");
            let wanted = match text(case, "expect") {
                // No text is no wish for any one of them.
                _ if input.is_empty() => continue,
                "valid" => Code::PermissionDenied,
                _ => Code::InvalidArgument,
            };
            let code = ask(&["a"], input).unwrap_err().code();
            // A trust domain is a SPIFFE ID, and nobody's here.
            let fits = code == wanted || (case["path"] == "" && code == Code::InvalidArgument);
            assert!(fits, "{}: {code:?}", case["id"]);
        }
    });
    book.case("WA-14", || {
        let mut ids: Vec<_> = ask(&["a"], "")
            .unwrap()
            .into_iter()
            .map(|svid| svid.spiffe_id)
            .collect();
        ids.sort();
        assert_eq!(ids, ["spiffe://example.org/second", "spiffe://example.org/w"]);
    });
    book.case("WA-15", || {
        for _ in 0..2 {
            for audience in [
                &["one", "two"][..],
                &["two", "one"],
                &["ab", "c"],
                &["a", "bc"],
                &["abc"],
            ] {
                let svids = ask(audience, "spiffe://example.org/w").unwrap();
                assert_eq!(svids.len(), 1);
                let claims = svids[0].svid.split('.').nth(1).unwrap();
                let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
                assert_eq!(claims["aud"], json!(audience));
            }
        }
    });
    book.case("WA-16", || {
        let documents = cluster.block_on(bundles(&cluster));
        assert_eq!(documents.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
        let document: Value = serde_json::from_slice(&documents["spiffe://example.org"]).unwrap();
        assert!(!list(&document["keys"]).is_empty());
        for key in list(&document["keys"]) {
            // Readers of this call expect no use; one that is there has to be the right one.
            assert!(key.get("use").is_none_or(|purpose| purpose == "jwt-svid"));
            assert!(key.get("x5c").is_none() && key["kid"].is_string());
        }
    });
    book.case("WA-18", || {
        for (audience, svid) in [("", "a.b.c"), ("a", ""), ("", "")] {
            let refused = cluster.block_on(validate(&cluster, audience, svid)).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
    });
    book.case("WA-17", || every_token_of_part_3(&cluster, &vectors["jwt_svids"]));
}

/// What the page says of WE-16, which is not offered.
#[test]
fn where_the_server_signs_no_tokens_none_is_fetched_and_the_other_calls_go_on() {
    let cluster = Cluster::start(&Settings {
        server: "[ca]\ndisable_jwt_svids = true\n",
        ..Settings::default()
    });
    cluster.register("/w", &[&ourselves()]);
    cluster.block_on(async {
        opened(&cluster, &["/w"]).await;
        let refused = fetch(&cluster, &["a"], "").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let documents = bundles(&cluster).await;
        let own: Value = serde_json::from_slice(&documents["spiffe://example.org"]).unwrap();
        assert_eq!(own["keys"], json!([]));
        let refused = validate(&cluster, "a", "a.b.c").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    });
}

/// The keys of part 3 become keys of this trust domain; a token of another one is nobody's here.
fn every_token_of_part_3(cluster: &Cluster, part: &Value) {
    let document = part["bundles"]["example.org"].to_string();
    let bundle = Bundle::from_document("example.org".parse().unwrap(), document.as_bytes())
        .unwrap()
        .bundle;
    let keys = bundle.jwt_authorities();
    assert!(keys.len() >= 4);
    cluster.block_on(async {
        let jwt_authorities = keys.iter().map(|key| types::JwtKey {
            public_key: key.public_key().spki_der().to_vec(),
            key_id: key.key_id().as_str().to_owned(),
            ..Default::default()
        });
        let request = AppendBundleRequest {
            jwt_authorities: jwt_authorities.collect(),
            ..Default::default()
        };
        BundleClient::new(cluster.channel().await)
            .append_bundle(request)
            .await
            .unwrap();
        let end = tokio::time::Instant::now() + PATIENCE;
        // The keys are there when the first valid token counts.
        let good = list(&part["cases"])
            .iter()
            .find(|case| text(case, "id") == "JS-01")
            .expect("a plain token");
        while validate(cluster, text(good, "audience"), text(good, "token"))
            .await
            .is_err()
        {
            assert!(tokio::time::Instant::now() < end, "the keys never came");
        }
        let mut wrong = Vec::new();
        for case in list(&part["cases"]) {
            let answer = validate(cluster, text(case, "audience"), text(case, "token")).await;
            let foreign = text(case, "why").contains("federated trust domain");
            let good = text(case, "expect") == "valid" && !foreign;
            let fits = match &answer {
                Ok(id) => good && id == "spiffe://example.org/w",
                Err(status) => !good && status.code() == Code::InvalidArgument,
            };
            if !fits {
                wrong.push(format!("{}: {answer:?}", case["id"]));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

async fn fetch(cluster: &Cluster, audience: &[&str], id: &str) -> Result<Vec<Jwtsvid>, Status> {
    let message = JwtsvidRequest {
        audience: audience.iter().map(ToString::to_string).collect(),
        spiffe_id: id.to_owned(),
    };
    let mut client = client(cluster).await;
    Ok(within(client.fetch_jwtsvid(request(message)))
        .await?
        .into_inner()
        .svids)
}

async fn bundles(cluster: &Cluster) -> std::collections::HashMap<String, Vec<u8>> {
    let mut client = client(cluster).await;
    let mut stream = client
        .fetch_jwt_bundles(request(JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    within(stream.message()).await.unwrap().unwrap().bundles
}

pub(crate) async fn validate(cluster: &Cluster, audience: &str, token: &str) -> Result<String, Status> {
    let message = ValidateJwtsvidRequest {
        audience: audience.to_owned(),
        svid: token.to_owned(),
    };
    let mut client = client(cluster).await;
    Ok(within(client.validate_jwtsvid(request(message)))
        .await?
        .into_inner()
        .spiffe_id)
}
