//! Cases on redirects (Federation 5.2.1.4, 5.2.2.4, 7.5.1).

use std::sync::Arc;

use muster_pki::tls::provider;
use muster_tests::{Identity, Reply, ScriptedEndpoint, Web};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};

use super::{Stage, published};

impl Stage {
    pub(super) fn redirect(&self, status: u16) {
        let target = ScriptedEndpoint::start(
            Some(self.web.server("127.0.0.1", false, |_| {})),
            Reply::Document(published(7).to_string()),
        );
        self.with_web(Reply::Redirect(status, target.url()), |endpoint| {
            for _ in 0..2 {
                self.refresh_ok();
                assert!(!endpoint.requests().is_empty(), "it begins at the configured URL");
                assert!(!target.requests().is_empty());
            }
            target.show(Some(Web::new().server("127.0.0.1", false, |_| {})));
            self.refresh_fails("handshake");
        });
    }

    pub(super) fn wrong_redirects(&self) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            let round = endpoint.url();
            for target in [
                "http://127.0.0.1/",
                "file:///etc/passwd",
                "https://user@127.0.0.1/",
                &round,
            ] {
                endpoint.say(Reply::Redirect(302, target.to_owned()));
                self.refresh_fails("redirects");
            }
        });
    }

    pub(super) fn redirect_to_another_id(&self) {
        let id = "spiffe://other.example/endpoint";
        let target = ScriptedEndpoint::start(Some(self.svid(id)), Reply::Document(published(7).to_string()));
        let first = ScriptedEndpoint::start(Some(self.svid(id)), Reply::Redirect(302, target.url()));
        let (url, file) = (first.url(), self.their_bundle());
        target.show(Some(self.svid("spiffe://other.example/another")));
        self.related(&self.spiffe(&url, id, &file), || {
            self.refresh_fails("handshake");
            assert!(!first.requests().is_empty() && target.requests().is_empty());
            target.show(Some(self.svid(id)));
            self.refresh_ok();
        });
    }

    /// TLS by an SVID of the peer's trust domain.
    fn svid(&self, id: &str) -> Arc<ServerConfig> {
        let minted = self.theirs.block_on(Identity::minted(&self.theirs, id, 600));
        let key = PrivatePkcs8KeyDer::from(minted.key.to_pkcs8().unwrap().expose_secret().to_vec());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(minted.svid.chain().to_vec(), key.into());
        Arc::new(config.unwrap())
    }
}
