//! Putting the agent together, and running it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use muster_audit::{Action, Actor, Audit, AuditError, Event, Object, Outcome, Settings};
use muster_identity::{SpiffeId, TrustDomain};
use muster_plugin_api::WorkloadAttestor;
use muster_plugin_api::decorate::Meter;
use muster_runtime::http::HttpDoor;
use muster_runtime::logging::LogLevel;
use muster_runtime::metrics::Metrics;
use muster_runtime::{
    Clock, Condition, Drained, Readiness, SigningPool, Stop, SystemClock, TaskFailure, Tasks,
};
use muster_transport::{AdminDoor, BindError, UdsDoor};
use muster_workload_attestors::{Cgroup, StartError, Unix};
use tracing::{error, info, warn};

use crate::api::workload::{self, WorkloadApi};
use crate::api::{ApiMetrics, serve_admin, serve_workload};
use crate::attest::{JoinError, JoinRequest, Membership, OldMembership, become_node};
use crate::cache::{Cache, Handle};
use crate::config::{Config, JoinConfig, TokenSource};
use crate::info::Report;
use crate::keep::{Folder, NodeState, NodeStore, NodeStoreError, OpenFolderError, SvidStore, write_behind};
use crate::node_facts::node_facts;
use crate::peer::Attestors;
use crate::rotate::Jitter;
use crate::sync::{self, Link, LinkMetrics};

/// How long the first attestation is tried at a start, before the start has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many batches of keys may wait for a thread. There are at most two at a time.
const KEY_QUEUE: usize = 16;
/// How often the audit log is asked whether it can still write.
const AUDIT_LOOK: Duration = Duration::from_secs(1);

/// What an agent does not make itself, because the process has only one of it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The log level.
    pub log_level: LogLevel,
}

