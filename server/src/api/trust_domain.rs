//! `spire.api.server.trustdomain.v1.TrustDomain`: relationships with other trust domains.

mod change;

use std::sync::Arc;

use muster_proto::convert::{bundle_to_wire, trust_domain};
use muster_proto::spire::server::trustdomain::trust_domain_server::TrustDomain;
use muster_proto::spire::server::trustdomain::*;
use muster_proto::spire::types::{FederationRelationship, FederationRelationshipMask};
use tonic::{Code, Request, Response, Status};

use super::pages::Size;
use super::{Caller, Context, Refusal};
use crate::federation::{RefreshError, Relationship, recorded};
use crate::registry::View;
use crate::store::Tree;

/// The service.
pub struct TrustDomainService {
    context: Arc<Context>,
}

impl TrustDomainService {
    /// Makes the service.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// A relationship as it is answered, with the bundle that is held.
    fn wire(
        &self,
        relationship: &Relationship,
        mask: Option<&FederationRelationshipMask>,
    ) -> FederationRelationship {
        let mut wire = relationship.to_wire(mask);
        if mask.is_none_or(|mask| mask.trust_domain_bundle) {
            let set = self.context.bundles.set();
            let held = set.get(&relationship.trust_domain);
            wire.trust_domain_bundle = held.map(|bundle| bundle_to_wire(bundle, None));
        }
        wire
    }
}

/// The records that are relationships: those with an endpoint.
fn relationships(view: &View) -> impl Iterator<Item = Relationship> {
    view.documents(Tree::Relationships)
        .filter_map(|(_, document)| Relationship::from_bytes(&document.value).ok())
        .filter(|relationship| relationship.source.is_some())
}

#[tonic::async_trait]
impl TrustDomain for TrustDomainService {
    async fn list_federation_relationships(
        &self,
        request: Request<ListFederationRelationshipsRequest>,
    ) -> Result<Response<ListFederationRelationshipsResponse>, Status> {
        let request = request.get_ref();
        let size = Size::asked(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(trust_domain("page_token", token).map_err(Refusal::from)?),
        };
        let view = self.context.registry.view();
        let found = relationships(&view)
            .filter(|found| after.as_ref().is_none_or(|after| found.trust_domain > *after));
        let mask = request.output_mask.as_ref();
        let (federation_relationships, next_page_token) = size.fill(
            found,
            |found| self.wire(found, mask),
            |found| found.trust_domain.to_string(),
        );
        Ok(Response::new(ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        }))
    }

    async fn get_federation_relationship(
        &self,
        request: Request<GetFederationRelationshipRequest>,
    ) -> Result<Response<FederationRelationship>, Status> {
        let request = request.get_ref();
        let name = trust_domain("trust_domain", &request.trust_domain).map_err(Refusal::from)?;
        let view = self.context.registry.view();
        let found = recorded(&view, &name).filter(|found| found.source.is_some());
        let found = found.ok_or_else(|| Refusal::not_found("federation relationship does not exist"))?;
        Ok(Response::new(self.wire(&found, request.output_mask.as_ref())))
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<BatchCreateFederationRelationshipResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let mask = request.output_mask;
        let (context, wires) = (Arc::clone(&self.context), request.federation_relationships);
        let creating = async move { Ok(change::create(&context, &caller, &wires).await) };
        let items = self.context.to_the_end(creating).await?;
        let results = items.into_iter().map(|(status, done)| {
            let federation_relationship = done.map(|done| self.wire(&done, mask.as_ref()));
            batch_create_federation_relationship_response::Result {
                status: Some(status),
                federation_relationship,
            }
        });
        let results = results.collect();
        Ok(Response::new(BatchCreateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<BatchUpdateFederationRelationshipResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let mask = request.output_mask;
        let context = Arc::clone(&self.context);
        let updating = async move {
            let wires = &request.federation_relationships;
            Ok(change::update(&context, &caller, wires, request.input_mask.as_ref()).await)
        };
        let items = self.context.to_the_end(updating).await?;
        let results = items.into_iter().map(|(status, done)| {
            let federation_relationship = done.map(|done| self.wire(&done, mask.as_ref()));
            batch_update_federation_relationship_response::Result {
                status: Some(status),
                federation_relationship,
            }
        });
        let results = results.collect();
        Ok(Response::new(BatchUpdateFederationRelationshipResponse {
            results,
        }))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<BatchDeleteFederationRelationshipResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let (context, names) = (Arc::clone(&self.context), request.trust_domains);
        let going = names.clone();
        let deleting = async move { Ok(change::delete(&context, &caller, &going).await) };
        let statuses = self.context.to_the_end(deleting).await?;
        let results = names.into_iter().zip(statuses).map(|(name, status)| {
            batch_delete_federation_relationship_response::Result {
                status: Some(status),
                // By its name, though it was asked for by its ID: what SPIRE's tools print.
                trust_domain: trust_domain("trust_domain", &name).map_or(name, |known| known.to_string()),
            }
        });
        let results = results.collect();
        Ok(Response::new(BatchDeleteFederationRelationshipResponse {
            results,
        }))
    }

    async fn refresh_bundle(&self, request: Request<RefreshBundleRequest>) -> Result<Response<()>, Status> {
        let name = trust_domain("trust_domain", &request.get_ref().trust_domain).map_err(Refusal::from)?;
        self.context
            .federation
            .refresh(&name)
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(()))
    }
}

impl From<RefreshError> for Refusal {
    fn from(error: RefreshError) -> Self {
        match &error {
            RefreshError::Unknown(_) => Self::not_found(error.to_string()),
            RefreshError::Failed(why) => {
                Self::new(Code::Internal, format!("failed to refresh bundle: {why}"))
            }
            RefreshError::Busy | RefreshError::Stopping => Self::unavailable(error.to_string()),
        }
    }
}
