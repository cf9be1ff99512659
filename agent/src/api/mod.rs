//! What the node agent offers: the Workload API to every process, and a few things to administrators.
//!
//! | socket | services | who may |
//! |---|---|---|
//! | Workload API | `SpiffeWorkloadAPI`, health, reflection | everyone; what he gets depends on what he is |
//! | admin | `spire.agent.debug.v1.Debug`, `spire.api.agent.logger.v1.Logger` | whoever may open the socket |
//!
//! Begin at [`workload::WorkloadApi`].

pub mod admin;
mod health;
mod limiter;
mod metrics;
pub mod status;
pub mod workload;

mod serve;

pub use metrics::ApiMetrics;
pub use serve::{ServeError, serve_admin, serve_workload};
