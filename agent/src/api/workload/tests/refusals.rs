//! Who gets nothing, what he is told and what is recorded.

use super::*;

#[tokio::test]
async fn who_is_registered_nowhere_is_refused_and_recorded() {
    let agent = Setup::default().start();
    let mut client = agent.client().await;
    let status = x509(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let reference = status
        .message()
        .split("(reference ")
        .nth(1)
        .unwrap()
        .trim_end_matches(')')
        .to_owned();
    assert_eq!(agent.recorded(&reference), 1);
    let bundles = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap_err();
    assert_eq!(bundles.code(), Code::PermissionDenied);
    let token = pb::JwtsvidRequest {
        audience: vec!["a".to_owned()],
        spiffe_id: String::new(),
    };
    assert_eq!(
        client.fetch_jwtsvid(request(token)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn who_might_be_entitled_if_an_attestor_worked_is_told_to_come_back() {
    let agent = Setup {
        hopes: true,
        ..Setup::default()
    }
    .start();
    agent.attestor.set(Mood::Down);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn who_an_attestor_refuses_is_refused() {
    let agent = Setup::with(one_identity()).start();
    agent.attestor.set(Mood::Refuses);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn the_first_hand_out_is_recorded_and_later_ones_are_not() {
    let agent = Setup::with(one_identity()).start();
    for _ in 0..3 {
        let mut client = agent.client().await;
        for _ in 0..2 {
            x509(&mut client).await.unwrap().message().await.unwrap().unwrap();
        }
    }
    assert_eq!(agent.recorded("x509_svid.hand_out"), 1);
}

#[tokio::test]
async fn nothing_leaves_that_can_not_be_recorded() {
    let agent = Setup::with(one_identity()).start();
    agent.audit.set_memory_full(true);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::Unavailable
    );
    agent.audit.set_memory_full(false);
    assert!(x509(&mut agent.client().await).await.is_ok());
}

#[tokio::test]
async fn a_caller_beyond_its_rate_is_told_to_come_back() {
    let settings = WorkloadSettings {
        calls_per_second: 1,
        ..WorkloadSettings::default()
    };
    let agent = Setup {
        settings,
        ..Setup::with(one_identity())
    }
    .start();
    let mut client = agent.client().await;
    assert!(x509(&mut client).await.is_ok());
    assert_eq!(x509(&mut client).await.unwrap_err().code(), Code::Unavailable);
}
