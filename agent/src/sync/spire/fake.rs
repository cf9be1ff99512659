//! A server that speaks SPIRE's contract, led by a test into states that a real one does not take up when it is asked to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use muster_identity::{Lifetime, SpiffeId, TrustDomain, UnixTime};
use muster_pki::bundle::{Bundle, BundleSet};
use muster_pki::jwt::{Audience, JwtSvidProfile, TokenId, issue_jwt_svid};
use muster_pki::tls::{ClientAuth, PeerIds, SvidResolver, server_config};
use muster_pki::x509::{
    Csr, IssuingAuthority, RootProfile, Subject, X509Svid, X509SvidProfile, ca_subject, issue_root,
    issue_x509_svid,
};
use muster_pki::{KeyAlgorithm, LocalKey, PublicKey};
use muster_proto::convert;
use muster_proto::spire::server::agent::{PostStatusRequest, PostStatusResponse};
use muster_proto::spire::server::bundle::{GetBundleRequest, GetFederatedBundleRequest};
use muster_proto::spire::server::entry::{
    EntryRevision, GetAuthorizedEntriesRequest, GetAuthorizedEntriesResponse, SyncAuthorizedEntriesRequest,
    SyncAuthorizedEntriesResponse,
};
use muster_proto::spire::server::svid::{
    BatchNewX509svidRequest, BatchNewX509svidResponse, NewJwtsvidRequest, NewJwtsvidResponse,
    batch_new_x509svid_response,
};
use muster_proto::spire::types;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// How many entries the real one puts into a page.
const PAGE: usize = 500;

/// Clones are handles to one server.
#[derive(Clone)]
pub(crate) struct FakeSpire(Arc<Inner>);

struct Inner {
    authority: IssuingAuthority,
    key: Arc<LocalKey>,
    state: Mutex<State>,
}

/// What the server has and how it behaves.
pub(crate) struct State {
    pub(crate) entries: Vec<types::Entry>,
    pub(crate) federated: Vec<types::Bundle>,
    /// The own bundle's.
    pub(crate) sequence: u64,
    /// More authorities in the own bundle.
    pub(crate) more_authorities: Vec<types::X509Certificate>,
    /// Whether it has SyncAuthorizedEntries.
    pub(crate) streams: bool,
    /// Whether it answers revisions but forgets entries before they are asked for.
    pub(crate) forgets: bool,
    /// Whether results of BatchNewX509SVID have no status.
    pub(crate) statusless: bool,
    /// How many results a batch gets at most.
    pub(crate) results: usize,
    /// What certificate chains are blown up by.
    pub(crate) padding: usize,
    /// Answers everything but the bundle.
    pub(crate) refuses: Option<Status>,
    /// What was called, in order.
    pub(crate) calls: Vec<String>,
    /// How many ids each question named.
    pub(crate) asked: Vec<usize>,
    pub(crate) batches: Vec<usize>,
    pub(crate) connections: usize,
}

pub(crate) fn own() -> TrustDomain {
    "example.org".parse().unwrap()
}

/// An entry of this server, with `padding` selectors of 200 bytes.
pub(crate) fn entry(id: &str, revision_number: i64, padding: usize) -> types::Entry {
    let selector = |value: String| types::Selector {
        r#type: "unix".into(),
        value,
    };
    let padding = (0..padding).map(|number| selector(format!("user:{number:0200}")));
    types::Entry {
        id: id.into(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: own().to_string(),
            path: format!("/{id}"),
        }),
        selectors: padding.chain([selector("uid:1".into())]).collect(),
        revision_number,
        created_at: 1,
        ..types::Entry::default()
    }
}

