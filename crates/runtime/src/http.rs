//! `/live`, `/ready` and `/metrics`, for probes and Prometheus.
//!
//! The door has no secrets and no callers it trusts. `/live` answers as long as the daemon's runtime turns; `/ready` says which parts are not up and why.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::logging::shown;
use crate::metrics::Metrics;
use crate::{Readiness, Standing, Stop};

/// How long `/live` waits for the runtime to take a task. A runtime whose threads are all blocked is not alive.
const PULSE: Duration = Duration::from_secs(2);

/// The bound door.
#[derive(Debug)]
pub struct HttpDoor {
    listener: TcpListener,
    address: SocketAddr,
}

#[derive(Clone, Debug)]
struct Seen {
    readiness: Readiness,
    metrics: Metrics,
}

impl HttpDoor {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address as bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop is ordered.
    pub async fn serve(self, readiness: Readiness, metrics: Metrics, stop: Stop) -> io::Result<()> {
        let router = Router::new()
            .route("/live", get(live))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics_text))
            .with_state(Seen { readiness, metrics });
        axum::serve(self.listener, router)
            .with_graceful_shutdown(stop.ordered_owned())
            .await
    }
}

async fn live() -> Response {
    // Yielding runs this task again only when a worker has come round to it.
    match tokio::time::timeout(PULSE, tokio::task::yield_now()).await {
        Ok(()) => (StatusCode::OK, "live\n").into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the runtime does not turn\n").into_response(),
    }
}

async fn ready(State(seen): State<Seen>) -> Response {
    let standing = seen.readiness.standing();
    let code = if standing.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, told(&standing)).into_response()
}

async fn metrics_text(State(seen): State<Seen>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match seen.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "metrics could not be written\n",
        )
            .into_response(),
    }
}

fn told(standing: &Standing) -> String {
    let mut text = String::from(if standing.is_ready() {
        "ready\n"
    } else {
        "not ready\n"
    });
    for name in &standing.starting {
        text.push_str(&format!("starting: {name}\n"));
    }
    for (name, reason) in &standing.failing {
        text.push_str(&format!("failing: {name}: {}\n", shown(reason)));
    }
    for (name, note) in &standing.notes {
        text.push_str(&format!("note: {name}: {}\n", shown(note)));
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn got(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn ready_tells_the_truth_as_it_changes() {
        let door = HttpDoor::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let (address, readiness, stop) = (door.address(), Readiness::new(), Stop::new());
        let guard = readiness.guard("store");
        let serving = door.serve(readiness.clone(), Metrics::new("test"), stop.clone());
        let asking = async {
            let answer = got(address, "/ready").await;
            assert!(
                answer.starts_with("HTTP/1.1 503") && answer.contains("starting: store"),
                "{answer}"
            );
            assert!(got(address, "/live").await.starts_with("HTTP/1.1 200"));
            drop(guard);
            assert!(got(address, "/ready").await.starts_with("HTTP/1.1 200"));
            readiness.condition("disk").fails("no space");
            let answer = got(address, "/ready").await;
            assert!(
                answer.starts_with("HTTP/1.1 503") && answer.contains("failing: disk: no space"),
                "{answer}"
            );
            assert!(got(address, "/metrics").await.contains("# EOF"));
            assert!(got(address, "/other").await.starts_with("HTTP/1.1 404"));
            stop.order();
        };
        let (served, ()) = tokio::join!(serving, asking);
        served.unwrap();
    }
}
