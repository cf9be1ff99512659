//! The rows of the Workload API.

use std::time::Instant;

use muster_proto::workload::{
    JwtsvidRequest, X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use tokio::task::JoinSet;
use tonic::{Request, Streaming, transport::Channel};

use crate::figures::{Figures, Span, percentile};

/// A request as SPIFFE libraries send it.
fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// Opens a stream and waits for what comes first.
pub(crate) async fn watch(channel: Channel) -> (Streaming<X509svidResponse>, X509svidResponse) {
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let mut stream = client
        .fetch_x509svid(request(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    (stream, first)
}

pub(crate) async fn fetch_on_open_connections(figures: &Figures<'_>) {
    const CALLERS: usize = 16;
    let mut callers = JoinSet::new();
    let mut channels = Vec::new();
    for _ in 0..CALLERS {
        let channel = figures.dial().await;
        watch(channel.clone()).await;
        channels.push(channel);
    }
    let span = Span::begin(figures.cluster.agent().pid());
    let end = span.began + figures.each;
    for channel in channels {
        callers.spawn(async move {
            let mut done = 0u64;
            while Instant::now() < end {
                watch(channel.clone()).await;
                done += 1;
            }
            done
        });
    }
    let done = callers.join_all().await.into_iter().sum();
    figures.rate("FetchX509SVID on an open connection, 16 callers", &span, done);
}

pub(crate) async fn fetch_on_new_connections(figures: &Figures<'_>) {
    let span = Span::begin(figures.cluster.agent().pid());
    let mut seen = Vec::new();
    while span.began.elapsed() < figures.each {
        let began = Instant::now();
        watch(figures.dial().await).await;
        seen.push(began.elapsed());
    }
    let (p50, p99) = (percentile(&mut seen, 50), percentile(&mut seen, 99));
    figures.line(
        "the same, new connection each, 1 caller",
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms"),
    );
    figures.rate("  as a rate", &span, seen.len() as u64);
}

pub(crate) async fn fetch_jwt(figures: &Figures<'_>) {
    for (what, fresh) in [
        ("FetchJWTSVID, cached, 4 callers", false),
        ("FetchJWTSVID, new audience, 4 callers", true),
    ] {
        let mut callers = JoinSet::new();
        let mut channels = Vec::new();
        for _ in 0..4 {
            channels.push(figures.dial().await);
        }
        let span = Span::begin(figures.cluster.agent().pid());
        let end = span.began + figures.each;
        for (caller, channel) in channels.into_iter().enumerate() {
            callers.spawn(async move {
                let mut client = SpiffeWorkloadApiClient::new(channel);
                let (mut done, mut refused) = (0u64, 0u64);
                while Instant::now() < end {
                    let audience = if fresh {
                        format!("bench-{caller}-{done}-{refused}")
                    } else {
                        "bench".to_owned()
                    };
                    let message = JwtsvidRequest {
                        audience: vec![audience],
                        spiffe_id: String::new(),
                    };
                    match client.fetch_jwtsvid(request(message)).await {
                        Ok(_) => done += 1,
                        Err(_) => refused += 1,
                    }
                }
                (done, refused)
            });
        }
        let (done, refused) = callers
            .join_all()
            .await
            .into_iter()
            .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        figures.rate(what, &span, done);
        if refused > 0 {
            figures.line("  refused meanwhile", refused);
        }
    }
}

pub(crate) async fn open_streams(figures: &Figures<'_>) {
    const STREAMS: usize = 1_000;
    let mut held = Vec::new();
    // Connections of one caller are bounded, and streams of one connection too.
    for _ in 0..STREAMS / 10 {
        let channel = figures.dial().await;
        for _ in 0..10 {
            held.push(watch(channel.clone()).await);
        }
    }
    figures.line(
        "memory: agent with 1,000 open streams",
        format!("{:.1} MB", figures.agent_megabytes()),
    );
}
