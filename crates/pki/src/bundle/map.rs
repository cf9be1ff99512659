//! The bundle map: the bundles of several trust domains in one document (TB 5).

use std::collections::BTreeMap;

use muster_identity::{ParseTrustDomainError, TrustDomain};
use serde_json::{Map, Value, json};

use super::{Bundle, DocumentError, IgnoredKey, document::MAX_DOCUMENT};
use crate::{
    json::{self, JsonError},
    jwt::{JwtAuthority, JwtBundleSource},
    x509::{X509Authority, X509BundleSource},
};

/// The most trust domains that are looked at.
const MAX_TRUST_DOMAINS: usize = 10_000;

/// Bundles by trust domain, none of them our own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BundleMap {
    bundles: BTreeMap<TrustDomain, Bundle>,
}

/// Why a document is no bundle map.
#[derive(Debug, thiserror::Error)]
pub enum BundleMapError {
    /// More bytes than any map needs.
    #[error("the bundle map has {0} bytes, more than 4 MiB")]
    TooLong(usize),
    /// No strict JSON object: among others, a trust domain that occurs twice (TB 6.3).
    #[error("the bundle map is not a JSON object with each member once (TB 5.1.1, 6.3)")]
    Json(#[source] JsonError),
    /// No trust domains.
    #[error("the bundle map has no trust_domains (TB 5.1.1)")]
    TrustDomains,
    /// More than any map needs.
    #[error("the bundle map has {0} trust domains, more than 10000")]
    TooMany(usize),
    /// A name that is none.
    #[error("a member of trust_domains is not the name of a trust domain (TB 5.1.1)")]
    Name(#[source] ParseTrustDomainError),
    /// A value that is no bundle.
    #[error("the bundle of {0} is not an object (TB 5.1.1)")]
    Form(TrustDomain),
    /// A bundle that cannot be used.
    #[error("the bundle of {trust_domain}")]
    Bundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// Why.
        source: DocumentError,
    },
}

impl BundleMap {
    /// Reads a bundle map, and says what was left out of each bundle.
    ///
    /// # Errors
    /// When nobody can say what it means, or one of its bundles cannot be used.
    #[allow(clippy::type_complexity)]
    pub fn from_document(document: &[u8]) -> Result<(Self, Vec<(TrustDomain, IgnoredKey)>), BundleMapError> {
        if document.len() > MAX_DOCUMENT {
            return Err(BundleMapError::TooLong(document.len()));
        }
        let object = json::object(document).map_err(BundleMapError::Json)?;
        let entries = object
            .get("trust_domains")
            .and_then(Value::as_object)
            .ok_or(BundleMapError::TrustDomains)?;
        if entries.len() > MAX_TRUST_DOMAINS {
            return Err(BundleMapError::TooMany(entries.len()));
        }
        let (mut map, mut ignored) = (Self::default(), Vec::new());
        for (name, value) in entries {
            let trust_domain: TrustDomain = name.parse().map_err(BundleMapError::Name)?;
            let bundle = value
                .as_object()
                .ok_or_else(|| BundleMapError::Form(trust_domain.clone()))?;
            let parsed = Bundle::from_object(trust_domain.clone(), bundle).map_err(|source| {
                BundleMapError::Bundle {
                    trust_domain: trust_domain.clone(),
                    source,
                }
            })?;
            ignored.extend(parsed.ignored.into_iter().map(|key| (trust_domain.clone(), key)));
            map.put(parsed.bundle);
        }
        Ok((map, ignored))
    }

    /// The document (TB 5.1.1).
    pub fn to_document(&self) -> String {
        let entries: Map<String, Value> = self
            .bundles
            .iter()
            .map(|(name, bundle)| (name.as_str().to_owned(), Value::Object(bundle.to_object())))
            .collect();
        json!({ "trust_domains": entries }).to_string()
    }

    /// Puts in a bundle, in the place of an older one of the same trust domain.
    pub fn put(&mut self, bundle: Bundle) {
        self.bundles.insert(bundle.trust_domain().clone(), bundle);
    }

    /// The bundle of a trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.bundles.get(trust_domain)
    }

    /// The bundles, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.bundles.values()
    }
}

impl FromIterator<Bundle> for BundleMap {
    fn from_iter<I: IntoIterator<Item = Bundle>>(bundles: I) -> Self {
        let mut map = Self::default();
        bundles.into_iter().for_each(|bundle| map.put(bundle));
        map
    }
}

impl X509BundleSource for BundleMap {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.get(trust_domain).map(Bundle::x509_authorities)
    }
}

impl JwtBundleSource for BundleMap {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        self.get(trust_domain).map(Bundle::jwt_authorities)
    }
}
