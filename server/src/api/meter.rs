//! How many calls, how they ended, how long they took; and how much the server holds.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tonic::Code;

use super::Context;
use super::methods::SERVICES;

/// Counts and times calls by method. Methods are those of the table, so strangers can't make labels.
#[derive(Clone, Debug)]
pub struct Meter {
    calls: Family<Call, Counter>,
    seconds: Family<Method, Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Call {
    service: &'static str,
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Method {
    service: &'static str,
    method: &'static str,
}

impl Meter {
    /// Registers the metrics of calls.
    pub fn register(registry: &mut Registry) -> Self {
        let calls = Family::default();
        // From 100 us to about 3 s.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let seconds = Family::new_with_constructor(buckets);
        registry.register(
            "rpc",
            "Calls by method and gRPC status; a stream counts when it begins",
            calls.clone(),
        );
        registry.register(
            "rpc_elapsed_time_seconds",
            "Time until the answer began",
            seconds.clone(),
        );
        Self { calls, seconds }
    }

    /// Counts one call.
    pub(crate) fn count<B>(&self, path: &str, response: &Response<B>, took: Duration) {
        let Some((service, method)) = known(path) else {
            return;
        };
        // Only an answer without a body has its status among the headers, and that is never OK.
        let status = response
            .headers()
            .get("grpc-status")
            .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        self.calls
            .get_or_create(&Call {
                service,
                method,
                status: name_of(status),
            })
            .inc();
        self.seconds
            .get_or_create(&Method { service, method })
            .observe(took.as_secs_f64());
    }
}

fn known(path: &str) -> Option<(&'static str, &'static str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let (service, methods) = SERVICES.iter().find(|(name, _)| *name == service)?;
    methods
        .iter()
        .find(|(name, _)| *name == method)
        .map(|(method, _)| (*service, *method))
}

fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// What the server holds, read when somebody asks.
pub struct Counts {
    context: Weak<Context>,
}

impl Counts {
    /// Reads from `context` as long as it lives.
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::downgrade(context),
        }
    }
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(context) = self.context.upgrade() else {
            return Ok(());
        };
        let view = context.registry.view();
        let server_svid = context
            .server_svid
            .borrow()
            .as_ref()
            .map_or(0, |svid| svid.not_after().as_secs());
        let gauges = [
            ("entries", "Registration entries", count(view.entry_count())),
            ("nodes", "Attested nodes", count(view.node_count())),
            (
                "nodes_connected",
                "Nodes with an open stream",
                count(context.connections.count()),
            ),
            (
                "bundle_sequence",
                "Sequence number of the own bundle",
                count(context.bundles.own().sequence().unwrap_or(0)),
            ),
            (
                "certificate_expiry_seconds",
                "When the server's certificate ends, in Unix time",
                server_svid,
            ),
            (
                "uptime_in_ms",
                "How long the server runs, in milliseconds, by SPIRE's name",
                count(context.clock.now().since(context.started_at).as_millis()),
            ),
        ];
        // As SPIRE's servers show it: dashboards join their series with the version by it.
        let started = ConstGauge::new(1_i64);
        let of = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("trust_domain_id", context.trust_domain.as_str()),
        ];
        let help = "The version that runs";
        let mut family = encoder.encode_descriptor("started", help, None, started.metric_type())?;
        started.encode(family.encode_family(&of)?)?;
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counts")
    }
}

fn count(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
