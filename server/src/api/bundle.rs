//! `spire.api.server.bundle.v1.Bundle`: our own bundle, and those of trust domains that we federate with.

mod delete;
mod federated;

use std::sync::Arc;

use muster_audit::{Action, Event, MAX_FACTS, Object, Outcome};
use muster_pki::bundle::{self as pki, KeyIdTaken};
use muster_proto::convert::{bundle_to_wire, jwt_authority, trust_domain, x509_authority};
use muster_proto::spire::server::bundle::batch_delete_federated_bundle_request::Mode;
use muster_proto::spire::server::bundle::bundle_server::Bundle;
use muster_proto::spire::server::bundle::*;
use muster_proto::spire::types;
use tonic::{Request, Response, Status};

use super::limits::Limited;
use super::pages::Size;
use super::{Caller, Context, Refusal, downstream};
use crate::bundles::BundleRecordError;
use crate::ca::change_own_bundle;
pub(in crate::api) use federated::{Put, change as put_change, foreign, not_revoked};

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

    /// Takes them in, and answers with their names.
    async fn append(&self, request: &AppendBundleRequest) -> Result<Vec<String>, Refusal> {
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
        let roots = x509.iter().map(|root| root.id().to_string());
        let names = roots
            .chain(jwt.iter().map(|key| key.key_id().to_string()))
            .collect();
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
        .await?;
        Ok(names)
    }

    async fn append_recorded(&self, caller: &Caller, request: &AppendBundleRequest) -> Result<(), Refusal> {
        let event = |outcome| {
            Event::new(caller.actor(), Action::BundleAppend, outcome)
                .object(Object::bundle(&self.context.trust_domain))
                .fact("x509_authorities", request.x509_authorities.len())
                .fact("jwt_authorities", request.jwt_authorities.len())
        };
        match self.append(request).await {
            Ok(names) => {
                // By name, so that each can be found and taken out; an event holds so many values of one name.
                for names in names.chunks(MAX_FACTS) {
                    let event = event(Outcome::Done).fact_list("authorities", names);
                    self.context.record(event).await?;
                }
                Ok(())
            }
            Err(refusal) => Err(self.context.refused(refusal, event).await),
        }
    }

    fn own(&self, mask: Option<&types::BundleMask>) -> types::Bundle {
        bundle_to_wire(&self.context.bundles.own(), mask)
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
        request: Request<ListFederatedBundlesRequest>,
    ) -> Result<Response<ListFederatedBundlesResponse>, Status> {
        let request = request.get_ref();
        let size = Size::asked(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(trust_domain("page_token", token).map_err(Refusal::from)?),
        };
        let set = self.context.bundles.set();
        let found = set
            .federated()
            .filter(|bundle| after.as_ref().is_none_or(|after| bundle.trust_domain() > after));
        let mask = request.output_mask.as_ref();
        let to_wire = |bundle: &&Arc<pki::Bundle>| bundle_to_wire(bundle, mask);
        let token = |bundle: &&Arc<pki::Bundle>| bundle.trust_domain().to_string();
        let (bundles, next_page_token) = size.fill(found, to_wire, token);
        Ok(Response::new(ListFederatedBundlesResponse {
            bundles,
            next_page_token,
        }))
    }

    async fn get_federated_bundle(
        &self,
        request: Request<GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let request = request.get_ref();
        let name = federated::foreign(&self.context, "getting a", &request.trust_domain)?;
        let set = self.context.bundles.set();
        let found = set
            .get(&name)
            .ok_or_else(|| Refusal::not_found("bundle not found"))?;
        Ok(Response::new(bundle_to_wire(found, request.output_mask.as_ref())))
    }

    async fn batch_create_federated_bundle(
        &self,
        request: Request<BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<BatchCreateFederatedBundleResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let mask = request.output_mask;
        let items = federated::put(&self.context, caller, Put::Create, request.bundle, None).await?;
        let results = items.into_iter().map(|item| {
            let (status, bundle) = item.into_wire(mask.as_ref());
            batch_create_federated_bundle_response::Result { status, bundle }
        });
        let results = results.collect();
        Ok(Response::new(BatchCreateFederatedBundleResponse { results }))
    }

    async fn batch_update_federated_bundle(
        &self,
        request: Request<BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<BatchUpdateFederatedBundleResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let (fields, mask) = (request.input_mask, request.output_mask);
        let items = federated::put(&self.context, caller, Put::Update, request.bundle, fields).await?;
        let results = items.into_iter().map(|item| {
            let (status, bundle) = item.into_wire(mask.as_ref());
            batch_update_federated_bundle_response::Result { status, bundle }
        });
        let results = results.collect();
        Ok(Response::new(BatchUpdateFederatedBundleResponse { results }))
    }

    async fn batch_set_federated_bundle(
        &self,
        request: Request<BatchSetFederatedBundleRequest>,
    ) -> Result<Response<BatchSetFederatedBundleResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let mask = request.output_mask;
        let items = federated::put(&self.context, caller, Put::Set, request.bundle, None).await?;
        let results = items.into_iter().map(|item| {
            let (status, bundle) = item.into_wire(mask.as_ref());
            batch_set_federated_bundle_response::Result { status, bundle }
        });
        let results = results.collect();
        Ok(Response::new(BatchSetFederatedBundleResponse { results }))
    }

    async fn batch_delete_federated_bundle(
        &self,
        request: Request<BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<BatchDeleteFederatedBundleResponse>, Status> {
        let (caller, request) = (Caller::of(&request)?, request.into_inner());
        let mode = Mode::try_from(request.mode)
            .map_err(|_| Refusal::invalid(format!("mode: {} is unknown", request.mode)))?;
        let (context, names) = (Arc::clone(&self.context), request.trust_domains);
        let going = names.clone();
        let deleted = async move { Ok(delete::delete(&context, &caller, mode, &going).await) };
        let statuses = self.context.to_the_end(deleted).await?;
        let results = names.into_iter().zip(statuses);
        let results = results.map(
            |(trust_domain, status)| batch_delete_federated_bundle_response::Result {
                status: Some(status),
                trust_domain,
            },
        );
        let results = results.collect();
        Ok(Response::new(BatchDeleteFederatedBundleResponse { results }))
    }
}

impl From<BundleRecordError> for Refusal {
    fn from(error: BundleRecordError) -> Self {
        Self::internal("the bundle can't be read").because(error)
    }
}
