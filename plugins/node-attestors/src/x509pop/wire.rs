//! The messages, as SPIRE's plugins have them: JSON with bytes in base64.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_pki::ecdsa::EcdsaParts;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// How long a nonce is, on either side.
const NONCE: usize = 32;
/// More certificates than this are in nobody's payload; the server's own bound is lower.
const MOST_CERTIFICATES: usize = 16;
/// The longest signature is that of RSA 8192.
const MOST_SIGNATURE: usize = 1024;

/// The first message: the chain, leaf first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payload {
    /// DER certificates.
    pub certificates: Vec<Vec<u8>>,
}

/// What the server asks to be signed, by the kind of the leaf's key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Challenge {
    /// By RSASSA-PSS over SHA-256.
    Rsa([u8; NONCE]),
    /// By ECDSA over SHA-256.
    Ecdsa([u8; NONCE]),
}

/// The agent's nonce and its signature over both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Response {
    /// Of an RSA key.
    Rsa {
        /// The agent's own nonce.
        nonce: [u8; NONCE],
        /// The signature.
        signature: Vec<u8>,
    },
    /// Of an EC key.
    Ecdsa {
        /// The agent's own nonce.
        nonce: [u8; NONCE],
        /// The signature.
        signature: EcdsaParts,
    },
}

/// Why bytes are not the message that they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// No JSON of the right shape.
    #[error("it is not JSON of the expected shape")]
    Json,
    /// Bytes that are no base64.
    #[error("it holds bytes that are not in base64")]
    Base64,
    /// No nonce of 32 bytes.
    #[error("its nonce does not have 32 bytes")]
    Nonce,
    /// Not exactly one of the two kinds.
    #[error("it is not about exactly one kind of key")]
    Kinds,
    /// More certificates than anybody has.
    #[error("it holds more than {MOST_CERTIFICATES} certificates")]
    Certificates,
    /// A signature longer than any.
    #[error("its signature is longer than any")]
    Signature,
}

#[derive(Default, Deserialize, Serialize)]
struct WirePayload {
    #[serde(default)]
    certificates: Option<Vec<String>>,
}

#[derive(Deserialize, Serialize)]
struct Kinds<R, E> {
    #[serde(default = "none")]
    rsa_signature: Option<R>,
    #[serde(default = "none")]
    ecdsa_signature: Option<E>,
}

#[derive(Deserialize, Serialize)]
struct WireChallenge {
    nonce: String,
}

#[derive(Deserialize, Serialize)]
struct WireRsa {
    nonce: String,
    signature: String,
}

#[derive(Deserialize, Serialize)]
struct WireEcdsa {
    nonce: String,
    r: String,
    s: String,
}

fn none<T>() -> Option<T> {
    None
}

impl Payload {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let wire: WirePayload = serde_json::from_slice(bytes).map_err(|_| WireError::Json)?;
        let certificates = wire.certificates.unwrap_or_default();
        if certificates.len() > MOST_CERTIFICATES {
            return Err(WireError::Certificates);
        }
        let certificates = certificates
            .iter()
            .map(|text| decoded(text))
            .collect::<Result<_, _>>()?;
        Ok(Self { certificates })
    }

    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let certificates = self.certificates.iter().map(|der| STANDARD.encode(der)).collect();
        written(&WirePayload {
            certificates: Some(certificates),
        })
    }
}

impl Challenge {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let wire: Kinds<WireChallenge, WireChallenge> =
            serde_json::from_slice(bytes).map_err(|_| WireError::Json)?;
        match (wire.rsa_signature, wire.ecdsa_signature) {
            (Some(rsa), None) => Ok(Self::Rsa(nonce(&rsa.nonce)?)),
            (None, Some(ecdsa)) => Ok(Self::Ecdsa(nonce(&ecdsa.nonce)?)),
            _ => Err(WireError::Kinds),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = |nonce: &[u8]| {
            Some(WireChallenge {
                nonce: STANDARD.encode(nonce),
            })
        };
        let (rsa_signature, ecdsa_signature) = match self {
            Self::Rsa(nonce) => (wire(nonce), None),
            Self::Ecdsa(nonce) => (None, wire(nonce)),
        };
        written(&Kinds {
            rsa_signature,
            ecdsa_signature,
        })
    }

    /// Its nonce.
    #[must_use]
    pub fn nonce(&self) -> &[u8; NONCE] {
        match self {
            Self::Rsa(nonce) | Self::Ecdsa(nonce) => nonce,
        }
    }

    /// What is signed: both nonces, the server's first. The signature's own hash makes the digest of it.
    pub(super) fn message(&self, own: &[u8; NONCE]) -> [u8; 2 * NONCE] {
        let mut message = [0; 2 * NONCE];
        message[..NONCE].copy_from_slice(self.nonce());
        message[NONCE..].copy_from_slice(own);
        message
    }
}

