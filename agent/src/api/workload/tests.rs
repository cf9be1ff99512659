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
}

#[async_trait]
impl Identities for FakeIdentities {
    fn subscribe(&self, _facts: &Facts) -> watch::Receiver<Arc<WorkloadView>> {
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
        });
        let answers = Mood::Answers(vec!["one:a".parse().unwrap()], Vec::new());
        let attestor = Arc::new(FakeWorkloadAttestor::new(&["one"], answers));
        let metrics = ApiMetrics::new(&Metrics::new("test"));
        let meter: Arc<dyn Meter> = Arc::new(metrics.clone());
        let stop = Stop::new();
        let parts = Parts {
            identities: Arc::clone(&identities) as _,
            attestors: Arc::new(Attestors::new(vec![Arc::clone(&attestor) as _], &meter)),
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

#[tokio::test]
async fn a_process_gets_the_identity_that_it_is_entitled_to() {
    let agent = Setup::with(one_identity()).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let [svid] = message.svids.as_slice() else {
        panic!("one identity is one SVID")
    };
    assert_eq!(svid.spiffe_id, "spiffe://example.org/a");
    assert_eq!(
        (svid.x509_svid.as_ref(), svid.x509_svid_key.as_slice()),
        (&b"chain"[..], &b"the key"[..])
    );
}

#[tokio::test]
async fn a_stream_follows_what_changes_and_says_nothing_else() {
    let bundles = own();
    let svids = |chain| {
        view(
            vec![identity("e1", "spiffe://example.org/a", Some(chain))],
            &bundles,
        )
    };
    let (one, two) = (held(b"one"), held(b"two"));
    let agent = Setup::with(svids(Arc::clone(&one))).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0]
            .x509_svid
            .as_ref(),
        b"one"
    );
    // The same SVID in a new view, then another one: only the other one is news.
    agent.show(svids(one));
    tokio::task::yield_now().await;
    agent.show(svids(two));
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0]
            .x509_svid
            .as_ref(),
        b"two"
    );
}

#[tokio::test]
async fn several_identities_come_in_the_order_of_the_view() {
    let identities = ["e1", "e2", "e3"]
        .map(|entry| identity(entry, &format!("spiffe://example.org/{entry}"), Some(held(b"c"))));
    let agent = Setup::with(view(identities.to_vec(), &own())).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    let message = stream.message().await.unwrap().unwrap();
    let ids: Vec<_> = message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "spiffe://example.org/e1",
            "spiffe://example.org/e2",
            "spiffe://example.org/e3"
        ]
    );
    assert_eq!(agent.recorded("x509_svid.hand_out"), 3);
}

