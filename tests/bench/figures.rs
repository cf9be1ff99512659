//! What is measured of the daemons from outside, and how it is printed.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use muster_tests::Cluster;
use tonic::transport::{Channel, Endpoint};

/// The daemons under measurement.
pub(crate) struct Figures<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) each: Duration,
    socket: PathBuf,
}

impl<'a> Figures<'a> {
    pub(crate) fn of(cluster: &'a Cluster, each: Duration) -> Self {
        println!("{:<64} figure", "what");
        Self {
            cluster,
            each,
            socket: cluster.workload_socket(),
        }
    }

    #[expect(
        clippy::unused_self,
        reason = "figures are printed as they come, and only here"
    )]
    pub(crate) fn line(&self, what: &str, figure: impl std::fmt::Display) {
        println!("{what:<64} {figure}");
    }

    pub(crate) fn server_megabytes(&self) -> f64 {
        megabytes(self.cluster.server().pid())
    }

    pub(crate) fn agent_megabytes(&self) -> f64 {
        megabytes(self.cluster.agent().pid())
    }

    /// Prints how often something was done, and the daemon's CPU time for each.
    pub(crate) fn rate(&self, what: &str, span: &Span, done: u64) {
        let seconds = span.began.elapsed().as_secs_f64();
        let cpu = (cpu(span.pid) - span.cpu).as_secs_f64() * 1e6 / done.max(1) as f64;
        self.line(
            what,
            format!("{:.0}/s, {cpu:.0} us CPU each", done as f64 / seconds),
        );
    }

    /// A new connection of an unchanged client to the Workload API.
    pub(crate) async fn dial(&self) -> Channel {
        let address = format!("unix:{}", self.socket.display());
        Endpoint::from_shared(address).unwrap().connect().await.unwrap()
    }
}

/// A stretch of time in which one daemon is watched.
pub(crate) struct Span {
    pid: i32,
    pub(crate) began: Instant,
    cpu: Duration,
}

impl Span {
    pub(crate) fn begin(pid: i32) -> Self {
        Self {
            pid,
            began: Instant::now(),
            cpu: cpu(pid),
        }
    }
}

/// The `part`-th hundredth of what was seen, in milliseconds.
pub(crate) fn percentile(seen: &mut [Duration], part: usize) -> f64 {
    seen.sort_unstable();
    let at = (seen.len() * part / 100).min(seen.len().saturating_sub(1));
    seen.get(at)
        .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
}

/// User and system time, in the kernel's hundredths of a second.
fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let rest = stat.rsplit_once(") ").unwrap().1;
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn megabytes(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
