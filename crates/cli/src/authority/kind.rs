//! X.509 and JWT: two sets of calls, alike but for their names.

use clap::ValueEnum;
use muster_identity::UnixTime;
use muster_proto::spire::server::localauthority::{
    ActivateJwtAuthorityRequest, ActivateX509AuthorityRequest, AuthorityState, GetJwtAuthorityStateRequest,
    GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest, PrepareX509AuthorityRequest,
    RevokeJwtAuthorityRequest, RevokeX509AuthorityRequest, RevokeX509UpstreamAuthorityRequest,
    TaintJwtAuthorityRequest, TaintX509AuthorityRequest, TaintX509UpstreamAuthorityRequest,
    local_authority_client::LocalAuthorityClient,
};
use serde_json::{Value, json};
use tonic::{Status, transport::Channel};

use crate::failure::clean;

/// What an authority signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Kind {
    /// X.509-SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
}

/// What is trusted no more: an authority of the server's own, or one above it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Judged {
    /// X.509-SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
    /// X.509 authorities: a root of the upstream authority.
    Upstream,
}

/// An authority, as the server says.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    pub(crate) id: String,
    /// Not everywhere told.
    pub(crate) ends: Option<UnixTime>,
    /// The root above it; empty where it is its own.
    pub(crate) upstream: String,
}

/// The authorities of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) active: Option<Authority>,
    pub(crate) prepared: Option<Authority>,
    pub(crate) old: Option<Authority>,
}

type Client = LocalAuthorityClient<Channel>;

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::X509, Self::Jwt];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::X509 => "X.509",
            Self::Jwt => "JWT",
        }
    }

    pub(crate) async fn standing(self, client: &mut Client) -> Result<Standing, Status> {
        let (active, prepared, old) = match self {
            Self::X509 => {
                let request = GetX509AuthorityStateRequest {};
                let state = client.get_x509_authority_state(request).await?.into_inner();
                (state.active, state.prepared, state.old)
            }
            Self::Jwt => {
                let request = GetJwtAuthorityStateRequest {};
                let state = client.get_jwt_authority_state(request).await?.into_inner();
                (state.active, state.prepared, state.old)
            }
        };
        let read = |state: Option<AuthorityState>| state.as_ref().map(Authority::read);
        Ok(Standing {
            active: read(active),
            prepared: read(prepared),
            old: read(old),
        })
    }

    pub(crate) async fn prepare(self, client: &mut Client) -> Result<Authority, Status> {
        let state = match self {
            Self::X509 => {
                let request = PrepareX509AuthorityRequest {};
                client
                    .prepare_x509_authority(request)
                    .await?
                    .into_inner()
                    .prepared_authority
            }
            Self::Jwt => {
                let request = PrepareJwtAuthorityRequest {};
                client
                    .prepare_jwt_authority(request)
                    .await?
                    .into_inner()
                    .prepared_authority
            }
        };
        told(state)
    }

    pub(crate) async fn activate(
        self,
        client: &mut Client,
        authority_id: String,
    ) -> Result<Authority, Status> {
        let state = match self {
            Self::X509 => {
                let request = ActivateX509AuthorityRequest { authority_id };
                client
                    .activate_x509_authority(request)
                    .await?
                    .into_inner()
                    .activated_authority
            }
            Self::Jwt => {
                let request = ActivateJwtAuthorityRequest { authority_id };
                client
                    .activate_jwt_authority(request)
                    .await?
                    .into_inner()
                    .activated_authority
            }
        };
        told(state)
    }

    pub(crate) async fn taint(self, client: &mut Client, authority_id: String) -> Result<Authority, Status> {
        let state = match self {
            Self::X509 => {
                let request = TaintX509AuthorityRequest { authority_id };
                client
                    .taint_x509_authority(request)
                    .await?
                    .into_inner()
                    .tainted_authority
            }
            Self::Jwt => {
                let request = TaintJwtAuthorityRequest { authority_id };
                client
                    .taint_jwt_authority(request)
                    .await?
                    .into_inner()
                    .tainted_authority
            }
        };
        told(state)
    }

    pub(crate) async fn revoke(self, client: &mut Client, authority_id: String) -> Result<Authority, Status> {
        let state = match self {
            Self::X509 => {
                let request = RevokeX509AuthorityRequest { authority_id };
                client
                    .revoke_x509_authority(request)
                    .await?
                    .into_inner()
                    .revoked_authority
            }
            Self::Jwt => {
                let request = RevokeJwtAuthorityRequest { authority_id };
                client
                    .revoke_jwt_authority(request)
                    .await?
                    .into_inner()
                    .revoked_authority
            }
        };
        told(state)
    }
}

impl Judged {
    /// The server's own kind; none for what stands above it.
    fn own(self) -> Option<Kind> {
        match self {
            Self::X509 => Some(Kind::X509),
            Self::Jwt => Some(Kind::Jwt),
            Self::Upstream => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.own().map_or("upstream", Kind::name)
    }

    pub(crate) fn label(self) -> &'static str {
        self.own().map_or("upstream", Kind::label)
    }

    pub(crate) async fn taint(self, client: &mut Client, id: String) -> Result<Authority, Status> {
        if let Some(kind) = self.own() {
            return kind.taint(client, id).await;
        }
        let request = TaintX509UpstreamAuthorityRequest { subject_key_id: id };
        let done = client.taint_x509_upstream_authority(request).await?;
        Ok(Authority::above(
            &done.into_inner().upstream_authority_subject_key_id,
        ))
    }

    pub(crate) async fn revoke(self, client: &mut Client, id: String) -> Result<Authority, Status> {
        if let Some(kind) = self.own() {
            return kind.revoke(client, id).await;
        }
        let request = RevokeX509UpstreamAuthorityRequest { subject_key_id: id };
        let done = client.revoke_x509_upstream_authority(request).await?;
        Ok(Authority::above(
            &done.into_inner().upstream_authority_subject_key_id,
        ))
    }
}

impl Authority {
    /// One above the server, of which nothing but its name is told.
    fn above(subject_key_id: &str) -> Self {
        Self {
            id: clean(subject_key_id),
            ends: None,
            upstream: String::new(),
        }
    }

    fn read(state: &AuthorityState) -> Self {
        Self {
            id: clean(&state.authority_id),
            ends: (state.expires_at != 0).then(|| UnixTime::from_secs(state.expires_at)),
            upstream: clean(&state.upstream_authority_subject_key_id),
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "authority_id": self.id,
            "ends": self.ends.map(UnixTime::as_secs),
            "upstream": (!self.upstream.is_empty()).then_some(&self.upstream),
        })
    }
}

fn told(state: Option<AuthorityState>) -> Result<Authority, Status> {
    let state = state.ok_or_else(|| Status::internal("the answer names no authority"))?;
    Ok(Authority::read(&state))
}
