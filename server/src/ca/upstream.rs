//! The upstream authority as the server uses it: within deadlines, counted, and heard of when it fails.

mod follower;
mod taken_over;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_pki::jwt::JwtAuthority;
use muster_plugin_api::{
    AuthorityRequest, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError,
};
use muster_runtime::Readiness;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use follower::Follower;

/// How long a signature may take: an SVID is fetched, a connection made, a CA asked.
const SIGN_WITHIN: Duration = Duration::from_secs(60);
/// How long publishing a key may take.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);
/// What it is called beside the server's readiness.
const NOTE: &str = "upstream";

/// Who stands above our authorities. Clones share it.
#[derive(Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
}

struct Inner {
    plugin: Box<dyn UpstreamAuthority>,
    meter: UpstreamMeter,
    readiness: Readiness,
    /// Roots that are not to be stood under any more.
    leaving: watch::Sender<BTreeSet<String>>,
}

/// Counts what the upstream authority is asked.
#[derive(Clone, Debug, Default)]
pub struct UpstreamMeter {
    calls: Family<Call, Counter>,
    failing: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Call {
    call: What,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
enum What {
    Sign,
    Publish,
    Follow,
}

#[derive(Clone, Copy, Debug, EncodeLabelValue, Eq, Hash, PartialEq)]
enum Outcome {
    Done,
    Failed,
}

impl UpstreamMeter {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let own = Self::default();
        registry.register(
            "upstream_authority",
            "What the upstream authority was asked, and whether it did it",
            own.calls.clone(),
        );
        registry.register(
            "upstream_authority_failing",
            "1 while the upstream authority does not do what it was asked last",
            own.failing.clone(),
        );
        own
    }
}

impl Upstream {
    /// Uses `plugin`; when it fails that is shown beside `readiness`, which it does not change: what signs today goes on signing.
    pub fn new(plugin: Box<dyn UpstreamAuthority>, meter: UpstreamMeter, readiness: Readiness) -> Self {
        let leaving = watch::Sender::default();
        Self {
            inner: Arc::new(Inner {
                plugin,
                meter,
                readiness,
                leaving,
            }),
        }
    }

    /// Which upstream authority it is.
    pub(crate) fn whom(&self) -> String {
        self.inner.plugin.whom()
    }

    /// Has an authority signed.
    /// Whether token-signing keys that are published here are published there too.
    pub(crate) fn takes_keys(&self) -> bool {
        self.inner.plugin.takes_jwt_keys()
    }

    pub(super) async fn sign(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        let asked = within(
            SIGN_WITHIN,
            "signing an authority",
            self.inner.plugin.sign_authority(request),
        );
        self.counted(What::Sign, asked.await)
    }

    /// Makes a token-signing key known above. False: tokens mean nothing there.
    pub(crate) async fn publish(&self, key: &JwtAuthority) -> Result<bool, UpstreamError> {
        let asked = self.inner.plugin.publish_jwt_key(key);
        let asked = within(PUBLISH_WITHIN, "publishing a token-signing key", asked).await;
        if asked.as_ref().is_err_and(UpstreamError::is_unsupported) {
            return Ok(false);
        }
        self.counted(What::Publish, asked).map(|_| true)
    }

    /// Waits until something changes above.
    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        let told = self.inner.plugin.changed(seen).await;
        self.counted(What::Follow, told)
    }

    /// Roots that are not to be stood under any more: they are tainted or revoked above.
    pub(crate) fn leaving(&self) -> watch::Receiver<BTreeSet<String>> {
        self.inner.leaving.subscribe()
    }

    /// Whether nothing is to stand under the root of this id any more.
    pub(super) fn is_leaving(&self, root: &str) -> bool {
        self.inner.leaving.borrow().contains(root)
    }

    fn counted<T>(&self, call: What, outcome: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        let Inner {
            plugin,
            meter,
            readiness,
            ..
        } = &*self.inner;
        let note = outcome
            .as_ref()
            .err()
            .map(|error| format!("{}: {}", plugin.name(), chain(error)));
        meter.failing.set(i64::from(note.is_some()));
        readiness.note(NOTE, note);
        let outcome_label = if outcome.is_ok() {
            Outcome::Done
        } else {
            Outcome::Failed
        };
        let label = Call {
            call,
            outcome: outcome_label,
        };
        meter.calls.get_or_create(&label).inc();
        outcome
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upstream({})", self.inner.plugin.name())
    }
}

async fn within<T>(
    deadline: Duration,
    what: &str,
    asked: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    match tokio::time::timeout(deadline, asked).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(UpstreamError::unavailable(
            format!("{what} took too long"),
            elapsed,
        )),
    }
}

/// An error with what led to it, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
impl Upstream {
    /// As the follower does when it hears that a root is tainted.
    pub(super) fn leave_for_test(&self, root: &muster_pki::x509::AuthorityId) {
        let root = root.to_string();
        self.inner.leaving.send_modify(|leaving| {
            leaving.insert(root);
        });
    }
}
