//! A certificate of the Web PKI, got and renewed by ACME (RFC 8555) with the tls-alpn-01 challenge (RFC 8737): it needs no other port than the door's own, which the
//! certificate authority reaches as 443.

mod client;
mod order;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::UnixTime;
use muster_runtime::{Backoff, Clock};
use muster_seal::{Purpose, SealedFile, SealedFileError};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use zeroize::{Zeroize, Zeroizing};

use super::certificate::WebCertificate;
use super::{Door, WebRoots, WebRootsError, WebState};
use crate::federation::{EndpointUrl, FetchError};

/// By this protocol name a certificate authority asks for the proof.
pub(super) const TLS_ALPN: &[u8] = b"acme-tls/1";
/// The waits between two tries: the first, and the longest. Certificate authorities count failures by the hour.
const WAITS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(6 * 3_600));

/// Where certificates come from, and for which name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AcmeConfig {
    /// The directory of the certificate authority.
    pub directory: EndpointUrl,
    /// The DNS name of the door.
    pub domain: String,
    /// Whom the certificate authority may write to.
    pub email: Option<String>,
    /// The authorities by which the directory itself is verified; none for the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why ACME can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// What is kept can't be read.
    #[error("reading what is kept of it")]
    Kept(#[from] SealedFileError),
    /// The authorities.
    #[error("the authorities by which the directory is verified")]
    Roots(#[from] WebRootsError),
}

/// Why there is no new certificate. It is tried again.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    #[error("the ACME directory")]
    Acme(#[from] instant_acme::Error),
    #[error("the certificate authority offers no tls-alpn-01 challenge for the name")]
    NoChallenge,
    #[error("the order became {0}")]
    Order(String),
    #[error("making the proof")]
    Proof(#[from] rcgen::Error),
    #[error("using the proof's key")]
    Tls(#[from] rustls::Error),
    #[error("the certificate that came can't be used")]
    Unusable,
    #[error("keeping the certificate")]
    Keep(#[from] SealedFileError),
}

/// Gets a certificate and keeps it fresh.
pub(super) struct Acme {
    config: AcmeConfig,
    door: Door,
    http: client::Http,
    file: SealedFile,
    kept: Kept,
    shown: WebCertificate,
}

/// What survives a restart, sealed.
#[derive(Default, Deserialize, Serialize)]
struct Kept {
    /// For which name and from whom; another configuration begins anew.
    domain: String,
    directory: String,
    /// The account, as the library writes it.
    account: Option<String>,
    /// The chain and its key in PEM.
    chain: Option<String>,
    key: Option<String>,
}

impl Acme {
    /// Reads what is kept, and shows it as long as it is valid.
    pub(super) fn open(
        config: AcmeConfig,
        door: Door,
        state: &WebState<'_>,
        shown: WebCertificate,
    ) -> Result<Self, AcmeError> {
        let purpose = Purpose::new(door.acme_purpose(), state.trust_domain.as_str());
        let path = state.data_dir.join(door.acme_file());
        let file = SealedFile::new(path, purpose, Arc::clone(state.seal));
        let kept: Option<Kept> = file.read()?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let ours =
            |kept: &Kept| kept.domain == config.domain && kept.directory == config.directory.to_string();
        let kept = kept.filter(ours).unwrap_or_else(|| Kept {
            domain: config.domain.clone(),
            directory: config.directory.to_string(),
            account: None,
            chain: None,
            key: None,
        });
        if let Some((certificate, _)) = kept.certificate() {
            shown.show(certificate);
        }
        let roots = WebRoots::open(config.ca_file.as_deref())?;
        let http = client::Http::new(state.addresses, roots, state.trust_domain.clone());
        Ok(Self {
            config,
            door,
            http,
            file,
            kept,
            shown,
        })
    }

    /// Renews when a third of the life is left.
    pub(super) async fn keep(mut self, clock: &dyn Clock) -> Infallible {
        let (first, longest) = WAITS;
        let mut backoff = Backoff::new(first, longest);
        loop {
            let now = clock.now();
            let renew_at = self
                .kept
                .certificate()
                .map_or(now, |(_, validity)| validity.renew_at());
            if now < renew_at {
                clock.sleep_until(renew_at).await;
                continue;
            }
            match self.renew().await {
                Ok(()) => {
                    backoff.reset();
                    info!(door = %self.door, domain = self.config.domain, "the door shows a new certificate");
                }
                Err(error) => {
                    let wait = backoff.next_wait();
                    let why = FetchError::story(&error);
                    // I11: what is shown stays.
                    match self.kept.certificate() {
                        Some((_, validity)) if now < validity.not_after => {
                            warn!(door = %self.door, domain = self.config.domain, why, retry_in = ?wait, "the door's certificate was not renewed");
                        }
                        _ => {
                            error!(door = %self.door, domain = self.config.domain, why, retry_in = ?wait, "the door has no valid certificate");
                        }
                    }
                    clock.sleep_until(clock.now().saturating_add(wait)).await;
                }
            }
        }
    }

    async fn renew(&mut self) -> Result<(), OrderError> {
        let (chain, key) = self.order().await?;
        self.kept.chain = Some(chain);
        self.kept.key.zeroize();
        self.kept.key = Some(key);
        let (certificate, _) = self.kept.certificate().ok_or(OrderError::Unusable)?;
        self.write()?;
        self.shown.show(certificate);
        Ok(())
    }

    fn write(&self) -> Result<(), SealedFileError> {
        // A value that was read from JSON is written as JSON.
        let bytes = Zeroizing::new(serde_json::to_vec(&self.kept).unwrap_or_default());
        self.file.write(&bytes)
    }
}

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Validity {
    not_before: UnixTime,
    not_after: UnixTime,
}

impl Validity {
    fn renew_at(self) -> UnixTime {
        self.not_after
            .saturating_sub(self.not_after.since(self.not_before) / 3)
    }
}

impl Kept {
    fn certificate(&self) -> Option<(CertifiedKey, Validity)> {
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(self.chain.as_ref()?.as_bytes()).collect();
        let chain = chain.ok()?;
        let validity = validity(chain.first()?)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_ref()?.as_bytes()).ok()?;
        let certified = CertifiedKey::new(chain, any_supported_type(&key).ok()?);
        certified.keys_match().ok()?;
        Some((certified, validity))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.account.zeroize();
        self.key.zeroize();
    }
}

/// Certificates of the Web PKI keep other rules than ours: only their dates are read.
fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let time = |at: x509_parser::time::ASN1Time| UnixTime::from_secs(at.timestamp());
    Some(Validity {
        not_before: time(parsed.validity().not_before),
        not_after: time(parsed.validity().not_after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let at = UnixTime::from_secs;
        let validity = Validity {
            not_before: at(0),
            not_after: at(90),
        };
        assert_eq!(validity.renew_at(), at(60));
    }

    #[test]
    fn what_is_kept_is_shown_only_when_key_and_certificate_belong_together() {
        let make = || rcgen::generate_simple_self_signed(vec!["bundles.example.org".to_owned()]).unwrap();
        let (one, other) = (make(), make());
        let kept = |key: String| {
            let mut kept = Kept::default();
            kept.chain = Some(one.cert.pem());
            kept.key = Some(key);
            kept
        };
        assert!(kept(one.signing_key.serialize_pem()).certificate().is_some());
        assert!(kept(other.signing_key.serialize_pem()).certificate().is_none());
        assert!(Kept::default().certificate().is_none());
    }
}
