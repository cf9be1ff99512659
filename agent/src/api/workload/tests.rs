//! The whole API over a real socket: the caller is this process, the cache and the attestors are fakes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use muster_audit::{Audit, Settings};
use muster_identity::{Facts, Selector, SpiffeId, UnixTime};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_pki::jwt::{Audience, JwtAuthority, JwtSvid, JwtSvidProfile, KeyId, TokenId, issue_jwt_svid};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};
use muster_plugin_api::WorkloadAttestor;
use muster_plugin_api::decorate::Meter;
use muster_plugin_api::fake::{FakeWorkloadAttestor, Mood};
use muster_proto::workload as pb;
use muster_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use muster_runtime::metrics::Metrics;
use muster_runtime::{Drained, ManualClock, Readiness, Stop, Tasks};
use muster_transport::{UdsDoor, UdsLimits};
use prost_types::value::Kind;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};

use muster_transport::Refusal;
use tonic::service::interceptor::InterceptedService;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

mod callers;
mod refusals;
mod serving;
mod streams;
mod tokens;

use super::*;
use crate::api::{ApiMetrics, serve_workload};
use crate::cache::{HeldIdentity, HeldJwt, HeldX509, JwtFetchError, WorkloadView};
use crate::peer::fake::FakeWitness;
use crate::peer::{Attestors, Peer};

const NOW: i64 = 1_800_000_000;

/// A cache with one view for everybody.
struct FakeIdentities {
    view: watch::Sender<Arc<WorkloadView>>,
    tokens: Mutex<Result<Vec<HeldJwt>, JwtFetchError>>,
    hopes: bool,
    /// The facts of the last caller.
    asked_for: Mutex<Facts>,
}

#[async_trait]
impl Identities for FakeIdentities {
    fn subscribe(&self, facts: &Facts) -> watch::Receiver<Arc<WorkloadView>> {
        *self.asked_for.lock().unwrap() = facts.clone();
        self.view.subscribe()
    }

    async fn jwt_svids(
        &self,
        _facts: &Facts,
        id: Option<&SpiffeId>,
        _audience: Vec<String>,
    ) -> Result<Vec<HeldJwt>, JwtFetchError> {
        let held = self.tokens.lock().unwrap().clone()?;
        let wanted = |held: &HeldJwt| id.is_none_or(|id| held.id == *id);
        let held: Vec<_> = held.into_iter().filter(wanted).collect();
        if held.is_empty() {
            Err(JwtFetchError::NotEntitled)
        } else {
            Ok(held)
        }
    }

    fn own_bundle(&self) -> Arc<Bundle> {
        Arc::clone(self.view.borrow().bundles.own())
    }

    fn could_match(&self, _facts: &Facts, unknown: &dyn Fn(&Selector) -> bool) -> bool {
        self.hopes && unknown(&"one:lacking".parse().unwrap())
    }
}

struct Agent {
    identities: Arc<FakeIdentities>,
    attestor: Arc<FakeWorkloadAttestor>,
    audit: Audit,
    keys: Arc<LocalKey>,
    stop: Stop,
    readiness: Readiness,
    api: WorkloadApi,
    running: tokio::task::JoinHandle<Drained>,
    folder: tempfile::TempDir,
}

struct Setup {
    settings: WorkloadSettings,
    hopes: bool,
    view: WorkloadView,
    /// Beside the fake one.
    attestors: Vec<Arc<dyn WorkloadAttestor>>,
}

impl Default for Setup {
    fn default() -> Self {
        let view = WorkloadView::new(
            Vec::new(),
            Arc::new(BundleSet::new(bundle("example.org", None))),
            false,
            true,
        );
        Self {
            settings: WorkloadSettings::default(),
            hopes: false,
            view,
            attestors: Vec::new(),
        }
    }
}

