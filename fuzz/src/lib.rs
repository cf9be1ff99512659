//! Hostile bytes for everything that reads bytes: each target takes any input, must not panic (I12), and holds its property.
//!
//! ```text
//! seeds (made from real values) + corpus/<target>/ ──mutate──▶ target ──new coverage──▶ kept in memory, and in the corpus
//! ```
//!
//! The fuzzer is small and our own, so that it runs wherever the tests run: in process, on the stable compiler, nothing to
//! install. `tests/kept.rs` replays the corpora and a number of mutations in every test run. The `fuzz` program goes on for
//! as long as it is told to; built with the compiler's coverage counters (`fuzz/run`) it keeps what reaches new code.
//! Begin at [`TARGETS`].

mod coverage;
mod mutate;
mod session;
mod targets;

pub use coverage::is_instrumented;
pub use session::{Finding, Report, Session};
pub use targets::TARGETS;

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called, and its folder below `corpus/`.
    pub name: &'static str,
    /// Reads the bytes; panics when its property does not hold.
    pub run: fn(&[u8]),
    /// Inputs that it accepts, to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static str],
}
