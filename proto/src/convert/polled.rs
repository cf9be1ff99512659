//! What an agent gets from a server that speaks SPIRE's contract alone.
//!
//! Such a server says nothing of versions in our sense, and it hands on what others registered or published, which it has not held to our rules. So the entry takes
//! its version from the caller, and of a bundle what can't be used is left out and named instead of losing the rest.

use muster_identity::UnixTime;
use muster_pki::bundle::Bundle;

use super::{
    FieldError, NodeEntry,
    bundle::{MOST, jwt_authority, x509_authority},
    entry::{attributes, entry_id, federates_with_of, hint, id_of, moment, selectors_of},
    field::at_most,
    id::trust_domain,
};
use crate::spire::types;

/// Reads an entry as SPIRE's agents get it; `version` is what the caller compares it by from now on.
///
/// # Errors
/// Names the first field that is wrong.
pub fn polled_entry(wire: &types::Entry, version: u64, x509_version: u64) -> Result<NodeEntry, FieldError> {
    Ok(NodeEntry {
        id: entry_id("id", &wire.id)?,
        version,
        x509_version,
        spiffe_id: id_of(wire)?,
        selectors: selectors_of(wire)?,
        federates_with: federates_with_of(wire)?,
        hint: hint("hint", &wire.hint)?,
        admin: wire.admin,
        downstream: wire.downstream,
        store_svid: wire.store_svid,
        created_at: UnixTime::from_secs(wire.created_at),
        expires_at: moment("expires_at", wire.expires_at)?,
        attributes: attributes(wire.additional_attributes.as_ref()),
    })
}

/// Reads what of a bundle can be used, and says what was left out and why (TB 4.2.1).
///
/// # Errors
/// When nobody can say what the bundle means: it names no trust domain, or is larger than any.
pub fn usable_bundle(wire: &types::Bundle) -> Result<(Bundle, Vec<FieldError>), FieldError> {
    at_most("x509_authorities", &wire.x509_authorities, MOST)?;
    at_most("jwt_authorities", &wire.jwt_authorities, MOST)?;
    let mut bundle = Bundle::new(trust_domain("trust_domain", &wire.trust_domain)?);
    // A negative one is a mistake about when to ask again, and nobody asks by it here.
    bundle.set_refresh_hint(u64::try_from(wire.refresh_hint).ok().filter(|hint| *hint != 0));
    bundle.set_sequence((wire.sequence_number != 0).then_some(wire.sequence_number));
    let mut left_out = Vec::new();
    for (index, certificate) in wire.x509_authorities.iter().enumerate() {
        match x509_authority(certificate) {
            Ok(authority) => drop(bundle.put_x509_authority(authority)),
            Err(error) => left_out.push(error.within(&format!("x509_authorities[{index}]"))),
        }
    }
    for (index, key) in wire.jwt_authorities.iter().enumerate() {
        let put = jwt_authority(key).and_then(|authority| {
            bundle
                .put_jwt_authority(authority)
                .map_err(|error| FieldError::new("key_id", error))
        });
        if let Err(error) = put {
            left_out.push(error.within(&format!("jwt_authorities[{index}]")));
        }
    }
    Ok((bundle, left_out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spire::types::{JwtKey, Selector, Spiffeid, X509Certificate, entry::AdditionalAttributes};

    fn wire() -> types::Entry {
        types::Entry {
            id: "one".into(),
            spiffe_id: Some(Spiffeid {
                trust_domain: "example.org".into(),
                path: "/web".into(),
            }),
            selectors: vec![Selector {
                r#type: "unix".into(),
                value: "uid:0".into(),
            }],
            hint: "db".into(),
            federates_with: vec!["spiffe://other.org".into()],
            created_at: 7,
            additional_attributes: Some(AdditionalAttributes {
                disable_x509_svid_prefetch: false,
                jwt_svid_include_jti: true,
            }),
            ..types::Entry::default()
        }
    }

    #[test]
    fn an_entry_without_parent_and_lifetimes_is_whole_for_an_agent() {
        let entry = polled_entry(&wire(), 3, 2).unwrap();
        assert_eq!((entry.version, entry.x509_version), (3, 2));
        assert_eq!(entry.federates_with[0].as_str(), "other.org");
        assert!(entry.attributes.jwt_svid_include_jti && entry.created_at == UnixTime::from_secs(7));
    }

    #[test]
    fn an_entry_that_asks_for_nothing_or_names_nobody_is_refused() {
        let spoilt: [(types::Entry, &str); 3] = [
            (
                types::Entry {
                    selectors: Vec::new(),
                    ..wire()
                },
                "selectors",
            ),
            (
                types::Entry {
                    spiffe_id: None,
                    ..wire()
                },
                "spiffe_id",
            ),
            (
                types::Entry {
                    id: String::new(),
                    ..wire()
                },
                "id",
            ),
        ];
        for (entry, field) in spoilt {
            assert_eq!(polled_entry(&entry, 0, 0).unwrap_err().field(), field);
        }
    }

    #[test]
    fn of_a_bundle_only_what_can_not_be_used_is_lost() {
        let wire = types::Bundle {
            trust_domain: "example.org".into(),
            x509_authorities: vec![X509Certificate::default()],
            jwt_authorities: vec![JwtKey::default()],
            refresh_hint: -1,
            sequence_number: 4,
            ..types::Bundle::default()
        };
        let (bundle, left_out) = usable_bundle(&wire).unwrap();
        assert!(bundle.is_empty() && bundle.sequence() == Some(4) && bundle.refresh_hint().is_none());
        let fields: Vec<&str> = left_out.iter().map(FieldError::field).collect();
        assert_eq!(fields, ["x509_authorities[0].asn1", "jwt_authorities[0].key_id"]);
        assert!(usable_bundle(&types::Bundle::default()).is_err());
    }
}
