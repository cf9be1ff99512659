use std::fmt;

/// A door that shows a certificate of the Web PKI. Each has an account and a certificate of its own: what one was promised for its name says nothing of another's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// The bundle endpoint.
    BundleEndpoint,
    /// OpenID Connect discovery.
    Discovery,
}

impl Door {
    /// The file in the data folder that keeps what ACME gave it.
    pub(super) fn acme_file(self) -> &'static str {
        match self {
            Self::BundleEndpoint => "acme",
            Self::Discovery => "acme-oidc",
        }
    }

    /// What that file is sealed for.
    pub(super) fn acme_purpose(self) -> &'static str {
        match self {
            Self::BundleEndpoint => "server/acme",
            Self::Discovery => "server/acme-oidc",
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BundleEndpoint => "bundle endpoint",
            Self::Discovery => "OIDC discovery",
        })
    }
}
