//! Putting the server together, and running it.

mod error;
mod ground;
mod openings;
mod signing;
mod upkeep;

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use muster_audit::{Action, Actor, AuditError, Event, Object, Outcome};
use muster_pki::bundle::Bundle;
use muster_pki::tls::SvidResolver;
use muster_runtime::http::HttpDoor;
use muster_runtime::logging::LogLevel;
use muster_runtime::metrics::Metrics;
use muster_runtime::systemd::Supervised;
use muster_runtime::{Clock, Drained, Readiness, Spawner, Stop, SystemClock, TaskFailure, Tasks};
use tracing::{info, warn};

use crate::api::limits::Limits;
use crate::api::meter::Meter;
use crate::api::{Changes, Context, OneAtATime, UnderWay};
use crate::ca::ServerSvid;
use crate::config::Config;
use crate::doors::Doors;
use crate::federation::endpoint::Endpoint;
use crate::node_attestors::NodeAttestors;
use crate::nodes::Nodes;
use crate::oidc::Discovery;
use crate::reload::Running;
use crate::state::State;

pub use error::BuildError;
use ground::{Ground, Records};
use openings::Openings;
use signing::Signing;
use upkeep::Upkeep;

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
    let ground = Ground::new(clock);

    let state = State::open(&config, Arc::clone(&ground.clock)).await?;
    let records = Records::open(&config, &ground, state.store)?;
    let audit = state.audit.opened().await?;
    let signing = Signing::start(&config, &ground, &records, state.keys, &audit).await?;
    let resolver = SvidResolver::new();
    let server_svid = ServerSvid::new(
        Context::server_id(&config.trust_domain),
        config.ca.x509_key,
        signing.ca.clone(),
        Arc::clone(&ground.clock),
        resolver.clone(),
    );
    let renewal_due = server_svid.renew().await?;
    let (refresher, federation) = records.follow_peers(&config, &ground, &audit).await?;

    let openings = Openings::bind(&config, &ground, &records, resolver, &federation, &state.seal).await?;
    let node_attestors = NodeAttestors::new(&config.trust_domain, config.node_attestors)?;
    let context = Arc::new(Context {
        meter: ground.metrics.register(Meter::register),
        trust_domain: config.trust_domain,
        connections: signing.connections,
        nodes: Arc::new(Nodes::new(records.registry.clone())),
        registry: records.registry,
        node_attestors,
        ca: signing.ca,
        authorities: signing.authorities,
        upstream: signing.upstream,
        downstream: config.ca.lifetime,
        wildcards: config.ca.wildcards,
        bundles: records.bundles,
        federation,
        audit,
        limits: Limits::new(config.limits),
        spawner: ground.front.spawner(),
        changes: Changes::default(),
        one_at_a_time: OneAtATime::default(),
        publishing: UnderWay::default(),
        own_uid: nix::unistd::geteuid().as_raw(),
        log_level,
        admin_ids: config.admin_ids,
        server_svid: server_svid.watch(),
        readiness: ground.readiness.clone(),
        started_at: ground.clock.now(),
        clock: Arc::clone(&ground.clock),
    });
    ground.count(&context);
    record_start(&context).await?;

    let upkeep = Upkeep {
        keeper: signing.keeper,
        commands: signing.commands,
        server_svid,
        renewal_due,
        refresher,
    };
    upkeep.start(&told, &ground, &context)?;
    Ok(Bound {
        address: openings.doors.address(),
        admin_socket: config.admin_socket,
        endpoint_address: openings.endpoint.as_ref().map(Endpoint::address),
        endpoint: openings.endpoint,
        discovery_address: openings.discovery.as_ref().and_then(Discovery::address),
        discovery: openings.discovery,
        http_address: openings.http.as_ref().map(HttpDoor::address),
        http: openings.http,
        doors: Some(openings.doors),
        metrics: ground.metrics,
        context,
        told,
        drain: config.drain,
        front: Some(ground.front),
        back: Some(ground.back),
        front_stop: ground.front_stop,
        back_stop: ground.back_stop,
    })
}

async fn record_start(context: &Context) -> Result<(), AuditError> {
    let started = Event::new(Actor::Daemon, Action::ServiceStart, Outcome::Done)
        .object(Object::service("muster-server"))
        .fact("version", env!("CARGO_PKG_VERSION"))
        .fact("trust_domain", &context.trust_domain);
    context.audit.record(started).await.map(drop)
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

#[cfg(test)]
mod tests;
