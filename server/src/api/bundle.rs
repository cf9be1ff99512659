//! `spire.api.server.bundle.v1.Bundle`: our own bundle. Bundles of other trust domains are not kept yet, and every method for them says so.

use std::sync::Arc;

use muster_audit::{Action, Event, Object, Outcome};
use muster_identity::TrustDomain;
use muster_pki::bundle::KeyIdTaken;
use muster_proto::convert::{bundle_to_wire, jwt_authority, trust_domain, x509_authority};
use muster_proto::spire::server::bundle::bundle_server::Bundle;
use muster_proto::spire::server::bundle::*;
use muster_proto::spire::types;
use tonic::{Request, Response, Status};

use super::limits::Limited;
use super::{Caller, Context, Refusal, downstream};
use crate::bundles::BundleRecordError;
use crate::ca::change_own_bundle;

/// The most authorities that one call may append.
const MOST_APPENDED: usize = 100;

/// Shows and extends our own bundle.
#[derive(Clone)]
pub struct BundleService {
    context: Arc<Context>,
}

impl BundleService {
    /// Shows the bundles of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn append(&self, request: &AppendBundleRequest) -> Result<(), Refusal> {
        let (x509, jwt) = (&request.x509_authorities, &request.jwt_authorities);
        if !request.wit_authorities.is_empty() {
            return Err(Refusal::unimplemented(
                "wit_authorities: WIT authorities are not kept",
            ));
        }
        if x509.is_empty() && jwt.is_empty() {
            return Err(Refusal::invalid("no authorities to append"));
        }
        if x509.len() + jwt.len() > MOST_APPENDED {
            return Err(Refusal::invalid(format!(
                "more than {MOST_APPENDED} authorities in one call"
            )));
        }
        let within = |list: &str, index: usize| format!("{list}[{index}]");
        let each = x509.iter().enumerate();
        let x509 =
            each.map(|(i, wire)| x509_authority(wire).map_err(|e| e.within(&within("x509_authorities", i))));
        let x509 = x509.collect::<Result<Vec<_>, _>>()?;
        let each = jwt.iter().enumerate();
        let jwt =
            each.map(|(i, wire)| jwt_authority(wire).map_err(|e| e.within(&within("jwt_authorities", i))));
        let jwt = jwt.collect::<Result<Vec<_>, _>>()?;
        let Context {
            registry,
            bundles,
            trust_domain,
            ..
        } = &*self.context;
        change_own_bundle::<Refusal>(registry, bundles, trust_domain, Vec::new(), |bundle| {
            for authority in &x509 {
                // What is there stays as it is: an append never takes a taint away.
                if !bundle
                    .x509_authorities()
                    .iter()
                    .any(|held| held.der() == authority.der())
                {
                    bundle.put_x509_authority(authority.clone());
                }
            }
            for authority in &jwt {
                if !bundle
                    .jwt_authorities()
                    .iter()
                    .any(|held| held.key_id() == authority.key_id())
                {
                    let taken =
                        |KeyIdTaken(id)| Refusal::invalid(format!("jwt_authorities: {id} names another key"));
                    bundle.put_jwt_authority(authority.clone()).map_err(taken)?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn append_recorded(&self, caller: &Caller, request: &AppendBundleRequest) -> Result<(), Refusal> {
        let event = |outcome| {
            Event::new(caller.actor(), Action::BundleAppend, outcome)
                .object(Object::bundle(&self.context.trust_domain))
                .fact("x509_authorities", request.x509_authorities.len())
                .fact("jwt_authorities", request.jwt_authorities.len())
        };
        match self.append(request).await {
            Ok(()) => self.context.record(event(Outcome::Done)).await,
            Err(refusal) => Err(self.context.refused(refusal, event).await),
        }
    }

    fn own(&self, mask: Option<&types::BundleMask>) -> types::Bundle {
        bundle_to_wire(&self.context.bundles.own(), mask)
    }

    fn is_own(&self, name: &str) -> Result<TrustDomain, Refusal> {
        let other = trust_domain("trust_domain", name)?;
        if other == self.context.trust_domain {
            return Err(Refusal::invalid(
                "trust_domain: the server's own bundle is no federated bundle",
            ));
        }
        Ok(other)
    }
}

#[tonic::async_trait]
impl Bundle for BundleService {
    async fn get_bundle(
        &self,
        request: Request<GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let own = self.context.bundles.own();
        // Whoever shows a node's certificate lives by what it is given here, until it asks again.
        let caller = Caller::of(&request)?;
        if let Some(node) = caller.spiffe_id()
            && self.context.registry.view().node(node).is_some()
        {
            self.context.connections.given(node, own.sequence().unwrap_or(0));
        }
        Ok(Response::new(bundle_to_wire(
            &own,
            request.get_ref().output_mask.as_ref(),
        )))
    }

    async fn count_bundles(
        &self,
        _: Request<CountBundlesRequest>,
    ) -> Result<Response<CountBundlesResponse>, Status> {
        let count = self.context.bundles.set().iter().count();
        Ok(Response::new(CountBundlesResponse {
            count: count.try_into().unwrap_or(i32::MAX),
        }))
    }

    async fn append_bundle(
        &self,
        request: Request<AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let caller = Caller::of(&request)?;
        let (service, request) = (self.clone(), request.into_inner());
        let mask = request.output_mask;
        let appended = async move { service.append_recorded(&caller, &request).await };
        self.context.to_the_end(appended).await?;
        Ok(Response::new(self.own(mask.as_ref())))
    }

    async fn publish_jwt_authority(
        &self,
        request: Request<PublishJwtAuthorityRequest>,
    ) -> Result<Response<PublishJwtAuthorityResponse>, Status> {
        let caller = Caller::of(&request)?;
        self.context.limits.wait(Limited::PushKey, &caller, 1).await?;
        let (context, request) = (Arc::clone(&self.context), request.into_inner());
        let published = async move { downstream::publish_jwt_authority(&context, &caller, &request).await };
        let jwt_authorities = self.context.to_the_end(published).await?;
        Ok(Response::new(PublishJwtAuthorityResponse { jwt_authorities }))
    }

    async fn publish_wit_authority(
        &self,
        _: Request<PublishWitAuthorityRequest>,
    ) -> Result<Response<PublishWitAuthorityResponse>, Status> {
        Err(Refusal::unimplemented("WIT authorities are not kept").into())
    }

    async fn list_federated_bundles(
        &self,
        _: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        // True as long as none can be created.
        Ok(Response::new(ListFederatedBundlesResponse::default()))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.is_own(&request.get_ref().trust_domain)?;
        Err(Refusal::not_found("bundle not found").into())
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        Err(no_federation().into())
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        Err(no_federation().into())
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        Err(no_federation().into())
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        Err(no_federation().into())
    }
}

fn no_federation() -> Refusal {
    Refusal::unimplemented("federation is not served yet")
}

impl From<BundleRecordError> for Refusal {
    fn from(error: BundleRecordError) -> Self {
        Self::internal("the bundle can't be read").because(error)
    }
}
