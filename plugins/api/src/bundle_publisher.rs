//! Where a trust bundle is laid for those who do not ask the server.

use async_trait::async_trait;
use muster_pki::bundle::Bundle;

/// Lays the bundle somewhere, whole or not at all.
#[async_trait]
pub trait BundlePublisher: Send + Sync {
    /// The plugin's name in configuration, logs and metrics.
    fn name(&self) -> &'static str;

    /// Makes `bundle` what readers find from now on. The same bundle may be published again; it is no error and changes nothing for readers.
    async fn publish(&self, bundle: &Bundle) -> Result<(), PublishError>;
}

/// How a bundle is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BundleForm {
    /// The SPIFFE bundle document (Trust Domain and Bundle 4): all that a peer needs.
    Spiffe,
    /// The JWK Set of the keys for tokens alone, for whoever takes JWTs and knows nothing of SPIFFE.
    Jwks,
    /// The X.509 authorities alone, for whoever reads PEM.
    Pem,
}

/// Why a bundle was not published. What readers find is what they found before.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// What is configured can't be used; a person must act.
    #[error("{what}")]
    Unusable {
        /// What, and why not.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Whoever keeps it refused.
    #[error("{place} refused the bundle: {reason}")]
    Refused {
        /// Where.
        place: String,
        /// What it said.
        reason: String,
    },
    /// It was not reached, or failed; later it may work.
    #[error("{what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BundleForm {
    /// `bundle` in this form.
    pub fn write(self, bundle: &Bundle) -> String {
        match self {
            Self::Spiffe => bundle.to_document(),
            Self::Jwks => bundle.jwks_for_workload(),
            Self::Pem => bundle.x509_pem(),
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Spiffe | Self::Jwks => "application/json",
            Self::Pem => "application/x-pem-file",
        }
    }
}
