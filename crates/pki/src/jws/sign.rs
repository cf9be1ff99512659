use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;

use super::algorithm::Algorithm;
use crate::{
    der::{self, NotDer, Reader},
    key::KeyKind,
    signer::{Signer, SignerError},
};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum JwsSignError {
    /// The key does not go with the algorithm (RFC 7518 3.1).
    #[error("a key of kind {kind} does not sign by {algorithm}")]
    Algorithm {
        /// The key's kind.
        kind: KeyKind,
        /// What was asked.
        algorithm: Algorithm,
    },
    /// The key's holder.
    #[error("signing the token")]
    Signer(#[from] SignerError),
    /// The key's holder gave something that is no signature.
    #[error("the holder of the key gave no ECDSA signature")]
    Malformed,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typ: Option<&'a str>,
}

/// Signs `payload` as a compact JWS. May block as long as the key's holder does.
///
/// # Errors
/// When the key does not go with the algorithm, or its holder fails.
pub fn sign_compact(
    signer: &dyn Signer,
    algorithm: Algorithm,
    key_id: Option<&str>,
    typ: Option<&str>,
    payload: &[u8],
) -> Result<String, JwsSignError> {
    let kind = signer.public_key().kind();
    if !algorithm.fits(kind) {
        return Err(JwsSignError::Algorithm { kind, algorithm });
    }
    let header = Header {
        alg: algorithm.name(),
        kid: key_id,
        typ,
    };
    let header = serde_json::to_vec(&header).map_err(|_| JwsSignError::Malformed)?;
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let mut signature = signer.sign(algorithm.scheme(), token.as_bytes())?;
    if let Some(length) = algorithm.coordinate_bytes() {
        signature = fixed_form(&signature, length).map_err(|_| JwsSignError::Malformed)?;
    }
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// An ASN.1 ECDSA signature (RFC 3279 2.2.3) as r and s side by side, each filled up to the curve's length
/// (RFC 7518 3.4).
fn fixed_form(asn1: &[u8], length: usize) -> Result<Vec<u8>, NotDer> {
    let mut outer = Reader::new(asn1);
    let mut pair = Reader::new(outer.read(der::SEQUENCE)?);
    outer.finish()?;
    let mut fixed = Vec::with_capacity(2 * length);
    for _ in 0..2 {
        let number = pair.read_positive_integer()?;
        let fill = length.checked_sub(number.len()).ok_or(NotDer)?;
        fixed.resize(fixed.len() + fill, 0);
        fixed.extend_from_slice(number);
    }
    pair.finish()?;
    Ok(fixed)
}
