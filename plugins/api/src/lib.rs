//! The plugin seams: one small trait per kind, decorators, fakes, and a conformance suite per kind.
//!
//! | kind | side | trait | answers |
//! |---|---|---|---|
//! | workload attestor | agent | [`WorkloadAttestor`] | which facts hold of the process behind a [`Caller`] |
//! | node attestor | agent | [`NodeAttestor`] | what proves this machine to the server |
//! | bundle publisher | server | [`BundlePublisher`] | where the bundle is laid for those who do not ask |
//! | node attestor | server | [`NodeVerifier`] | whether it does, and as which node |
//! | upstream authority | server | [`UpstreamAuthority`] | who signs the server's authorities, and what else is known there |
//! | key manager | server | [`KeyManager`] | where the authorities' keys live; hands out [`muster_pki::Signer`]s |
//!
//! A plugin knows no daemon and no transport: what it may ask stands in its trait's arguments. Deadlines and metrics wrap a plugin
//! ([`decorate`]) and stay out of it. Not trusted: the promptness of a plugin, and its answers beyond its own selector types.
//! Every kind has a fake in [`fake`] and a suite in [`conformance`] that the fake and every built-in pass. Begin at [`WorkloadAttestor`].

pub mod conformance;
pub mod decorate;
pub mod fake;

mod bundle_publisher;
mod caller;
mod key_manager;
mod node_attestor;
mod node_verifier;
mod upstream_authority;
mod workload_attestor;

pub use bundle_publisher::{BundleForm, BundlePublisher, PublishError};
pub use caller::{Caller, CallerError, CallerEvidence, FileId, Ids, Pinned, Standing};
pub use key_manager::{KeyManager, KeyManagerError, KeyName, ParseKeyNameError};
pub use node_attestor::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};
pub use node_verifier::{
    AttestedNode, MAX_NODE_SELECTORS, Moment, NODE_KINDS, NodeChallenge, NodePath, NodePathError, NodeStep,
    NodeVerifier, NodeVerifyError, Shown,
};
pub use upstream_authority::{
    AuthorityRequest, Extent, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError,
};
pub use workload_attestor::{AttestError, Attestation, Gap, Hope, WorkloadAttestor};
