//! TLS where the Web PKI is: https_web, on both sides. Everything else is `muster_pki::tls`.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// What a bundle endpoint speaks: one document needs no more.
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