impl Response {
    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let wire: Kinds<WireRsa, WireEcdsa> = serde_json::from_slice(bytes).map_err(|_| WireError::Json)?;
        match (wire.rsa_signature, wire.ecdsa_signature) {
            (Some(rsa), None) => Ok(Self::Rsa {
                nonce: nonce(&rsa.nonce)?,
                signature: signature(&rsa.signature)?,
            }),
            (None, Some(ecdsa)) => Ok(Self::Ecdsa {
                nonce: nonce(&ecdsa.nonce)?,
                signature: EcdsaParts {
                    r: signature(&ecdsa.r)?,
                    s: signature(&ecdsa.s)?,
                },
            }),
            _ => Err(WireError::Kinds),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (rsa_signature, ecdsa_signature) = match self {
            Self::Rsa { nonce, signature } => (
                Some(WireRsa {
                    nonce: STANDARD.encode(nonce),
                    signature: STANDARD.encode(signature),
                }),
                None,
            ),
            Self::Ecdsa { nonce, signature } => (
                None,
                Some(WireEcdsa {
                    nonce: STANDARD.encode(nonce),
                    r: STANDARD.encode(&signature.r),
                    s: STANDARD.encode(&signature.s),
                }),
            ),
        };
        written(&Kinds {
            rsa_signature,
            ecdsa_signature,
        })
    }
}

fn decoded(text: &str) -> Result<Vec<u8>, WireError> {
    STANDARD.decode(text).map_err(|_| WireError::Base64)
}

fn nonce(text: &str) -> Result<[u8; NONCE], WireError> {
    let bytes = Zeroizing::new(decoded(text)?);
    bytes.as_slice().try_into().map_err(|_| WireError::Nonce)
}

fn signature(text: &str) -> Result<Vec<u8>, WireError> {
    let bytes = decoded(text)?;
    if bytes.is_empty() || bytes.len() > MOST_SIGNATURE {
        return Err(WireError::Signature);
    }
    Ok(bytes)
}

fn written(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("texts and lists of texts are JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_have_the_shape_that_spire_has() {
        let payload = Payload {
            certificates: vec![vec![1, 2, 3], vec![4]],
        };
        assert_eq!(payload.to_bytes(), br#"{"certificates":["AQID","BA=="]}"#);
        assert_eq!(Payload::parse(&payload.to_bytes()), Ok(payload));
        let nonce = STANDARD.encode([7; NONCE]);
        let challenge = format!(r#"{{"rsa_signature":{{"nonce":"{nonce}"}},"ecdsa_signature":null}}"#);
        assert_eq!(
            Challenge::parse(challenge.as_bytes()),
            Ok(Challenge::Rsa([7; NONCE]))
        );
        assert_eq!(Challenge::Rsa([7; NONCE]).to_bytes(), challenge.as_bytes());
        let response = format!(
            r#"{{"rsa_signature":null,"ecdsa_signature":{{"nonce":"{nonce}","r":"AQ==","s":"Ag=="}}}}"#
        );
        let read = Response::parse(response.as_bytes()).unwrap();
        assert_eq!(read.to_bytes(), response.as_bytes());
    }

    #[test]
    fn a_message_about_both_kinds_or_none_means_nothing() {
        let nonce = STANDARD.encode([7; NONCE]);
        let member = format!(r#"{{"nonce":"{nonce}"}}"#);
        for wrong in [
            format!(r#"{{"rsa_signature":{member},"ecdsa_signature":{member}}}"#),
            "{}".to_owned(),
            r#"{"rsa_signature":{"nonce":"AQ=="}}"#.to_owned(),
            r#"{"rsa_signature":{"nonce":"?"}}"#.to_owned(),
            "[[[[".repeat(5000),
        ] {
            assert!(Challenge::parse(wrong.as_bytes()).is_err(), "{wrong:.80}");
            assert!(Response::parse(wrong.as_bytes()).is_err(), "{wrong:.80}");
        }
        let many = Payload {
            certificates: vec![vec![1]; MOST_CERTIFICATES + 1],
        };
        assert_eq!(Payload::parse(&many.to_bytes()), Err(WireError::Certificates));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Payload::parse(&bytes);
            let _ = Challenge::parse(&bytes);
            let _ = Response::parse(&bytes);
        }

        #[test]
        fn what_is_written_is_read_back(nonce: [u8; NONCE], signature in prop::collection::vec(any::<u8>(), 1..600), rsa: bool) {
            let challenge = if rsa { Challenge::Rsa(nonce) } else { Challenge::Ecdsa(nonce) };
            prop_assert_eq!(Challenge::parse(&challenge.to_bytes()), Ok(challenge));
            let response = if rsa {
                Response::Rsa { nonce, signature }
            } else {
                Response::Ecdsa { nonce, signature: EcdsaParts { r: signature.clone(), s: signature } }
            };
            prop_assert_eq!(Response::parse(&response.to_bytes()), Ok(response));
        }
    }
}
