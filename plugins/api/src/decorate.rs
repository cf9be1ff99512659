//! What wraps a workload attestor and stays out of it: a deadline, a meter, and the border of its own selector types.

mod confined;
mod measured;
mod timed;

pub use confined::{Confined, MAX_FACTS};
pub use measured::{Measured, Meter, Outcome};
pub use timed::Timed;

#[cfg(test)]
mod tests;
