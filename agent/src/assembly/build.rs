//! From a configuration to an agent whose sockets are bound.

use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Instant;

use muster_audit::{Action, Actor, Event, Object, Outcome};
use muster_plugin_api::WorkloadAttestor;
use muster_plugin_api::decorate::Meter;
use muster_runtime::http::HttpDoor;
use muster_runtime::metrics::Metrics;
use muster_runtime::{Readiness, SigningPool, Stop, Tasks};
use muster_transport::{AdminDoor, BindError, PassedSockets, UdsDoor};
use muster_workload_attestors::{Cgroup, Unix};
use tracing::{info, warn};

use super::membership::member;
use super::{Bound, BuildError, Surroundings, audit, user_namespaces};
use crate::api::ApiMetrics;
use crate::api::workload::{self, WorkloadApi};
use crate::cache::{Cache, Handle};
use crate::config::Config;
use crate::info::Report;
use crate::keep::Folder;
use crate::node_facts::node_facts;
use crate::peer::Attestors;
use crate::rotate::Jitter;
use crate::sync::{self, Link, LinkMetrics};

/// How many batches of keys may wait for a thread. There are at most two at a time.
const KEY_QUEUE: usize = 16;
/// `FileDescriptorName=` of the Workload API's socket in its unit.
const WORKLOAD_SOCKET_NAME: &str = "workload";

/// Opens the state, binds every socket, joins when the node has not joined yet, and takes up what was held before a restart. Nothing waits for the server unless the
/// node joins.
pub async fn build(config: Config, surroundings: Surroundings) -> Result<Bound, BuildError> {
    let Surroundings {
        clock,
        log_level,
        sockets,
    } = surroundings;
    let told = config.clone();
    let (readiness, metrics) = (Readiness::new(), Metrics::new("muster_agent"));
    let folder = Folder::open(&config.data_dir)?;
    let (store, state) = folder.node()?;
    let workload_door = workload_door(&config, sockets)?;
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

    let audit = audit::open(&folder, &trust_domain, &clock)?;
    let svids = folder.svids(&trust_domain);
    let mut cache = Cache::new(Arc::clone(&state.bundle), config.prefetch, Jitter::random());
    cache.restore(svids.read(), clock.now());
    let [entries, held, ..] = cache.sizes();
    info!(spiffe_id = %id, seal = %folder.seal_kind(), entries, svids = held, "this node");
    if let Some(lack) = workload_door.support().degraded() {
        readiness.note("kernel", Some(format!("degraded: {lack}")));
        warn!(lack, "this kernel lacks something; callers are pinned less well");
    }
    if user_namespaces::are_allowed(Path::new("/proc")) {
        let meaning = user_namespaces::ALLOWED;
        readiness.note("user namespaces", Some(meaning.to_owned()));
        info!(meaning, "this machine's users can make user namespaces");
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
        attestor: config.node_attestor.as_ref().map(|proof| proof.attestor()),
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
        told,
        tasks,
    })
}

/// The Workload API's socket: systemd's, when it passed one, so that nobody's connection fails while the agent starts; otherwise one of our own.
fn workload_door(config: &Config, sockets: PassedSockets) -> Result<UdsDoor, BindError> {
    let (path, mode) = (&config.workload_socket, config.workload_socket_mode);
    match sockets.named(WORKLOAD_SOCKET_NAME) {
        Some(socket) => UdsDoor::adopt(socket, path, mode, config.limits),
        None => UdsDoor::bind(path, mode, config.limits),
    }
}
