//! The public key of a log's checkpoints as a file (PEM, RFC 7468 13): what an auditor keeps elsewhere.

use base64::{Engine, engine::general_purpose::STANDARD};
use muster_pki::key::{PublicKey, PublicKeyError};

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// An RSA key of 4096 bits has less than 1 KiB.
const LONGEST: usize = 16 << 10;

/// Why a text holds no public key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Not one PEM block of a public key.
    #[error("not one PEM block \"PUBLIC KEY\"")]
    Form,
    /// The block holds no key that we take.
    #[error("the key in it")]
    Key(#[from] PublicKeyError),
}

/// The key as PEM.
pub fn public_key_to_pem(key: &PublicKey) -> String {
    let mut text = format!("{BEGIN}\n");
    for line in STANDARD.encode(key.spki_der()).as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// The one key in a PEM text.
///
/// # Errors
/// Says what is wrong with the text.
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, KeyFileError> {
    let inside = text
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .filter(|inside| inside.len() <= LONGEST)
        .ok_or(KeyFileError::Form)?;
    let base64: String = inside.lines().map(str::trim).collect();
    let spki = STANDARD.decode(base64).map_err(|_| KeyFileError::Form)?;
    Ok(PublicKey::from_spki_der(&spki)?)
}
