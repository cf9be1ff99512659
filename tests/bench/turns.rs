//! Load, in turns: each side is asked for a slice of time while the others rest, round after round, so that what
//! neighbours take from the machine is taken from all alike. What is told is the median slice.

use std::{
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tonic::Status;

use crate::daemon::cpu;

/// What one caller does again and again.
pub(crate) type Call = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = Result<(), Status>> + Send>> + Send>;

/// One who is asked.
pub(crate) struct Asked {
    /// Whose CPU time is counted.
    pub(crate) pids: Vec<i32>,
    /// All of them call at once.
    pub(crate) callers: Vec<Call>,
}

/// How it did.
#[derive(Clone, Debug)]
pub(crate) struct Did {
    pub(crate) per_second: f64,
    /// CPU time for each call, in microseconds, one figure a process.
    pub(crate) cpu_us: Vec<f64>,
    /// How long the calls took.
    pub(crate) p50_ms: f64,
    pub(crate) refused: u64,
}

#[derive(Default)]
struct Slices {
    per_second: Vec<f64>,
    cpu_us: Vec<Vec<f64>>,
    took: Vec<Duration>,
    refused: u64,
}

/// Asks all in turn, `rounds` times for `each`.
pub(crate) async fn in_turn(mut asked: Vec<Asked>, rounds: usize, each: Duration) -> Vec<Did> {
    let mut seen: Vec<Slices> = asked.iter().map(|_| Slices::default()).collect();
    for _ in 0..rounds {
        for (one, seen) in asked.iter_mut().zip(&mut seen) {
            slice(one, seen, each).await;
        }
    }
    seen.into_iter().map(Slices::told).collect()
}

async fn slice(asked: &mut Asked, seen: &mut Slices, each: Duration) {
    let before: Vec<Duration> = asked.pids.iter().map(|pid| cpu(*pid)).collect();
    let began = Instant::now();
    let end = began + each;
    let mut tasks = JoinSet::new();
    for mut call in asked.callers.drain(..) {
        tasks.spawn(async move {
            let (mut took, mut refused) = (Vec::new(), 0u64);
            loop {
                let began = Instant::now();
                if began >= end {
                    return (call, took, refused);
                }
                match call().await {
                    Ok(()) => took.push(began.elapsed()),
                    Err(status) => {
                        if refused == 0 {
                            eprintln!("refused: {status}");
                        }
                        refused += 1;
                    }
                }
            }
        });
    }
    let mut done = 0;
    for (call, took, refused) in tasks.join_all().await {
        asked.callers.push(call);
        done += took.len();
        seen.took.extend(took);
        seen.refused += refused;
    }
    let seconds = began.elapsed().as_secs_f64();
    seen.per_second.push(done as f64 / seconds);
    let spent = asked
        .pids
        .iter()
        .zip(before)
        .map(|(pid, before)| (cpu(*pid) - before).as_secs_f64() * 1e6 / done.max(1) as f64);
    seen.cpu_us.push(spent.collect());
}

impl Slices {
    fn told(mut self) -> Did {
        let processes = self.cpu_us.first().map_or(0, Vec::len);
        Did {
            per_second: median(&mut self.per_second),
            cpu_us: (0..processes)
                .map(|process| {
                    median(&mut self.cpu_us.iter().map(|slice| slice[process]).collect::<Vec<_>>())
                })
                .collect(),
            p50_ms: percentile(&mut self.took, 50),
            refused: self.refused,
        }
    }
}

pub(crate) fn median(seen: &mut [f64]) -> f64 {
    seen.sort_unstable_by(f64::total_cmp);
    seen.get(seen.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The `part`-th hundredth of what was seen, in milliseconds.
pub(crate) fn percentile(seen: &mut [Duration], part: usize) -> f64 {
    seen.sort_unstable();
    let at = (seen.len() * part / 100).min(seen.len().saturating_sub(1));
    seen.get(at)
        .map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
}
