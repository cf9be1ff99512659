use std::{fmt, str::FromStr};

use crate::{IdPath, ParsePathError, ParseTrustDomainError, TrustDomain};

const SCHEME: &str = "spiffe://";

/// `spiffe://<trust domain><path>`. Every value obeys the SPIFFE-ID standard: parsing is the only way to one.
///
/// Equality is byte equality. Upper case in scheme or trust domain is refused (SPIFFE-ID 2.1). Clones are cheap.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: IdPath,
}

impl SpiffeId {
    /// The longest ID that is accepted, in bytes (SPIFFE-ID 2.3 asks for support up to this, and not to make longer ones).
    pub const MAX_LEN: usize = 2048;

    /// Puts an ID together from checked parts.
    pub fn new(trust_domain: TrustDomain, path: IdPath) -> Result<Self, ParseIdError> {
        let len = SCHEME.len() + trust_domain.as_str().len() + path.as_str().len();
        if len > Self::MAX_LEN {
            return Err(ParseIdError::TooLong { len });
        }
        Ok(Self { trust_domain, path })
    }

    /// The trust domain that this ID belongs to.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: empty for a trust domain's own ID.
    pub fn path(&self) -> &IdPath {
        &self.path
    }

    /// Whether this ID belongs to `trust_domain`.
    pub fn is_member_of(&self, trust_domain: &TrustDomain) -> bool {
        self.trust_domain == *trust_domain
    }

    /// Whether this is a trust domain's own ID: no path, so no workload (X509-SVID 3.2, JWT-SVID 3.1).
    pub fn is_trust_domain_id(&self) -> bool {
        self.path.is_root()
    }
}

impl FromStr for SpiffeId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        if text.len() > Self::MAX_LEN {
            return Err(ParseIdError::TooLong { len: text.len() });
        }
        let rest = text.strip_prefix(SCHEME).ok_or(ParseIdError::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Self::new(authority.parse()?, path.parse()?)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.trust_domain, self.path)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({self})")
    }
}

/// Why a text is no SPIFFE ID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseIdError {
    /// It does not begin with `spiffe://`.
    #[error("SPIFFE ID does not begin with spiffe:// (SPIFFE-ID 2)")]
    Scheme,
    /// It is longer than [`SpiffeId::MAX_LEN`].
    #[error("SPIFFE ID has {len} bytes, at most 2048 are allowed (SPIFFE-ID 2.3)")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// Its trust domain is wrong.
    #[error(transparent)]
    TrustDomain(#[from] ParseTrustDomainError),
    /// Its path is wrong.
    #[error(transparent)]
    Path(#[from] ParsePathError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SpiffeId, ParseIdError> {
        text.parse()
    }

    #[test]
    fn the_standards_examples_are_accepted() {
        for text in [
            "spiffe://example.org",
            "spiffe://staging.example.com/payments/mysql",
            "spiffe://k8s-west.example.com/ns/staging/sa/default",
            "spiffe://1.2.3.4/service",
            "spiffe://_._/_",
            "spiffe://example.org/...",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_is_trimmed_folded_or_decoded() {
        for text in [
            "",
            "spiffe:",
            "spiffe://",
            "spiffe:///a",
            "SPIFFE://example.org/a",
            "spiffe://Example.org/a",
            "spiffe://example.org/",
            "spiffe://example.org//a",
            "spiffe://example.org/a/",
            "spiffe://example.org/../a",
            "spiffe://example.org/%61",
            "spiffe://example.org:80/a",
            "spiffe://u@example.org/a",
            "spiffe://example.org/a?x",
            "spiffe://example.org#",
            " spiffe://example.org/a",
            "spiffe://example.org/a\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_byte_is_allowed_exactly_where_the_standard_allows_it() {
        for byte in 0..=127u8 {
            let c = char::from(byte);
            let in_domain = c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
            let in_path = c.is_ascii_alphanumeric() || "._-".contains(c);
            assert_eq!(
                parse(&format!("spiffe://a{c}b")).is_ok(),
                in_domain || c == '/',
                "{c:?}"
            );
            assert_eq!(
                parse(&format!("spiffe://a/b{c}d")).is_ok(),
                in_path || c == '/',
                "{c:?}"
            );
        }
    }

    #[test]
    fn lengths_end_where_the_standard_ends_them() {
        assert!(parse(&format!("spiffe://{}", "a".repeat(255))).is_ok());
        assert!(parse(&format!("spiffe://{}", "a".repeat(256))).is_err());
        let at_most = format!("spiffe://a/{}", "b".repeat(2048 - 11));
        assert!(parse(&at_most).is_ok());
        assert!(parse(&(at_most + "b")).is_err());
    }

    #[test]
    fn a_path_is_under_another_by_whole_segments() {
        let path = |text: &str| text.parse::<IdPath>().unwrap();
        assert!(path("/a/b").is_under(&path("/a")));
        assert!(path("/a").is_under(&path("/a")));
        assert!(path("/a").is_under(&IdPath::root()));
        assert!(!path("/ab").is_under(&path("/a")));
        assert!(path("/spire/agent/x").is_reserved() && !path("/spires").is_reserved());
        assert!(path("/a").join("../b").is_err() && path("/a").join("").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_it_was(text in "(spiffe://)?[a-zA-Z0-9._/%: -]{0,40}") {
            if let Ok(id) = parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn no_text_panics_the_parser(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
