//! Which method a request is for. The generated server is not used: the header comes first on every method, also on those that do not
//! exist, and answers are bytes that many callers share.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use muster_proto::workload as pb;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Request, Response, Status};
use tower::{Service, service_fn};
use tracing::error;

use super::call::{Call, Desk, Parts, WorkloadSettings};
use super::wire::Wire;
use super::{bundles, jwt, stream, validate, x509};
use crate::api::status::Refused;
use crate::peer::Peer;

/// The service's full name.
pub const SERVICE: &str = "SpiffeWorkloadAPI";

/// The header that a request must have, once and with exactly this value: a web page that makes a browser or a proxy call us can't set it
/// (Workload Endpoint 3).
const HEADER: &str = "workload.spiffe.io";

/// The biggest request: a token of 64 KiB and its audience.
const REQUEST_LIMIT: usize = 128 << 10;

/// The Workload API as a service. Clones are handles.
#[derive(Clone)]
pub struct WorkloadApi {
    desk: Arc<Desk>,
}

impl WorkloadApi {
    /// The API over its parts.
    pub fn new(parts: Parts, settings: WorkloadSettings) -> Self {
        Self {
            desk: Arc::new(Desk::new(parts, settings)),
        }
    }

    /// Sets anew what can be set, while calls are running.
    pub fn set(&self, settings: WorkloadSettings) {
        self.desk.set(settings);
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        if !is_grpc(request.headers()) {
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            error!(
                "a connection came without its peer: the service stands behind a socket that is not the Workload API's"
            );
            return Status::internal("the caller is not known").into_http();
        };
        let (method, known) = method(request.uri().path());
        let call = Call::new(self.desk, method, peer);
        if !has_header(request.headers()) {
            return call.refuse(&Refused::NoHeader, None).await.into_http();
        }
        let Some(known) = known else {
            let refused = Refused::Unimplemented(method.to_owned());
            return call.refuse(&refused, None).await.into_http();
        };
        if let Err(refused) = call.admit() {
            return call.refuse(&refused, None).await.into_http();
        }
        match known {
            Method::FetchX509Svid => {
                streaming::<pb::X509svidRequest, _>(request, call, x509::X509Svids).await
            }
            Method::FetchX509Bundles => {
                streaming::<pb::X509BundlesRequest, _>(request, call, bundles::X509Bundles).await
            }
            Method::FetchJwtBundles => {
                streaming::<pb::JwtBundlesRequest, _>(request, call, bundles::JwtBundles).await
            }
            Method::FetchJwtSvid => unary(request, move |message| jwt::fetch(call, message)).await,
            Method::ValidateJwtSvid => unary(request, move |message| validate::validate(call, message)).await,
        }
    }
}

/// The methods that are served.
#[derive(Clone, Copy, Debug)]
enum Method {
    FetchX509Svid,
    FetchX509Bundles,
    FetchJwtSvid,
    FetchJwtBundles,
    ValidateJwtSvid,
}

/// The method's name for logs and metrics, which are bounded, and what it is.
fn method(path: &str) -> (&'static str, Option<Method>) {
    match path
        .strip_prefix('/')
        .and_then(|path| path.split_once('/'))
        .map(|(_, method)| method)
    {
        Some("FetchX509SVID") => ("FetchX509SVID", Some(Method::FetchX509Svid)),
        Some("FetchX509Bundles") => ("FetchX509Bundles", Some(Method::FetchX509Bundles)),
        Some("FetchJWTSVID") => ("FetchJWTSVID", Some(Method::FetchJwtSvid)),
        Some("FetchJWTBundles") => ("FetchJWTBundles", Some(Method::FetchJwtBundles)),
        Some("ValidateJWTSVID") => ("ValidateJWTSVID", Some(Method::ValidateJwtSvid)),
        Some("FetchWITSVID") => ("FetchWITSVID", None),
        Some("FetchWITBundles") => ("FetchWITBundles", None),
        _ => ("the method", None),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn has_header(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(HEADER).iter();
    values.next().is_some_and(|value| value.as_bytes() == b"true") && values.next().is_none()
}

async fn streaming<M, S>(request: http::Request<Body>, call: Call, shape: S) -> http::Response<Body>
where
    M: prost::Message + Default + Send + 'static,
    S: stream::Shape,
{
    let open = service_fn(move |_: Request<M>| {
        let call = call.clone();
        async move { stream::open(call, shape).await.map(Response::new) }
    });
    grpc::<M>().server_streaming(open, request).await
}

async fn unary<M, F, A>(request: http::Request<Body>, answer: A) -> http::Response<Body>
where
    M: prost::Message + Default + Send + 'static,
    A: FnOnce(M) -> F + Send + 'static,
    F: Future<Output = Result<Bytes, Status>> + Send + 'static,
{
    let mut answer = Some(answer);
    let once = service_fn(move |request: Request<M>| {
        let answer = answer.take();
        async move {
            let Some(answer) = answer else {
                return Err(Status::internal("a request was answered twice"));
            };
            answer(request.into_inner()).await.map(Response::new)
        }
    });
    grpc::<M>().unary(once, request).await
}

fn grpc<M: prost::Message + Default + Send + 'static>() -> Grpc<Wire<M>> {
    Grpc::new(Wire::default()).max_decoding_message_size(REQUEST_LIMIT)
}

impl NamedService for WorkloadApi {
    const NAME: &'static str = SERVICE;
}

impl Service<http::Request<Body>> for WorkloadApi {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (http::HeaderName::from_static(HEADER), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn the_header_counts_once_and_with_one_value_only() {
        assert!(has_header(&headers(&["true"])));
        for wrong in [
            &[][..],
            &["True"],
            &["TRUE"],
            &["1"],
            &["true "],
            &[""],
            &["true", "true"],
            &["false", "true"],
        ] {
            assert!(!has_header(&headers(wrong)), "{wrong:?}");
        }
    }

    #[test]
    fn only_grpc_is_answered() {
        for (kind, served) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect();
            assert_eq!(is_grpc(&headers), served, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
