//! One fetch of a bundle document from a bundle endpoint.
//!
//! URL → addresses, each judged → connection to the very address that was judged → TLS by the profile → GET → document, or a redirect and once more.
//!
//! Not trusted: everything that answers. Bounded: the time in all, the bytes of head and body, the redirects. Nothing of a body gets into an error.

mod connect;
mod exchange;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use muster_identity::{SpiffeId, TrustDomain};
use muster_pki::bundle::Bundle;

use super::address::{AddressRule, ForbiddenAddress};
use super::url::{EndpointUrl, ParseUrlError};
use crate::web::WebRoots;
use exchange::Answer;

/// How long a fetch may take in all, beside what the endpoint may keep us waiting.
const LONGEST: Duration = Duration::from_secs(30);
/// How many redirects are followed.
const REDIRECTS: usize = 3;
/// The largest document.
pub(crate) const LARGEST: usize = 4 << 20;

/// Fetches bundle documents.
#[derive(Clone, Debug)]
pub struct Fetcher {
    rule: AddressRule,
    roots: WebRoots,
    own: TrustDomain,
    longest: Duration,
}

/// How the endpoint is authenticated, and every target of a redirect with it.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// By the Web PKI and the host's name.
    Web,
    /// By a SPIFFE ID, verified with the bundle of its trust domain as it is held now.
    Spiffe {
        /// Who must answer.
        id: SpiffeId,
        /// By whose word.
        bundle: Arc<Bundle>,
    },
}

/// What the endpoint may do before it answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Patience {
    /// The tag of the document that is held.
    pub tag: Option<String>,
    /// How long it may wait for another one; without a tag it has nothing to wait for, and says whether it could.
    pub hold: Option<Duration>,
}

/// What came.
#[derive(Debug)]
pub enum Fetched {
    /// A document.
    Document {
        /// Its bytes.
        body: Bytes,
        /// Its tag, if the endpoint gives tags.
        tag: Option<String>,
        /// Whether the endpoint would have waited.
        pushes: bool,
    },
    /// Nothing new while it waited.
    Unchanged,
}

/// Why no document came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The name leads nowhere.
    #[error("looking up {host}")]
    Resolve {
        /// Which.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// It leads where no endpoint is.
    #[error("{0}; a peer on this machine needs federation.allow_loopback")]
    Address(#[from] ForbiddenAddress),
    /// Nobody answers.
    #[error("connecting to {host}")]
    Connect {
        /// Whom.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// Who answers is not who should, or speaks no TLS.
    #[error("the TLS handshake with {host}")]
    Tls {
        /// With whom.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// The own parts of TLS.
    #[error("setting up TLS")]
    Setup(#[from] rustls::Error),
    /// It wants to know who asks.
    #[error(
        "the endpoint asks for a client certificate, which no bundle endpoint may (Federation 5.2.1.3); nothing was sent"
    )]
    AsksForCertificate,
    /// Whoever answered was let in by what may not count any more.
    #[error("the certificate authorities of the Web PKI changed while the endpoint was asked")]
    Distrusted,
    /// No HTTP.
    #[error("the HTTP exchange")]
    Http(#[from] hyper::Error),
    /// An answer without a document.
    #[error("the endpoint answered with status {}", status(*.0))]
    Status(u16),
    /// A redirect to nowhere.
    #[error("the endpoint redirects without saying where to")]
    NoTarget,
    /// A redirect to what is no endpoint.
    #[error("the endpoint redirects to what is no bundle endpoint (Federation 5.2.1.3)")]
    Target(#[from] ParseUrlError),
    /// One after the other.
    #[error("the endpoint redirects more than {REDIRECTS} times")]
    Redirects,
    /// Compressed, though we did not ask for it.
    #[error("the answer is encoded, which was not asked for")]
    Encoded,
    /// Larger than any bundle.
    #[error("the answer is larger than 4 MiB")]
    TooLarge,
    /// Slower than anybody waits.
    #[error("the endpoint took longer than {} s", .0.as_secs())]
    Slow(Duration),
}

fn status(code: u16) -> String {
    match code {
        401 => "401: it asks for credentials, which no bundle endpoint may (Federation 5.2.1.3)".to_owned(),
        other => other.to_string(),
    }
}

impl FetchError {
    /// Whether whoever answered is of an authority that the bundle lacks.
    pub(super) fn is_unknown_authority(&self) -> bool {
        let Self::Tls { source, .. } = self else {
            return false;
        };
        let cause = source
            .get_ref()
            .and_then(|cause| cause.downcast_ref::<rustls::Error>());
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        cause == Some(&unknown)
    }

    /// The error and its causes on one line, for those who are not the log.
    pub fn story(error: &dyn Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

impl Fetcher {
    /// One that connects to what `rule` allows and verifies the Web PKI by `roots`. Endpoints that know our own trust domain may show it to their operators.
    pub fn new(rule: AddressRule, roots: impl Into<WebRoots>, own: TrustDomain) -> Self {
        Self {
            rule,
            roots: roots.into(),
            own,
            longest: LONGEST,
        }
    }

    /// Fetches the document at `url`. Redirects count for this fetch alone: the next one begins at `url` again (Federation 7.5.1).
    pub async fn fetch(
        &self,
        url: &EndpointUrl,
        authentication: &Authentication,
        patience: &Patience,
    ) -> Result<Fetched, FetchError> {
        let hold = patience.hold.filter(|_| patience.tag.is_some());
        let longest = self.longest + hold.unwrap_or_default();
        let fetching = async {
            match authentication {
                Authentication::Web => self.follow_by_the_web(url, patience).await,
                // Whether the bundle counts still, its owner says.
                Authentication::Spiffe { .. } => self.follow(url, authentication, patience).await,
            }
        };
        match tokio::time::timeout(longest, fetching).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Slow(longest)),
        }
    }

    /// Believes by the same authorities from the first connection to the last, and only if each of them counts still when the answer is there: who has the key
    /// of one that was thrown out may have kept us waiting until then.
    async fn follow_by_the_web(&self, url: &EndpointUrl, patience: &Patience) -> Result<Fetched, FetchError> {
        let used = self.roots.current().await;
        let fixed = Self {
            roots: Arc::clone(&used).into(),
            ..self.clone()
        };
        let fetched = fixed.follow(url, &Authentication::Web, patience).await?;
        match self.roots.still(&used).await {
            true => Ok(fetched),
            false => Err(FetchError::Distrusted),
        }
    }

    async fn follow(
        &self,
        url: &EndpointUrl,
        authentication: &Authentication,
        patience: &Patience,
    ) -> Result<Fetched, FetchError> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let stream = self.connect(&url, authentication).await?;
            match exchange::get(stream, &url, &self.own, patience).await? {
                Answer::Fetched(fetched) => return Ok(fetched),
                Answer::Moved(location) => url = url.redirected(&location)?,
            }
        }
        Err(FetchError::Redirects)
    }
}

#[cfg(test)]
mod tests;
