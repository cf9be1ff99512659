//! SVIDs as servers hand them to agents and administrators.
//!
//! What comes from one's own server is parsed, not verified: the connection is authenticated, and a chain that
//! ends at an authority which arrives a moment later must not be lost. That the document is for the identity
//! beside it is checked, so that nothing later has to choose between the two.

use muster_identity::UnixTime;
use muster_pki::{
    jwt::JwtSvid,
    x509::{CertificateDer, X509Svid},
};

use super::{FieldError, field::at_most, id::spiffe_id};
use crate::spire::types;

/// The most certificates in a chain.
const MOST_CERTIFICATES: usize = 16;

/// Reads an X.509-SVID that came from the own server.
///
/// # Errors
/// When it is missing, its leaf breaks a rule of the X509-SVID standard, or it is for another identity than
/// the one beside it.
pub fn x509_svid(field: &'static str, wire: Option<&types::X509svid>) -> Result<X509Svid, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::missing(field))?;
    at_most("cert_chain", &wire.cert_chain, MOST_CERTIFICATES).map_err(|error| error.within(field))?;
    let id = spiffe_id("id", wire.id.as_ref()).map_err(|error| error.within(field))?;
    let chain = wire
        .cert_chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let svid = X509Svid::parse(chain).map_err(|error| FieldError::new("cert_chain", error).within(field))?;
    if *svid.id() != id {
        let what = format_args!("is for {} and not for the certificate's {}", id, svid.id());
        return Err(FieldError::new("id", what).within(field));
    }
    Ok(svid)
}

/// Writes an X.509-SVID.
pub fn x509_svid_to_wire(svid: &X509Svid, hint: &str) -> types::X509svid {
    types::X509svid {
        cert_chain: svid
            .chain()
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect(),
        id: Some(svid.id().into()),
        expires_at: svid.not_after().as_secs(),
        hint: hint.to_owned(),
    }
}

/// Reads a JWT-SVID that came from the own server.
///
/// # Errors
/// When it is missing, has not the form of a JWT-SVID, or is for another identity than the one beside it.
pub fn jwt_svid(field: &'static str, wire: Option<types::Jwtsvid>) -> Result<JwtSvid, FieldError> {
    let wire = wire.ok_or_else(|| FieldError::missing(field))?;
    let id = spiffe_id("id", wire.id.as_ref()).map_err(|error| error.within(field))?;
    let svid = JwtSvid::parse_unverified(wire.token)
        .map_err(|error| FieldError::new("token", error).within(field))?;
    if *svid.id() != id {
        let what = format_args!("is for {} and not for the token's {}", id, svid.id());
        return Err(FieldError::new("id", what).within(field));
    }
    Ok(svid)
}

/// Writes a JWT-SVID.
pub fn jwt_svid_to_wire(svid: &JwtSvid, hint: &str) -> types::Jwtsvid {
    types::Jwtsvid {
        token: svid.token().to_owned(),
        id: Some(svid.id().into()),
        expires_at: svid.expires_at().as_secs(),
        issued_at: svid.issued_at().map_or(0, UnixTime::as_secs),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_identity::Lifetime;
    use muster_pki::{
        KeyAlgorithm, LocalKey, Signer,
        x509::{RootProfile, Subject, X509SvidProfile, ca_subject, issue_root, issue_x509_svid},
    };

    use super::*;

    fn svid() -> X509Svid {
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let now = UnixTime::from_secs(1_795_465_260);
        let lifetime = Lifetime::from_secs(3_600).unwrap();
        let profile = RootProfile {
            trust_domain: "example.org".parse().unwrap(),
            subject: ca_subject(),
            now,
            lifetime,
        };
        let root = issue_root(key.clone(), &profile).unwrap();
        let profile = X509SvidProfile {
            id: "spiffe://example.org/web".parse().unwrap(),
            public_key: key.public_key().clone(),
            dns_names: Vec::new(),
            subject: Subject::default(),
            now,
            lifetime,
        };
        issue_x509_svid(&root, &profile).unwrap()
    }

    #[test]
    fn x509_svids_survive_the_wire() {
        let svid = svid();
        let read = x509_svid("svid", Some(&x509_svid_to_wire(&svid, ""))).unwrap();
        assert_eq!((read.id(), read.chain()), (svid.id(), svid.chain()));
    }

    #[test]
    fn a_certificate_for_somebody_else_is_refused() {
        let mut wire = x509_svid_to_wire(&svid(), "");
        wire.id = Some(types::Spiffeid {
            trust_domain: "example.org".into(),
            path: "/admin".into(),
        });
        assert_eq!(x509_svid("svid", Some(&wire)).unwrap_err().field(), "svid.id");
        wire.cert_chain.clear();
        assert_eq!(
            x509_svid("svid", Some(&wire)).unwrap_err().field(),
            "svid.cert_chain"
        );
        assert_eq!(x509_svid("svid", None).unwrap_err().field(), "svid");
        let token = types::Jwtsvid {
            token: "a.b.c".into(),
            id: wire.id,
            ..types::Jwtsvid::default()
        };
        assert_eq!(jwt_svid("svid", Some(token)).unwrap_err().field(), "svid.token");
    }
}
