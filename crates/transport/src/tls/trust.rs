use std::{pin::Pin, sync::Arc};

use rustls::pki_types::CertificateDer;

/// Resolves when a peer that was let in would be let in no more.
pub type Lost = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a door's peers rest on after the handshake: a connection lives for hours, and what it was judged by may be taken back meanwhile.
pub trait Trust: Send + Sync {
    /// Follows the peer that showed this chain, leaf first.
    fn lost(&self, chain: Arc<[CertificateDer<'static>]>) -> Lost;
}
