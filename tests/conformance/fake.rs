//! `muster` as a client of a Workload API that is not ours.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Command, Output},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use muster_identity::Lifetime;
use muster_pki::{
    Signer as _,
    bundle::Bundle,
    x509::{RootProfile, Subject, X509SvidProfile, ca_subject, issue_root, issue_x509_svid},
};
use muster_proto::workload::{X509svid, X509svidRequest, X509svidResponse};
use muster_tests::{Identity, Process, binary, until};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status, body::Body};

type Answer = Result<X509svidResponse, Code>;

/// What it answers, by when it was asked before.
type Script = dyn Fn(&[Instant]) -> Answer + Send + Sync;

/// Answers by a script, and notes when it was asked. Each answer ends its stream.
#[derive(Clone)]
struct Fake {
    script: Arc<Script>,
    calls: Arc<Mutex<Vec<Instant>>>,
}

/// A [`Fake`] on a socket of its own.
struct Served {
    fake: Fake,
    folder: TempDir,
    _runtime: Runtime,
}

pub(crate) fn an_incomplete_message_is_reported() {
    let incomplete = X509svid {
        spiffe_id: "spiffe://example.org/a".into(),
        ..Default::default()
    };
    for svids in [vec![], vec![X509svid::default()], vec![incomplete]] {
        let answer = X509svidResponse {
            svids,
            ..Default::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("written");
        let (output, _) = fetch_from(Ok(answer), &["--write", written.to_str().unwrap()]);
        assert!(!output.status.success());
        assert!(!output.stderr.is_empty());
        assert!(!written.exists() || std::fs::read_dir(&written).unwrap().next().is_none());
    }
}

pub(crate) fn a_refusal_is_not_asked_again() {
    for code in [Code::InvalidArgument, Code::Unimplemented] {
        let (output, calls) = fetch_from(Err(code), &[]);
        assert!(!output.status.success());
        assert_eq!(calls, 1, "{code:?}");
    }
}

/// How long the agent of an outage refuses everybody, and how often it may be asked meanwhile.
const OUTAGE: Duration = Duration::from_secs(10);
const MOST_CALLS: usize = 20;

/// `muster fetch x509 --watch` waits longer and longer for an agent that can't answer, is there when it can, and two of them don't ask in step.
pub(crate) fn an_outage_is_waited_out() {
    let watchers = [
        thread::spawn(waits_in_an_outage),
        thread::spawn(waits_in_an_outage),
    ];
    let [one, other] = watchers.map(|watcher| watcher.join().expect("it saw the outage through"));
    for waits in [&one, &other] {
        assert!(waits.len() < MOST_CALLS, "{waits:?}");
        let grew = matches!(&waits[..], [first, .., last] if *last > *first * 4);
        assert!(grew, "no backoff: {waits:?}");
    }
    // The third and later ones are drawn from hundreds of milliseconds and more.
    let apart = |(one, other): (&Duration, &Duration)| one.abs_diff(*other) > Duration::from_millis(50);
    assert!(
        one.iter().zip(&other).skip(2).any(apart),
        "no jitter: {one:?}, {other:?}"
    );

    // Who does not watch is told at once.
    let (output, calls) = fetch_from(Err(Code::Unavailable), &[]);
    assert!(!output.status.success() && !output.stderr.is_empty());
    assert_eq!(calls, 1);
}

/// What `muster fetch x509 --watch --write` wrote of a bundle that is no more, and of an identity that is no more, does not stay for anybody to use.
pub(crate) fn what_was_taken_back_is_dropped() {
    let less = answer_for("spiffe://example.org/stays");
    let mut more = less.clone();
    let other = answer_for("spiffe://example.org/goes");
    let authorities = other.svids[0].bundle.clone();
    more.federated_bundles
        .insert("spiffe://other.example".into(), authorities.to_vec());
    more.svids.extend(other.svids);
    let is_less = Arc::new(AtomicBool::new(false));
    let script = Arc::clone(&is_less);
    let served = Served::start(move |_| match script.load(Ordering::SeqCst) {
        false => Ok(more.clone()),
        true => Ok(less.clone()),
    });
    let folder = tempfile::tempdir().unwrap();
    let mut command = served.fetch(&["--watch", "--write", folder.path().to_str().unwrap()]);
    let _watcher = Process::start("muster fetch x509 --watch --write", &mut command);
    let names = || {
        let files = std::fs::read_dir(folder.path()).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    };
    until("all that there is", || names().len() == 8);
    is_less.store(true, Ordering::SeqCst);
    until("what is left", || {
        names() == ["bundle.0.pem", "svid.0.key", "svid.0.pem"]
    });
}

/// How long a watcher waited before each call that found the agent unavailable.
fn waits_in_an_outage() -> Vec<Duration> {
    let answer = answer_for("spiffe://example.org/waits");
    let served = Served::start(move |calls| match calls {
        [] => Ok(answer.clone()),
        [_] => Err(Code::Unavailable),
        [_, outage, ..] if outage.elapsed() < OUTAGE => Err(Code::Unavailable),
        _ => Ok(answer.clone()),
    });
    let mut command = served.fetch(&["--watch"]);
    let watcher = Process::start("muster fetch x509 --watch", &mut command);
    let shown = || watcher.said().matches("spiffe://example.org/waits").count();
    until("the answer before the outage", || shown() >= 1);
    until("the answer after it", || shown() >= 2);
    let calls = served.calls();
    let waits = calls.windows(2).map(|pair| pair[1] - pair[0]);
    // The call that ended the outage found the agent well again, and so did those after it.
    let refused = calls[1..].iter().filter(|at| **at - calls[1] < OUTAGE);
    waits.take(refused.count()).collect()
}

/// What an agent says to who has this identity, by an authority that nobody knows.
fn answer_for(id: &str) -> X509svidResponse {
    let (now, lifetime) = (crate::issuer::now(), Lifetime::from_secs(600).unwrap());
    let root = RootProfile {
        trust_domain: "example.org".parse().unwrap(),
        subject: ca_subject(),
        now,
        lifetime,
    };
    let root = issue_root(Identity::key(), &root).unwrap();
    let key = Identity::key();
    let profile = X509SvidProfile {
        id: id.parse().unwrap(),
        public_key: key.public_key().clone(),
        dns_names: Vec::new(),
        subject: Subject::Usual,
        now,
        lifetime,
    };
    let svid = issue_x509_svid(&root, &profile).unwrap();
    let mut bundle = Bundle::new("example.org".parse().unwrap());
    bundle.put_x509_authority(root.authority().clone());
    let held = X509svid {
        spiffe_id: id.to_owned(),
        x509_svid: svid.chain().iter().flat_map(|der| der.to_vec()).collect(),
        x509_svid_key: key.to_pkcs8().unwrap().expose_secret().to_vec(),
        bundle: bundle.x509_der_concat().into(),
        hint: String::new(),
    };
    X509svidResponse {
        svids: vec![held],
        ..Default::default()
    }
}

/// What `muster fetch x509` makes of the answer, and how often it asked.
fn fetch_from(answer: Answer, more: &[&str]) -> (Output, usize) {
    let served = Served::start(move |_| answer.clone());
    let output = served.fetch(more).output().unwrap();
    (output, served.calls().len())
}

impl Served {
    fn start(script: impl Fn(&[Instant]) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let fake = Fake {
            script: Arc::new(script),
            calls: Arc::default(),
        };
        let listener = runtime.block_on(async { UnixListener::bind(socket(folder.path())).unwrap() });
        let server = tonic::transport::Server::builder().add_service(fake.clone());
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self {
            fake,
            folder,
            _runtime: runtime,
        }
    }

    /// `muster fetch x509` of it.
    fn fetch(&self, more: &[&str]) -> Command {
        let mut command = Command::new(binary("muster"));
        command.args(["fetch", "x509", "--socket"]);
        command.arg(socket(self.folder.path())).args(more);
        command
    }

    /// When it was asked.
    fn calls(&self) -> Vec<Instant> {
        let calls = self.fake.calls.lock();
        calls.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("api.sock")
}

impl tonic::server::NamedService for Fake {
    const NAME: &'static str = "SpiffeWorkloadAPI";
}

impl tower::Service<http::Request<Body>> for Fake {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = (self.script)(&calls);
        calls.push(Instant::now());
        drop(calls);
        let once = tower::service_fn(move |_: Request<X509svidRequest>| {
            let answer = answer
                .clone()
                .map(Response::new)
                .map_err(|code| Status::new(code, "refused"));
            async move { answer }
        });
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<X509svidResponse, X509svidRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(once, request).await)
        })
    }
}
