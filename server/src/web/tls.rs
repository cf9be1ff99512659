//! TLS where the Web PKI is: https_web on both sides, and OIDC discovery. Everything else is `muster_pki::tls`.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::version::{TLS12, TLS13};

/// What our doors of the Web PKI speak: one document needs no more.
pub(crate) const HTTP: &[u8] = b"http/1.1";

/// The provider with TLS 1.2 beside 1.3. Its suites and groups are within Mozilla's intermediate profile, which Federation 5 asks for: all with forward secrecy and AEAD.
pub(crate) fn web_provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
}

/// TLS as everybody on the Web speaks it, with what `shown` has, and `more` for a protocol beside HTTP.
pub(super) fn web_tls(
    shown: Arc<dyn ResolvesServerCert>,
    more: Option<&[u8]>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(web_provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    Ok(finished(config, more))
}

/// What every door that serves documents has: HTTP, and no resumption, which would not be verified against the certificates of now.
pub(crate) fn finished(mut config: ServerConfig, more: Option<&[u8]>) -> Arc<ServerConfig> {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = std::iter::once(HTTP).chain(more).map(<[u8]>::to_vec).collect();
    Arc::new(config)
}
