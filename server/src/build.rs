//! Putting the server together, and running it.

mod error;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use muster_audit::{Action, Actor, Event, Object, Outcome};
use muster_pki::bundle::Bundle;
use muster_pki::tls::SvidResolver;
use muster_pki::x509::ca_subject;
use muster_runtime::http::HttpDoor;
use muster_runtime::logging::LogLevel;
use muster_runtime::metrics::Metrics;
use muster_runtime::systemd::Supervised;
use muster_runtime::{
    Clock, Drained, Readiness, SigningPool, Spawner, Stop, SystemClock, TaskFailure, Tasks,
};
use tracing::{info, warn};

use crate::api::limits::Limits;
use crate::api::meter::{Counts, Meter};
use crate::api::{Changes, Context, OneAtATime};
use crate::bundles::Bundles;
use crate::ca::{
    Authorities, Awaited, Ca, CaMeter, Follower, Keeper, Making, ServerSvid, Terms, Upstream, UpstreamMeter,
};
use crate::config::Config;
use crate::doors::Doors;
use crate::federation::endpoint::Endpoint;
use crate::federation::{Fetcher, Peers, Refresher, take_first_bundles};
use crate::node_attestors::NodeAttestors;
use crate::nodes::{self, Nodes};
use crate::oidc::Discovery;
use crate::publish::{publish, publishers};
use crate::registry::{Registry, prune};
use crate::reload::Running;
use crate::state::State;
use crate::sync::Connections;
use crate::watch::{watch_audit, watch_store};
use crate::web::{WebRoots, WebState};

pub use error::BuildError;

/// How long the registry may take to write what is left when everything else has stopped.
const LAST_WRITES: Duration = Duration::from_secs(30);

/// What a server does not make itself, because the process has only one of it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log level.
    pub log_level: LogLevel,
}

/// A server whose sockets are bound and whose authorities can sign. Dropped without [`Bound::run`] it stops.
pub struct Bound {
    context: Arc<Context>,
    told: Config,
    doors: Option<Doors>,
    address: SocketAddr,
    admin_socket: PathBuf,
    endpoint: Option<Endpoint>,
    endpoint_address: Option<SocketAddr>,
    http: Option<HttpDoor>,
    http_address: Option<SocketAddr>,
    discovery: Option<Discovery>,
    discovery_address: Option<SocketAddr>,
    metrics: Metrics,
    drain: Duration,
    front: Option<Tasks>,
    back: Option<Tasks>,
    front_stop: Stop,
    back_stop: Stop,
}

impl Surroundings {
    /// The machine's clock.
    pub fn new(log_level: LogLevel) -> Self {
        Self {
            clock: Arc::new(SystemClock),
            log_level,
        }
    }
}

