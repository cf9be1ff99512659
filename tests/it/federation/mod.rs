//! Trust domains that federate: with another Muster, with the real SPIRE, ten at once; and what becomes of it when the peer is down, lies, goes or is revoked.

mod acme;
mod crossing;
mod domain;
mod fates;
mod lying;
mod mesh;
mod pair;
mod spire;
mod standing;
mod traffic;
mod turn_over;
