//! Where the bundle of a foreign trust domain comes from, and what of the trust domain counts here.

use std::path::PathBuf;

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use muster_pki::bundle::Scope;
use muster_proto::convert::{self, FieldError};
use muster_proto::spire::types::{
    self, FederationRelationshipMask, HttpsWebProfile, HttpsspiffeProfile,
    federation_relationship::BundleEndpointProfile,
};
use prost::Message;

use super::EndpointUrl;

/// The first byte of a record.
const VERSION: u8 = 1;

/// A relationship. Without a source nothing is fetched: the record holds back (`revoked_at`) or narrows (`scope`) a trust domain that the configuration names, or whose
/// bundle administrators set by hand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relationship {
    /// The other side.
    pub trust_domain: TrustDomain,
    /// Where its bundle comes from.
    pub source: Option<Source>,
    /// Its names that count here.
    pub scope: Scope,
    /// Since when nothing of it counts, until it is released.
    pub revoked_at: Option<UnixTime>,
}

/// Where a bundle comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A bundle endpoint. Location and profile are given, never inferred (Federation 7.2).
    Endpoint {
        /// Where.
        url: EndpointUrl,
        /// How it is authenticated.
        profile: Profile,
    },
    /// A file that somebody else keeps up to date. By configuration only.
    File(PathBuf),
}

/// How a bundle endpoint is authenticated. There is no way from one to the other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Profile {
    /// By the Web PKI and the host in the URL.
    Web,
    /// By this SPIFFE ID.
    Spiffe(SpiffeId),
}

/// A record that holds no relationship.
#[derive(Debug, thiserror::Error)]
pub enum RelationshipRecordError {
    /// Empty, or of a version that we do not know.
    #[error("the relationship's record was written by a newer version, or is empty")]
    Version,
    /// No message.
    #[error("the relationship's record is no message")]
    Message(#[from] prost::DecodeError),
    /// A field of it is wrong.
    #[error("the relationship's record is wrong")]
    Field(#[from] FieldError),
}

#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(message, optional, tag = "1")]
    relationship: Option<types::FederationRelationship>,
    /// Unix seconds; 0 for not revoked.
    #[prost(int64, tag = "2")]
    revoked_at: i64,
    #[prost(string, repeated, tag = "3")]
    prefixes: Vec<String>,
}

impl Relationship {
    /// A record about a trust domain without a source.
    pub fn without_source(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            source: None,
            scope: Scope::all(),
            revoked_at: None,
        }
    }

    /// Reads a new relationship, as SPIRE's tools write it.
    ///
    /// # Errors
    /// Names the field that is wrong or missing: nothing is inferred from another (Federation 5.1, 7.2).
    pub fn from_wire(wire: &types::FederationRelationship) -> Result<Self, FieldError> {
        let trust_domain = convert::trust_domain("trust_domain", &wire.trust_domain)?;
        let source = Some(source(
            &wire.bundle_endpoint_url,
            wire.bundle_endpoint_profile.as_ref(),
        )?);
        Ok(Self {
            source,
            ..Self::without_source(trust_domain)
        })
    }

    /// This relationship with what `mask` names of `wire`.
    ///
    /// # Errors
    /// As [`Relationship::from_wire`].
    pub fn updated(
        &self,
        wire: &types::FederationRelationship,
        mask: Option<&FederationRelationshipMask>,
    ) -> Result<Self, FieldError> {
        let mask = mask.copied().unwrap_or(ALL);
        let (mut url, mut profile) = self.endpoint_to_wire();
        if mask.bundle_endpoint_url {
            url = wire.bundle_endpoint_url.clone();
        }
        if mask.bundle_endpoint_profile {
            profile = wire.bundle_endpoint_profile.clone();
        }
        Ok(Self {
            source: Some(source(&url, profile.as_ref())?),
            ..self.clone()
        })
    }

    /// Writes it, with the fields that `mask` names; the bundle is the caller's to add.
    pub fn to_wire(&self, mask: Option<&FederationRelationshipMask>) -> types::FederationRelationship {
        let mask = mask.copied().unwrap_or(ALL);
        let (url, profile) = self.endpoint_to_wire();
        types::FederationRelationship {
            trust_domain: self.trust_domain.to_string(),
            bundle_endpoint_url: if mask.bundle_endpoint_url {
                url
            } else {
                String::new()
            },
            bundle_endpoint_profile: profile.filter(|_| mask.bundle_endpoint_profile),
            trust_domain_bundle: None,
        }
    }

