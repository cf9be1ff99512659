//! gRPC health on the public socket: whether this node agent can serve.

use muster_runtime::{Readiness, Stop};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};

/// The service, and what keeps it true until `stop`.
pub(super) fn health(
    readiness: &Readiness,
    stop: Stop,
) -> (HealthServer<impl Health>, impl Future<Output = ()> + use<>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let mut ready = readiness.watch();
    let follow = async move {
        loop {
            let serving = if *ready.borrow_and_update() {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            for name in ["", super::workload::SERVICE] {
                reporter.set_service_status(name, serving).await;
            }
            tokio::select! {
                () = stop.ordered() => return,
                changed = ready.changed() => if changed.is_err() { return },
            }
        }
    };
    (service, follow)
}
