//! How entries, nodes and tokens lie in the log: a version byte, then a message. What is read is checked again.

use aws_lc_rs::digest::{SHA256, digest};
use muster_identity::{Entry, EntryId, Grant, GrantName, Revision, SelectorSet, SpiffeId, UnixTime};
use muster_pki::PublicKey;
use muster_proto::convert;
use muster_proto::spire::types;
use prost::Message;

use super::Registered;
use crate::store::Key;

const VERSION: u8 = 1;

/// A record that cannot be read. Its checksum was right, so it was written by a newer version.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be read by this version: {reason}")]
pub struct RecordError {
    key: Key,
    reason: String,
}

/// The hash of a join token: what the log holds of one until it is redeemed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(sha256(token.as_bytes()))
    }

    /// The hash with these bytes.
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A name for people: a part of the hash, by which nobody can redeem the token.
    pub fn short_name(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A join token that was not redeemed yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRecord {
    /// When it ends.
    pub expires_at: UnixTime,
    /// An alias that the node gets: entries may name it as their parent.
    pub agent_id: Option<SpiffeId>,
    /// The grant by which it was made, if it was.
    pub made_by: Option<TokenGrant>,
    /// Its place in the log.
    pub version: Revision,
}

/// The grant by which a token was made, told from a later one of its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenGrant {
    /// Its name.
    pub name: GrantName,
    /// When it was created.
    pub created_at: UnixTime,
    /// Who held it.
    pub subject: String,
}

impl TokenGrant {
    /// As `record` stands now.
    pub fn of(record: &GrantRecord) -> Self {
        Self {
            name: record.grant.name.clone(),
            created_at: record.created_at,
            subject: record.grant.subject.to_string(),
        }
    }
}

/// The hash of a node's public key (SubjectPublicKeyInfo).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeKey([u8; 32]);

impl NodeKey {
    /// The hash of a key.
    pub fn of(key: &PublicKey) -> Self {
        Self(sha256(key.spki_der()))
    }
}

/// A node's certificate, as far as it must be known again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeSvid {
    /// The serial number, in decimal as SPIRE has it.
    pub serial: String,
    /// When it ends.
    pub not_after: UnixTime,
    /// Whose it is.
    pub key: NodeKey,
}

/// A grant, and where in the log it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GrantRecord {
    /// The grant.
    pub grant: Grant,
    /// When it was created.
    pub created_at: UnixTime,
    /// Its place in the log.
    pub version: Revision,
}

/// An attested node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeRecord {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// How it was attested: `join_token`, `x509pop`.
    pub attestation_type: String,
    /// What attestation found; node aliases ask for these.
    pub selectors: SelectorSet,
    /// The certificate that counts. None: banned.
    pub current: Option<NodeSvid>,
    /// A renewed one that was not used yet; its first use makes it current.
    pub pending: Option<NodeSvid>,
    /// Whether the node can attest again by itself.
    pub can_reattest: bool,
    /// What the agent says of itself.
    pub agent_version: String,
    /// When it was attested last.
    pub attested_at: UnixTime,
    /// Its place in the log.
    pub version: Revision,
}

impl NodeRecord {
    /// Whether the node was banned.
    pub fn is_banned(&self) -> bool {
        self.current.is_none()
    }

    /// Whether `key` is the node's: that of its certificate or of the renewed one.
    pub fn has_key(&self, key: NodeKey) -> bool {
        [&self.current, &self.pending]
            .into_iter()
            .flatten()
            .any(|svid| svid.key == key)
    }

    /// When the certificate that counts ends.
    pub fn not_after(&self) -> Option<UnixTime> {
        self.current.as_ref().map(|svid| svid.not_after)
    }
}

