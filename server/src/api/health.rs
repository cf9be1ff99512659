//! `grpc.health.v1.Health`: the truth of `/ready`, for tools that speak gRPC.

use std::sync::Arc;

use muster_pki::x509::X509BundleSource;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Context, Refusal};

/// Answers for the server as a whole: the service name must be empty.
#[derive(Clone)]
pub struct HealthService {
    context: Arc<Context>,
}

impl HealthService {
    /// Answers by what `context` knows.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn standing(&self) -> HealthCheckResponse {
        let bundle = self.context.bundles.own();
        let has_bundle = bundle
            .x509_authorities(&self.context.trust_domain)
            .is_some_and(|all| !all.is_empty());
        let serves = self.context.readiness.is_ready() && has_bundle;
        let status = if serves {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        HealthCheckResponse {
            status: status.into(),
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Refusal::not_found(
                "only the server as a whole is known: leave the service name empty",
            )
            .into());
        }
        Ok(Response::new(self.standing()))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Refusal::unimplemented("Watch is not offered").into())
    }
}
