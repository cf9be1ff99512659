//! The header, methods that are not there, health, reflection, the stop.

use super::*;

#[tokio::test]
async fn without_the_header_every_method_is_refused_first() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let mut codes = Vec::new();
    codes.push(
        client
            .fetch_x509svid(pb::X509svidRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_x509_bundles(pb::X509BundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_jwtsvid(pb::JwtsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_jwt_bundles(pb::JwtBundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .validate_jwtsvid(pb::ValidateJwtsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_witsvid(pb::WitsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_wit_bundles(pb::WitBundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    assert_eq!(codes, [Code::InvalidArgument; 7]);
    assert_eq!(agent.attestor.asked(), 0, "before attestation");
    let mut twice = request(pb::X509svidRequest {});
    twice
        .metadata_mut()
        .append("workload.spiffe.io", MetadataValue::from_static("true"));
    assert_eq!(
        client.fetch_x509svid(twice).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn the_wit_profile_and_unknown_methods_are_unimplemented() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let wit = client
        .fetch_witsvid(request(pb::WitsvidRequest::default()))
        .await
        .unwrap_err();
    let bundles = client
        .fetch_wit_bundles(request(pb::WitBundlesRequest {}))
        .await
        .unwrap_err();
    assert_eq!([wit.code(), bundles.code()], [Code::Unimplemented; 2]);
    for (header, code) in [(true, Code::Unimplemented), (false, Code::InvalidArgument)] {
        let mut grpc = tonic::client::Grpc::new(agent.channel().await);
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchEverything");
        let empty = pb::X509svidRequest {};
        let call = if header {
            request(empty)
        } else {
            Request::new(empty)
        };
        let codec = tonic_prost::ProstCodec::<pb::X509svidRequest, pb::X509svidRequest>::default();
        assert_eq!(grpc.unary(call, path, codec).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn stopping_ends_streams_with_a_status_and_leaves_nothing_running() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let mut stream = x509(&mut client).await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.stop.order();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    drop((stream, client));
    assert_eq!(agent.running.await.unwrap(), Drained::Clean);
}

#[tokio::test]
async fn health_follows_readiness_and_needs_no_header() {
    let agent = Setup::default().start();
    let mut client = HealthClient::new(agent.channel().await);
    let ask = || HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = client.watch(ask()).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let condition = agent.readiness.condition("server");
    condition.fails("gone");
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert_eq!(
        client.check(ask()).await.unwrap().into_inner().status(),
        ServingStatus::NotServing
    );
}

#[tokio::test]
async fn reflection_lists_the_workload_api_unchanged() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};
    let agent = Setup::default().start();
    let mut client = ServerReflectionClient::new(agent.channel().await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("services are listed")
    };
    assert!(service.iter().any(|service| service.name == SERVICE));
}