#[derive(Clone, PartialEq, Message)]
struct StoredEntry {
    #[prost(message, optional, tag = "1")]
    entry: Option<types::Entry>,
    /// 0: the record's own version.
    #[prost(uint64, tag = "2")]
    x509_version: u64,
    /// The grant by which it was made; empty: none.
    #[prost(string, tag = "3")]
    made_by: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredGrant {
    #[prost(message, optional, tag = "1")]
    grant: Option<muster_proto::grant::Grant>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredToken {
    #[prost(int64, tag = "1")]
    expires_at: i64,
    #[prost(string, tag = "2")]
    agent_id: String,
    #[prost(message, optional, tag = "3")]
    made_by: Option<StoredTokenGrant>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredTokenGrant {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "2")]
    created_at: i64,
    #[prost(string, tag = "3")]
    subject: String,
}

#[derive(Clone, PartialEq, Message)]
struct StoredSvid {
    #[prost(string, tag = "1")]
    serial: String,
    #[prost(int64, tag = "2")]
    not_after: i64,
    #[prost(bytes = "vec", tag = "3")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredNode {
    #[prost(string, tag = "1")]
    attestation_type: String,
    #[prost(message, repeated, tag = "2")]
    selectors: Vec<types::Selector>,
    #[prost(message, optional, tag = "3")]
    current: Option<StoredSvid>,
    #[prost(message, optional, tag = "4")]
    pending: Option<StoredSvid>,
    #[prost(bool, tag = "5")]
    can_reattest: bool,
    #[prost(string, tag = "6")]
    agent_version: String,
    #[prost(int64, tag = "7")]
    attested_at: i64,
}

pub(super) fn entry_bytes(
    entry: &Entry,
    x509_version: Option<Revision>,
    made_by: Option<&GrantName>,
) -> Vec<u8> {
    let entry = Some(convert::entry_to_wire(entry, None));
    encode(&StoredEntry {
        entry,
        x509_version: x509_version.map_or(0, |version| version.0),
        made_by: made_by.map(GrantName::to_string).unwrap_or_default(),
    })
}

pub(super) fn read_entry(key: &Key, bytes: &[u8], version: Revision) -> Result<Registered, RecordError> {
    let stored: StoredEntry = decode(key, bytes)?;
    let wire = stored.entry.ok_or_else(|| wrong(key, "no entry"))?;
    let entry = convert::entry(&wire).map_err(|error| wrong(key, error))?;
    if entry.id.as_str().as_bytes() != &*key.name {
        return Err(wrong(key, "the entry has another id"));
    }
    let x509_version = if stored.x509_version == 0 {
        version
    } else {
        Revision(stored.x509_version)
    };
    let made_by = match stored.made_by.as_str() {
        "" => None,
        name => Some(name.parse().map_err(|error| wrong(key, error))?),
    };
    Ok(Registered {
        entry,
        version,
        x509_version,
        made_by,
    })
}

pub(super) fn grant_bytes(grant: &Grant, created_at: UnixTime) -> Vec<u8> {
    let mut wire = convert::grant_to_wire(grant);
    wire.created_at = created_at.as_secs();
    encode(&StoredGrant { grant: Some(wire) })
}

pub(super) fn read_grant(key: &Key, bytes: &[u8], version: Revision) -> Result<GrantRecord, RecordError> {
    let stored: StoredGrant = decode(key, bytes)?;
    let wire = stored.grant.ok_or_else(|| wrong(key, "no grant"))?;
    let grant = convert::grant(&wire).map_err(|error| wrong(key, error))?;
    if grant.name.as_str().as_bytes() != &*key.name {
        return Err(wrong(key, "the grant has another name"));
    }
    Ok(GrantRecord {
        grant,
        created_at: UnixTime::from_secs(wire.created_at),
        version,
    })
}

pub(super) fn grant_name(key: &Key) -> Result<GrantName, RecordError> {
    let name = std::str::from_utf8(&key.name).map_err(|error| wrong(key, error))?;
    name.parse().map_err(|error| wrong(key, error))
}

pub(super) fn token_name(key: &Key) -> Result<TokenHash, RecordError> {
    <[u8; 32]>::try_from(&*key.name)
        .map(TokenHash)
        .map_err(|_| wrong(key, "not the hash of a token"))
}

pub(crate) fn token_bytes(
    expires_at: UnixTime,
    agent_id: Option<&SpiffeId>,
    made_by: Option<&TokenGrant>,
) -> Vec<u8> {
    let agent_id = agent_id.map(SpiffeId::to_string).unwrap_or_default();
    encode(&StoredToken {
        expires_at: expires_at.as_secs(),
        agent_id,
        made_by: made_by.map(|grant| StoredTokenGrant {
            name: grant.name.to_string(),
            created_at: grant.created_at.as_secs(),
            subject: grant.subject.clone(),
        }),
    })
}

pub(super) fn read_token(key: &Key, bytes: &[u8], version: Revision) -> Result<TokenRecord, RecordError> {
    let stored: StoredToken = decode(key, bytes)?;
    let agent_id = match stored.agent_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|error| wrong(key, error))?),
    };
    let made_by = stored.made_by.map(|grant| {
        Ok(TokenGrant {
            name: grant.name.parse().map_err(|error| wrong(key, error))?,
            created_at: UnixTime::from_secs(grant.created_at),
            subject: grant.subject,
        })
    });
    Ok(TokenRecord {
        expires_at: UnixTime::from_secs(stored.expires_at),
        agent_id,
        made_by: made_by.transpose()?,
        version,
    })
}

