//! What the log keeps of an authority: everything but its key.

use muster_identity::UnixTime;
use muster_plugin_api::KeyName;
use prost::Message;

use super::life::{Authority, Stage};

/// The first byte of a record.
const VERSION: u8 = 1;

/// What an authority signs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// X.509-SVIDs; its id is the subject key identifier in hex.
    X509,
    /// JWT-SVIDs; its id is the key id.
    Jwt,
}

impl Kind {
    /// Its name in logs and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }
}

/// An authority as the log has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthorityRecord {
    /// What it signs.
    pub kind: Kind,
    /// Its id, when it was made, when it ends, how far it has come.
    pub life: Authority,
    /// The name of its key in the key manager.
    pub key: KeyName,
    /// The certificate (X.509) or the public key (JWT), DER.
    pub public: Vec<u8>,
    /// What is sent between a certificate that it signs and the root, beginning with its own; empty where it is a root itself.
    pub chain: Vec<Vec<u8>>,
}

/// A record that is none.
#[derive(Debug, thiserror::Error)]
#[error("authority record {id}: {reason}")]
pub struct RecordError {
    pub(super) id: String,
    pub(super) reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "2")]
    key: String,
    #[prost(bytes = "vec", tag = "3")]
    public: Vec<u8>,
    #[prost(int64, tag = "4")]
    issued_at: i64,
    #[prost(int64, tag = "5")]
    not_after: i64,
    #[prost(uint32, tag = "6")]
    stage: u32,
    #[prost(string, optional, tag = "7")]
    upstream: Option<String>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    chain: Vec<Vec<u8>>,
}

impl AuthorityRecord {
    /// The record's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let wire = Wire {
            kind: match self.kind {
                Kind::X509 => 1,
                Kind::Jwt => 2,
            },
            key: self.key.to_string(),
            public: self.public.clone(),
            issued_at: self.life.issued_at.as_secs(),
            not_after: self.life.not_after.as_secs(),
            stage: match self.life.stage {
                Stage::Prepared => 2,
                Stage::Active => 3,
                Stage::Old => 4,
                Stage::Tainted => 5,
            },
            upstream: self.life.upstream.clone(),
            chain: self.chain.clone(),
        };
        let mut bytes = vec![VERSION];
        bytes.extend(wire.encode_to_vec());
        bytes
    }

    /// Reads the record that stands under `id`.
    pub fn from_bytes(id: &[u8], bytes: &[u8]) -> Result<Self, RecordError> {
        let id = String::from_utf8_lossy(id).into_owned();
        let wrong = |reason: &str| RecordError {
            id: id.clone(),
            reason: reason.to_owned(),
        };
        let (&version, rest) = bytes.split_first().ok_or_else(|| wrong("empty"))?;
        if version != VERSION {
            return Err(wrong("written by a newer version"));
        }
        let wire = Wire::decode(rest).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            kind: match wire.kind {
                1 => Kind::X509,
                2 => Kind::Jwt,
                _ => return Err(wrong("unknown kind")),
            },
            life: Authority {
                id: id.clone(),
                issued_at: UnixTime::from_secs(wire.issued_at),
                not_after: UnixTime::from_secs(wire.not_after),
                stage: match wire.stage {
                    2 => Stage::Prepared,
                    3 => Stage::Active,
                    4 => Stage::Old,
                    5 => Stage::Tainted,
                    _ => return Err(wrong("unknown stage")),
                },
                upstream: wire.upstream,
            },
            key: wire.key.parse().map_err(|_| wrong("the key's name is none"))?,
            public: wire.public,
            chain: wire.chain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_it_was_written_and_damage_is_an_error() {
        for stage in [Stage::Prepared, Stage::Active, Stage::Old, Stage::Tainted] {
            let record = AuthorityRecord {
                kind: Kind::Jwt,
                life: Authority {
                    id: "kid".into(),
                    issued_at: UnixTime::from_secs(5),
                    not_after: UnixTime::from_secs(50),
                    stage,
                    upstream: (stage == Stage::Old).then(|| "root".into()),
                },
                key: "jwt-1".parse().unwrap(),
                public: vec![1, 2, 3],
                chain: vec![vec![4], vec![5, 6]],
            };
            let bytes = record.to_bytes();
            assert_eq!(AuthorityRecord::from_bytes(b"kid", &bytes).unwrap(), record);
            for end in 0..bytes.len() {
                assert!(AuthorityRecord::from_bytes(b"kid", &bytes[..end]).ok().as_ref() != Some(&record));
            }
        }
        assert!(AuthorityRecord::from_bytes(b"kid", &[9, 9]).is_err());
    }
}
