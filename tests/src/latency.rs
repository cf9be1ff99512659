use std::{
    fmt,
    time::{Duration, Instant},
};

use muster_proto::workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use tonic::Request;

use crate::{Cluster, unix_channel};

/// How long a caller waited for its first SVID, each time on a connection of its own. A figure to be printed: the machine
/// is shared, so no story fails by it.
#[derive(Clone, Debug)]
pub struct Latency(Vec<Duration>);

impl Latency {
    /// Has this process connect and ask `calls` times, which must all be answered with an SVID.
    pub fn of_first_svids(cluster: &Cluster, calls: usize) -> Self {
        let mut waits: Vec<Duration> = (0..calls)
            .map(|_| {
                let begun = Instant::now();
                cluster
                    .block_on(fetch(cluster))
                    .expect("this process has an SVID");
                begun.elapsed()
            })
            .collect();
        waits.sort_unstable();
        Self(waits)
    }

    fn at(&self, percent: usize) -> Duration {
        let last = self.0.len() - 1;
        self.0[(self.0.len() * percent / 100).min(last)]
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (half, most) = (self.at(50), self.at(99));
        write!(f, "p50 {half:.1?}, p99 {most:.1?} of {}", self.0.len())
    }
}

async fn fetch(cluster: &Cluster) -> Result<(), tonic::Status> {
    let mut client = SpiffeWorkloadApiClient::new(unix_channel(cluster.workload_socket()).await);
    let mut request = Request::new(X509svidRequest {});
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().expect("a word"));
    let mut answers = client.fetch_x509svid(request).await?.into_inner();
    let first = answers.message().await?;
    assert!(
        first.is_some_and(|answer| !answer.svids.is_empty()),
        "an answer without SVID"
    );
    Ok(())
}
