//! Making, changing and ending relationships.

use std::path::PathBuf;

use clap::ValueEnum;
use muster_identity::{IdPath, SpiffeId, TrustDomain};
use muster_proto::{
    convert::{bundle_to_wire, check_status},
    federation::{NarrowRequest, Peer, ReleaseRequest, RevokeRequest},
    spire::{
        server::trustdomain::{
            BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
            BatchUpdateFederationRelationshipRequest, RefreshBundleRequest,
        },
        types::{
            self, FederationRelationship, FederationRelationshipMask, HttpsWebProfile, HttpsspiffeProfile,
            federation_relationship::BundleEndpointProfile,
        },
    },
};
use tonic::{Response, Status};

use super::{Named, ours, peers, spire, view};
use crate::{args::ServerSocket, bundle, failure::Failure, output::Answer};

/// How the endpoint is authenticated. It is never guessed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Profile {
    /// By an X.509-SVID.
    #[value(name = "https_spiffe", alias = "spiffe")]
    Spiffe,
    /// By a certificate of the Web PKI for the host in the URL.
    #[value(name = "https_web", alias = "web")]
    Web,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The other trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
    /// Where its bundle endpoint is.
    #[arg(long)]
    url: String,
    /// How the endpoint is authenticated.
    #[arg(long, value_enum)]
    profile: Profile,
    /// Who must answer; for https_spiffe.
    #[arg(long, value_name = "SPIFFE ID", required_if_eq("profile", "https_spiffe"))]
    endpoint_id: Option<SpiffeId>,
    /// The bundle to begin with: a SPIFFE bundle document or PEM. Needed for https_spiffe unless one is held.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Let only IDs under this path count, wherever Muster verifies. Repeat it for several.
    #[arg(long = "only", value_name = "PATH")]
    only: Vec<IdPath>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Create {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut relationship = FederationRelationship {
            trust_domain: self.trust_domain.to_string(),
            bundle_endpoint_url: self.url,
            bundle_endpoint_profile: Some(profile(self.profile, self.endpoint_id.as_ref())),
            trust_domain_bundle: None,
        };
        if let Some(file) = &self.bundle {
            let bundle = bundle::from_file(&self.trust_domain, file)?;
            relationship.trust_domain_bundle = Some(bundle_to_wire(&bundle, None));
        }
        let request = BatchCreateFederationRelationshipRequest {
            federation_relationships: vec![relationship],
            output_mask: None,
        };
        let what = "could not create the relationship";
        let answer = spire(&self.socket)
            .await?
            .batch_create_federation_relationship(request)
            .await;
        done(what, answer, |answer| answer.results.into_iter().next()?.status)?;
        if !self.only.is_empty() {
            narrow(&self.socket, &self.trust_domain, &self.only).await?;
        }
        shown(&self.socket, &self.trust_domain).await
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Update {
    /// The other trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
    /// Where its bundle endpoint is.
    #[arg(long)]
    url: Option<String>,
    /// How the endpoint is authenticated.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Who must answer; for https_spiffe.
    #[arg(
        long,
        value_name = "SPIFFE ID",
        requires = "profile",
        required_if_eq("profile", "https_spiffe")
    )]
    endpoint_id: Option<SpiffeId>,
    /// Another bundle: a SPIFFE bundle document or PEM.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Let only IDs under this path count, wherever Muster verifies. Repeat it for several.
    #[arg(long = "only", value_name = "PATH", conflicts_with = "everything")]
    only: Vec<IdPath>,
    /// Let every path count again.
    #[arg(long)]
    everything: bool,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Update {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mask = FederationRelationshipMask {
            bundle_endpoint_url: self.url.is_some(),
            bundle_endpoint_profile: self.profile.is_some(),
            trust_domain_bundle: self.bundle.is_some(),
        };
        let narrows = self.everything || !self.only.is_empty();
        if mask == FederationRelationshipMask::default() && !narrows {
            return Err(
                Failure::usage("could not update the relationship", "nothing is to be changed")
                    .next("name what: --url, --profile, --bundle, --only or --everything"),
            );
        }
        if mask != FederationRelationshipMask::default() {
            let mut relationship = FederationRelationship {
                trust_domain: self.trust_domain.to_string(),
                bundle_endpoint_url: self.url.unwrap_or_default(),
                bundle_endpoint_profile: self.profile.map(|name| profile(name, self.endpoint_id.as_ref())),
                trust_domain_bundle: None,
            };
            if let Some(file) = &self.bundle {
                let bundle = bundle::from_file(&self.trust_domain, file)?;
                relationship.trust_domain_bundle = Some(bundle_to_wire(&bundle, None));
            }
            let request = BatchUpdateFederationRelationshipRequest {
                federation_relationships: vec![relationship],
                input_mask: Some(mask),
                output_mask: None,
            };
            let what = "could not update the relationship";
            let answer = spire(&self.socket)
                .await?
                .batch_update_federation_relationship(request)
                .await;
            done(what, answer, |answer| answer.results.into_iter().next()?.status)?;
        }
        if narrows {
            narrow(&self.socket, &self.trust_domain, &self.only).await?;
        }
        shown(&self.socket, &self.trust_domain).await
    }
}

