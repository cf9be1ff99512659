//! What a door of the Web PKI shows.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::TLS_ALPN;

/// The certificate that the next handshake shows, and one that proves a name to a certificate authority that asks for it. Clones share it.
#[derive(Clone, Default)]
pub(super) struct WebCertificate {
    shown: Arc<ArcSwapOption<CertifiedKey>>,
    challenge: Arc<ArcSwapOption<CertifiedKey>>,
}

impl WebCertificate {
    pub(super) fn show(&self, certificate: CertifiedKey) {
        self.shown.store(Some(Arc::new(certificate)));
    }

    pub(super) fn prove(&self, challenge: Option<CertifiedKey>) {
        self.challenge.store(challenge.map(Arc::new));
    }
}

impl ResolvesServerCert for WebCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let proves = hello
            .alpn()
            .is_some_and(|mut offered| offered.all(|protocol| protocol == TLS_ALPN));
        if proves {
            self.challenge.load_full()
        } else {
            self.shown.load_full()
        }
    }
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebCertificate(..)")
    }
}
