//! An agent that is put together: its addresses, and its run.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use muster_audit::{Action, Actor, Audit, Event, Object, Outcome};
use muster_identity::SpiffeId;
use muster_runtime::http::HttpDoor;
use muster_runtime::logging::LogLevel;
use muster_runtime::metrics::Metrics;
use muster_runtime::systemd::Supervised;
use muster_runtime::{Drained, Readiness, Stop, TaskFailure, Tasks};
use muster_transport::{AdminDoor, UdsDoor};
use tracing::{info, warn};

use super::audit;
use super::reload::Running;
use crate::api::workload::WorkloadApi;
use crate::api::{serve_admin, serve_workload};
use crate::cache::Handle;
use crate::config::Config;
use crate::info::Report;
use crate::keep::{SvidStore, write_behind};
use crate::sync::Link;

/// An agent whose sockets are bound and that is a node. Dropped without [`Bound::run`] it stops.
pub struct Bound {
    pub(super) handle: Handle,
    pub(super) link: Link,
    pub(super) report: Report,
    pub(super) svids: SvidStore,
    pub(super) audit: Audit,
    pub(super) api: WorkloadApi,
    pub(super) workload_door: UdsDoor,
    pub(super) admin_door: AdminDoor,
    pub(super) http: Option<HttpDoor>,
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) log_level: LogLevel,
    pub(super) id: SpiffeId,
    pub(super) told: Config,
    pub(super) tasks: Tasks,
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

    /// What reloads this agent from `file`, and knows whether it lives.
    pub fn supervised(&self, file: PathBuf) -> impl Supervised + use<> {
        Running::new(
            file,
            self.told.clone(),
            self.log_level.clone(),
            self.api.clone(),
            self.handle.clone(),
        )
    }

    /// Serves until `stop` is ordered or something fails. Then nobody is let in any more, running calls may finish for the configured time, and connections are cut.
    pub async fn run(self, stop: Stop) -> Result<(), TaskFailure> {
        let Self {
            tasks,
            readiness,
            audit: log,
            ..
        } = self;
        let own = tasks.stop();
        let http = self.http.as_ref().map(|door| door.address().to_string());
        info!(workload = %self.workload_door.path().display(), admin = %self.admin_door.path().display(), http, spiffe_id = %self.id, "listening");
        tasks.spawn("server", self.link.run(own.clone()));
        tasks.spawn("kept SVIDs", write_behind(self.handle, self.svids, own.clone()));
        tasks.spawn(
            "audit",
            audit::watch(log.clone(), readiness.condition("audit"), own.clone()),
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
        let ended = tasks.run(self.told.drain).await;
        let event = Event::new(Actor::Daemon, Action::ServiceStop, Outcome::Done)
            .object(Object::service("muster-agent"));
        if let Err(error) = log.record(event).await {
            warn!(error = &error as &dyn Error, "the stop is not in the audit log");
        }
        // It waits for the disk; the runtime's blocking threads are made for that.
        tokio::task::spawn_blocking(move || log.close()).await.ok();
        if let Drained::Cut(tasks) = ended? {
            warn!(tasks, "calls did not finish in time and were cut");
        }
        Ok(())
    }
}