pub(super) async fn refresh(named: &Named) -> Result<Answer, Failure> {
    let request = RefreshBundleRequest {
        trust_domain: named.trust_domain.to_string(),
    };
    let mut client = spire(&named.socket).await?;
    let refreshed = client.refresh_bundle(request).await;
    refreshed.map_err(|status| {
        Failure::status("could not refresh the bundle", &status).next(format!(
            "muster federation doctor {} tells more",
            named.trust_domain
        ))
    })?;
    shown(&named.socket, &named.trust_domain).await
}

pub(super) async fn delete(named: &Named) -> Result<Answer, Failure> {
    let request = BatchDeleteFederationRelationshipRequest {
        trust_domains: vec![named.trust_domain.to_string()],
    };
    let what = "could not delete the relationship";
    let answer = spire(&named.socket)
        .await?
        .batch_delete_federation_relationship(request)
        .await;
    done(what, answer, |answer| answer.results.into_iter().next()?.status)?;
    let text = format!("The relationship with {} has ended", named.trust_domain);
    Ok(Answer::new(
        text,
        serde_json::json!({ "deleted": named.trust_domain.as_str() }),
    ))
}

pub(super) async fn revoke(named: &Named) -> Result<Answer, Failure> {
    let request = RevokeRequest {
        trust_domain: named.trust_domain.to_string(),
    };
    peer(
        "could not revoke the trust domain",
        ours(&named.socket).await?.revoke(request).await,
    )
}

pub(super) async fn release(named: &Named) -> Result<Answer, Failure> {
    let request = ReleaseRequest {
        trust_domain: named.trust_domain.to_string(),
    };
    peer(
        "could not release the trust domain",
        ours(&named.socket).await?.release(request).await,
    )
}

fn peer(what: &str, answer: Result<Response<Peer>, Status>) -> Result<Answer, Failure> {
    let peer = answer.map_err(|status| Failure::status(what, &status))?;
    Ok(view::peer(&peer.into_inner()))
}

async fn narrow(socket: &ServerSocket, trust_domain: &TrustDomain, only: &[IdPath]) -> Result<(), Failure> {
    let request = NarrowRequest {
        trust_domain: trust_domain.to_string(),
        path_prefixes: only.iter().map(ToString::to_string).collect(),
    };
    let narrowed = ours(socket).await?.narrow(request).await;
    narrowed.map_err(|status| Failure::status("could not narrow the trust domain", &status))?;
    Ok(())
}

async fn shown(socket: &ServerSocket, trust_domain: &TrustDomain) -> Result<Answer, Failure> {
    let peers = peers(&mut ours(socket).await?, Some(trust_domain)).await?;
    Ok(view::peer(&peers.into_iter().next().unwrap_or_default()))
}

fn profile(profile: Profile, endpoint_id: Option<&SpiffeId>) -> BundleEndpointProfile {
    match profile {
        Profile::Web => BundleEndpointProfile::HttpsWeb(HttpsWebProfile {}),
        Profile::Spiffe => BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
            endpoint_spiffe_id: endpoint_id.map(ToString::to_string).unwrap_or_default(),
        }),
    }
}

/// What came of a batch of one: `first` takes the status of its one result.
fn done<T>(
    what: &str,
    answer: Result<Response<T>, Status>,
    first: impl FnOnce(T) -> Option<types::Status>,
) -> Result<(), Failure> {
    let answer = answer.map_err(|status| Failure::status(what, &status))?;
    check_status(first(answer.into_inner()).as_ref()).map_err(|status| Failure::status(what, &status))
}
