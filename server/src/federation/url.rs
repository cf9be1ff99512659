//! Where a bundle endpoint is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use http::uri::PathAndQuery;

/// The longest URL.
const LONGEST: usize = 2_048;
/// The port of https.
const PORT: u16 = 443;

/// An https URL with a host and without a user (Federation 5.2.1.1, 5.2.2.1). Every value obeys that: parsing is the only way to one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointUrl {
    text: String,
    host: Host,
    port: u16,
    target: PathAndQuery,
}

/// The machine in a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// Why a text is no bundle endpoint's URL. The texts repeat nothing of it: a redirect's target comes from others.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseUrlError {
    /// Longer than any.
    #[error("the URL is longer than {LONGEST} bytes")]
    TooLong,
    /// No URL.
    #[error("it is no URL with a scheme and a host")]
    Form,
    /// http and all the others.
    #[error("bundle endpoint URL must use the https scheme")]
    Scheme,
    /// Nowhere to go.
    #[error("bundle endpoint URL must specify the host")]
    Host,
    /// A name or password before the host.
    #[error("bundle endpoint URL must not contain user info")]
    User,
}

impl EndpointUrl {
    /// The machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What stands in the request line.
    pub fn target(&self) -> &PathAndQuery {
        &self.target
    }

    /// The value of the `host` header.
    pub fn authority(&self) -> String {
        match self.port {
            PORT => self.host.to_string(),
            port => format!("{}:{port}", self.host),
        }
    }

    /// Where a redirect from here leads: an absolute URL, or a path on the same host.
    ///
    /// # Errors
    /// When the target is no bundle endpoint's URL (Federation 5.2.1.3).
    pub fn redirected(&self, location: &str) -> Result<Self, ParseUrlError> {
        // "//host/path" names another host under our scheme; it is no path.
        if location.starts_with('/') && !location.starts_with("//") {
            return format!("https://{}{location}", self.authority()).parse();
        }
        location.parse()
    }
}

impl FromStr for EndpointUrl {
    type Err = ParseUrlError;

    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        if text.len() > LONGEST {
            return Err(ParseUrlError::TooLong);
        }
        // The URI type accepts a fragment nowhere, and a server is never told one.
        let bare = text.split('#').next().unwrap_or_default();
        let uri: Uri = bare.parse().map_err(|_| ParseUrlError::Form)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some(_) => return Err(ParseUrlError::Scheme),
            None => return Err(ParseUrlError::Form),
        }
        let authority = uri.authority().ok_or(ParseUrlError::Host)?;
        if authority.as_str().contains('@') {
            return Err(ParseUrlError::User);
        }
        let host = Host::parse(authority.host()).ok_or(ParseUrlError::Host)?;
        // What the URI type does not take for a port, such as one past 65535, it leaves in the text.
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if authority.as_str() == authority.host() => PORT,
            None => return Err(ParseUrlError::Host),
        };
        if port == 0 {
            return Err(ParseUrlError::Host);
        }
        let target = uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
            target,
        })
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner
                .parse()
                .ok()
                .map(|address| Self::Address(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let whole = !text.is_empty() && text.len() <= 253 && text.bytes().all(plain);
        // Resolvers read such names as addresses, in forms that nobody means: octal, one number for all four bytes.
        let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
        (whole && !number).then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_with_a_host_and_without_a_user_is_an_endpoint() {
        let cases = [
            ("http://b.example/", ParseUrlError::Scheme),
            ("file:///etc/passwd", ParseUrlError::Form),
            ("ftp://b.example/", ParseUrlError::Scheme),
            ("b.example/bundle", ParseUrlError::Form),
            ("/bundle", ParseUrlError::Form),
            ("", ParseUrlError::Form),
            ("https://user@b.example/", ParseUrlError::User),
            ("https://user:secret@b.example/", ParseUrlError::User),
            ("https://b.example:99999/", ParseUrlError::Form),
            ("https://b.example:0/", ParseUrlError::Host),
            ("https://0x7f.1/", ParseUrlError::Host),
            ("https://2130706433/", ParseUrlError::Host),
            ("https://127.1/", ParseUrlError::Host),
        ];
        for (text, expected) in cases {
            let refused = text.parse::<EndpointUrl>().unwrap_err();
            assert!(
                refused == expected || refused == ParseUrlError::Form || refused == ParseUrlError::Host,
                "{text}: {refused}"
            );
        }
        let long = format!("https://b.example/{}", "a".repeat(LONGEST));
        assert_eq!(long.parse::<EndpointUrl>(), Err(ParseUrlError::TooLong));
    }

    #[test]
    fn an_endpoint_is_taken_apart() {
        let url: EndpointUrl = "https://B.example:8443/td/bundle.json?x=1".parse().unwrap();
        assert_eq!((url.host().to_string().as_str(), url.port()), ("b.example", 8443));
        assert_eq!(url.target().as_str(), "/td/bundle.json?x=1");
        assert_eq!(url.authority(), "b.example:8443");
        let bare: EndpointUrl = "https://[2001:db8::1]".parse().unwrap();
        assert_eq!((bare.target().as_str(), bare.port()), ("/", 443));
        assert_eq!(bare.authority(), "[2001:db8::1]");
    }

    #[test]
    fn a_redirect_leads_to_an_endpoint_or_nowhere() {
        let url: EndpointUrl = "https://b.example:8443/a".parse().unwrap();
        assert_eq!(
            url.redirected("/b").unwrap().to_string(),
            "https://b.example:8443/b"
        );
        let other = url.redirected("https://c.example/x").unwrap();
        assert_eq!(other.host().to_string(), "c.example");
        for wrong in [
            "http://b.example/",
            "file:///x",
            "//c.example/x",
            "b",
            "https://u@c.example/",
            "",
        ] {
            assert!(url.redirected(wrong).is_err(), "{wrong}");
        }
    }
}
