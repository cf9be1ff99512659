//! The SPIFFE verifier for rustls, for both sides.

use std::fmt;
use std::sync::Arc;

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
};
use rustls_pki_types::{CertificateDer, ServerName};

use super::{ClientAuth, SharedBundles};
use crate::x509::{PathError, VerifyError, X509BundleSource, X509Svid, verify_x509_svid};

/// Whom a door expects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerIds {
    /// This one and nobody else.
    Exactly(SpiffeId),
    /// Anybody of this trust domain.
    MemberOf(TrustDomain),
    /// Anybody for whose trust domain there is a bundle; what they may do is decided per call.
    Any,
}

impl PeerIds {
    /// Whether `id` is expected.
    #[must_use]
    pub fn expects(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exactly(one) => one == id,
            Self::MemberOf(trust_domain) => id.is_member_of(trust_domain),
            Self::Any => true,
        }
    }
}

/// Verifies a peer's chain as X509-SVID 5 says, against the bundles of this moment, and its SPIFFE ID against [`PeerIds`].
pub struct PeerVerifier<B> {
    bundles: SharedBundles<B>,
    expected: PeerIds,
    client_auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
    unknown: Option<NoteUnknown>,
}

/// Told of each peer whose authority is not in the bundle of its trust domain: there may be a newer bundle. Anybody can cause it.
pub type NoteUnknown = Arc<dyn Fn(&TrustDomain) + Send + Sync>;

impl<B: X509BundleSource> PeerVerifier<B> {
    /// A verifier over bundles that may be swapped at any time.
    #[must_use]
    pub fn new(
        bundles: SharedBundles<B>,
        expected: PeerIds,
        client_auth: ClientAuth,
        provider: &CryptoProvider,
    ) -> Self {
        Self {
            bundles,
            expected,
            client_auth,
            algorithms: provider.signature_verification_algorithms,
            unknown: None,
        }
    }

    /// The same, which says whose authorities it did not know.
    #[must_use]
    pub fn noting(mut self, unknown: NoteUnknown) -> Self {
        self.unknown = Some(unknown);
        self
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: rustls_pki_types::UnixTime,
    ) -> Result<(), Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(CertificateDer::from(leaf.as_ref()));
        chain.extend(
            intermediates
                .iter()
                .map(|certificate| CertificateDer::from(certificate.as_ref())),
        );
        let now = UnixTime::from_secs(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let peer = verify_x509_svid(&chain, &**self.bundles.load(), now);
        if let (Err(VerifyError::Path(PathError::UnknownAuthority)), Some(unknown)) = (&peer, &self.unknown)
            && let Ok(svid) = X509Svid::parse(vec![CertificateDer::from(leaf.as_ref()).into_owned()])
        {
            unknown(svid.id().trust_domain());
        }
        let peer = peer.map_err(alert)?;
        if self.expected.expects(peer.id()) {
            Ok(())
        } else {
            let unexpected = UnexpectedPeer {
                got: peer.id().clone(),
                expected: self.expected.clone(),
            };
            Err(CertificateError::Other(OtherError(Arc::new(unexpected))).into())
        }
    }
}

/// The error that makes rustls send the right alert and still tells our log which rule was broken.
fn alert(error: VerifyError) -> Error {
    let error = match error {
        VerifyError::Chain(_) => CertificateError::BadEncoding,
        VerifyError::Path(PathError::Expired(_)) => CertificateError::Expired,
        VerifyError::Path(PathError::NotYetValid(_)) => CertificateError::NotValidYet,
        VerifyError::Path(PathError::UnknownAuthority) | VerifyError::NoBundle(_) => {
            CertificateError::UnknownIssuer
        }
        VerifyError::Path(PathError::Signature) => CertificateError::BadSignature,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    error.into()
}

/// The peer is genuine, but somebody else than was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the peer is {got}, expected was {expected:?}")]
pub struct UnexpectedPeer {
    got: SpiffeId,
    expected: PeerIds,
}

impl<B: X509BundleSource + Send + Sync> ServerCertVerifier for PeerVerifier<B> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: rustls_pki_types::UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, now)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl<B: X509BundleSource + Send + Sync> ClientCertVerifier for PeerVerifier<B> {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    /// None: our authorities have names of their own, and a list of them would only help those who should not know it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: rustls_pki_types::UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(leaf, intermediates, now)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// TLS 1.2 is never negotiated by our configurations; should the verifier be used in another, it is refused here.
fn tls12() -> Error {
    PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

impl<B> fmt::Debug for PeerVerifier<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerVerifier")
            .field("expected", &self.expected)
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}