pub(crate) fn node_bytes(node: &NodeRecord) -> Vec<u8> {
    encode(&StoredNode {
        attestation_type: node.attestation_type.clone(),
        selectors: convert::selectors_to_wire(&node.selectors),
        current: node.current.as_ref().map(svid_to_stored),
        pending: node.pending.as_ref().map(svid_to_stored),
        can_reattest: node.can_reattest,
        agent_version: node.agent_version.clone(),
        attested_at: node.attested_at.as_secs(),
    })
}

pub(super) fn read_node(key: &Key, bytes: &[u8], version: Revision) -> Result<NodeRecord, RecordError> {
    let stored: StoredNode = decode(key, bytes)?;
    let id = node_name(key)?;
    let svid = |svid: Option<StoredSvid>| svid.map(|svid| svid_from_stored(key, svid)).transpose();
    Ok(NodeRecord {
        id,
        attestation_type: stored.attestation_type,
        selectors: convert::selector_set("selectors", &stored.selectors)
            .map_err(|error| wrong(key, error))?,
        current: svid(stored.current)?,
        pending: svid(stored.pending)?,
        can_reattest: stored.can_reattest,
        agent_version: stored.agent_version,
        attested_at: UnixTime::from_secs(stored.attested_at),
        version,
    })
}

pub(super) fn node_name(key: &Key) -> Result<SpiffeId, RecordError> {
    let id = std::str::from_utf8(&key.name).map_err(|error| wrong(key, error))?;
    id.parse().map_err(|error| wrong(key, error))
}

pub(super) fn entry_name(key: &Key) -> Result<EntryId, RecordError> {
    let id = std::str::from_utf8(&key.name).map_err(|error| wrong(key, error))?;
    id.parse().map_err(|error| wrong(key, error))
}

fn svid_to_stored(svid: &NodeSvid) -> StoredSvid {
    StoredSvid {
        serial: svid.serial.clone(),
        not_after: svid.not_after.as_secs(),
        key: svid.key.0.to_vec(),
    }
}

fn svid_from_stored(key: &Key, stored: StoredSvid) -> Result<NodeSvid, RecordError> {
    let hash = stored
        .key
        .as_slice()
        .try_into()
        .map_err(|_| wrong(key, "not the hash of a key"))?;
    let not_after = UnixTime::from_secs(stored.not_after);
    Ok(NodeSvid {
        serial: stored.serial,
        not_after,
        key: NodeKey(hash),
    })
}

fn encode(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(VERSION);
    bytes.extend(message.encode_to_vec());
    bytes
}

fn decode<M: Message + Default>(key: &Key, bytes: &[u8]) -> Result<M, RecordError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => M::decode(rest).map_err(|error| wrong(key, error)),
        Some((version, _)) => Err(wrong(key, format_args!("it has version {version}"))),
        None => Err(wrong(key, "it is empty")),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "errors and texts alike are handed over and forgotten"
)]
fn wrong(key: &Key, reason: impl ToString) -> RecordError {
    RecordError {
        key: key.clone(),
        reason: reason.to_string(),
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes)
        .as_ref()
        .try_into()
        .expect("SHA-256 has 32 bytes")
}
