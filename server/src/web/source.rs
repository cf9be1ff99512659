//! Where a door has its certificate from, and what keeps it fresh.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_identity::TrustDomain;
use muster_runtime::Clock;
use muster_seal::Seal;
use rustls::{ServerConfig, ServerConnection};

use super::acme::{Acme, TLS_ALPN};
use super::certificate::WebCertificate;
use super::files::CertificateFiles;
use super::tls::web_tls;
use super::{AcmeConfig, AcmeError, CertificateFilesError, Door};
use crate::federation::AddressRule;

/// Where a certificate of the Web PKI comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WebSource {
    /// From files, read anew when they change.
    Files {
        /// The chain, leaf first, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
    },
    /// From an ACME directory (RFC 8555).
    Acme(AcmeConfig),
}

/// What of the server's state doors of the Web PKI may use.
#[derive(Clone, Copy)]
pub struct WebState<'a> {
    /// Whose server it is.
    pub trust_domain: &'a TrustDomain,
    /// Where state lies.
    pub data_dir: &'a Path,
    /// What seals secrets there.
    pub seal: &'a Arc<dyn Seal>,
    /// Where an ACME directory may be.
    pub addresses: AddressRule,
}

/// Why a door has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The files.
    #[error(transparent)]
    Files(#[from] CertificateFilesError),
    /// ACME.
    #[error("ACME")]
    Acme(#[from] AcmeError),
    /// TLS.
    #[error("setting up TLS")]
    Tls(#[from] rustls::Error),
}

/// TLS for one door, and what keeps its certificate fresh.
pub(crate) struct WebTls {
    config: Arc<ServerConfig>,
    keeper: Keeper,
}

enum Keeper {
    Files(CertificateFiles),
    Acme(Box<Acme>),
}

impl WebTls {
    /// Shows what is there. With files there must be something; with ACME the door may have to be open before there is anything.
    pub(crate) fn open(source: WebSource, door: Door, state: &WebState<'_>) -> Result<Self, WebError> {
        let shown = WebCertificate::default();
        let (keeper, more) = match source {
            WebSource::Files { certificate, key } => {
                let files = CertificateFiles::open(certificate, key, door, shown.clone())?;
                (Keeper::Files(files), None)
            }
            WebSource::Acme(config) => {
                let acme = Acme::open(config, door, state, shown.clone())?;
                (Keeper::Acme(Box::new(acme)), Some(TLS_ALPN))
            }
        };
        let config = web_tls(Arc::new(shown), more)?;
        Ok(Self { config, keeper })
    }

    /// For the door's handshakes.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Keeps the certificate fresh for as long as it is polled.
    pub(crate) async fn keep(self, clock: &dyn Clock) -> Infallible {
        match self.keeper {
            Keeper::Files(files) => files.follow().await,
            Keeper::Acme(acme) => acme.keep(clock).await,
        }
    }
}

/// Whether this handshake proved a name to a certificate authority: such a connection has nothing more to do (RFC 8737 3).
pub(crate) fn is_proof(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(TLS_ALPN)
}
