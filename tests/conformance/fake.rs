//! `muster` as a client of a Workload API that is not ours.

use std::{
    convert::Infallible,
    path::Path,
    pin::Pin,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use muster_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use muster_tests::binary;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, body::Body};

/// Answers every call with the same, and counts.
#[derive(Clone)]
struct Fake {
    answer: Result<X509svidResponse, Code>,
    calls: Arc<AtomicUsize>,
}

pub(crate) fn an_incomplete_message_is_reported() {
    let incomplete = X509svid {
        spiffe_id: "spiffe://example.org/a".into(),
        ..Default::default()
    };
    for svids in [vec![], vec![X509svid::default()], vec![incomplete]] {
        let answer = X509svidResponse {
            svids,
            ..Default::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("written");
        let (output, _) = fetch_from(Ok(answer), &["--write", written.to_str().unwrap()]);
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty());
        assert!(!written.exists() || std::fs::read_dir(&written).unwrap().next().is_none());
    }
}

pub(crate) fn a_refusal_is_not_asked_again() {
    for code in [Code::InvalidArgument, Code::Unimplemented] {
        let (output, calls) = fetch_from(Err(code), &[]);
        assert!(!output.status.success());
        assert_eq!(calls, 1, "{code:?}");
    }
}

/// What `muster fetch x509` makes of the answer, and how often it asked.
fn fetch_from(answer: Result<X509svidResponse, Code>, more: &[&str]) -> (Output, usize) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = Fake {
        answer,
        calls: Arc::default(),
    };
    let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&socket).unwrap() });
    let server = tonic::transport::Server::builder().add_service(fake.clone());
    runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    let output = muster(&socket, more);
    (output, fake.calls.load(Ordering::SeqCst))
}

fn muster(socket: &Path, more: &[&str]) -> Output {
    Command::new(binary("muster"))
        .args(["fetch", "x509", "--socket"])
        .arg(socket)
        .args(more)
        .output()
        .unwrap()
}

impl tonic::server::NamedService for Fake {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl tower::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.clone();
        let once = tower::service_fn(move |_: Request<X509svidRequest>| {
            let answer = answer
                .clone()
                .map(Response::new)
                .map_err(|code| Status::new(code, "refused"));
            async move { answer }
        });
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<X509svidResponse, X509svidRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(once, request).await)
        })
    }
}
