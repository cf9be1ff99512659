//! Who is at the other end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use muster_pki::{
    tls::peer_svid,
    x509::{ParseSvidError, X509Svid},
};
use rustls::pki_types::CertificateDer;

/// Who is at the other end of a [`TlsConn`](crate::TlsConn). Clones are cheap.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// Where it connected from.
    pub address: SocketAddr,
    /// The chain that it presented and that the configuration's verifier accepted, leaf first; empty if it gave none.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Read once for all requests of the connection.
    svid: Arc<Result<Option<Arc<X509Svid>>, ParseSvidError>>,
}

impl TlsPeer {
    pub(super) fn new(address: SocketAddr, certificates: &[CertificateDer<'_>]) -> Self {
        let owned = |certificate: &CertificateDer<'_>| certificate.clone().into_owned();
        let certificates: Arc<[_]> = certificates.iter().map(owned).collect();
        let svid = peer_svid(Some(&certificates)).map(|svid| svid.map(Arc::new));
        Self {
            address,
            certificates,
            svid: Arc::new(svid),
        }
    }

    /// The X.509-SVID that it presented, if it presented anything.
    ///
    /// # Errors
    /// What it presented is none; never so after a handshake with a configuration for SPIFFE.
    pub fn svid(&self) -> Result<Option<&Arc<X509Svid>>, &ParseSvidError> {
        self.svid.as_ref().as_ref().map(Option::as_ref)
    }

    /// How long its certificate is still valid; none if it has no SVID.
    pub(super) fn valid_for(&self) -> Option<Duration> {
        let ends = self.svid().ok()??.not_after();
        #[expect(
            clippy::disallowed_methods,
            reason = "the certificate was judged by the system's clock in the handshake, a moment ago"
        )]
        let now = std::time::SystemTime::now();
        let ends = std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(ends.as_secs()).unwrap_or(0));
        Some(ends.duration_since(now).unwrap_or_default())
    }
}
