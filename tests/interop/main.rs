//! Stories with the real SPIRE on one side of the wire: its agent and its commands on our server, its commands on our agent, and our agent on its server.

#![expect(clippy::unwrap_used, reason = "a story that can't go on says so by a panic")]

mod admin_endpoints;
mod commands;
mod debug_endpoints;
mod downstream_endpoints;
mod nested;
mod node_attestation;
mod node_attestors;
mod our_agent;
mod polling;
mod spire_agent;
