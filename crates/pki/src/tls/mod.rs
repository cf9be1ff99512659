//! TLS between SPIFFE peers: rustls with our verification, and nothing that could go round it.
//!
//! ```text
//! SvidResolver ─(swapped at each rotation)─▶ handshake ◀─ PeerVerifier ─ bundles (swapped at each change)
//! ```
//!
//! Both ends speak TLS 1.3 alone and never resume a session: a resumed one would not be verified against the bundles of
//! now. Host names mean nothing here; who the peer is says its certificate's SPIFFE ID ([`PeerIds`]). The crypto
//! provider is given explicitly, so no process-wide default is set or needed.

mod resolver;
mod verifier;

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;

use crate::x509::{ParseSvidError, X509BundleSource, X509Svid};

pub use resolver::{SvidResolver, SvidResolverError};
pub use verifier::{NoteUnknown, PeerIds, PeerVerifier, UnexpectedPeer};

/// The bundles that a door trusts, as they are now. Whoever follows the bundles stores the newest set here, and the next
/// handshake uses it.
pub type SharedBundles<B> = Arc<ArcSwap<B>>;

/// What gRPC's peers insist on.
const ALPN: &[u8] = b"h2";

/// The one crypto provider: aws-lc-rs, X25519MLKEM768 preferred, TLS 1.3's suites.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    Arc::new(provider)
}

/// Whether a door lets callers in who show no certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// A certificate is asked for; who shows one must hold it, who shows none is nobody.
    Optional,
    /// No certificate, no connection.
    Required,
}

/// The server's side of a door.
///
/// # Errors
/// When rustls refuses its own parts, which would be a fault of ours.
pub fn server_config<B>(
    bundles: SharedBundles<B>,
    callers: PeerIds,
    client_auth: ClientAuth,
    svid: SvidResolver,
) -> Result<Arc<ServerConfig>, rustls::Error>
where
    B: X509BundleSource + Send + Sync + 'static,
{
    let verifier = PeerVerifier::new(bundles, callers, client_auth, &provider());
    server_config_with(verifier, svid)
}

/// The same with a verifier of the caller's.
///
/// # Errors
/// When rustls refuses its own parts, which would be a fault of ours.
pub fn server_config_with<B>(
    verifier: PeerVerifier<B>,
    svid: SvidResolver,
) -> Result<Arc<ServerConfig>, rustls::Error>
where
    B: X509BundleSource + Send + Sync + 'static,
{
    let provider = provider();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(svid));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The client's side. Without `svid` it shows no certificate: the way of a node that has none yet.
///
/// # Errors
/// When rustls refuses its own parts, which would be a fault of ours.
pub fn client_config<B>(
    bundles: SharedBundles<B>,
    servers: PeerIds,
    svid: Option<SvidResolver>,
) -> Result<Arc<ClientConfig>, rustls::Error>
where
    B: X509BundleSource + Send + Sync + 'static,
{
    let provider = provider();
    let verifier = PeerVerifier::new(bundles, servers, ClientAuth::Required, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match svid {
        Some(svid) => builder.with_client_cert_resolver(Arc::new(svid)),
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Peers are found by address and known by SPIFFE ID: a host name in the clear would tell others and help nobody.
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// Who is at the other end of a finished handshake; none when it showed no certificate. `certificates` are the peer's as
/// the connection has them: [`PeerVerifier`] let them pass, so only the leaf's own rules are applied once more.
///
/// # Errors
/// Never after a handshake with one of our configurations; a connection made in another way may hold anything.
pub fn peer_svid(
    certificates: Option<&[CertificateDer<'static>]>,
) -> Result<Option<X509Svid>, ParseSvidError> {
    match certificates {
        None | Some([]) => Ok(None),
        Some(certificates) => X509Svid::parse(certificates.to_vec()).map(Some),
    }
}

#[cfg(test)]
mod tests;
