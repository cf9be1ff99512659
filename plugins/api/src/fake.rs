//! Fakes of every kind, for tests of whatever uses a plugin. They pass the same conformance suites as the built-ins.

mod caller;
mod key_manager;
mod node_attestor;
mod node_verifier;
mod upstream_authority;
mod workload_attestor;

pub use caller::{FakeCaller, FakeCallerBuilder};
pub use key_manager::FakeKeyManager;
pub use node_attestor::FakeNodeAttestor;
pub use node_verifier::{FakeNodeVerifier, shown};
pub use upstream_authority::FakeUpstreamAuthority;
pub use workload_attestor::{FakeWorkloadAttestor, Mood};
