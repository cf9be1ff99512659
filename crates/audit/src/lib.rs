//! The audit log: who did what to which thing, how it ended, and proof that nobody changed the account since.
//!
//! handlers ─[`Event`]→ [`Audit::record`] ─queue→ one thread: number, link, hash → a frame of the journal (fdatasync) → [`Receipt`] → the answer leaves
//!
//! Each record is one line of JSON that names the hash of the line before it, and a leaf of a Merkle tree (RFC 6962);
//! every 1,000 records or 10 seconds the tree's root is signed as a checkpoint in the form that transparency
//! logs use. A record that was changed, removed, added or moved is found by [`verify()`], and named.
//!
//! It fails closed: without a receipt nothing may leave. Values that callers chose are escaped and capped, so a
//! record is always one short line; secrets have no place in an event.
//!
//! Trusted: the disk's sync, the signing key. Not trusted: callers' names, whoever may write to the files. What no
//! log on one disk can show alone is that its tail was cut off together with every copy of its checkpoints: keep one
//! elsewhere ([`Trust::known`]). Begin at [`Audit::open`].

mod action;
mod actor;
mod checkpoint;
mod event;
mod frame;
mod key_file;
mod log;
mod merkle;
mod object;
mod record;
mod settings;
mod sink;
mod text;
mod verify;
mod walk;
mod writer;

pub use action::Action;
pub use actor::Actor;
pub use checkpoint::{Checkpoint, CheckpointError};
pub use event::{Event, MAX_FACTS, Outcome};
pub use key_file::{KeyFileError, public_key_from_pem, public_key_to_pem};
pub use log::{Audit, AuditError, OpenError, Receipt, Standing};
pub use merkle::{Hash, Tree};
pub use object::Object;
pub use settings::{Now, Settings};
pub use text::Text;
pub use verify::{Trust, Verified, VerifyError, origin_beside, verify, verify_chain};

#[cfg(test)]
mod tests;
