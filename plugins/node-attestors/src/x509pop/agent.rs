//! The agent's half.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::rand;
use muster_pki::ecdsa::EcdsaParts;
use muster_pki::x509::Certificate;
use muster_pki::{KeyKind, LocalKey, SecretBytes, SignatureScheme, Signer as _};
use muster_plugin_api::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::KIND;
use super::wire::{Challenge, Payload, Response};
use crate::file;

/// Longer than any chain in PEM.
const MOST_PEM: usize = 256 * 1024;

/// Where the machine's certificate and its key are. They are read at each attestation, so that whoever renews them need tell nobody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509popFiles {
    /// PEM: the certificate first, then intermediates.
    pub certificate_path: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC 1.
    pub private_key_path: PathBuf,
    /// PEM: more intermediates.
    pub intermediates_path: Option<PathBuf>,
}

/// Proves the node by the key of its certificate.
#[derive(Debug)]
pub struct X509popAttestor {
    files: X509popFiles,
}

struct Proof {
    payload: SecretBytes,
    /// Gone once it has signed: a second challenge of one attestation finds no key.
    key: Option<LocalKey>,
}

impl X509popAttestor {
    /// An attestor that reads these files.
    pub fn new(files: X509popFiles) -> Self {
        Self { files }
    }
}

#[async_trait]
impl NodeAttestor for X509popAttestor {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn reattestation(&self) -> Reattestation {
        Reattestation::Possible
    }

    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError> {
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Proof::read(&files)).await;
        let proof = read.map_err(|source| NodeAttestError::Failed {
            what: "reading the machine's certificate".to_owned(),
            source: source.into(),
        })?;
        Ok(Box::new(proof?))
    }
}

impl Proof {
    fn read(files: &X509popFiles) -> Result<Self, NodeAttestError> {
        let path = &files.certificate_path;
        let mut chain = certificates(path)?;
        if let Some(more) = &files.intermediates_path {
            chain.extend(certificates(more)?);
        }
        let key = private_key(&files.private_key_path)?;
        let wrong = |what: String| NodeAttestError::Missing(format!("{}: {what}", path.display()));
        let leaf = chain
            .first()
            .ok_or_else(|| wrong("there is no certificate in it".to_owned()))?;
        let leaf = Certificate::parse(leaf).map_err(|error| wrong(error.to_string()))?;
        if leaf.public_key() != key.public_key() {
            let text = format!(
                "its certificate is not for the key in {}",
                files.private_key_path.display()
            );
            return Err(wrong(text));
        }
        if !leaf.may_sign_data() {
            return Err(wrong(
                "its certificate's key usage lacks digitalSignature".to_owned(),
            ));
        }
        // The protocol knows SHA-256 alone, and our library signs with each larger curve by a longer hash.
        if !matches!(key.public_key().kind(), KeyKind::Rsa { .. } | KeyKind::EcP256) {
            let kind = key.public_key().kind();
            return Err(wrong(format!(
                "a key of kind {kind} can't answer; use RSA or EC P-256"
            )));
        }
        let certificates = chain.iter().map(|der| der.to_vec()).collect();
        Ok(Self {
            payload: Payload { certificates }.to_bytes().into(),
            key: Some(key),
        })
    }
}

#[async_trait]
impl NodeProof for Proof {
    fn payload(&self) -> &SecretBytes {
        &self.payload
    }

    async fn answer(&mut self, challenge: &[u8]) -> Result<Vec<u8>, NodeAttestError> {
        let unexpected = |what: &str| NodeAttestError::Unexpected(what.to_owned());
        let challenge = Challenge::parse(challenge).map_err(|error| {
            NodeAttestError::Unexpected(format!("a challenge of another protocol: {error}"))
        })?;
        let key = self.key.take().ok_or_else(|| unexpected("a second challenge"))?;
        let mut nonce = [0; 32];
        rand::fill(&mut nonce).map_err(|source| failed("finding randomness", source))?;
        let message = challenge.message(&nonce);
        let sign = |scheme| {
            key.sign(scheme, &message)
                .map_err(|source| failed("signing", source))
        };
        let response = match (challenge, key.public_key().kind()) {
            (Challenge::Rsa(_), KeyKind::Rsa { .. }) => Response::Rsa {
                nonce,
                signature: sign(SignatureScheme::RsaPssSha256)?,
            },
            (Challenge::Ecdsa(_), KeyKind::EcP256) => {
                let signature = EcdsaParts::from_der(&sign(SignatureScheme::EcdsaSha256)?)
                    .ok_or_else(|| failed("signing", "the signature has another form"))?;
                Response::Ecdsa { nonce, signature }
            }
            _ => return Err(unexpected("a challenge for another kind of key")),
        };
        Ok(response.to_bytes())
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(x509pop)")
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NodeAttestError> {
    let pem = file::read(path, MOST_PEM).map_err(|error| unread(path, &error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    read.map_err(|_| NodeAttestError::Missing(format!("{}: it is not PEM", path.display())))
}

fn private_key(path: &Path) -> Result<LocalKey, NodeAttestError> {
    let metadata = std::fs::metadata(path).map_err(|error| unread(path, &error))?;
    if metadata.mode() & 0o007 != 0 {
        let text = format!(
            "{}: everybody on this machine may use this key; take the rights of others away",
            path.display()
        );
        return Err(NodeAttestError::Missing(text));
    }
    let pem = Zeroizing::new(file::read(path, MOST_PEM).map_err(|error| unread(path, &error))?);
    LocalKey::from_pem(&pem).map_err(|error| NodeAttestError::Missing(format!("{}: {error}", path.display())))
}

fn unread(path: &Path, error: &std::io::Error) -> NodeAttestError {
    NodeAttestError::Missing(format!("reading {}: {error}", path.display()))
}

fn failed(what: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> NodeAttestError {
    NodeAttestError::Failed {
        what: what.to_owned(),
        source: source.into(),
    }
}
