//! SPIRE's commands on SPIRE and on Muster, side by side.
//!
//! A script of commands brings both sides into the same state. What each says is compared, with what no two runs have in common (times,
//! ids, keys) made equal. What differs then must stand in `docs/spire-cli.md` with its reason, and nothing else may stand there.

mod agents;
mod compared;
mod fixtures;
mod listed;
mod normal;
mod script;
mod servers;
mod side;
