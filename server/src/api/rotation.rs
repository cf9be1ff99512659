//! `muster.authority.v1.Rotation`: how far a rotation has come.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_proto::authority::rotation_server::Rotation;
use muster_proto::authority::{GetProgressRequest, GetProgressResponse};
use tonic::{Request, Response, Status};

use super::Context;
/// Tells what the nodes say.
pub struct RotationService {
    context: Arc<Context>,
}

impl RotationService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl Rotation for RotationService {
    async fn get_progress(
        &self,
        _: Request<GetProgressRequest>,
    ) -> Result<Response<GetProgressResponse>, Status> {
        let Context {
            connections,
            bundles,
            registry,
            clock,
            ca,
            ..
        } = &*self.context;
        let bundle_sequence = bundles.own().sequence().unwrap_or(0);
        let held = connections.held_bundles();
        let connected: BTreeSet<_> = held.iter().map(|held| &held.node).collect();
        let informed = held.iter().filter(|held| held.bundle >= bundle_sequence);
        let now = clock.now();
        let view = registry.view();
        let silent = view
            .nodes()
            .filter(|node| node.not_after().is_some_and(|end| end >= now))
            .filter(|node| !connected.contains(&node.id))
            .count();
        Ok(Response::new(GetProgressResponse {
            bundle_sequence,
            connected: clamped(held.len()),
            informed: clamped(informed.count()),
            outdated: held.iter().map(|held| held.outdated).sum(),
            silent: clamped(silent),
            longest_jwt_svid_seconds: ca.lifetimes().max_jwt_svid.as_secs(),
        }))
    }
}

fn clamped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
