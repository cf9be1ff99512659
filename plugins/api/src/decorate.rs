//! What wraps a plugin and stays out of it: deadlines, bounds, a meter, and the border of its own names.

mod bounded;
mod confined;
mod measured;
mod timed;

pub use bounded::{Bounded, JUDGED_WITHIN, MAX_CHALLENGES, MAX_NODE_ANSWER, MAX_NODE_PAYLOAD};
pub use confined::{Confined, MAX_FACTS};
pub use measured::{Measured, Meter, Outcome};
pub use timed::Timed;

#[cfg(test)]
mod tests;