/// An agent whose sockets are bound and that is a node. Dropped without [`Bound::run`] it stops.
pub struct Bound {
    handle: Handle,
    link: Link,
    report: Report,
    svids: SvidStore,
    audit: Audit,
    api: WorkloadApi,
    workload_door: UdsDoor,
    admin_door: AdminDoor,
    http: Option<HttpDoor>,
    metrics: Metrics,
    readiness: Readiness,
    log_level: LogLevel,
    id: SpiffeId,
    drain: Duration,
    tasks: Tasks,
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] OpenFolderError),
    /// The node's state.
    #[error(transparent)]
    Node(#[from] NodeStoreError),
    /// This machine is no node, and nothing says how to become one.
    #[error(
        "this machine is no node yet; run: muster-agent join --server HOST:PORT --token TOKEN (--bundle FILE | --bundle-sha256 FINGERPRINT)"
    )]
    NotJoined,
    /// The configuration says another trust domain than the node is of.
    #[error("this node is of trust domain {joined}, but the configuration says {configured}")]
    OtherTrustDomain {
        /// What the node is of.
        joined: TrustDomain,
        /// What was configured.
        configured: TrustDomain,
    },
    /// The token's file.
    #[error("reading the join token {}", path.display())]
    Token {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The first attestation.
    #[error("joining")]
    Join(#[from] JoinError),
    /// A socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The door for probes.
    #[error("binding {address} for probes")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The audit log.
    #[error("opening the audit log")]
    AuditLog(#[from] muster_audit::OpenError),
    /// The audit log.
    #[error("recording the start")]
    Audit(#[from] AuditError),
    /// The attestors.
    #[error(transparent)]
    Attestor(#[from] StartError),
    /// The threads that make keys.
    #[error("starting the threads that make keys")]
    Threads(#[source] io::Error),
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

/// Whether the folder holds a node's identity, so that no join token is needed. A folder that can't be read, or that a running agent holds, is an error.
pub fn is_joined(data_dir: &Path) -> Result<bool, BuildError> {
    let (_, state) = Folder::open(data_dir)?.node()?;
    Ok(state.is_some_and(|state| state.identity.is_some()))
}

/// Opens the state, binds every socket, joins when the node has not joined yet, and takes up what was held before a restart. Nothing waits for the server unless the
/// node joins.
pub async fn build(config: Config, surroundings: Surroundings) -> Result<Bound, BuildError> {
    let Surroundings { clock, log_level } = surroundings;
    let (readiness, metrics) = (Readiness::new(), Metrics::new("muster_agent"));
    let folder = Folder::open(&config.data_dir)?;
    let (store, state) = folder.node()?;
    let workload_door = UdsDoor::bind(
        &config.workload_socket,
        config.workload_socket_mode,
        config.limits,
    )?;
    let admin_door = AdminDoor::bind(&config.admin_socket, config.admin_socket_mode)?;
    let http = match config.http {
        None => None,
        Some(address) => Some(
            HttpDoor::bind(address)
                .await
                .map_err(|source| BuildError::Http { address, source })?,
        ),
    };
    let membership = member(&config, &folder, store, state, &*clock).await?;
    let state = membership.state();
    let trust_domain = state.trust_domain.clone();
    let Some(id) = state.identity.as_ref().map(|own| own.svid.id().clone()) else {
        return Err(BuildError::NotJoined);
    };

    let audit = open_audit(&folder, &trust_domain, &clock)?;
    let svids = folder.svids(&trust_domain);
    let mut cache = Cache::new(Arc::clone(&state.bundle), config.prefetch, Jitter::random());
    cache.restore(svids.read(), clock.now());
    let [entries, held, ..] = cache.sizes();
    info!(spiffe_id = %id, seal = %folder.seal_kind(), entries, svids = held, "this node");
    if let Some(lack) = workload_door.support().degraded() {
        readiness.note("kernel", Some(format!("degraded: {lack}")));
        warn!(lack, "this kernel lacks something; callers are pinned less well");
    }
    let tasks = Tasks::new(Stop::new());
    let (handle, orders) = Handle::new(cache, Arc::clone(&clock));
    let api_metrics = ApiMetrics::new(&metrics);
    let meter: Arc<dyn Meter> = Arc::new(api_metrics.clone());
    let attestors: Vec<Arc<dyn WorkloadAttestor>> =
        vec![Arc::new(Unix::new(config.unix)?), Arc::new(Cgroup::new())];
    let parts = workload::Parts {
        identities: Arc::new(handle.clone()),
        attestors: Arc::new(Attestors::new(attestors, &meter)),
        audit: audit.clone(),
        clock: Arc::clone(&clock),
        metrics: api_metrics,
        stop: tasks.stop(),
    };
    let api = WorkloadApi::new(parts, config.workload);
    let threads = available_parallelism().map_or(1, usize::from).min(4);
    let pool = SigningPool::start(threads, KEY_QUEUE).map_err(BuildError::Threads)?;
    let svid = membership.svid();
    let (link, standing) = Link::new(sync::Parts {
        handle: handle.clone(),
        orders,
        membership,
        clock,
        pool,
        algorithm: config.key,
        readiness: readiness.clone(),
        metrics: LinkMetrics::register(&metrics),
        facts: node_facts(),
    });
    let started = Event::new(Actor::Daemon, Action::ServiceStart, Outcome::Done)
        .object(Object::service("muster-agent"))
        .fact("version", env!("CARGO_PKG_VERSION"))
        .fact("spiffe_id", &id);
    audit.record(started).await?;
    let report = Report {
        handle: handle.clone(),
        standing,
        svid,
        started: Instant::now(),
    };
    let drain = config.drain;
    Ok(Bound {
        handle,
        link,
        report,
        svids,
        audit,
        api,
        workload_door,
        admin_door,
        http,
        metrics,
        readiness,
        log_level,
        id,
        drain,
        tasks,
    })
}

impl Bound {
    /// This node's identity.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// Where workloads connect.
    pub fn workload_socket(&self) -> &Path {
        self.workload_door.path()
    }

    /// Where administrators connect.
    pub fn admin_socket(&self) -> &Path {
        self.admin_door.path()
    }

    /// Where probes connect.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(HttpDoor::address)
    }

    /// Whether the agent can serve.
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// Serves until `stop` is ordered or something fails. Then nobody is let in any more, running calls may finish for the configured time, and connections are cut.
    pub async fn run(self, stop: Stop) -> Result<(), TaskFailure> {
        let Self {
            tasks,
            readiness,
            audit,
            ..
        } = self;
        let own = tasks.stop();
        let http = self.http.as_ref().map(|door| door.address().to_string());
        info!(workload = %self.workload_door.path().display(), admin = %self.admin_door.path().display(), http, spiffe_id = %self.id, "listening");
        tasks.spawn("server", self.link.run(own.clone()));
        tasks.spawn("kept SVIDs", write_behind(self.handle, self.svids, own.clone()));
        tasks.spawn(
            "audit",
            watch_audit(audit.clone(), readiness.condition("audit"), own.clone()),
        );
        let (spawner, workload_stop, ready) = (tasks.spawner(), own.clone(), readiness.clone());
        let (door, api) = (self.workload_door, self.api);
        tasks.spawn("workload door", async move {
            serve_workload(door, api, ready, spawner, workload_stop).await
        });
        tasks.spawn(
            "admin door",
            serve_admin(self.admin_door, self.report, self.log_level, own.clone()),
        );
        if let Some(http) = self.http {
            tasks.spawn(
                "http door",
                http.serve(readiness.clone(), self.metrics, own.clone()),
            );
        }
        let (told, stopped) = (readiness.clone(), own.clone());
        tasks.spawn("readiness", async move {
            tokio::select! {
                () = told.ready() => info!("ready"),
                () = stopped.ordered() => {}
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let (outer, inner) = (stop, own);
        tasks.spawn("stop", async move {
            tokio::select! {
                () = outer.ordered() => inner.order(),
                () = inner.ordered() => {}
            }
            Ok::<_, std::convert::Infallible>(())
        });
        let ended = tasks.run(self.drain).await;
        let event = Event::new(Actor::Daemon, Action::ServiceStop, Outcome::Done)
            .object(Object::service("muster-agent"));
        if let Err(error) = audit.record(event).await {
            warn!(error = &error as &dyn Error, "the stop is not in the audit log");
        }
        // It waits for the disk; the runtime's blocking threads are made for that.
        tokio::task::spawn_blocking(move || audit.close()).await.ok();
        if let Drained::Cut(tasks) = ended? {
            warn!(tasks, "calls did not finish in time and were cut");
        }
        Ok(())
    }
}

/// The node's own state: as it was left, or made by the first attestation.
async fn member(
    config: &Config,
    folder: &Folder,
    store: NodeStore,
    state: Option<NodeState>,
    clock: &dyn Clock,
) -> Result<Membership, BuildError> {
    let joined = state.as_ref().filter(|state| state.identity.is_some());
    let mut membership = match (joined, &config.join, &config.server) {
        (Some(joined), ..) => Membership::new(store, joined.clone())?,
        (None, Some(join), Some(server)) => {
            let request = JoinRequest {
                data_dir: config.data_dir.clone(),
                server: server.clone(),
                token: token(join)?,
                pin: join.pin.clone(),
                trust_domain: config.trust_domain.clone(),
                old: OldMembership::Keep,
            };
            become_node(folder, store, state, &request, clock, PATIENCE).await?
        }
        (None, ..) => return Err(BuildError::NotJoined),
    };
    let joined = &membership.state().trust_domain;
    if let Some(configured) = config
        .trust_domain
        .as_ref()
        .filter(|configured| *configured != joined)
    {
        let (joined, configured) = (joined.clone(), configured.clone());
        return Err(BuildError::OtherTrustDomain { joined, configured });
    }
    if let Some(server) = &config.server {
        membership.use_server(server.clone());
    }
    Ok(membership)
}

fn token(join: &JoinConfig) -> Result<muster_node_attestors::JoinToken, BuildError> {
    let path = match &join.token {
        TokenSource::Token(token) => return Ok(token.clone()),
        TokenSource::File(path) => path,
    };
    let wrong = |source: Box<dyn Error + Send + Sync>| BuildError::Token {
        path: path.clone(),
        source,
    };
    let text = std::fs::read_to_string(path)
        .map(zeroize::Zeroizing::new)
        .map_err(|error| wrong(error.into()))?;
    text.trim()
        .parse()
        .map_err(|error: muster_node_attestors::ParseJoinTokenError| wrong(error.into()))
}

fn open_audit(
    folder: &Folder,
    trust_domain: &TrustDomain,
    clock: &Arc<dyn Clock>,
) -> Result<Audit, BuildError> {
    let (signer, clock) = (Arc::new(folder.audit_key()?), Arc::clone(clock));
    let origin = format!("{trust_domain}/agent-audit");
    Ok(Audit::open(
        &folder.audit(),
        Settings::new(origin, signer, Arc::new(move || clock.now())),
    )?)
}

async fn watch_audit(audit: Audit, standing: Condition, stop: Stop) -> Result<(), AuditError> {
    loop {
        match audit.standing() {
            muster_audit::Standing::Writing => standing.holds(),
            muster_audit::Standing::Failing(why) => standing.fails(why),
            muster_audit::Standing::Broken(why) => {
                // Only a new start can tell what is on the disk.
                error!(why, "the audit log can't be written any more; stopping");
                return Err(AuditError::Broken);
            }
        }
        tokio::select! {
            () = stop.ordered() => return Ok(()),
            () = tokio::time::sleep(AUDIT_LOOK) => {}
        }
    }
}