impl Setup {
    fn start(self) -> Agent {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let signer: Arc<dyn Signer> = Arc::clone(&keys) as _;
        let now: muster_audit::Now = Arc::new(|| UnixTime::from_secs(NOW));
        let audit = Audit::in_memory(Settings::new("example.org/test", signer, now)).unwrap();
        let identities = Arc::new(FakeIdentities {
            view: watch::Sender::new(Arc::new(self.view)),
            tokens: Mutex::new(Err(JwtFetchError::NotEntitled)),
            hopes: self.hopes,
            asked_for: Mutex::default(),
        });
        let answers = Mood::Answers(vec!["one:a".parse().unwrap()], Vec::new());
        let attestor = Arc::new(FakeWorkloadAttestor::new(&["one"], answers));
        let metrics = ApiMetrics::new(&Metrics::new("test"));
        let meter: Arc<dyn Meter> = Arc::new(metrics.clone());
        let stop = Stop::new();
        let mut attestors = self.attestors;
        attestors.push(Arc::clone(&attestor) as _);
        let parts = Parts {
            identities: Arc::clone(&identities) as _,
            attestors: Arc::new(Attestors::new(attestors, &meter)),
            audit: audit.clone(),
            clock: Arc::new(ManualClock::new(UnixTime::from_secs(NOW))),
            metrics,
            stop: stop.clone(),
        };
        let api = WorkloadApi::new(parts, self.settings);
        let handle = api.clone();
        let door = UdsDoor::bind(&folder.path().join("api.sock"), 0o777, UdsLimits::default()).unwrap();
        let readiness = Readiness::new();
        let tasks = Tasks::new(stop.clone());
        let spawner = tasks.spawner();
        let serving = serve_workload(door, api, readiness.clone(), spawner.clone(), stop.clone());
        spawner.spawn("Workload API", serving);
        #[expect(clippy::disallowed_methods, reason = "the test is the main here")]
        let running = tokio::spawn(async move { tasks.run(Duration::from_secs(10)).await.unwrap() });
        Agent {
            identities,
            attestor,
            audit,
            keys,
            stop,
            readiness,
            api: handle,
            running,
            folder,
        }
    }

    fn with(view: WorkloadView) -> Self {
        Self {
            view,
            ..Self::default()
        }
    }
}

impl Agent {
    async fn client(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel().await)
    }

    async fn channel(&self) -> Channel {
        let path = self.folder.path().join("api.sock");
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://localhost")
            .connect_with_connector(connect)
            .await
            .unwrap()
    }

    fn show(&self, view: WorkloadView) {
        self.identities.view.send_replace(Arc::new(view));
    }

    fn hold_token(&self, id: &str, audience: &[&str]) -> Arc<JwtSvid> {
        let svid = Arc::new(self.token(id, audience));
        let held = HeldJwt {
            entry_id: "e1".parse().unwrap(),
            id: id.parse().unwrap(),
            hint: Some("main".parse().unwrap()),
            svid: Arc::clone(&svid),
        };
        *self.identities.tokens.lock().unwrap() = Ok(vec![held]);
        svid
    }

    fn token(&self, id: &str, audience: &[&str]) -> JwtSvid {
        let profile = JwtSvidProfile {
            id: id.parse().unwrap(),
            audience: Audience::new(audience.iter().map(ToString::to_string).collect()).unwrap(),
            issuer: None,
            issued_at: UnixTime::from_secs(NOW),
            expires_at: UnixTime::from_secs(NOW + 300),
            token_id: TokenId::Absent,
        };
        issue_jwt_svid(&*self.keys, &kid(), &profile).unwrap()
    }

    fn recorded(&self, what: &str) -> usize {
        self.audit
            .recorded()
            .iter()
            .filter(|line| line.contains(what))
            .count()
    }
}

fn kid() -> KeyId {
    "key-1".parse().unwrap()
}

fn bundle(trust_domain: &str, keys: Option<&LocalKey>) -> Arc<Bundle> {
    let mut bundle = Bundle::new(trust_domain.parse().unwrap());
    if let Some(keys) = keys {
        bundle
            .put_jwt_authority(JwtAuthority::new(kid(), keys.public_key().clone()))
            .unwrap();
    }
    Arc::new(bundle)
}

fn held(chain: &'static [u8]) -> Arc<HeldX509> {
    Arc::new(HeldX509 {
        id: "spiffe://example.org/a".parse().unwrap(),
        chain: Bytes::from_static(chain),
        key: b"the key".to_vec().into(),
        received: UnixTime::from_secs(NOW),
        expires: UnixTime::from_secs(NOW + 3600),
        version: 1,
    })
}

fn identity(entry: &str, id: &str, x509: Option<Arc<HeldX509>>) -> HeldIdentity {
    HeldIdentity {
        entry_id: entry.parse().unwrap(),
        id: id.parse().unwrap(),
        hint: None,
        federates_with: Arc::from([]),
        x509,
    }
}

fn view(identities: Vec<HeldIdentity>, bundles: &Arc<BundleSet>) -> WorkloadView {
    let entitled = !identities.is_empty();
    WorkloadView::new(identities, Arc::clone(bundles), entitled, true)
}

fn own() -> Arc<BundleSet> {
    Arc::new(BundleSet::new(bundle("example.org", None)))
}

fn one_identity() -> WorkloadView {
    view(
        vec![identity("e1", "spiffe://example.org/a", Some(held(b"chain")))],
        &own(),
    )
}

fn request<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

async fn x509(
    client: &mut SpiffeWorkloadApiClient<Channel>,
) -> Result<Streaming<pb::X509svidResponse>, Status> {
    client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .map(tonic::Response::into_inner)
}
