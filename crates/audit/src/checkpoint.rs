//! A signed statement of the log's size and root: a checkpoint (C2SP tlog-checkpoint) in a signed note.
//!
//! The form is the one that witnesses and monitors of transparency logs read, so that the log can later be
//! published and witnessed without rewriting it. ECDSA P-256 keys sign (signature type 2, key id = first four
//! bytes of the SHA-256 of the key's SPKI).

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use muster_pki::{
    key::PublicKey,
    signer::{SignatureScheme, Signer, SignerError},
};

use crate::merkle::Hash;

/// How long a note may be before anybody parses it.
const MAX_NOTE: usize = 16 << 10;
/// How many signature lines are looked at.
const MAX_SIGNATURES: usize = 16;
/// Ties each signature to its key and marks the line, by the signed-note format.
const DASH: &str = "\u{2014} ";
const SCHEME: SignatureScheme = SignatureScheme::EcdsaSha256;

/// The size and root of a log at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// The log's name: unique to the log, the same for its whole life.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a note is not a checkpoint of this log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CheckpointError {
    /// Not the form of a signed checkpoint.
    #[error("not a signed checkpoint")]
    Malformed,
    /// Another log's.
    #[error("the checkpoint of another log")]
    Origin,
    /// None of the trusted keys signed it.
    #[error("no trusted key signed the checkpoint")]
    Unsigned,
    /// A trusted key's signature is wrong.
    #[error("the signature on the checkpoint is wrong")]
    Signature,
}

impl Checkpoint {
    /// The note: text, blank line, signature.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SignerError> {
        let text = self.text();
        let signature = signer.sign(SCHEME, text.as_bytes())?;
        let mut blob = key_id(signer.public_key()).to_vec();
        blob.extend_from_slice(&signature);
        Ok(format!(
            "{text}\n{DASH}{} {}\n",
            self.origin,
            STANDARD.encode(blob)
        ))
    }

    /// The checkpoint in a note that one of `keys` signed for the log `origin`.
    ///
    /// # Errors
    /// Says what is wrong; nothing of the note is to be used then.
    pub fn verify(note: &str, origin: &str, keys: &[PublicKey]) -> Result<Self, CheckpointError> {
        if note.len() > MAX_NOTE {
            return Err(CheckpointError::Malformed);
        }
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let text = format!("{text}\n");
        let checkpoint = Self::parse(&text)?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::Origin);
        }
        for line in signatures.lines().take(MAX_SIGNATURES) {
            let (name, blob) = line
                .strip_prefix(DASH)
                .and_then(|rest| rest.split_once(' '))
                .ok_or(CheckpointError::Malformed)?;
            let blob = STANDARD.decode(blob).map_err(|_| CheckpointError::Malformed)?;
            let (id, signature) = blob.split_at_checked(4).ok_or(CheckpointError::Malformed)?;
            if name != origin {
                continue;
            }
            if let Some(key) = keys.iter().find(|key| key_id(key) == id) {
                key.verify(SCHEME, text.as_bytes(), signature)
                    .map_err(|_| CheckpointError::Signature)?;
                return Ok(checkpoint);
            }
        }
        Err(CheckpointError::Unsigned)
    }

    fn text(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.0)
        )
    }

    /// Reads the three lines; further ones are extensions that we neither write nor need.
    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.lines();
        let mut line = || {
            lines
                .next()
                .filter(|l| !l.is_empty())
                .ok_or(CheckpointError::Malformed)
        };
        let origin = line()?.to_owned();
        let size_text = line()?;
        let size: u64 = size_text.parse().map_err(|_| CheckpointError::Malformed)?;
        if size.to_string() != size_text {
            return Err(CheckpointError::Malformed); // one number has one form: no sign, no leading zero
        }
        let root = STANDARD.decode(line()?).map_err(|_| CheckpointError::Malformed)?;
        Ok(Self {
            origin,
            size,
            root: Hash(root.try_into().map_err(|_| CheckpointError::Malformed)?),
        })
    }
}

/// Whether `origin` can name a log and its key in a note: not empty, no white space, no `+`.
pub(crate) fn is_origin(origin: &str) -> bool {
    !origin.is_empty()
        && origin.len() <= 512
        && !origin
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn key_id(key: &PublicKey) -> [u8; 4] {
    let mut id = [0; 4];
    id.copy_from_slice(&digest(&SHA256, key.spki_der()).as_ref()[..4]);
    id
}