    fn endpoint_to_wire(&self) -> (String, Option<BundleEndpointProfile>) {
        match &self.source {
            Some(Source::Endpoint { url, profile }) => {
                let profile = match profile {
                    Profile::Web => BundleEndpointProfile::HttpsWeb(HttpsWebProfile {}),
                    Profile::Spiffe(id) => BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
                        endpoint_spiffe_id: id.to_string(),
                    }),
                };
                (url.to_string(), Some(profile))
            }
            Some(Source::File(_)) | None => (String::new(), None),
        }
    }

    /// The record in the log. Files are the configuration's alone and are not in it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let stored = Stored {
            relationship: Some(self.to_wire(None)),
            revoked_at: self.revoked_at.map_or(0, UnixTime::as_secs),
            prefixes: self.scope.prefixes().iter().map(ToString::to_string).collect(),
        };
        bytes.extend(stored.encode_to_vec());
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is of a newer version, or wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RelationshipRecordError> {
        let Some((&VERSION, message)) = bytes.split_first() else {
            return Err(RelationshipRecordError::Version);
        };
        let stored = Stored::decode(message)?;
        let wire = stored
            .relationship
            .ok_or_else(|| FieldError::missing("relationship"))?;
        let mut relationship = match wire.bundle_endpoint_url.is_empty() {
            true => Self::without_source(convert::trust_domain("trust_domain", &wire.trust_domain)?),
            false => Self::from_wire(&wire)?,
        };
        relationship.scope = scope("path_prefixes", &stored.prefixes)?;
        relationship.revoked_at = (stored.revoked_at != 0).then(|| UnixTime::from_secs(stored.revoked_at));
        Ok(relationship)
    }
}

/// Reads the paths that a trust domain is narrowed to.
///
/// # Errors
/// When one is no path, or narrows nothing.
pub fn scope(field: &'static str, prefixes: &[String]) -> Result<Scope, FieldError> {
    let paths = prefixes.iter().enumerate();
    let paths = paths.map(|(index, prefix)| {
        prefix
            .parse()
            .map_err(|error| FieldError::at(field, index, error))
    });
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    Scope::new(paths).map_err(|error| FieldError::new(field, error))
}

fn source(url: &str, profile: Option<&BundleEndpointProfile>) -> Result<Source, FieldError> {
    let url: EndpointUrl = url
        .parse()
        .map_err(|error| FieldError::new("bundle_endpoint_url", error))?;
    let profile = match profile {
        None => return Err(FieldError::missing("bundle_endpoint_profile")),
        Some(BundleEndpointProfile::HttpsWeb(_)) => Profile::Web,
        Some(BundleEndpointProfile::HttpsSpiffe(spiffe)) => {
            let id = spiffe.endpoint_spiffe_id.parse();
            Profile::Spiffe(id.map_err(|error| FieldError::new("endpoint_spiffe_id", error))?)
        }
    };
    Ok(Source::Endpoint { url, profile })
}

/// What an absent mask stands for.
const ALL: FederationRelationshipMask = FederationRelationshipMask {
    bundle_endpoint_url: true,
    bundle_endpoint_profile: true,
    trust_domain_bundle: true,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> types::FederationRelationship {
        types::FederationRelationship {
            trust_domain: "b.example".into(),
            bundle_endpoint_url: "https://b.example/".into(),
            bundle_endpoint_profile: Some(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile {
                endpoint_spiffe_id: "spiffe://b.example/spire/server".into(),
            })),
            trust_domain_bundle: None,
        }
    }

    #[test]
    fn a_relationship_survives_wire_and_log() {
        let mut relationship = Relationship::from_wire(&wire()).unwrap();
        assert_eq!(relationship.to_wire(None), wire());
        relationship.revoked_at = Some(UnixTime::from_secs(7));
        relationship.scope = scope("x", &["/pay".into()]).unwrap();
        assert_eq!(
            Relationship::from_bytes(&relationship.to_bytes()).unwrap(),
            relationship
        );
        let held_back = Relationship {
            revoked_at: Some(UnixTime::from_secs(9)),
            ..Relationship::without_source("c.example".parse().unwrap())
        };
        assert_eq!(
            Relationship::from_bytes(&held_back.to_bytes()).unwrap(),
            held_back
        );
        assert!(Relationship::from_bytes(&[]).is_err() && Relationship::from_bytes(&[9]).is_err());
    }

    #[test]
    fn nothing_is_inferred_from_anything_else() {
        type Spoil = fn(&mut types::FederationRelationship);
        let cases: [(Spoil, &str); 5] = [
            (|w| w.trust_domain.clear(), "trust_domain"),
            (|w| w.bundle_endpoint_url.clear(), "bundle_endpoint_url"),
            (
                |w| w.bundle_endpoint_url = "http://b.example/".into(),
                "bundle_endpoint_url",
            ),
            (|w| w.bundle_endpoint_profile = None, "bundle_endpoint_profile"),
            (
                |w| {
                    w.bundle_endpoint_profile =
                        Some(BundleEndpointProfile::HttpsSpiffe(HttpsspiffeProfile::default()));
                },
                "endpoint_spiffe_id",
            ),
        ];
        for (spoil, field) in cases {
            let mut spoilt = wire();
            spoil(&mut spoilt);
            assert_eq!(Relationship::from_wire(&spoilt).unwrap_err().field(), field);
        }
    }

    #[test]
    fn an_update_changes_what_its_mask_names() {
        let relationship = Relationship::from_wire(&wire()).unwrap();
        let mut other = wire();
        other.bundle_endpoint_url = "https://c.example/".into();
        other.bundle_endpoint_profile = Some(BundleEndpointProfile::HttpsWeb(HttpsWebProfile {}));
        let mask = FederationRelationshipMask {
            bundle_endpoint_url: true,
            ..FederationRelationshipMask::default()
        };
        let updated = relationship.updated(&other, Some(&mask)).unwrap().to_wire(None);
        assert_eq!(updated.bundle_endpoint_url, "https://c.example/");
        assert_eq!(updated.bundle_endpoint_profile, wire().bundle_endpoint_profile);
    }
}
