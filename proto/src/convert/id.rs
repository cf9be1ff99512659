use muster_identity::{IdPath, SpiffeId, TrustDomain};

use super::FieldError;
use crate::spire::types::Spiffeid;

/// Reads a SPIFFE ID that must be there.
///
/// # Errors
/// When it is not there, or breaks a rule of the SPIFFE-ID standard.
pub fn spiffe_id(field: &'static str, id: Option<&Spiffeid>) -> Result<SpiffeId, FieldError> {
    let id = id.ok_or_else(|| FieldError::missing(field))?;
    let trust_domain = trust_domain(field, &id.trust_domain)?;
    let path: IdPath = id.path.parse().map_err(|error| FieldError::new(field, error))?;
    SpiffeId::new(trust_domain, path).map_err(|error| FieldError::new(field, error))
}

/// Reads the name of a trust domain. Also accepts it as an ID without a path, `spiffe://example.org`, which
/// older tools send for it.
///
/// # Errors
/// When it is neither.
pub fn trust_domain(field: &'static str, name: &str) -> Result<TrustDomain, FieldError> {
    name.strip_prefix("spiffe://")
        .unwrap_or(name)
        .parse()
        .map_err(|error| FieldError::new(field, error))
}

/// Writes a SPIFFE ID.
pub fn spiffe_id_to_wire(id: &SpiffeId) -> Spiffeid {
    Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().to_string(),
    }
}

impl From<&SpiffeId> for Spiffeid {
    fn from(id: &SpiffeId) -> Self {
        spiffe_id_to_wire(id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(trust_domain: &str, path: &str) -> Spiffeid {
        Spiffeid {
            trust_domain: trust_domain.to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_wrong_id_is_refused_by_the_name_of_its_field() {
        for (id, what) in [
            (None, "is missing"),
            (Some(wire("", "/a")), "empty"),
            (Some(wire("Example.org", "/a")), "'E'"),
            (Some(wire("example.org", "a")), "path"),
            (Some(wire("example.org", "/a/../b")), ""),
            (Some(wire("example.org", "/a%2fb")), "'%'"),
            (Some(wire("example.org/x", "/a")), "'/'"),
            (
                Some(wire("example.org", &format!("/{}", "a".repeat(2048)))),
                "2048",
            ),
        ] {
            let error = spiffe_id("parent_id", id.as_ref()).unwrap_err();
            assert_eq!(error.field(), "parent_id");
            assert!(error.reason().contains(what), "{error}");
        }
    }

    #[test]
    fn a_trust_domain_may_be_written_as_its_own_id() {
        for name in ["example.org", "spiffe://example.org"] {
            assert_eq!(
                trust_domain("federates_with", name).unwrap().as_str(),
                "example.org"
            );
        }
        assert!(trust_domain("federates_with", "spiffe://example.org/a").is_err());
    }

    proptest! {
        #[test]
        fn ids_survive_the_wire(td in "[a-z0-9._-]{1,20}", path in "(/[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,8}){0,4}") {
            let id: SpiffeId = format!("spiffe://{td}{path}").parse().unwrap();
            prop_assert_eq!(spiffe_id("id", Some(&Spiffeid::from(&id))), Ok(id));
        }

        #[test]
        fn no_input_is_believed_that_does_not_print_as_it_came(td in ".{0,24}", path in ".{0,24}") {
            if let Ok(id) = spiffe_id("id", Some(&wire(&td, &path))) {
                let td = td.strip_prefix("spiffe://").unwrap_or(&td);
                prop_assert_eq!(id.to_string(), format!("spiffe://{td}{path}"));
            }
        }
    }
}
