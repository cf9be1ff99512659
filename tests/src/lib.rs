//! Stories: real processes, real sockets, temporary paths, port 0.
//!
//! [`Process`] is a daemon or client with everything it said; [`Cluster`] is a server and a node agent that were
//! installed as an operator would: configuration files, a join token, a pinned bundle. A story watches for what it
//! waits for; it never sleeps. Begin at [`Cluster::start`].

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment that tests/run set"
)]
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a story that can't go on says so by a panic"
)]

mod acme;
mod binaries;
mod cluster;
mod endpoint;
mod kubernetes;
mod latency;
mod machine;
mod machine_pki;
mod need;
mod peer;
mod polling;
mod process;
mod shown;
mod spire;
mod turn;
mod web;
mod workload;

pub use acme::AcmeDirectory;
pub use binaries::{binary, client, one_builds, peer, root};
pub use cluster::{Cluster, Settings, TRUST_DOMAIN, from_pem, unix_channel};
pub use endpoint::{Reply, ScriptedEndpoint};
pub use kubernetes::{Kubernetes, Pod};
pub use latency::Latency;
pub use machine::{Did, Machine, Network, Packages};
pub use machine_pki::{MachineCa, MachineCertificate};
pub use need::{need, need_programs, need_root};
pub use peer::{Identity, join, tcp_channel, tcp_channel_trusting};
pub use polling::{Polled, PollingAgent};
pub use process::{PATIENCE, Process, as_user, until};
pub use shown::shown_certificate;
pub use spire::{Home, Said, SpireAgent, SpireServer, SpireSettings, Tool, spire_folder, spire_is_here};
pub use turn::Turn;
pub use web::Web;
pub use workload::Workload;

/// How many rounds a fault story runs: `MUSTER_ROUNDS` for a soak, else its short form.
pub fn rounds(short: u64) -> u64 {
    std::env::var("MUSTER_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(short)
}
