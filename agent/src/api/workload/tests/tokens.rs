//! Tokens: handed out, validated, refused.

use super::*;

#[tokio::test]
async fn a_token_is_handed_out_and_wrong_requests_are_refused() {
    let agent = Setup::with(one_identity()).start();
    let svid = agent.hold_token("spiffe://example.org/a", &["x"]);
    let mut client = agent.client().await;
    let ask = |audience: &[&str], id: &str| {
        request(pb::JwtsvidRequest {
            audience: audience.iter().map(ToString::to_string).collect(),
            spiffe_id: id.to_owned(),
        })
    };
    let answer = client.fetch_jwtsvid(ask(&["x"], "")).await.unwrap().into_inner();
    assert_eq!(
        (answer.svids[0].svid.as_str(), answer.svids[0].hint.as_str()),
        (svid.token(), "main")
    );
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let wrong = [
        ask(&[], ""),
        ask(&["x", ""], ""),
        ask(&many, ""),
        ask(&["x"], "example.org/a"),
        ask(&["x"], "spiffe://Example.org/a"),
    ];
    for wrong in wrong {
        assert_eq!(
            client.fetch_jwtsvid(wrong).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let foreign = client
        .fetch_jwtsvid(ask(&["x"], "spiffe://example.org/other"))
        .await
        .unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    *agent.identities.tokens.lock().unwrap() = Err(JwtFetchError::Unreachable);
    assert_eq!(
        client.fetch_jwtsvid(ask(&["x"], "")).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_token_is_validated_with_the_bundles_of_the_caller() {
    let agent = Setup::default().start();
    let mut bundles = BundleSet::new(bundle("example.org", Some(&agent.keys)));
    bundles
        .put_federated(bundle("other.org", Some(&agent.keys)))
        .unwrap();
    agent.show(view(Vec::new(), &Arc::new(bundles)));
    let mut client = agent.client().await;
    let ask = |audience: &str, svid: &str| {
        request(pb::ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid: svid.to_owned(),
        })
    };
    let own = agent.token("spiffe://example.org/a", &["x", "y"]);
    let answer = client
        .validate_jwtsvid(ask("x", own.token()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.spiffe_id, "spiffe://example.org/a");
    let claims = answer.claims.unwrap().fields;
    assert!(claims.contains_key("iss") && matches!(claims["aud"].kind, Some(Kind::ListValue(_))));

    let foreign = agent.token("spiffe://other.org/b", &["x"]);
    let claims = client
        .validate_jwtsvid(ask("x", foreign.token()))
        .await
        .unwrap()
        .into_inner()
        .claims
        .unwrap();
    assert_eq!(claims.fields.keys().collect::<Vec<_>>(), ["aud", "exp", "sub"]);

    let stranger = agent.token("spiffe://stranger.org/c", &["x"]);
    let wrong = [
        ask("z", own.token()),
        ask("", own.token()),
        ask("x", ""),
        ask("x", "no.to.ken"),
        ask("x", stranger.token()),
    ];
    for wrong in wrong {
        assert_eq!(
            client.validate_jwtsvid(wrong).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}
