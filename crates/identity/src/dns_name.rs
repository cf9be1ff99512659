use std::{fmt, str::FromStr, sync::Arc};

/// A DNS name that an entry puts into X.509-SVIDs: lower-case LDH labels, at most one wildcard, and that only as the
/// whole leftmost label of a name with two more labels.
///
/// Upper case is refused: names are compared byte by byte. So is what reads as an IPv4 address, a trailing dot, and
/// anything that is not ASCII (an A-label `xn--…` is).
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DnsName(Arc<str>);

impl DnsName {
    /// The longest name, in bytes (RFC 1035 2.3.4).
    pub const MAX_LEN: usize = 253;

    /// The name, as it was parsed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the leftmost label is `*`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// Whether a certificate for this name would also cover `other`: a wildcard covers one label.
    pub fn covers(&self, other: &DnsName) -> bool {
        if self == other {
            return true;
        }
        match (self.0.strip_prefix("*."), other.0.split_once('.')) {
            (Some(suffix), Some((_, rest))) => suffix == rest,
            _ => false,
        }
    }
}

impl FromStr for DnsName {
    type Err = ParseDnsNameError;

    fn from_str(text: &str) -> Result<Self, ParseDnsNameError> {
        if text.is_empty() || text.len() > Self::MAX_LEN {
            return Err(ParseDnsNameError::Length { len: text.len() });
        }
        let plain = match text.strip_prefix("*.") {
            Some(rest) if !rest.contains('.') => return Err(ParseDnsNameError::Wildcard),
            Some(rest) => rest,
            None => text,
        };
        for label in plain.split('.') {
            check_label(label)?;
        }
        let last = plain.rsplit('.').next().unwrap_or(plain);
        if last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseDnsNameError::Address);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({})", self.0)
    }
}

/// Why a text is no DNS name for a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseDnsNameError {
    /// Empty, or longer than [`DnsName::MAX_LEN`].
    #[error("DNS name has {len} bytes, 1 to 253 are allowed")]
    Length {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A label is empty (two dots, a leading or trailing dot) or longer than 63 bytes.
    #[error("DNS name has a label of {len} bytes, 1 to 63 are allowed")]
    LabelLength {
        /// How long the label is, in bytes.
        len: usize,
    },
    /// A character outside lower-case letters, digits and inner dashes.
    #[error("DNS name holds {found:?}, allowed are a-z, 0-9 and '-' inside a label")]
    Character {
        /// The first such character.
        found: char,
    },
    /// A wildcard elsewhere than as the whole leftmost label, or over a top-level name.
    #[error("DNS name has a wildcard that is not the whole leftmost label of a name with two more labels")]
    Wildcard,
    /// The last label is a number: an IP address, not a name.
    #[error("DNS name reads as an IP address")]
    Address,
}

fn check_label(label: &str) -> Result<(), ParseDnsNameError> {
    if label.is_empty() || label.len() > 63 {
        return Err(ParseDnsNameError::LabelLength { len: label.len() });
    }
    if label.contains('*') {
        return Err(ParseDnsNameError::Wildcard);
    }
    if let Some(found) = label.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '-')) {
        return Err(ParseDnsNameError::Character { found });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(ParseDnsNameError::Character { found: '-' });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_for_certificates_are_strict() {
        for text in [
            "a",
            "a.b",
            "xn--bcher-kva.example",
            "*.example.org",
            "web-1.example.org",
        ] {
            assert_eq!(text.parse::<DnsName>().unwrap().as_str(), text);
        }
        for text in [
            "", ".", "a.", ".a", "a..b", "*", "*.*", "*.org", "a.*.b", "w*.a.b", "A.b", "a_b", "1.2.3.4",
            "ü.de", "-a.b", "a b",
        ] {
            assert!(text.parse::<DnsName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let name = |text: &str| text.parse::<DnsName>().unwrap();
        assert!(name("*.example.org").covers(&name("a.example.org")));
        assert!(!name("*.example.org").covers(&name("a.b.example.org")));
        assert!(!name("a.example.org").covers(&name("b.example.org")));
    }
}