/// Opens the state, keeps the authorities, makes the server's certificate and binds every socket, in this order: a second server on the same folder fails
/// before it disturbs the first.
pub async fn build(config: Config, surroundings: Surroundings) -> Result<Bound, BuildError> {
    let Surroundings { clock, log_level } = surroundings;
    let told = config.clone();
    let readiness = Readiness::new();
    let (front_stop, back_stop) = (Stop::new(), Stop::new());
    let (front, back) = (Tasks::new(front_stop.clone()), Tasks::new(back_stop.clone()));

    let state = State::open(&config, Arc::clone(&clock)).await?;
    let store = Arc::new(state.store.store);
    let lag = watch_store(Arc::downgrade(&store), readiness.clone(), front_stop.clone());
    front.spawn("store", lag);
    let (registry, committer) = Registry::open(store, config.trust_domain.clone(), state.store.records)?;
    back.spawn("registry", committer.run(back_stop.clone()));

    let pool = signing_pool(&config).map_err(BuildError::Threads)?;
    let configured = config
        .federation
        .peers
        .iter()
        .map(|peer| peer.relationship.clone());
    let peers = Peers::new(configured);
    let bundles = Bundles::read_with(config.trust_domain.clone(), peers.clone(), &registry.view())?;
    let lifetimes = config.ca.lifetimes.clone();
    let ca = Ca::new(
        config.trust_domain.clone(),
        lifetimes,
        config.ca.tokens.clone(),
        Arc::clone(&clock),
        pool,
    );
    let connections = Connections::new();
    let metrics = Metrics::new("muster_server");
    let (authorities, commands) = Authorities::new(registry.clone());
    let upstream = config.upstream.as_ref().map(|told| {
        let meter = metrics.register(UpstreamMeter::register);
        Upstream::new(told.open(&config.trust_domain), meter, readiness.clone())
    });
    let mut keeper = Keeper {
        terms: terms(&config),
        ca: ca.clone(),
        keys: state.keys,
        registry: registry.clone(),
        bundles: bundles.clone(),
        connections: connections.clone(),
        audit: state.audit.clone(),
        clock: Arc::clone(&clock),
        meter: metrics.register(CaMeter::register),
        awaited: Awaited::default(),
        making: Making::default(),
        upstream: upstream.clone(),
    };
    keeper.start().await?;

    let resolver = SvidResolver::new();
    let server_id = Context::server_id(&config.trust_domain);
    let server_svid = ServerSvid::new(
        server_id,
        config.ca.x509_key,
        ca.clone(),
        Arc::clone(&clock),
        resolver.clone(),
    );
    let renewal_due = server_svid.renew().await?;

    take_first_bundles(&config.federation.peers, &registry, &bundles, &state.audit).await?;
    let roots = WebRoots::open(config.federation.ca_file.as_deref())?;
    let fetcher = Fetcher::new(config.federation.addresses, roots, config.trust_domain.clone());
    let (refresher, federation) = Refresher::new(
        fetcher,
        registry.clone(),
        bundles.clone(),
        peers,
        state.audit.clone(),
        Arc::clone(&clock),
    );
    let web = WebState {
        trust_domain: &config.trust_domain,
        data_dir: &config.data_dir,
        seal: &state.seal,
        addresses: config.federation.addresses,
    };
    let endpoint = match config.federation.endpoint.clone() {
        None => None,
        Some(endpoint) => Some(Endpoint::bind(endpoint, resolver.clone(), &web).await?),
    };
    let doors = Doors::bind(&config, &bundles, resolver, &clock, &federation).await?;
    let discovery = match config.oidc.clone() {
        None => None,
        Some(oidc) => Some(Discovery::bind(oidc, &web).await?),
    };
    let http = match config.http {
        None => None,
        Some(address) => Some(
            HttpDoor::bind(address)
                .await
                .map_err(|source| BuildError::Http { address, source })?,
        ),
    };
    let node_attestors = NodeAttestors::new(&config.trust_domain, config.node_attestors)?;
    let context = Arc::new(Context {
        meter: metrics.register(Meter::register),
        trust_domain: config.trust_domain.clone(),
        connections,
        nodes: Arc::new(Nodes::new(registry.clone())),
        registry: registry.clone(),
        node_attestors,
        ca,
        authorities,
        upstream: upstream.clone(),
        downstream: config.ca.lifetime,
        wildcards: config.ca.wildcards,
        bundles: bundles.clone(),
        federation,
        audit: state.audit.clone(),
        limits: Limits::new(config.limits),
        spawner: front.spawner(),
        changes: Changes::default(),
        one_at_a_time: OneAtATime::default(),
        own_uid: nix::unistd::geteuid().as_raw(),
        log_level,
        admin_ids: config.admin_ids,
        server_svid: server_svid.watch(),
        readiness: readiness.clone(),
        started_at: clock.now(),
        clock,
    });
    metrics.register(|registry| registry.register_collector(Box::new(Counts::new(&context))));
    let statuses = context.federation.statuses().clone();
    metrics.register(|registry| registry.register_collector(Box::new(statuses)));
    let started = Event::new(Actor::Daemon, Action::ServiceStart, Outcome::Done)
        .object(Object::service("muster-server"))
        .fact("version", env!("CARGO_PKG_VERSION"))
        .fact("trust_domain", &config.trust_domain);
    state.audit.record(started).await?;

    front.spawn(
        "authorities",
        keeper.run(commands, readiness.condition("authorities"), front_stop.clone()),
    );
    let standing = readiness.condition("certificate");
    front.spawn(
        "certificate",
        server_svid.run(renewal_due, bundles.clone(), standing, front_stop.clone()),
    );
    for publisher in publishers(&config.publishers, &context.clock)? {
        let publishing = publish(publisher, bundles.clone(), readiness.clone(), front_stop.clone());
        front.spawn("bundle publisher", publishing);
    }
    if let Some(upstream) = upstream {
        let follower = Follower {
            upstream,
            trust_domain: config.trust_domain.clone(),
            registry: registry.clone(),
            bundles: bundles.clone(),
            audit: state.audit.clone(),
            clock: Arc::clone(&context.clock),
        };
        front.spawn("upstream", follower.run(front_stop.clone()));
    }
    front.spawn("bundles", bundles.follow(registry.clone(), front_stop.clone()));
    front.spawn("federation", refresher.run(readiness.clone(), front_stop.clone()));
    let pruning = prune(
        registry,
        state.audit.clone(),
        Arc::clone(&context.clock),
        front_stop.clone(),
    );
    front.spawn("pruning", async move {
        pruning.await;
        Ok::<_, std::convert::Infallible>(())
    });
    let forgetting = nodes::prune(
        context.registry.clone(),
        state.audit.clone(),
        Arc::clone(&context.clock),
        config.pruning,
        front_stop.clone(),
    );
    front.spawn("nodes long gone", async move {
        forgetting.await;
        Ok::<_, std::convert::Infallible>(())
    });
    front.spawn(
        "audit",
        watch_audit(state.audit, readiness.condition("audit"), front_stop.clone()),
    );

    Ok(Bound {
        address: doors.address(),
        admin_socket: config.admin_socket,
        endpoint_address: endpoint.as_ref().map(Endpoint::address),
        endpoint,
        discovery_address: discovery.as_ref().and_then(Discovery::address),
        discovery,
        http_address: http.as_ref().map(HttpDoor::address),
        http,
        doors: Some(doors),
        metrics,
        context,
        told,
        drain: config.drain,
        front: Some(front),
        back: Some(back),
        front_stop,
        back_stop,
    })
}

