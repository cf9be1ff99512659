//! A caller of the Workload API that says exactly what a case wants said.

use std::future::Future;

use muster_proto::workload::{
    X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use muster_tests::{Cluster, PATIENCE, unix_channel};
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{MetadataKey, MetadataMap},
    transport::Channel,
};

/// The header that every call must have.
pub(crate) const HEADER: (&str, &str) = ("workload.spiffe.io", "true");

/// What every process of this user is.
pub(crate) fn ourselves() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

/// A new connection to the Workload API.
pub(crate) async fn connect(cluster: &Cluster) -> Channel {
    unix_channel(cluster.workload_socket()).await
}

pub(crate) async fn client(cluster: &Cluster) -> SpiffeWorkloadApiClient<Channel> {
    SpiffeWorkloadApiClient::new(connect(cluster).await)
}

/// A request with the header.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    enter(request.metadata_mut(), &[HEADER]);
    request
}

/// An empty message to any method, with these headers and no others, and what comes of it.
pub(crate) async fn call(
    channel: Channel,
    path: &str,
    headers: &[(&'static str, &'static str)],
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("the agent answers");
    let mut request = Request::new(tokio_stream::iter([()]));
    enter(request.metadata_mut(), headers);
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = path.parse().expect("a path");
    within(grpc.streaming(request, path, codec))
        .await?
        .into_inner()
        .message()
        .await
        .map(drop)
}

/// The first state of a new stream in which the caller has exactly these identities, and the stream.
pub(crate) async fn opened(
    cluster: &Cluster,
    paths: &[&str],
) -> (X509svidResponse, Streaming<X509svidResponse>) {
    let mut client = client(cluster).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        assert!(tokio::time::Instant::now() < end, "waited in vain for {paths:?}");
        match client.fetch_x509svid(request(X509svidRequest {})).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                if let Ok(response) = until(&mut stream, |state| has(state, paths)).await {
                    return (response, stream);
                }
            }
            Err(status) => assert_eq!(status.code(), Code::PermissionDenied, "{status}"),
        }
    }
}

/// The next message of a stream for which `wanted` holds, or how the stream ended.
pub(crate) async fn until<T>(stream: &mut Streaming<T>, wanted: impl Fn(&T) -> bool) -> Result<T, Status> {
    loop {
        match within(stream.message()).await? {
            Some(message) if wanted(&message) => return Ok(message),
            Some(_) => {}
            None => return Err(Status::ok("the stream ended without a status of its own")),
        }
    }
}

/// Whether these are the identities, whatever their order.
pub(crate) fn has(state: &X509svidResponse, paths: &[&str]) -> bool {
    let mut held: Vec<_> = state.svids.iter().map(|svid| svid.spiffe_id.clone()).collect();
    let mut wanted: Vec<_> = paths
        .iter()
        .map(|path| format!("spiffe://example.org{path}"))
        .collect();
    held.sort();
    wanted.sort();
    held == wanted
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it comes within a minute")
}

fn enter(metadata: &mut MetadataMap, headers: &[(&'static str, &'static str)]) {
    for (name, value) in headers {
        metadata.append(MetadataKey::from_static(name), value.parse().expect("a value"));
    }
}
