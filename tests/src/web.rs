use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::PrivatePkcs8KeyDer,
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// A Web PKI of a story's own: a certificate authority, and certificates by it.
pub struct Web {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Web {
    fn default() -> Self {
        Self::new()
    }
}

impl Web {
    /// A new authority, and a certificate for 127.0.0.1 in files.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let web = Self { folder, authority };
        fs::write(web.ca_file(), web.authority.pem()).unwrap();
        web.renew();
        web
    }

    /// Writes a new certificate over the one in the files.
    pub fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    /// The authority, for whoever is to believe it.
    pub fn ca_file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file of this Web PKI: `cert.pem`, `key.pem`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a request in DER, and gives the certificate in PEM; it lives for so long from now, or for as good as ever.
    pub fn sign(&self, csr: &[u8], life: Option<Duration>) -> String {
        let mut request = CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
        if let Some(life) = life {
            let now = OffsetDateTime::now_utc();
            (request.params.not_before, request.params.not_after) = (now, now + life);
        }
        request.signed_by(&self.authority).unwrap().pem()
    }

    /// A server that shows a new certificate for `name`, changed by `change`; with `asks` it asks clients for one.
    pub fn server(
        &self,
        name: &str,
        asks: bool,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .unwrap();
        let chain = vec![certificate.der().clone()];
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = if asks {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let clients = clients.allow_unauthenticated().build().unwrap();
            builder
                .with_client_cert_verifier(clients)
                .with_single_cert(chain, private)
        } else {
            builder.with_no_client_auth().with_single_cert(chain, private)
        };
        Arc::new(config.unwrap())
    }
}
