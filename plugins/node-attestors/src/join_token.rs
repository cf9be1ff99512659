//! Attestation by a token that counts once.

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use muster_pki::SecretBytes;
use muster_plugin_api::{NodeAttestError, NodeAttestor, NodeProof, Reattestation};
use zeroize::Zeroizing;

/// The longest token; it becomes a segment of the node's SPIFFE ID.
const LONGEST: usize = 255;

/// A join token. It is a secret until it is used: no `Display`, a `Debug` that says nothing, zeroed at its end.
#[derive(Clone)]
pub struct JoinToken(Zeroizing<String>);

/// A text that is no join token. The text is not repeated: a token with a typing error is nearly a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a join token (expected 1 to {LONGEST} of the characters a-z A-Z 0-9 . _ -)")]
pub struct ParseJoinTokenError;

/// Proves the node by a join token.
#[derive(Debug)]
pub struct JoinTokenAttestor {
    token: JoinToken,
}

#[derive(Debug)]
struct Proof {
    payload: SecretBytes,
}

impl JoinTokenAttestor {
    /// The attestation type on the wire.
    pub const KIND: &'static str = "join_token";

    /// An attestor that has this one token.
    pub fn new(token: JoinToken) -> Self {
        Self { token }
    }
}

#[async_trait]
impl NodeAttestor for JoinTokenAttestor {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn reattestation(&self) -> Reattestation {
        Reattestation::Once
    }

    async fn begin(&self) -> Result<Box<dyn NodeProof>, NodeAttestError> {
        Ok(Box::new(Proof {
            payload: SecretBytes::new(self.token.0.as_bytes().to_vec()),
        }))
    }
}

impl NodeProof for Proof {
    fn payload(&self) -> &SecretBytes {
        &self.payload
    }
}

impl FromStr for JoinToken {
    type Err = ParseJoinTokenError;

    fn from_str(text: &str) -> Result<Self, ParseJoinTokenError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let dots = text == "." || text == "..";
        if text.is_empty() || text.len() > LONGEST || dots || !text.bytes().all(known) {
            return Err(ParseJoinTokenError);
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_segment_of_a_path_and_never_printed() {
        let token: JoinToken = "1f4c9d2e-77aa-4a0b-b7e4-0c5c1c9a5e51".parse().unwrap();
        assert_eq!(format!("{token:?}"), "JoinToken(..)");
        for text in ["", ".", "..", "a/b", "a b", "a\n", "ä", &"a".repeat(256)] {
            assert_eq!(text.parse::<JoinToken>().unwrap_err(), ParseJoinTokenError);
        }
    }

    #[tokio::test]
    async fn the_attestor_keeps_the_contract_of_its_kind() {
        muster_plugin_api::conformance::node_attestor(&JoinTokenAttestor::new("abc".parse().unwrap())).await;
    }
}
