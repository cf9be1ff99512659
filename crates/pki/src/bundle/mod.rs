//! Bundles (the Trust Domain and Bundle standard, TB): the keys by which a trust domain's SVIDs are checked.
//!
//! ```text
//! SPIFFE document, PEM, DER, wire ─parse, policy per key→ Bundle ─→ BundleSet (own + federated) ─→ verification
//!                                                           └→ SPIFFE document, PEM, DER, JWKS for workloads
//! ```
//!
//! A document is refused as a whole when nobody can say what it means (no `keys`, a number of the wrong kind, one `kid`
//! for two keys, a certificate that is not its entry's key, a private key). An entry that we cannot or may not use is
//! left out and reported ([`IgnoredKey`]): a bundle must stay readable when its owner adds a kind of key that is
//! newer than this program (TB 4.2.1, 4.2.2).

mod document;
mod file;
mod map;
mod print;
mod scope;
mod sequence;
mod set;
mod standing;

use std::time::Duration;

use muster_identity::TrustDomain;

pub use document::{DocumentError, IgnoreReason, IgnoredKey, ParsedBundle};
pub use file::BundleFileError;
pub use map::{BundleMap, BundleMapError};
pub use scope::{Scope, ScopeError};
pub use sequence::Succession;
pub use set::{BundleSet, OwnTrustDomain};
pub use standing::AuthorityStanding;

use crate::{
    jwt::{JwtAuthority, JwtBundleSource, KeyId},
    x509::{X509Authority, X509BundleSource},
};

/// How often a bundle is fetched again when it does not say (Federation 4.1).
const DEFAULT_REFRESH: Duration = Duration::from_secs(300);
/// The bounds within which a foreign refresh hint is followed.
const REFRESH_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// The keys of one trust domain.
///
/// Within a bundle each certificate occurs once, and each key id names one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle {
    trust_domain: TrustDomain,
    x509_authorities: Vec<X509Authority>,
    jwt_authorities: Vec<JwtAuthority>,
    wit_authorities: Vec<JwtAuthority>,
    refresh_hint: Option<u64>,
    sequence: Option<u64>,
}

/// Two keys of one bundle have one name (JWT-SVID 6.1, WIT-SVID 6.1): nobody could say which is meant.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key id {0} names two keys (JWT-SVID 6.1, WIT-SVID 6.1)")]
pub struct KeyIdTaken(pub KeyId);

impl Bundle {
    /// A bundle without keys: nothing of this trust domain verifies (TB 4.1.3).
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            wit_authorities: Vec::new(),
            refresh_hint: None,
            sequence: None,
        }
    }

    /// Whose keys they are.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities that X.509-SVIDs chain to.
    pub fn x509_authorities(&self) -> &[X509Authority] {
        &self.x509_authorities
    }

    /// The keys that sign JWT-SVIDs.
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt_authorities
    }

    /// The keys that sign WIT-SVIDs. They never verify a JWT-SVID.
    pub fn wit_authorities(&self) -> &[JwtAuthority] {
        &self.wit_authorities
    }

    /// How often its owner asks to fetch it again, in seconds, exactly as the owner wrote it.
    pub fn refresh_hint(&self) -> Option<u64> {
        self.refresh_hint
    }

    /// How often to fetch it again: the hint, within 1 minute and 24 hours, or 5 minutes.
    pub fn refresh_interval(&self) -> Duration {
        let (shortest, longest) = REFRESH_BOUNDS;
        self.refresh_hint.map_or(DEFAULT_REFRESH, |hint| {
            Duration::from_secs(hint).clamp(shortest, longest)
        })
    }

    /// Which version of the bundle it is (TB 4.1.1).
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether there is no key in it.
    pub fn is_empty(&self) -> bool {
        self.x509_authorities.is_empty() && self.jwt_authorities.is_empty() && self.wit_authorities.is_empty()
    }

    /// Sets the refresh hint, in seconds.
    pub fn set_refresh_hint(&mut self, hint: Option<u64>) {
        self.refresh_hint = hint;
    }

    /// Sets the sequence number. Whoever publishes a bundle makes it grow with each change ([`Bundle::succeed`]).
    pub fn set_sequence(&mut self, sequence: Option<u64>) {
        self.sequence = sequence;
    }

    /// Adds an authority, or replaces the one with the same certificate. Says whether the bundle changed.
    pub fn put_x509_authority(&mut self, authority: X509Authority) -> bool {
        match self
            .x509_authorities
            .iter_mut()
            .find(|held| held.der() == authority.der())
        {
            Some(held) if *held == authority => false,
            Some(held) => {
                *held = authority;
                true
            }
            None => {
                self.x509_authorities.push(authority);
                true
            }
        }
    }

    /// Adds a token-signing key, or replaces what is known about it. Says whether the bundle changed.
    ///
    /// # Errors
    /// When its key id names another key already.
    pub fn put_jwt_authority(&mut self, authority: JwtAuthority) -> Result<bool, KeyIdTaken> {
        put(&mut self.jwt_authorities, &self.wit_authorities, authority)
    }

    /// Adds a WIT-signing key, as [`Bundle::put_jwt_authority`].
    ///
    /// # Errors
    /// When its key id names another key already.
    pub fn put_wit_authority(&mut self, authority: JwtAuthority) -> Result<bool, KeyIdTaken> {
        put(&mut self.wit_authorities, &self.jwt_authorities, authority)
    }

    /// Removes the X.509 authorities for which `keep` says no. Says whether there were any.
    pub fn retain_x509_authorities(&mut self, keep: impl FnMut(&X509Authority) -> bool) -> bool {
        let before = self.x509_authorities.len();
        self.x509_authorities.retain(keep);
        self.x509_authorities.len() != before
    }

    /// Removes the token-signing keys for which `keep` says no. Says whether there were any.
    pub fn retain_jwt_authorities(&mut self, keep: impl FnMut(&JwtAuthority) -> bool) -> bool {
        let before = self.jwt_authorities.len();
        self.jwt_authorities.retain(keep);
        self.jwt_authorities.len() != before
    }
}

fn put(
    into: &mut Vec<JwtAuthority>,
    others: &[JwtAuthority],
    authority: JwtAuthority,
) -> Result<bool, KeyIdTaken> {
    if others.iter().any(|other| other.key_id() == authority.key_id()) {
        return Err(KeyIdTaken(authority.key_id().clone()));
    }
    match into.iter_mut().find(|held| held.key_id() == authority.key_id()) {
        Some(held) if held.public_key() != authority.public_key() => {
            Err(KeyIdTaken(authority.key_id().clone()))
        }
        Some(held) if *held == authority => Ok(false),
        Some(held) => {
            *held = authority;
            Ok(true)
        }
        None => {
            into.push(authority);
            Ok(true)
        }
    }
}

impl X509BundleSource for Bundle {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        (*trust_domain == self.trust_domain).then_some(self.x509_authorities.as_slice())
    }
}

impl JwtBundleSource for Bundle {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        (*trust_domain == self.trust_domain).then_some(self.jwt_authorities.as_slice())
    }
}

#[cfg(test)]
mod tests;
