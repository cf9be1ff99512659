//! What the API counts.

use std::time::Duration;

use muster_plugin_api::decorate::{Meter, Outcome};
use muster_runtime::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Counters of the Workload API; clones count together.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    calls: Family<CallLabels, Counter>,
    streams: Gauge,
    attestations: Family<AttestLabels, Counter>,
    attestation_time: Family<AttestorLabels, Histogram, fn() -> Histogram>,
    limited: Counter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AttestLabels {
    attestor: &'static str,
    outcome: OutcomeLabel,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct AttestorLabels {
    attestor: &'static str,
}

#[derive(Clone, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
enum OutcomeLabel {
    Complete,
    Gaps,
    Refused,
    Slow,
    Failed,
}

impl ApiMetrics {
    /// Counters in `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_05, 4.0, 9));
        let new = Self {
            calls: Family::default(),
            streams: Gauge::default(),
            attestations: Family::default(),
            attestation_time: Family::new_with_constructor(histogram),
            limited: Counter::default(),
        };
        metrics.register(|registry| {
            let all = new.clone();
            registry.register(
                "workload_api_calls",
                "Calls of the Workload API by method and status",
                all.calls,
            );
            registry.register(
                "workload_api_connections",
                "Streams of the Workload API that are open",
                all.streams,
            );
            registry.register(
                "workload_api_workload_attestor",
                "Attestations by attestor and outcome",
                all.attestations,
            );
            registry.register(
                "workload_api_workload_attestation_seconds",
                "How long an attestor took",
                all.attestation_time,
            );
            registry.register(
                "workload_api_rate_limit_exceeded",
                "Calls beyond a caller's rate",
                all.limited,
            );
        });
        new
    }

    /// A call was answered, or its stream ended.
    pub(super) fn called(&self, method: &'static str, status: &'static str) {
        self.calls.get_or_create(&CallLabels { method, status }).inc();
    }

    pub(super) fn limited(&self) {
        self.limited.inc();
    }

    /// Counts a stream as long as the answer lives.
    pub(super) fn stream(&self) -> OpenStream {
        self.streams.inc();
        OpenStream(self.streams.clone())
    }
}

/// A stream that is open.
#[derive(Debug)]
pub(super) struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Meter for ApiMetrics {
    fn attested(&self, attestor: &'static str, outcome: Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Complete => OutcomeLabel::Complete,
            Outcome::Gaps => OutcomeLabel::Gaps,
            Outcome::Refused => OutcomeLabel::Refused,
            Outcome::Slow => OutcomeLabel::Slow,
            Outcome::Failed => OutcomeLabel::Failed,
        };
        self.attestations
            .get_or_create(&AttestLabels { attestor, outcome })
            .inc();
        self.attestation_time
            .get_or_create(&AttestorLabels { attestor })
            .observe(took.as_secs_f64());
    }
}
