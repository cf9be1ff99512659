use muster_pki::{
    PublicKey,
    bundle::Bundle,
    jwt::{JwtAuthority, KeyId},
    x509::X509Authority,
};

use super::{FieldError, entry::moment, field::at_most, id::trust_domain};
use crate::spire::types::{self, BundleMask, JwtKey, WitKey, X509Certificate};

/// The most authorities of one kind in a bundle.
pub(super) const MOST: usize = 1_024;

/// Reads a trust bundle.
///
/// # Errors
/// Names the first field that is wrong. Nothing is left out silently: a peer that speaks this contract sends
/// what it has checked itself.
pub fn bundle(wire: &types::Bundle) -> Result<Bundle, FieldError> {
    at_most("x509_authorities", &wire.x509_authorities, MOST)?;
    at_most("jwt_authorities", &wire.jwt_authorities, MOST)?;
    at_most("wit_authorities", &wire.wit_authorities, MOST)?;
    let mut bundle = Bundle::new(trust_domain("trust_domain", &wire.trust_domain)?);
    let hint = u64::try_from(wire.refresh_hint)
        .map_err(|_| FieldError::new("refresh_hint", format_args!("{} is negative", wire.refresh_hint)))?;
    // The contract can't say «none»; 0 is what it has for that.
    bundle.set_refresh_hint((hint != 0).then_some(hint));
    bundle.set_sequence((wire.sequence_number != 0).then_some(wire.sequence_number));
    for (index, certificate) in wire.x509_authorities.iter().enumerate() {
        let authority = x509_authority(certificate)
            .map_err(|error| error.within(&format!("x509_authorities[{index}]")))?;
        bundle.put_x509_authority(authority);
    }
    for (index, key) in wire.jwt_authorities.iter().enumerate() {
        let at = format!("jwt_authorities[{index}]");
        let authority = jwt_authority(key).map_err(|error| error.within(&at))?;
        bundle
            .put_jwt_authority(authority)
            .map_err(|error| FieldError::new(at, error))?;
    }
    for (index, key) in wire.wit_authorities.iter().enumerate() {
        let at = format!("wit_authorities[{index}]");
        let authority = wit_authority(key).map_err(|error| error.within(&at))?;
        bundle
            .put_wit_authority(authority)
            .map_err(|error| FieldError::new(at, error))?;
    }
    Ok(bundle)
}

/// Writes a bundle, with the fields that `mask` names; without a mask, all of them. The trust domain is always
/// there.
pub fn bundle_to_wire(bundle: &Bundle, mask: Option<&BundleMask>) -> types::Bundle {
    let mask = mask.copied().unwrap_or(ALL);
    let mut wire = types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        ..types::Bundle::default()
    };
    if mask.x509_authorities {
        wire.x509_authorities = bundle
            .x509_authorities()
            .iter()
            .map(X509Certificate::from)
            .collect();
    }
    if mask.jwt_authorities {
        wire.jwt_authorities = bundle.jwt_authorities().iter().map(JwtKey::from).collect();
    }
    if mask.wit_authorities {
        wire.wit_authorities = bundle
            .wit_authorities()
            .iter()
            .map(|authority| {
                let JwtKey {
                    public_key,
                    key_id,
                    expires_at,
                    tainted,
                } = authority.into();
                WitKey {
                    public_key,
                    key_id,
                    expires_at,
                    tainted,
                }
            })
            .collect();
    }
    if mask.refresh_hint {
        wire.refresh_hint = bundle
            .refresh_hint()
            .map_or(0, |hint| i64::try_from(hint).unwrap_or(i64::MAX));
    }
    if mask.sequence_number {
        wire.sequence_number = bundle.sequence().unwrap_or(0);
    }
    wire
}

/// Reads an X.509 authority.
///
/// # Errors
/// When it is not the certificate of an authority that we would use.
pub fn x509_authority(wire: &X509Certificate) -> Result<X509Authority, FieldError> {
    X509Authority::from_der(&wire.asn1)
        .map(|authority| authority.with_taint(wire.tainted))
        .map_err(|error| FieldError::new("asn1", error))
}

/// Reads a token-signing key.
///
/// # Errors
/// When its name is missing or too long, or it is no key that we would use.
pub fn jwt_authority(wire: &JwtKey) -> Result<JwtAuthority, FieldError> {
    token_authority(&wire.public_key, &wire.key_id, wire.expires_at, wire.tainted)
}