impl FakeSpire {
    pub(crate) fn new(now: UnixTime) -> Self {
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let profile = RootProfile {
            trust_domain: own(),
            subject: ca_subject(),
            now,
            lifetime: Lifetime::from_secs(86_400).unwrap(),
        };
        let authority = issue_root(key.clone(), &profile).unwrap();
        let state = State {
            entries: Vec::new(),
            federated: Vec::new(),
            sequence: 1,
            more_authorities: Vec::new(),
            streams: true,
            forgets: false,
            statusless: false,
            results: usize::MAX,
            padding: 0,
            refuses: None,
            calls: Vec::new(),
            asked: Vec::new(),
            batches: Vec::new(),
            connections: 0,
        };
        Self(Arc::new(Inner {
            authority,
            key,
            state: Mutex::new(state),
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    pub(crate) fn bundle(&self) -> Bundle {
        convert::usable_bundle(&self.own_bundle()).unwrap().0
    }

    /// A certificate of this server's authority.
    pub(crate) fn svid(&self, id: &SpiffeId, public_key: &PublicKey, now: UnixTime) -> X509Svid {
        let profile = X509SvidProfile {
            id: id.clone(),
            public_key: public_key.clone(),
            dns_names: Vec::new(),
            subject: Subject::default(),
            now,
            lifetime: Lifetime::from_secs(3_600).unwrap(),
        };
        issue_x509_svid(&self.0.authority, &profile).unwrap()
    }

    /// Serves without TLS, until the test ends. Returns the address.
    pub(crate) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = self.clone();
        go(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                go(async move { server.connection(stream, None).await });
            }
        });
        address
    }

    /// Serves nodes over TLS until the test ends; each connection is asked to end at `age`. Returns the address.
    pub(crate) async fn serve_nodes(&self, age: Duration) -> String {
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let id = crate::keep::server_id(&own());
        let shown = SvidResolver::new();
        let svid = self.svid(&id, muster_pki::Signer::public_key(&*key), SystemNow::now());
        shown.set(&svid, key).unwrap();
        let bundles = Arc::new(ArcSwap::from_pointee(BundleSet::new(Arc::new(self.bundle()))));
        let tls = server_config(bundles, PeerIds::MemberOf(own()), ClientAuth::Required, shown).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = self.clone();
        go(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, tls) = (server.clone(), TlsAcceptor::from(Arc::clone(&tls)));
                go(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        server.connection(stream, Some(age)).await;
                    }
                });
            }
        });
        address
    }

    /// Serves one connection. After `age` the client is asked to go, and what runs is finished.
    pub(crate) async fn connection(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        age: Option<Duration>,
    ) {
        self.state().connections += 1;
        let server = self.clone();
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request.map(Body::new)).await) }
        });
        let connection =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let aged = async {
            match age {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = aged => connection.as_mut().graceful_shutdown(),
        }
        connection.await.ok();
    }

    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let method = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.state().calls.push(method.clone());
        let refused = self.state().refuses.clone().filter(|_| method != "GetBundle");
        if let Some(status) = refused {
            return status.into_http();
        }
        match (path.split('.').next(), method.as_str()) {
            (Some("/spire"), "GetBundle") => {
                let own = self.own_bundle();
                unary(request, move |_: GetBundleRequest| Ok(own)).await
            }
            (Some("/spire"), "GetFederatedBundle") => {
                unary(request, move |asked| self.federated(&asked)).await
            }
            (Some("/spire"), "GetAuthorizedEntries") => {
                unary(request, move |_: GetAuthorizedEntriesRequest| {
                    let entries = self.state().entries.clone();
                    Ok(GetAuthorizedEntriesResponse { entries })
                })
                .await
            }
            (Some("/spire"), "BatchNewX509SVID") => unary(request, move |asked| Ok(self.sign(&asked))).await,
            (Some("/spire"), "NewJWTSVID") => unary(request, move |asked| Ok(self.token(asked))).await,
            (Some("/spire"), "PostStatus") => {
                unary(request, |_: PostStatusRequest| Ok(PostStatusResponse {})).await
            }
            (Some("/spire"), "SyncAuthorizedEntries") if self.state().streams => {
                let service =
                    tower::service_fn(move |asked: Request<Streaming<SyncAuthorizedEntriesRequest>>| {
                        let server = self.clone();
                        async move {
                            let (answers, answered) = mpsc::channel(4);
                            go(server.list(asked.into_inner(), answers));
                            Ok(Response::new(ReceiverStream::new(answered)))
                        }
                    });
                let codec =
                    ProstCodec::<SyncAuthorizedEntriesResponse, SyncAuthorizedEntriesRequest>::default();
                Grpc::new(codec).streaming(service, request).await
            }
            _ => Status::unimplemented(format!("unknown method {path}")).into_http(),
        }
    }

    /// As the real one lists.
    async fn list(
        self,
        mut asked: Streaming<SyncAuthorizedEntriesRequest>,
        answers: mpsc::Sender<Result<SyncAuthorizedEntriesResponse, Status>>,
    ) {
        let Ok(Some(first)) = asked.message().await else {
            return;
        };
        assert!(first.ids.is_empty() && first.output_mask.is_some_and(|mask| mask.revision_number));
        let entries = self.state().entries.clone();
        if entries.len() <= PAGE {
            let answer = SyncAuthorizedEntriesResponse {
                entries,
                ..Default::default()
            };
            answers.send(Ok(answer)).await.ok();
            return;
        }
        let pages = entries.len().div_ceil(PAGE);
        for (number, page) in entries.chunks(PAGE).enumerate() {
            let revision = |entry: &types::Entry| EntryRevision {
                id: entry.id.clone(),
                revision_number: entry.revision_number,
                created_at: entry.created_at,
            };
            let answer = SyncAuthorizedEntriesResponse {
                entry_revisions: page.iter().map(revision).collect(),
                more: number + 1 < pages,
                ..Default::default()
            };
            answers.send(Ok(answer)).await.ok();
        }
        while let Ok(Some(question)) = asked.message().await {
            assert!(question.ids.len() <= PAGE);
            self.state().asked.push(question.ids.len());
            let wanted = |entry: &&types::Entry| question.ids.contains(&entry.id);
            let mut found: Vec<types::Entry> = entries.iter().filter(wanted).cloned().collect();
            if self.state().forgets {
                found.truncate(found.len() / 2);
            }
            let answer = SyncAuthorizedEntriesResponse {
                entries: found,
                ..Default::default()
            };
            answers.send(Ok(answer)).await.ok();
        }
    }

    fn own_bundle(&self) -> types::Bundle {
        let state = self.state();
        let root = types::X509Certificate::from(self.0.authority.authority());
        types::Bundle {
            trust_domain: own().to_string(),
            x509_authorities: state.more_authorities.iter().cloned().chain([root]).collect(),
            sequence_number: state.sequence,
            ..types::Bundle::default()
        }
    }

    fn federated(&self, asked: &GetFederatedBundleRequest) -> Result<types::Bundle, Status> {
        let state = self.state();
        let found = state
            .federated
            .iter()
            .find(|bundle| bundle.trust_domain == asked.trust_domain);
        found
            .cloned()
            .ok_or_else(|| Status::not_found("bundle not found"))
    }

    fn sign(&self, asked: &BatchNewX509svidRequest) -> BatchNewX509svidResponse {
        let mut state = self.state();
        state.batches.push(asked.params.len());
        let (most, statusless, padding) = (state.results, state.statusless, state.padding);
        let (entries, now) = (state.entries.clone(), SystemNow::now());
        drop(state);
        let sign = |params: &muster_proto::spire::server::svid::NewX509svidParams| {
            let entry = entries.iter().find(|entry| entry.id == params.entry_id);
            let Some(id) = entry.and_then(|entry| entry.spiffe_id.as_ref()) else {
                let status = convert::item_status(tonic::Code::NotFound, "entry not found or not authorized");
                return batch_new_x509svid_response::Result {
                    status: Some(status),
                    svid: None,
                };
            };
            let id = convert::spiffe_id("id", Some(id)).unwrap();
            let csr = Csr::parse(&params.csr).unwrap();
            let svid = self.svid(&id, csr.public_key(), now);
            batch_new_x509svid_response::Result {
                status: (!statusless).then(convert::item_ok),
                svid: Some(convert::x509_svid_to_wire(&svid, &"h".repeat(padding))),
            }
        };
        BatchNewX509svidResponse {
            results: asked.params.iter().take(most).map(sign).collect(),
        }
    }

    fn token(&self, asked: NewJwtsvidRequest) -> NewJwtsvidResponse {
        let now = SystemNow::now();
        let profile = JwtSvidProfile {
            id: format!("spiffe://{}/{}", own(), asked.entry_id).parse().unwrap(),
            audience: Audience::new(asked.audience).unwrap(),
            issuer: None,
            issued_at: now,
            expires_at: UnixTime::from_secs(now.as_secs() + 300),
            token_id: TokenId::Absent,
        };
        let svid = issue_jwt_svid(&*self.0.key, &"key".parse().unwrap(), &profile).unwrap();
        NewJwtsvidResponse {
            svid: Some(convert::jwt_svid_to_wire(&svid, "")),
        }
    }
}

/// The time, for certificates that a verifier of today is to accept.
pub(crate) struct SystemNow;

impl SystemNow {
    pub(crate) fn now() -> UnixTime {
        muster_runtime::Clock::now(&muster_runtime::SystemClock)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's server ends with the test's runtime"
)]
pub(crate) fn go(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

async fn unary<Q, A>(
    request: http::Request<Body>,
    answer: impl FnOnce(Q) -> Result<A, Status> + Send,
) -> http::Response<Body>
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    let mut answer = Some(answer);
    let service = tower::service_fn(move |asked: Request<Q>| {
        let answer = answer.take().map(|answer| answer(asked.into_inner()));
        async move {
            let answer = answer.unwrap_or_else(|| Err(Status::internal("asked twice")))?;
            Ok(Response::new(answer))
        }
    });
    Grpc::new(ProstCodec::<A, Q>::default())
        .max_decoding_message_size(super::call::MOST_BYTES)
        .unary(service, request)
        .await
}
