//! A CA whose certificate and key lie in files.
//!
//! The files are read anew for each signature and nothing of them is kept: whoever replaces them is followed at once, and the key is in memory only while it signs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use muster_identity::TrustDomain;
use muster_pki::LocalKey;
use muster_pki::bundle::Bundle;
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{
    CertificateDer, Csr, IntermediateProfile, IntermediateSubject, IssuingAuthority, X509Authority,
    issue_intermediate,
};
use muster_plugin_api::{
    AuthorityRequest, Extent, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError,
};

use crate::file;

/// How often the files are looked at between two signatures.
const LOOK: Duration = Duration::from_secs(5);

/// Where the CA lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskConfig {
    /// Its certificate, PEM; those between it and the root may follow.
    pub cert: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
    /// The roots that verifiers need, PEM or a bundle document. Without it the certificate must be a root itself.
    pub bundle: Option<PathBuf>,
}

/// A CA in files.
#[derive(Clone, Debug)]
pub struct Disk {
    config: Arc<DiskConfig>,
    trust_domain: TrustDomain,
}

impl Disk {
    /// The CA that `config` names. Its files are read when they are needed.
    pub fn new(config: DiskConfig, trust_domain: TrustDomain) -> Self {
        Self {
            config: Arc::new(config),
            trust_domain,
        }
    }

    /// Runs `work` where it may wait for the disk and for arithmetic with a large key.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, UpstreamError> + Send + 'static,
    ) -> Result<T, UpstreamError> {
        let disk = self.clone();
        tokio::task::spawn_blocking(move || work(&disk))
            .await
            .map_err(|error| UpstreamError::unavailable("using the CA's files", error))?
    }

    fn chain(&self) -> Result<(X509Authority, Vec<CertificateDer<'static>>), UpstreamError> {
        let path = &self.config.cert;
        let chain = file::certificates(path)?;
        let first = X509Authority::from_der(&chain[0]).map_err(|error| file::unusable(path, error))?;
        Ok((first, chain))
    }

    fn roots(&self) -> Result<Vec<X509Authority>, UpstreamError> {
        let Some(path) = &self.config.bundle else {
            let (authority, chain) = self.chain()?;
            let certificate = authority.certificate();
            return if chain.len() == 1 && certificate.subject() == certificate.issuer() {
                Ok(vec![authority])
            } else {
                let why = "it is no root alone; name the roots with upstream_authority.disk.bundle";
                Err(file::unusable(&self.config.cert, why))
            };
        };
        let bytes = file::read(path)?;
        let read = Bundle::from_file_bytes(self.trust_domain.clone(), &bytes);
        let read = read.map_err(|error| file::unusable(path, error))?;
        Ok(read.bundle.x509_authorities().to_vec())
    }

    fn sign(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        let asked = "reading the request for an authority";
        let csr = Csr::parse(&request.csr).map_err(|error| UpstreamError::unusable(asked, error))?;
        let subject = csr
            .raw_subject()
            .map_err(|error| UpstreamError::unusable(asked, error))?;
        let roots = self.roots()?;
        let (authority, mut chain) = self.chain()?;
        if roots.iter().any(|root| root.der() == authority.der()) {
            chain.clear();
        }
        let key = file::read_secret(&self.config.key)?;
        let key = LocalKey::from_pem(&key).map_err(|error| file::unusable(&self.config.key, error))?;
        let files = || {
            let (cert, key) = (self.config.cert.display(), self.config.key.display());
            format!("signing with {cert} and {key}")
        };
        // Whether they belong together is checked here: one of them may have been replaced a moment before the other.
        let ca = IssuingAuthority::new(authority, chain, Arc::new(key))
            .map_err(|error| UpstreamError::unusable(files(), error))?;
        let profile = IntermediateProfile {
            trust_domain: request.trust_domain.clone(),
            public_key: csr.public_key().clone(),
            subject: IntermediateSubject::Named(subject),
            now: request.now,
            lifetime: request.lifetime,
        };
        let chain =
            issue_intermediate(&ca, &profile).map_err(|error| UpstreamError::unusable(files(), error))?;
        Ok(SignedAuthority { chain, roots })
    }
}

#[async_trait]
impl UpstreamAuthority for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn takes_jwt_keys(&self) -> bool {
        false
    }

    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        let request = request.clone();
        self.blocking(move |disk| disk.sign(&request)).await
    }

    async fn publish_jwt_key(&self, _: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError> {
        Err(UpstreamError::Unsupported)
    }

    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        loop {
            let known = UpstreamBundle {
                x509_authorities: self.blocking(Self::roots).await?,
                jwt_authorities: Vec::new(),
                // A root that is taken out of the file may still stand above something that lives.
                extent: Extent::Some,
            };
            if known != *seen {
                return Ok(known);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests;
