//! Stories of users and attackers, one module each. Those whose names begin with `host_` need root, and are said to be left
//! out without it.

#![expect(clippy::unwrap_used, reason = "a story that can't go on says so by a panic")]

mod attacks;
mod audit;
mod clients;
mod containers;
mod crash;
mod doors;
mod harness;
mod identity;
mod joining;
mod outage;
mod roles;
mod rotation;
mod tls;