fn wit_authority(wire: &WitKey) -> Result<JwtAuthority, FieldError> {
    token_authority(&wire.public_key, &wire.key_id, wire.expires_at, wire.tainted)
}

fn token_authority(
    public_key: &[u8],
    key_id: &str,
    expires_at: i64,
    tainted: bool,
) -> Result<JwtAuthority, FieldError> {
    let key_id: KeyId = key_id.parse().map_err(|error| FieldError::new("key_id", error))?;
    let public_key =
        PublicKey::from_spki_der(public_key).map_err(|error| FieldError::new("public_key", error))?;
    Ok(JwtAuthority::new(key_id, public_key)
        .with_expiry(moment("expires_at", expires_at)?)
        .with_taint(tainted))
}

impl From<&X509Authority> for X509Certificate {
    fn from(authority: &X509Authority) -> Self {
        Self {
            asn1: authority.der().to_vec(),
            tainted: authority.tainted(),
        }
    }
}

impl From<&JwtAuthority> for JwtKey {
    fn from(authority: &JwtAuthority) -> Self {
        Self {
            public_key: authority.public_key().spki_der().to_vec(),
            key_id: authority.key_id().to_string(),
            expires_at: authority.expires_at().map_or(0, |moment| moment.as_secs()),
            tainted: authority.tainted(),
        }
    }
}

/// What an absent mask stands for.
const ALL: BundleMask = BundleMask {
    x509_authorities: true,
    jwt_authorities: true,
    refresh_hint: true,
    sequence_number: true,
    wit_authorities: true,
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_identity::{Lifetime, UnixTime};
    use muster_pki::{
        KeyAlgorithm, LocalKey, Signer,
        x509::{RootProfile, ca_subject, issue_root},
    };

    use super::*;

    fn key() -> Arc<LocalKey> {
        Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap())
    }

    fn wire() -> types::Bundle {
        let profile = RootProfile {
            trust_domain: "example.org".parse().unwrap(),
            subject: ca_subject(),
            now: UnixTime::from_secs(1_795_465_260),
            lifetime: Lifetime::from_secs(86_400).unwrap(),
        };
        let root = issue_root(key(), &profile).unwrap();
        types::Bundle {
            trust_domain: "example.org".into(),
            x509_authorities: vec![X509Certificate {
                asn1: root.authority().der().to_vec(),
                tainted: true,
            }],
            jwt_authorities: vec![JwtKey {
                public_key: key().public_key().spki_der().to_vec(),
                key_id: "one".into(),
                expires_at: 9,
                tainted: false,
            }],
            refresh_hint: 60,
            sequence_number: 7,
            wit_authorities: Vec::new(),
        }
    }

    #[test]
    fn bundles_survive_the_wire() {
        let wire = wire();
        assert_eq!(bundle_to_wire(&bundle(&wire).unwrap(), None), wire);
        let bare = bundle_to_wire(&bundle(&wire).unwrap(), Some(&BundleMask::default()));
        assert_eq!(
            bare,
            types::Bundle {
                trust_domain: "example.org".into(),
                ..types::Bundle::default()
            }
        );
    }

    #[test]
    fn each_wrong_field_is_refused_by_its_name() {
        type Spoil = fn(&mut types::Bundle);
        let cases: &[(Spoil, &str)] = &[
            (|b| b.trust_domain.clear(), "trust_domain"),
            (|b| b.refresh_hint = -1, "refresh_hint"),
            (|b| b.x509_authorities[0].asn1.push(0), "x509_authorities[0].asn1"),
            (
                |b| b.jwt_authorities[0].public_key.clear(),
                "jwt_authorities[0].public_key",
            ),
            (
                |b| b.jwt_authorities[0].key_id.clear(),
                "jwt_authorities[0].key_id",
            ),
            (
                |b| b.jwt_authorities[0].expires_at = -1,
                "jwt_authorities[0].expires_at",
            ),
            (
                |b| b.jwt_authorities = vec![JwtKey::default(); 1_025],
                "jwt_authorities",
            ),
        ];
        for (spoil, field) in cases {
            let mut spoilt = wire();
            spoil(&mut spoilt);
            assert_eq!(bundle(&spoilt).unwrap_err().field(), *field);
        }
    }
}
