//! The name that tokens bear, and under which hosts it is served.

use http::Uri;

use super::answer::KEYS;

/// An issuer of tokens, as a URL, and the hosts that serve its documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Issuer {
    url: String,
    keys_url: String,
    path: String,
    hosts: Vec<String>,
}

/// Not an issuer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "an issuer is an https URL with a host, without user, query, fragment or a slash at its end (OpenID Connect Discovery 1.0, 3)"
)]
pub struct IssuerError;

impl Issuer {
    /// The issuer with this URL. Its own host serves it, and each of `more_hosts`; `keys_url` is where its keys are said to be, by default below the issuer.
    pub fn new(url: &str, more_hosts: Vec<String>, keys_url: Option<String>) -> Result<Self, IssuerError> {
        let uri: Uri = url.parse().map_err(|_| IssuerError)?;
        let authority = uri.authority().ok_or(IssuerError)?;
        let is_plain = uri.scheme_str() == Some("https")
            && uri.query().is_none()
            && !authority.as_str().contains('@')
            && !url.contains('#')
            && !url.ends_with('/');
        if !is_plain {
            return Err(IssuerError);
        }
        let own = authority.host().to_owned();
        let hosts = std::iter::once(own)
            .chain(more_hosts)
            .map(|host| host.to_ascii_lowercase());
        Ok(Self {
            keys_url: keys_url.unwrap_or_else(|| format!("{url}{KEYS}")),
            path: uri.path().trim_end_matches('/').to_owned(),
            hosts: hosts.collect(),
            url: url.to_owned(),
        })
    }

    /// Its URL, as the `iss` of tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> &str {
        &self.keys_url
    }

    /// Whether this value of a Host header, with or without a port, is served.
    pub(crate) fn is_host(&self, named: &str) -> bool {
        let host = match named.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => named,
        };
        self.hosts.iter().any(|served| served.eq_ignore_ascii_case(host))
    }

    /// The part of `path` below the issuer's own.
    pub(super) fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.path).filter(|rest| rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_a_plain_https_url() {
        for url in ["https://a.org", "https://a.org:8443/x/y", "https://[::1]/x"] {
            assert_eq!(Issuer::new(url, Vec::new(), None).unwrap().url(), url);
        }
        for url in [
            "",
            "a.org",
            "http://a.org",
            "https://a.org/",
            "https://u@a.org",
            "https://a.org?x",
            "https://a.org#x",
            "https://",
            "spiffe://a.org",
        ] {
            assert_eq!(Issuer::new(url, Vec::new(), None), Err(IssuerError), "{url}");
        }
    }

    #[test]
    fn a_host_counts_with_and_without_its_port() {
        let issuer = Issuer::new("https://[::1]:8443", vec!["B.org".into()], None).unwrap();
        for host in ["[::1]", "[::1]:8443", "b.org", "B.ORG:1"] {
            assert!(issuer.is_host(host), "{host}");
        }
        for host in ["", "::1", "a.org", "b.org.evil", "b.org:x"] {
            assert!(!issuer.is_host(host), "{host}");
        }
    }
}
