//! Name constraints (RFC 5280 4.2.1.10), URI ones included: a signing certificate may bind its issuer to a trust domain (XS 4.2).

use super::extensions::{AlternativeNames, ascii, whole};
use crate::der::{self, NotDer, Reader};

/// More subtrees than this are refused: each is compared with each name.
const MAX_SUBTREES: usize = 256;

/// What a CA certificate allows below itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct NameConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Subtree {
    Dns(String),
    Uri(String),
    Ip(Vec<u8>),
    /// Names that we do not evaluate: mail addresses, directory names, the rest.
    Other,
}

/// One name that a constraint may speak of.
#[derive(Clone, Copy)]
enum Name<'a> {
    Dns(&'a str),
    Uri(&'a str),
    Ip(&'a [u8]),
    Other,
}

impl NameConstraints {
    pub(super) fn parse(value: &[u8]) -> Result<Self, NotDer> {
        let mut fields = Reader::new(whole(value, der::SEQUENCE)?);
        let permitted = subtrees(fields.read_optional(0xa0)?)?;
        let excluded = subtrees(fields.read_optional(0xa1)?)?;
        fields.finish()?;
        // RFC 5280 4.2.1.10: an empty extension must not be issued; it constrains nothing, so it can't be what was meant.
        if permitted.is_empty() && excluded.is_empty() {
            return Err(NotDer);
        }
        Ok(Self { permitted, excluded })
    }

    /// Whether any of it is about URIs.
    pub(super) fn speaks_of_uris(&self) -> bool {
        self.permitted
            .iter()
            .chain(&self.excluded)
            .any(|subtree| matches!(subtree, Subtree::Uri(_)))
    }

    /// Whether a certificate with these names may stand below. `subject_is_empty` matters because the subject is a
    /// directory name like any other.
    ///
    /// What is not evaluated is refused: a constraint on a kind of name that we cannot compare, when a name of that
    /// kind is there.
    pub(super) fn allow(&self, names: Option<&AlternativeNames>, subject_is_empty: bool) -> bool {
        let others = (!subject_is_empty || names.is_some_and(|names| names.others)).then_some(Name::Other);
        let listed = names.into_iter().flat_map(|names| {
            let dns = names.dns.iter().map(|name| Name::Dns(name));
            let uris = names.uris.iter().map(|name| Name::Uri(name));
            dns.chain(uris)
                .chain(names.ips.iter().map(|address| Name::Ip(address)))
        });
        listed.chain(others).all(|name| self.allows(name))
    }

    fn allows(&self, name: Name<'_>) -> bool {
        if self
            .excluded
            .iter()
            .any(|subtree| subtree.same_kind(name) && !subtree.surely_excludes_not(name))
        {
            return false;
        }
        let mut of_its_kind = self
            .permitted
            .iter()
            .filter(|subtree| subtree.same_kind(name))
            .peekable();
        of_its_kind.peek().is_none() || of_its_kind.any(|subtree| subtree.contains(name))
    }
}

impl Subtree {
    fn same_kind(&self, name: Name<'_>) -> bool {
        matches!(
            (self, name),
            (Self::Dns(_), Name::Dns(_))
                | (Self::Uri(_), Name::Uri(_))
                | (Self::Ip(_), Name::Ip(_))
                | (Self::Other, Name::Other)
        )
    }

    fn contains(&self, name: Name<'_>) -> bool {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => dns_within(name, base),
            (Self::Uri(base), Name::Uri(uri)) => host_of(uri).is_some_and(|host| host_within(host, base)),
            (Self::Ip(base), Name::Ip(address)) => ip_within(address, base),
            _ => false,
        }
    }

    /// Whether `name` is certainly outside an excluded subtree. In doubt it is not: a URI without a host, a wildcard
    /// that covers an excluded name, a kind of name that is not evaluated.
    fn surely_excludes_not(&self, name: Name<'_>) -> bool {
        match (self, name) {
            (Self::Dns(base), Name::Dns(name)) => {
                let covers = name
                    .strip_prefix("*.")
                    .is_some_and(|suffix| dns_within(base, suffix));
                !dns_within(name, base) && !covers
            }
            (Self::Uri(base), Name::Uri(uri)) => host_of(uri).is_some_and(|host| !host_within(host, base)),
            (Self::Ip(base), Name::Ip(address)) => !ip_within(address, base),
            _ => false,
        }
    }
}

fn subtrees(content: Option<&[u8]>) -> Result<Vec<Subtree>, NotDer> {
    let mut list = Reader::new(content.unwrap_or_default());
    let mut found = Vec::new();
    while !list.is_empty() {
        let mut fields = Reader::new(list.read(der::SEQUENCE)?);
        let subtree = match fields.read_any()? {
            (0x82, base) => Subtree::Dns(ascii(base)?),
            (0x86, base) => Subtree::Uri(ascii(base)?),
            (0x87, base) if matches!(base.len(), 8 | 32) && is_mask(&base[base.len() / 2..]) => {
                Subtree::Ip(base.to_vec())
            }
            (0x87, _) => return Err(NotDer),
            _ => Subtree::Other,
        };
        // `minimum` is 0 and `maximum` absent (RFC 5280 4.2.1.10), so in DER neither is there.
        fields.finish()?;
        found.push(subtree);
        if found.len() > MAX_SUBTREES {
            return Err(NotDer);
        }
    }
    // A list that is there has at least one subtree in it.
    if content.is_some() && found.is_empty() {
        Err(NotDer)
    } else {
        Ok(found)
    }
}

/// RFC 5280 4.2.1.10: a mask in the style of RFC 4632, ones in front and zeros behind.
fn is_mask(bytes: &[u8]) -> bool {
    let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
    let leading = bytes.iter().take_while(|byte| **byte == 0xff).count() * 8;
    let partial = bytes.get(leading / 8).map_or(0, |byte| byte.leading_ones());
    usize::try_from(ones).is_ok_and(|ones| ones == leading + partial as usize)
}

/// The host of `scheme://[user@]host[:port]/…`; none when there is no authority or the host is an IPv6 literal.
fn host_of(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty() && !host.starts_with('[')).then_some(host)
}

