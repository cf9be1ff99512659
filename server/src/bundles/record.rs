//! A bundle as the log keeps it: one version byte and SPIRE's message, which holds all that a bundle has (its document has no expiry and no taint).

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
