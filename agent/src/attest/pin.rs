//! What a new node knows of its server before it has ever spoken to it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, BundleFileError};
use muster_pki::tls::provider;
use muster_pki::x509::X509Authority;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// No bundle has more: a wrong file is not read to its end.
const LARGEST: u64 = 16 << 20;

/// By what the server is recognised the first time (T-38). There is no third way: a node that would take whatever answers is anybody's.
#[derive(Clone, Debug)]
pub enum Pin {
    /// The trust bundle in a file, in any form; it is read when the server is reached.
    File(PathBuf),
    /// What was read from that file.
    Document {
        /// Where it was.
        path: PathBuf,
        /// What it held.
        bytes: Arc<[u8]>,
    },
    /// The SHA-256 fingerprint of one X.509 authority's certificate, as `openssl x509 -fingerprint -sha256` prints it.
    Authority([u8; 32]),
    /// The trust bundle itself, where server and node are one program.
    Bundle(Arc<Bundle>),
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a SHA-256 fingerprint (expected 64 hexadecimal digits, with or without colons)")]
pub struct ParsePinError;

/// Why a pin says nothing about a server.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The file can't be read.
    #[error("reading the trust bundle {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no bundle.
    #[error("the trust bundle {}", path.display())]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: BundleFileError,
    },
    /// The server shows authorities, but not that one.
    #[error("none of the server's authorities has the fingerprint that was given")]
    NoSuchAuthority,
    /// The bundle is another trust domain's.
    #[error("the trust bundle is for {found}, not for {expected}")]
    OtherTrustDomain {
        /// What it is for.
        found: TrustDomain,
        /// What it should be for.
        expected: TrustDomain,
    },
}

impl Pin {
    /// Reads the file, if it is one: for a process that is about to give up the right to.
    pub fn read_now(self) -> Result<Self, PinError> {
        match self {
            Self::File(path) => {
                let bytes = contents(&path)?.into();
                Ok(Self::Document { path, bytes })
            }
            read => Ok(read),
        }
    }

    /// The authorities of `shown` that this pin vouches for; `shown` is what an unverified server said of itself.
    pub(super) fn authorities(&self, shown: &Bundle) -> Result<Bundle, PinError> {
        let trust_domain = shown.trust_domain();
        match self {
            Self::File(path) => parsed(path, &contents(path)?, trust_domain),
            Self::Document { path, bytes } => parsed(path, bytes, trust_domain),
            Self::Bundle(bundle) if bundle.trust_domain() == trust_domain => Ok((**bundle).clone()),
            Self::Bundle(bundle) => Err(PinError::OtherTrustDomain {
                found: bundle.trust_domain().clone(),
                expected: trust_domain.clone(),
            }),
            Self::Authority(fingerprint) => {
                let mut pinned = Bundle::new(trust_domain.clone());
                let named = shown
                    .x509_authorities()
                    .iter()
                    .filter(|authority| is_named(authority, fingerprint));
                named.for_each(|authority| {
                    pinned.put_x509_authority(authority.clone());
                });
                if pinned.x509_authorities().is_empty() {
                    Err(PinError::NoSuchAuthority)
                } else {
                    Ok(pinned)
                }
            }
        }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, PinError> {
    let unread = |source| PinError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unread)?;
    let length = file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unread)?;
    if length as u64 > LARGEST {
        return Err(unread(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn parsed(path: &Path, bytes: &[u8], trust_domain: &TrustDomain) -> Result<Bundle, PinError> {
    let parsed = Bundle::from_file_bytes(trust_domain.clone(), bytes);
    parsed
        .map(|parsed| parsed.bundle)
        .map_err(|source| PinError::Bundle {
            path: path.to_owned(),
            source,
        })
}

fn is_named(authority: &X509Authority, fingerprint: &[u8; 32]) -> bool {
    let own = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, authority.der());
    own.as_ref() == fingerprint
}

impl FromStr for Pin {
    type Err = ParsePinError;

    /// Reads a fingerprint.
    fn from_str(text: &str) -> Result<Self, ParsePinError> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ParsePinError);
        }
        let mut fingerprint = [0; 32];
        for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ParsePinError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ParsePinError)?;
        }
        Ok(Self::Authority(fingerprint))
    }
}

/// TLS to a server that nobody has vouched for yet. It is asked what authorities it claims and told nothing; whatever it says counts only if the pin names it.
pub(super) fn unverified() -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Nobody(provider)))
        .with_no_client_auth();
    config.enable_sni = false;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// Takes any server. Only for [`unverified`].
#[derive(Debug)]
struct Nobody(Arc<CryptoProvider>);

impl ServerCertVerifier for Nobody {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_prints_it() {
        let plain = "aB".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [plain, colons] {
            assert!(matches!(text.parse::<Pin>(), Ok(Pin::Authority(bytes)) if bytes == [0xab; 32]));
        }
        for text in ["", "ab", &"zz".repeat(32), &"é".repeat(32), &"ab".repeat(33)] {
            assert_eq!(text.parse::<Pin>().unwrap_err(), ParsePinError);
        }
    }
}
