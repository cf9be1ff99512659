//! Stories of users and attackers, one module each. Those whose names begin with `host_` need root, and are said to be left
//! out without it.

#![expect(clippy::unwrap_used, reason = "a story that can't go on says so by a panic")]

mod admin_sockets;
mod agent_admin;
mod attacks;
mod audit;
mod authorities;
mod bounds;
mod clients;
mod connection_age;
mod containers;
mod crash;
mod dev;
mod disk_full;
mod doors;
mod executables;
mod federation;
mod grants;
mod hardening;
mod harness;
mod hostile_messages;
mod identity;
mod image;
mod joining;
mod led_programs;
mod log_lines;
mod memory;
mod node_attestors;
mod oidc;
mod outage;
mod reload;
mod requests;
mod revocation_lists;
mod roles;
mod rotation;
mod secrets;
mod server_api;
mod shut_out;
mod sockets;
mod supply;
mod systemd;
mod threats;
mod tls;
mod tokens;
mod upstream;