impl Bound {
    /// Where nodes connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where administrators connect.
    pub fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    /// Where other trust domains ask for our bundle.
    pub fn endpoint_address(&self) -> Option<SocketAddr> {
        self.endpoint_address
    }

    /// Where probes connect.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// The bundle, for nodes that join.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.context.bundles.own()
    }

    /// Whether the server can serve.
    pub fn readiness(&self) -> Readiness {
        self.context.readiness.clone()
    }

    /// What its supervisor reloads from `file` and looks at.
    pub fn supervised(&self, file: PathBuf) -> impl Supervised + use<> {
        Running::new(file, self.told.clone(), Arc::clone(&self.context))
    }

    /// Serves until `stop` is ordered or something fails. Stopping has three steps: the doors take nobody in any more; running calls may finish for the configured
    /// time; then connections are cut. The registry writes to the end.
    pub async fn run(mut self, stop: Stop) -> Result<(), TaskFailure> {
        let (Some(front), Some(back), Some(doors)) = (self.front.take(), self.back.take(), self.doors.take())
        else {
            return Ok(());
        };
        let cutters = doors.cutters();
        let [admin, tcp] = doors.serve(&self.context, &self.front_stop);
        front.spawn("admin door", admin);
        front.spawn("tcp door", tcp);
        if let Some(http) = self.http.take() {
            let (readiness, metrics) = (self.context.readiness.clone(), self.metrics.clone());
            front.spawn(
                "http door",
                http.serve(readiness, metrics, self.front_stop.clone()),
            );
        }
        if let Some(endpoint) = self.endpoint.take() {
            let context = &self.context;
            let serving = endpoint.serve(
                context.bundles.clone(),
                context.federation.statuses().clone(),
                Arc::clone(&context.clock),
                front.spawner(),
                self.front_stop.clone(),
            );
            front.spawn("bundle endpoint", serving);
        }
        if let Some(discovery) = self.discovery.take() {
            let serving = discovery.serve(
                self.context.bundles.clone(),
                Arc::clone(&self.context.clock),
                front.spawner(),
                self.front_stop.clone(),
            );
            front.spawn("OIDC discovery", serving);
        }
        self.follow(&front.spawner(), stop);
        let bundle_endpoint = self.endpoint_address.map(|address| address.to_string());
        let oidc = self.discovery_address.map(|address| address.to_string());
        let http = self.http_address.map(|address| address.to_string());
        info!(addr = %self.address, admin = %self.admin_socket.display(), http, bundle_endpoint, oidc, trust_domain = %self.context.trust_domain, "listening");
        info!("ready");

        let (front_stop, back_stop) = (self.front_stop.clone(), self.back_stop.clone());
        let serving = async {
            let ended = front.run(self.drain).await;
            for cutter in &cutters {
                cutter.cut();
            }
            self.say_goodbye().await;
            back_stop.order();
            ended
        };
        let writing = async {
            let ended = back.run(LAST_WRITES).await;
            // When the registry fails by itself nothing else makes sense any more.
            front_stop.order();
            ended
        };
        let (served, written) = tokio::join!(serving, writing);
        if let Drained::Cut(tasks) = served? {
            warn!(tasks, "calls did not finish in time and were cut");
        }
        written.map(|_| ())
    }

    /// Orders our own stop when the outer one is ordered.
    fn follow(&self, spawner: &Spawner, outer: Stop) {
        let own = self.front_stop.clone();
        spawner.spawn("stop", async move {
            tokio::select! {
                () = outer.ordered() => own.order(),
                () = own.ordered() => {}
            }
            Ok::<_, std::convert::Infallible>(())
        });
    }

    async fn say_goodbye(&self) {
        let event = Event::new(Actor::Daemon, Action::ServiceStop, Outcome::Done)
            .object(Object::service("muster-server"));
        if let Err(error) = self.context.audit.record(event).await {
            warn!(error = &error as &dyn Error, "the stop is not in the audit log");
        }
        let audit = self.context.audit.clone();
        // It waits for the disk; the runtime's blocking threads are made for that.
        tokio::task::spawn_blocking(move || audit.close()).await.ok();
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.front_stop.order();
        self.back_stop.order();
    }
}

fn terms(config: &Config) -> Terms {
    Terms {
        trust_domain: config.trust_domain.clone(),
        subject: ca_subject(),
        lifetime: config.ca.lifetime,
        x509_key: config.ca.x509_key,
        jwt_key: config.ca.jwt_key,
        refresh_hint: config.ca.refresh_hint,
    }
}

fn signing_pool(config: &Config) -> io::Result<SigningPool> {
    let threads = match config.signing_threads {
        0 => available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    };
    SigningPool::start(threads, config.signing_queue)
}

#[cfg(test)]
mod tests;
