//! The certificate that our side shows, swapped while connections come and go.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme as TlsScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use crate::key::KeyKind;
use crate::signer::{SignatureScheme, Signer};
use crate::x509::X509Svid;

/// Holds the SVID that the next handshake shows. Clones share it; it begins empty, and an empty one refuses handshakes as
/// a server and shows nothing as a client.
#[derive(Clone, Default)]
pub struct SvidResolver {
    held: Arc<ArcSwapOption<CertifiedKey>>,
}

impl SvidResolver {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `svid` from the next handshake on. The signer is called inside handshakes, so its key should be in memory.
    ///
    /// # Errors
    /// When the key is not the SVID's; what was held stays.
    pub fn set(&self, svid: &X509Svid, signer: Arc<dyn Signer>) -> Result<(), SvidResolverError> {
        if signer.public_key() != svid.public_key() {
            return Err(SvidResolverError);
        }
        let key = CertifiedKey::new(svid.chain().to_vec(), Arc::new(TlsKey(signer)));
        self.held.store(Some(Arc::new(key)));
        Ok(())
    }

    /// Shows nothing any more.
    pub fn clear(&self) {
        self.held.store(None);
    }
}

impl fmt::Debug for SvidResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SvidResolver({})",
            if self.held.load().is_some() {
                "an SVID"
            } else {
                "empty"
            }
        )
    }
}

/// The key does not belong to the SVID.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the key is not the one of the X.509-SVID")]
pub struct SvidResolverError;

impl ResolvesServerCert for SvidResolver {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.held.load_full()
    }
}

impl ResolvesClientCert for SvidResolver {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[TlsScheme]) -> Option<Arc<CertifiedKey>> {
        self.held.load_full()
    }

    fn has_certs(&self) -> bool {
        self.held.load().is_some()
    }
}

/// A [`Signer`] in rustls's shape.
struct TlsKey(Arc<dyn Signer>);

impl TlsKey {
    /// What TLS 1.3 (RFC 8446 4.2.3) lets a key of this kind sign with.
    fn schemes(&self) -> &'static [(TlsScheme, SignatureScheme)] {
        match self.0.public_key().kind() {
            KeyKind::EcP256 => &[(TlsScheme::ECDSA_NISTP256_SHA256, SignatureScheme::EcdsaSha256)],
            KeyKind::EcP384 => &[(TlsScheme::ECDSA_NISTP384_SHA384, SignatureScheme::EcdsaSha384)],
            KeyKind::EcP521 => &[(TlsScheme::ECDSA_NISTP521_SHA512, SignatureScheme::EcdsaSha512)],
            KeyKind::Ed25519 => &[(TlsScheme::ED25519, SignatureScheme::Ed25519)],
            KeyKind::Rsa { .. } => &[
                (TlsScheme::RSA_PSS_SHA256, SignatureScheme::RsaPssSha256),
                (TlsScheme::RSA_PSS_SHA384, SignatureScheme::RsaPssSha384),
                (TlsScheme::RSA_PSS_SHA512, SignatureScheme::RsaPssSha512),
            ],
        }
    }
}

impl rustls::sign::SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[TlsScheme]) -> Option<Box<dyn rustls::sign::Signer>> {
        let (tls, scheme) = *self.schemes().iter().find(|(tls, _)| offered.contains(tls))?;
        Some(Box::new(TlsSigner {
            signer: self.0.clone(),
            tls,
            scheme,
        }))
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public_key().spki_der()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.public_key().kind() {
            KeyKind::Rsa { .. } => SignatureAlgorithm::RSA,
            KeyKind::Ed25519 => SignatureAlgorithm::ED25519,
            KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => SignatureAlgorithm::ECDSA,
        }
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsKey({})", self.0.public_key().kind())
    }
}

struct TlsSigner {
    signer: Arc<dyn Signer>,
    tls: TlsScheme,
    scheme: SignatureScheme,
}

impl rustls::sign::Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signer
            .sign(self.scheme, message)
            .map_err(|error| rustls::Error::Other(rustls::OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> TlsScheme {
        self.tls
    }
}

impl fmt::Debug for TlsSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsSigner({:?})", self.tls)
    }
}