#[tokio::test]
async fn the_last_entry_takes_the_stream_with_it() {
    let agent = Setup::with(one_identity()).start();
    let mut stream = x509(&mut agent.client().await).await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.show(view(Vec::new(), &own()));
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().starts_with("no identity issued (reference R-"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn who_is_registered_nowhere_is_refused_and_recorded() {
    let agent = Setup::default().start();
    let mut client = agent.client().await;
    let status = x509(&mut client).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let reference = status
        .message()
        .split("(reference ")
        .nth(1)
        .unwrap()
        .trim_end_matches(')')
        .to_owned();
    assert_eq!(agent.recorded(&reference), 1);
    let bundles = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap_err();
    assert_eq!(bundles.code(), Code::PermissionDenied);
    let token = pb::JwtsvidRequest {
        audience: vec!["a".to_owned()],
        spiffe_id: String::new(),
    };
    assert_eq!(
        client.fetch_jwtsvid(request(token)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn who_might_be_entitled_if_an_attestor_worked_is_told_to_come_back() {
    let agent = Setup {
        hopes: true,
        ..Setup::default()
    }
    .start();
    agent.attestor.set(Mood::Down);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn who_an_attestor_refuses_is_refused() {
    let agent = Setup::with(one_identity()).start();
    agent.attestor.set(Mood::Refuses);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn before_the_server_was_heard_a_caller_waits() {
    let agent = Setup::with(WorkloadView::new(Vec::new(), own(), false, false)).start();
    let mut client = agent.client().await;
    let waiting = x509(&mut client);
    let late = async {
        agent.identities.view.subscribe();
        agent.show(one_identity());
    };
    let (stream, ()) = tokio::join!(waiting, late);
    assert_eq!(stream.unwrap().message().await.unwrap().unwrap().svids.len(), 1);
}

#[tokio::test]
async fn without_the_header_every_method_is_refused_first() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let mut codes = Vec::new();
    codes.push(
        client
            .fetch_x509svid(pb::X509svidRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_x509_bundles(pb::X509BundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_jwtsvid(pb::JwtsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_jwt_bundles(pb::JwtBundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .validate_jwtsvid(pb::ValidateJwtsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_witsvid(pb::WitsvidRequest::default())
            .await
            .unwrap_err()
            .code(),
    );
    codes.push(
        client
            .fetch_wit_bundles(pb::WitBundlesRequest {})
            .await
            .unwrap_err()
            .code(),
    );
    assert_eq!(codes, [Code::InvalidArgument; 7]);
    assert_eq!(agent.attestor.asked(), 0, "before attestation");
    let mut twice = request(pb::X509svidRequest {});
    twice
        .metadata_mut()
        .append("workload.spiffe.io", MetadataValue::from_static("true"));
    assert_eq!(
        client.fetch_x509svid(twice).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn the_wit_profile_and_unknown_methods_are_unimplemented() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let wit = client
        .fetch_witsvid(request(pb::WitsvidRequest::default()))
        .await
        .unwrap_err();
    let bundles = client
        .fetch_wit_bundles(request(pb::WitBundlesRequest {}))
        .await
        .unwrap_err();
    assert_eq!([wit.code(), bundles.code()], [Code::Unimplemented; 2]);
    for (header, code) in [(true, Code::Unimplemented), (false, Code::InvalidArgument)] {
        let mut grpc = tonic::client::Grpc::new(agent.channel().await);
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/SpiffeWorkloadAPI/FetchEverything");
        let empty = pb::X509svidRequest {};
        let call = if header {
            request(empty)
        } else {
            Request::new(empty)
        };
        let codec = tonic_prost::ProstCodec::<pb::X509svidRequest, pb::X509svidRequest>::default();
        assert_eq!(grpc.unary(call, path, codec).await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn bundles_come_by_trust_domain_id() {
    let keys = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let mut bundles = BundleSet::new(bundle("example.org", Some(&keys)));
    bundles.put_federated(bundle("other.org", None)).unwrap();
    let agent = Setup::with(view(
        vec![identity("e1", "spiffe://example.org/a", None)],
        &Arc::new(bundles),
    ))
    .start();
    let mut client = agent.client().await;
    let mut stream = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let x509 = stream.message().await.unwrap().unwrap().bundles;
    let mut stream = client
        .fetch_jwt_bundles(request(pb::JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let jwt = stream.message().await.unwrap().unwrap().bundles;
    for ids in [x509.keys().collect::<BTreeSet<_>>(), jwt.keys().collect()] {
        assert_eq!(
            ids.into_iter().collect::<Vec<_>>(),
            ["spiffe://example.org", "spiffe://other.org"]
        );
    }
    let own: serde_json::Value = serde_json::from_slice(&jwt["spiffe://example.org"]).unwrap();
    assert_eq!(own["keys"][0]["kid"], "key-1");
}

#[tokio::test]
async fn verifiers_without_an_identity_get_the_own_bundle_where_that_is_allowed() {
    let settings = WorkloadSettings {
        allow_unauthenticated_verifiers: true,
        ..WorkloadSettings::default()
    };
    let agent = Setup {
        settings,
        ..Setup::default()
    }
    .start();
    let mut client = agent.client().await;
    let mut stream = client
        .fetch_x509_bundles(request(pb::X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let bundles = stream.message().await.unwrap().unwrap().bundles;
    assert_eq!(bundles.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    assert_eq!(
        x509(&mut client).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn a_token_is_handed_out_and_wrong_requests_are_refused() {
    let agent = Setup::with(one_identity()).start();
    let svid = agent.hold_token("spiffe://example.org/a", &["x"]);
    let mut client = agent.client().await;
    let ask = |audience: &[&str], id: &str| {
        request(pb::JwtsvidRequest {
            audience: audience.iter().map(ToString::to_string).collect(),
            spiffe_id: id.to_owned(),
        })
    };
    let answer = client.fetch_jwtsvid(ask(&["x"], "")).await.unwrap().into_inner();
    assert_eq!(
        (answer.svids[0].svid.as_str(), answer.svids[0].hint.as_str()),
        (svid.token(), "main")
    );
    let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let wrong = [
        ask(&[], ""),
        ask(&["x", ""], ""),
        ask(&many, ""),
        ask(&["x"], "example.org/a"),
        ask(&["x"], "spiffe://Example.org/a"),
    ];
    for wrong in wrong {
        assert_eq!(
            client.fetch_jwtsvid(wrong).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let foreign = client
        .fetch_jwtsvid(ask(&["x"], "spiffe://example.org/other"))
        .await
        .unwrap_err();
    assert_eq!(foreign.code(), Code::PermissionDenied);
    *agent.identities.tokens.lock().unwrap() = Err(JwtFetchError::Unreachable);
    assert_eq!(
        client.fetch_jwtsvid(ask(&["x"], "")).await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn a_token_is_validated_with_the_bundles_of_the_caller() {
    let agent = Setup::default().start();
    let mut bundles = BundleSet::new(bundle("example.org", Some(&agent.keys)));
    bundles
        .put_federated(bundle("other.org", Some(&agent.keys)))
        .unwrap();
    agent.show(view(Vec::new(), &Arc::new(bundles)));
    let mut client = agent.client().await;
    let ask = |audience: &str, svid: &str| {
        request(pb::ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid: svid.to_owned(),
        })
    };
    let own = agent.token("spiffe://example.org/a", &["x", "y"]);
    let answer = client
        .validate_jwtsvid(ask("x", own.token()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.spiffe_id, "spiffe://example.org/a");
    let claims = answer.claims.unwrap().fields;
    assert!(claims.contains_key("iss") && matches!(claims["aud"].kind, Some(Kind::ListValue(_))));

    let foreign = agent.token("spiffe://other.org/b", &["x"]);
    let claims = client
        .validate_jwtsvid(ask("x", foreign.token()))
        .await
        .unwrap()
        .into_inner()
        .claims
        .unwrap();
    assert_eq!(claims.fields.keys().collect::<Vec<_>>(), ["aud", "exp", "sub"]);

    let stranger = agent.token("spiffe://stranger.org/c", &["x"]);
    let wrong = [
        ask("z", own.token()),
        ask("", own.token()),
        ask("x", ""),
        ask("x", "no.to.ken"),
        ask("x", stranger.token()),
    ];
    for wrong in wrong {
        assert_eq!(
            client.validate_jwtsvid(wrong).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}

#[tokio::test]
async fn the_first_hand_out_is_recorded_and_later_ones_are_not() {
    let agent = Setup::with(one_identity()).start();
    for _ in 0..3 {
        let mut client = agent.client().await;
        for _ in 0..2 {
            x509(&mut client).await.unwrap().message().await.unwrap().unwrap();
        }
    }
    assert_eq!(agent.recorded("x509_svid.hand_out"), 1);
}

#[tokio::test]
async fn nothing_leaves_that_can_not_be_recorded() {
    let agent = Setup::with(one_identity()).start();
    agent.audit.set_memory_full(true);
    assert_eq!(
        x509(&mut agent.client().await).await.unwrap_err().code(),
        Code::Unavailable
    );
    agent.audit.set_memory_full(false);
    assert!(x509(&mut agent.client().await).await.is_ok());
}

#[tokio::test]
async fn a_caller_beyond_its_rate_is_told_to_come_back() {
    let settings = WorkloadSettings {
        calls_per_second: 1,
        ..WorkloadSettings::default()
    };
    let agent = Setup {
        settings,
        ..Setup::with(one_identity())
    }
    .start();
    let mut client = agent.client().await;
    assert!(x509(&mut client).await.is_ok());
    assert_eq!(x509(&mut client).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn stopping_ends_streams_with_a_status_and_leaves_nothing_running() {
    let agent = Setup::with(one_identity()).start();
    let mut client = agent.client().await;
    let mut stream = x509(&mut client).await.unwrap();
    stream.message().await.unwrap().unwrap();
    agent.stop.order();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    drop((stream, client));
    assert_eq!(agent.running.await.unwrap(), Drained::Clean);
}

/// A client that is a made-up process.
fn client_as(
    agent: &Agent,
    witness: &FakeWitness,
) -> SpiffeWorkloadApiClient<InterceptedService<WorkloadApi, impl tonic::service::Interceptor + use<>>> {
    let peer = Peer::new(witness.clone());
    SpiffeWorkloadApiClient::with_interceptor(agent.api.clone(), move |mut request: Request<()>| {
        request.extensions_mut().insert(peer.clone());
        Ok(request)
    })
}

#[tokio::test]
async fn a_caller_that_runs_another_program_gets_no_further_message() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    witness.exec(2);
    agent.show(view(
        vec![identity("e1", "spiffe://example.org/a", Some(held(b"new")))],
        &own(),
    ));
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
    assert!(stream.message().await.unwrap().is_none());
    assert_eq!(agent.recorded("caller.refuse"), 1);
}

#[tokio::test]
async fn a_quiet_stream_notices_that_its_caller_is_another_program() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    tokio::time::pause();
    witness.exec(2);
    assert_eq!(stream.message().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_stream_ends_with_its_process() {
    let agent = Setup::with(one_identity()).start();
    let witness = FakeWitness::new();
    let mut client = client_as(&agent, &witness);
    let mut stream = client
        .fetch_x509svid(request(pb::X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    witness.end();
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_caller_that_is_not_present_gets_nothing() {
    let agent = Setup::with(one_identity()).start();
    for (refusal, code) in [
        (Refusal::Silent { pid: 4711 }, Code::Unavailable),
        (
            Refusal::OtherSender { pid: 4711, sender: 1 },
            Code::PermissionDenied,
        ),
        (
            Refusal::Unmapped {
                pid: 4711,
                uid: 65_534,
            },
            Code::PermissionDenied,
        ),
    ] {
        let witness = FakeWitness::new();
        witness.refuse(refusal);
        let mut client = client_as(&agent, &witness);
        let status = client
            .fetch_x509svid(request(pb::X509svidRequest {}))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code);
        assert!(!status.message().contains("4711"), "{}", status.message());
    }
    assert_eq!(agent.recorded("caller.refuse"), 2);
}

#[tokio::test]
async fn health_follows_readiness_and_needs_no_header() {
    let agent = Setup::default().start();
    let mut client = HealthClient::new(agent.channel().await);
    let ask = || HealthCheckRequest {
        service: String::new(),
    };
    let mut watch = client.watch(ask()).await.unwrap().into_inner();
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let condition = agent.readiness.condition("server");
    condition.fails("gone");
    while watch.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
    assert_eq!(
        client.check(ask()).await.unwrap().into_inner().status(),
        ServingStatus::NotServing
    );
}

#[tokio::test]
async fn reflection_lists_the_workload_api_unchanged() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ListServiceResponse, ServerReflectionRequest};
    let agent = Setup::default().start();
    let mut client = ServerReflectionClient::new(agent.channel().await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([list]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(ListServiceResponse { service })) = answer else {
        panic!("services are listed")
    };
    assert!(service.iter().any(|service| service.name == SERVICE));
}
