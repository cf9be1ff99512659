//! What every plugin of a kind must do. Call the suite from a test of the plugin; it panics at the first broken promise.

mod bundle_publisher;
mod key_manager;
mod node_attestation;
mod node_attestor;
mod upstream_authority;
mod workload_attestor;

pub use bundle_publisher::bundle_publisher;
pub use key_manager::key_manager;
pub use node_attestation::node_attestation;
pub use node_attestor::node_attestor;
pub use upstream_authority::upstream_authority;
pub use workload_attestor::workload_attestor;
