//! The server's own X.509-SVID: the key lives in memory only, the certificate is renewed at half of its life.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_identity::{Revision, SpiffeId, UnixTime};
use muster_pki::tls::{SvidResolver, SvidResolverError};
use muster_pki::x509::{Subject, X509Svid};
use muster_pki::{KeyAlgorithm, LocalKey, LocalKeyError, Signer};
use muster_runtime::{Backoff, Clock, Condition, SigningPoolError, Stop};
use tokio::sync::watch;
use tracing::{error, info};

use super::{Ca, Holder, SignError, X509Request};
use crate::bundles::Bundles;

/// Keeps the server's certificate fresh.
pub struct ServerSvid {
    id: SpiffeId,
    algorithm: KeyAlgorithm,
    ca: Ca,
    clock: Arc<dyn Clock>,
    resolver: SvidResolver,
    current: watch::Sender<Option<Arc<X509Svid>>>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServerSvidError {
    /// No key.
    #[error("making the server's key")]
    Key(#[from] LocalKeyError),
    /// The pool did not take it.
    #[error(transparent)]
    Pool(#[from] SigningPoolError),
    /// The certificate is not the key's.
    #[error("showing the server's certificate")]
    Show(#[from] SvidResolverError),
    /// Not signed.
    #[error("signing the server's certificate")]
    Sign(#[from] SignError),
}

impl ServerSvid {
    /// Keeps the certificate that `resolver` shows.
    pub fn new(
        id: SpiffeId,
        algorithm: KeyAlgorithm,
        ca: Ca,
        clock: Arc<dyn Clock>,
        resolver: SvidResolver,
    ) -> Self {
        Self {
            id,
            algorithm,
            ca,
            clock,
            resolver,
            current: watch::Sender::new(None),
        }
    }

    /// Follows the certificate.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<X509Svid>>> {
        self.current.subscribe()
    }

    /// Makes a new key and certificate and shows it from the next handshake on. Answers when the next one is due.
    pub async fn renew(&self) -> Result<UnixTime, ServerSvidError> {
        let algorithm = self.algorithm;
        let key = self
            .ca
            .pool()
            .run(move || LocalKey::generate(algorithm))
            .await??;
        let request = X509Request {
            id: self.id.clone(),
            public_key: key.public_key().clone(),
            dns_names: Vec::new(),
            subject: Subject::Usual,
            holder: Holder::Server,
            lifetime: None,
        };
        let svid = self.ca.sign_x509_svid(request).await?;
        self.resolver.set(&svid, Arc::new(key))?;
        info!(spiffe_id = %svid.id(), serial = %svid.serial(), expires = %svid.not_after(), "server certificate renewed");
        let now = self.clock.now();
        let due = now.saturating_add(svid.not_after().since(now) / 2);
        self.current.send_replace(Some(Arc::new(svid)));
        Ok(due)
    }

    /// Renews until the stop is ordered: in time, and at once when the authority above is tainted or gone from the bundle.
    pub async fn run(
        self,
        mut due: UnixTime,
        bundles: Bundles,
        standing: Condition,
        stop: Stop,
    ) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(15));
        // While it fails its waits are kept, whatever the bundle says.
        let mut failing = false;
        let mut changes = bundles.watch();
        loop {
            tokio::select! {
                () = stop.ordered() => return Ok(()),
                () = self.clock.sleep_until(due) => {}
                () = self.outdated(&bundles, &mut changes), if !failing => {}
            }
            match self.renew().await {
                Ok(next) => {
                    backoff.reset();
                    standing.holds();
                    (due, failing) = (next, false);
                }
                Err(error) => {
                    // I11: what is valid stays in the resolver.
                    let wait = backoff.next_wait().max(Duration::from_secs(1));
                    error!(error = &error as &dyn Error, retry_in = ?wait, "server certificate not renewed");
                    let expired = self
                        .current
                        .borrow()
                        .as_ref()
                        .is_none_or(|svid| svid.not_after() <= self.clock.now());
                    if expired {
                        standing.fails("the server's certificate has expired");
                    }
                    (due, failing) = (self.clock.now().saturating_add(wait), true);
                }
            }
        }
    }

    /// Returns when the bundle says that what is shown should not be.
    async fn outdated(&self, bundles: &Bundles, changes: &mut watch::Receiver<Revision>) {
        loop {
            // Looked at once for each change: what is renewed below a tainted upstream can't be better than that.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let own = bundles.own();
            let above = self
                .current
                .borrow()
                .as_ref()
                .and_then(|svid| svid.authority_id());
            let authority = above.map(|above| {
                let mut all = own.x509_authorities().iter();
                all.find(|authority| *authority.id() == above)
            });
            // Without a name for the authority above, its own time is all there is.
            if authority.is_some_and(|found| found.is_none_or(|authority| authority.tainted())) {
                return;
            }
        }
    }
}
