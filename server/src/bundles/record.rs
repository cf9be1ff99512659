//! A bundle as the log keeps it: one version byte and SPIRE's message, which holds all that a bundle has (its document has no expiry and no taint),
//! but the `alg` of a JWK: a parameter that bundles are not to have (Trust Domain and Bundle 4.2), and that no message to nodes, or of SPIRE's, has a place for. What a peer's key may
//! sign with is then what its kind allows.

use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;
use muster_proto::convert::{self, FieldError};
use muster_proto::spire::types;
use prost::Message;

/// The first byte of a record.
const VERSION: u8 = 1;

/// A record that holds no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleRecordError {
    /// It is empty, or of a version that we do not know.
    #[error("the bundle's record was written by a newer version, or is empty")]
    Version,
    /// It is no message.
    #[error("the bundle's record is no message")]
    Message(#[from] prost::DecodeError),
    /// A field of it is wrong.
    #[error("the bundle's record is wrong")]
    Field(#[from] FieldError),
    /// It stands under another name.
    #[error("the bundle's record is that of {0}")]
    Name(TrustDomain),
}

/// A foreign bundle that is not kept: every node and workload that has to do with it would get it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the bundle has more than {MOST_KEYS} keys of one kind, or more than {} KiB", MOST_BYTES >> 10)]
pub struct TooLarge;

/// The most keys of one kind in a foreign bundle; the wire to nodes takes no more.
pub const MOST_KEYS: usize = 1_024;
/// The most bytes of its record: it fits into one message to a node, beside others.
const MOST_BYTES: usize = 256 << 10;

/// The record of a foreign bundle.
///
/// # Errors
/// When it is larger than what is kept of others.
pub fn federated_to_bytes(bundle: &Bundle) -> Result<Vec<u8>, TooLarge> {
    let kinds = [
        bundle.x509_authorities().len(),
        bundle.jwt_authorities().len(),
        bundle.wit_authorities().len(),
    ];
    if kinds.into_iter().any(|keys| keys > MOST_KEYS) {
        return Err(TooLarge);
    }
    let bytes = bundle_to_bytes(bundle);
    if bytes.len() > MOST_BYTES {
        return Err(TooLarge);
    }
    Ok(bytes)
}

/// The record of `bundle`.
pub fn bundle_to_bytes(bundle: &Bundle) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(convert::bundle_to_wire(bundle, None).encode_to_vec());
    bytes
}

/// Reads a record.
pub fn bundle_from_bytes(bytes: &[u8]) -> Result<Bundle, BundleRecordError> {
    let Some((&VERSION, message)) = bytes.split_first() else {
        return Err(BundleRecordError::Version);
    };
    Ok(convert::bundle(&types::Bundle::decode(message)?)?)
}
