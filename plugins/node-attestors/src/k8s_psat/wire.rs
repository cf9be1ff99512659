//! The one message, as SPIRE's plugins have it.

use std::fmt;

use muster_pki::SecretBytes;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

/// The longest token. Kubernetes makes tokens of one or two kilobytes.
const LONGEST_TOKEN: usize = 16 * 1024;
/// The longest name of a cluster: it is a segment of the node's SPIFFE ID.
const LONGEST_CLUSTER: usize = 255;

/// Which cluster, and the token that its API server knows.
pub struct Payload {
    cluster: String,
    token: Zeroizing<String>,
}

/// Why there is no payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// No JSON of the right shape.
    #[error("it is not JSON with a cluster and a token")]
    Json,
    /// No cluster.
    #[error("missing cluster in attestation data")]
    Cluster,
    /// No token.
    #[error("missing token in attestation data")]
    Token,
    /// Not the characters of a token, or too many.
    #[error("the token is no service account token")]
    NoToken,
}

#[derive(Deserialize, Serialize)]
struct Wire {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    token: String,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl Payload {
    /// A payload of these.
    ///
    /// # Errors
    /// When one can't be what it should be.
    pub fn new(cluster: &str, token: &str) -> Result<Self, PayloadError> {
        if cluster.is_empty() || cluster.len() > LONGEST_CLUSTER {
            return Err(PayloadError::Cluster);
        }
        if token.is_empty() {
            return Err(PayloadError::Token);
        }
        // A JWT in its compact form: nothing else can be one, and nothing else is carried further.
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=".contains(&byte);
        if token.len() > LONGEST_TOKEN || !token.bytes().all(fits) {
            return Err(PayloadError::NoToken);
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            token: Zeroizing::new(token.to_owned()),
        })
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, PayloadError> {
        let wire: Wire = serde_json::from_slice(bytes).map_err(|_| PayloadError::Json)?;
        Self::new(&wire.cluster, &wire.token)
    }

    /// Writes it.
    #[must_use]
    pub fn to_bytes(&self) -> SecretBytes {
        let wire = Wire {
            cluster: self.cluster.clone(),
            token: self.token.as_str().to_owned(),
        };
        serde_json::to_vec(&wire).expect("two texts are JSON").into()
    }

    /// The cluster that the node says it is of.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The token. It is a secret until it expires.
    #[must_use]
    pub fn expose_token(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({}, a token)", self.cluster)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_message_has_the_shape_that_spire_has_and_is_never_printed() {
        let payload = Payload::new("production", "aaa.bbb.ccc").unwrap();
        let bytes = payload.to_bytes();
        assert_eq!(
            bytes.expose_secret(),
            br#"{"cluster":"production","token":"aaa.bbb.ccc"}"#
        );
        let read = Payload::parse(bytes.expose_secret()).unwrap();
        assert_eq!(
            (read.cluster(), read.expose_token()),
            ("production", "aaa.bbb.ccc")
        );
        assert!(!format!("{read:?}").contains("bbb"));
        for (wrong, why) in [
            ("{}", PayloadError::Cluster),
            (r#"{"cluster":"a"}"#, PayloadError::Token),
            (r#"{"cluster":"a","token":"b\nc"}"#, PayloadError::NoToken),
            (r#"{"cluster":1}"#, PayloadError::Json),
            ("", PayloadError::Json),
        ] {
            assert_eq!(Payload::parse(wrong.as_bytes()).unwrap_err(), why, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Payload::parse(&bytes);
        }
    }
}