/// RFC 5280 4.2.1.10 for URIs: a host stands for itself alone, `.domain` for everything below it.
fn host_within(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => below(host, domain),
        None => base.is_empty() || host.eq_ignore_ascii_case(base),
    }
}

/// RFC 5280 4.2.1.10 for DNS names: a name stands for itself and everything below it.
fn dns_within(name: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => below(name, domain),
        None => base.is_empty() || name.eq_ignore_ascii_case(base) || below(name, base),
    }
}

fn below(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.as_bytes(), domain.as_bytes());
    name.len() > domain.len() + 1
        && name[name.len() - domain.len()..].eq_ignore_ascii_case(domain)
        && name[name.len() - domain.len() - 1] == b'.'
}

fn ip_within(address: &[u8], base: &[u8]) -> bool {
    let (network, mask) = base.split_at(base.len() / 2);
    address.len() == network.len()
        && address
            .iter()
            .zip(network)
            .zip(mask)
            .all(|((byte, network), mask)| byte & mask == network & mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uris(list: &[&str]) -> AlternativeNames {
        AlternativeNames {
            uris: list.iter().map(|uri| (*uri).to_owned()).collect(),
            ..AlternativeNames::default()
        }
    }

    fn dns(list: &[&str]) -> AlternativeNames {
        AlternativeNames {
            dns: list.iter().map(|name| (*name).to_owned()).collect(),
            ..AlternativeNames::default()
        }
    }

    fn permitted(subtree: Subtree) -> NameConstraints {
        NameConstraints {
            permitted: vec![subtree],
            excluded: Vec::new(),
        }
    }

    fn excluded(subtree: Subtree) -> NameConstraints {
        NameConstraints {
            permitted: Vec::new(),
            excluded: vec![subtree],
        }
    }

    #[test]
    fn a_uri_constraint_binds_the_trust_domain() {
        let constraints = permitted(Subtree::Uri("example.org".into()));
        assert!(constraints.allow(Some(&uris(&["spiffe://example.org/w"])), true));
        for other in [
            "spiffe://other.example/w",
            "spiffe://a.example.org/w",
            "spiffe://xexample.org/w",
            "urn:x",
        ] {
            assert!(!constraints.allow(Some(&uris(&[other])), true), "{other}");
        }
        let below = permitted(Subtree::Uri(".example.org".into()));
        assert!(below.allow(Some(&uris(&["spiffe://a.example.org/w"])), true));
        assert!(!below.allow(Some(&uris(&["spiffe://example.org/w"])), true));
    }

    #[test]
    fn an_excluded_uri_is_refused_and_one_that_cannot_be_compared_too() {
        let constraints = excluded(Subtree::Uri("example.org".into()));
        assert!(!constraints.allow(Some(&uris(&["spiffe://example.org/w"])), true));
        assert!(!constraints.allow(Some(&uris(&["urn:x"])), true));
        assert!(constraints.allow(Some(&uris(&["spiffe://other.example/w"])), true));
    }

    #[test]
    fn constraints_bind_only_names_of_their_kind() {
        let constraints = permitted(Subtree::Dns("example.org".into()));
        assert!(constraints.allow(Some(&uris(&["spiffe://other.example/w"])), true));
        assert!(constraints.allow(None, true));
        assert!(constraints.allow(Some(&dns(&["example.org", "a.b.example.org"])), true));
        assert!(!constraints.allow(Some(&dns(&["example.org", "example.com"])), true));
    }

    #[test]
    fn a_wildcard_that_covers_an_excluded_name_is_refused() {
        let constraints = excluded(Subtree::Dns("secret.example.org".into()));
        assert!(!constraints.allow(Some(&dns(&["*.example.org"])), true));
        assert!(constraints.allow(Some(&dns(&["www.example.org"])), true));
    }

    #[test]
    fn addresses_are_compared_under_the_mask() {
        let constraints = permitted(Subtree::Ip(vec![10, 0, 0, 0, 255, 0, 0, 0]));
        let ip = |address: &[u8]| AlternativeNames {
            ips: vec![address.to_vec()],
            ..AlternativeNames::default()
        };
        assert!(constraints.allow(Some(&ip(&[10, 1, 2, 3])), true));
        assert!(!constraints.allow(Some(&ip(&[11, 1, 2, 3])), true));
        assert!(!constraints.allow(Some(&ip(&[0; 16])), true));
    }

    #[test]
    fn a_mask_has_its_ones_in_front() {
        for good in [
            [0, 0, 0, 0],
            [255, 0, 0, 0],
            [255, 240, 0, 0],
            [255, 255, 255, 255],
        ] {
            assert!(is_mask(&good), "{good:?}");
        }
        for bad in [[255, 0, 255, 0], [0, 255, 0, 0], [255, 241, 0, 0], [1, 0, 0, 0]] {
            assert!(!is_mask(&bad), "{bad:?}");
        }
    }

    #[test]
    fn a_constraint_on_names_that_are_not_evaluated_refuses_whoever_has_one() {
        for constraints in [permitted(Subtree::Other), excluded(Subtree::Other)] {
            assert!(constraints.allow(None, true));
            assert!(!constraints.allow(None, false), "the subject is a directory name");
        }
    }
}
