//! Who this node is: its key, its certificate, its server and the bundle that it checks the server by.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use muster_journal::{AppendError, Journal, OpenError, Opened, Options, ReadError};
use muster_pki::bundle::Bundle;
use muster_pki::{LocalKey, SecretBytes, x509::X509Svid};
use muster_seal::{Purpose, Seal, SealError};
use prost::Message;
use tracing::warn;
use zeroize::{Zeroize, Zeroizing};

/// After how many changes the journal begins anew with only the last one.
const COMPACT_AFTER: u64 = 64;
/// The version of the record below. An unknown one is not guessed at.
const FORMAT: u32 = 1;

/// Everything that the node must not lose. A change is a new whole state.
#[derive(Clone, Debug)]
pub struct NodeState {
    /// The trust domain that the node belongs to.
    pub trust_domain: TrustDomain,
    /// The server's address, `host:port`.
    pub server: String,
    /// The bundle by which the server is checked.
    pub bundle: Arc<Bundle>,
    /// The node's certificate, once it has one.
    pub identity: Option<NodeIdentity>,
    /// The key that a certificate is being asked for. It is on disk before the request leaves, so that a request that was cut off is repeated with the same
    /// key: the server has bound the join token to it.
    pub asked_with: Option<SecretBytes>,
}

/// The node's certificate and its key.
#[derive(Clone, Debug)]
pub struct NodeIdentity {
    /// The certificate and its chain.
    pub svid: X509Svid,
    /// The key in PKCS#8.
    pub key: SecretBytes,
    /// When it was received, by this machine's clock.
    pub received: UnixTime,
}

/// The journal of node states. The last record counts.
pub struct NodeStore {
    journal: Journal,
    seal: Arc<dyn Seal>,
    purpose: Purpose,
    since_compaction: u64,
}

/// Why the node's state can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum NodeStoreError {
    /// The journal does not open; another agent runs, or it is damaged.
    #[error("opening the node's state")]
    Open(#[source] Box<OpenError>),
    /// A record can't be read back.
    #[error("reading the node's state")]
    Read(#[source] Box<ReadError>),
    /// The state can't be sealed or unsealed; the seal's key may be another one.
    #[error("unsealing the node's state")]
    Seal(#[from] SealError),
    /// The unsealed state makes no sense.
    #[error("the node's state holds {0}; remove the folder and join again")]
    Content(&'static str),
    /// The change is not on disk.
    #[error("writing the node's state")]
    Write(#[from] AppendError),
    /// Old records could not be dropped.
    #[error("compacting the node's state")]
    Compact(#[source] Box<ReadError>),
}

#[derive(Clone, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(string, tag = "2")]
    trust_domain: String,
    #[prost(string, tag = "3")]
    server: String,
    #[prost(string, tag = "4")]
    bundle: String,
    #[prost(bytes = "vec", repeated, tag = "5")]
    chain: Vec<Vec<u8>>,
    #[prost(bytes = "vec", tag = "6")]
    key: Vec<u8>,
    #[prost(int64, tag = "7")]
    received: i64,
    #[prost(bytes = "vec", tag = "8")]
    asked_with: Vec<u8>,
}

impl NodeStoreError {
    /// Whether it may heal by itself (a full disk), so that nothing need stop for it.
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Write(error) if error.may_retry())
    }
}

impl NodeState {
    /// A node that has not joined yet.
    pub fn unjoined(server: String, bundle: Arc<Bundle>) -> Self {
        let trust_domain = bundle.trust_domain().clone();
        Self {
            trust_domain,
            server,
            bundle,
            identity: None,
            asked_with: None,
        }
    }

    /// The identity that every server of the trust domain has.
    pub fn server_id(&self) -> SpiffeId {
        server_id(&self.trust_domain)
    }
}

/// The identity that every server of `trust_domain` has.
pub fn server_id(trust_domain: &TrustDomain) -> SpiffeId {
    let id = format!("spiffe://{trust_domain}/spire/server");
    id.parse()
        .expect("a trust domain and a fixed path make a SPIFFE ID")
}

impl NodeIdentity {
    /// The certificate's end.
    pub fn expires(&self) -> UnixTime {
        self.svid.not_after()
    }

    /// The key, ready to sign.
    pub fn signer(&self) -> Result<Arc<LocalKey>, NodeStoreError> {
        let key = LocalKey::from_pkcs8(self.key.expose_secret());
        key.map(Arc::new)
            .map_err(|_| NodeStoreError::Content("a key that can't be read"))
    }
}

impl NodeStore {
    /// Opens the journal in `folder` and reads the last state; none: this node never joined.
    pub fn open(folder: &Path, seal: Arc<dyn Seal>) -> Result<(Self, Option<NodeState>), NodeStoreError> {
        let purpose = Purpose::new("muster/agent/node-state", "node");
        let opened =
            Journal::open(folder, Options::small()).map_err(|e| NodeStoreError::Open(Box::new(e)))?;
        let Opened { journal, cut, .. } = opened;
        if let Some(cut) = cut {
            // Never acknowledged, so nothing was done on its strength.
            warn!(
                ?cut,
                "the last change of the node's state had not been written whole; it is dropped"
            );
        }
        let mut last = None;
        for record in journal
            .read(journal.last().max(1))
            .map_err(|e| NodeStoreError::Read(Box::new(e)))?
        {
            last = Some(record.map_err(|e| NodeStoreError::Read(Box::new(e)))?.payload);
        }
        let state = last.map(|sealed| seal.unseal(&purpose, &sealed)).transpose()?;
        let state = state.map(|bytes| NodeState::from_bytes(&bytes)).transpose()?;
        Ok((
            Self {
                journal,
                seal,
                purpose,
                since_compaction: 0,
            },
            state,
        ))
    }

    /// Returns when `state` is on disk.
    pub async fn save(&mut self, state: &NodeState) -> Result<(), NodeStoreError> {
        let sealed = self.seal.seal(&self.purpose, &state.to_bytes())?;
        let position = self.journal.append(sealed).await?;
        self.since_compaction += 1;
        if self.since_compaction >= COMPACT_AFTER {
            self.since_compaction = 0;
            self.journal.rotate().await?;
            self.journal
                .drop_before(position)
                .map_err(|e| NodeStoreError::Compact(Box::new(e)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for NodeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStore")
            .field("seal", &self.seal.kind())
            .finish_non_exhaustive()
    }
}

impl NodeState {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let identity = self.identity.as_ref();
        let mut record = Record {
            format: FORMAT,
            trust_domain: self.trust_domain.to_string(),
            server: self.server.clone(),
            bundle: self.bundle.to_document(),
            chain: identity.map_or_else(Vec::new, |own| {
                own.svid.chain().iter().map(|der| der.to_vec()).collect()
            }),
            key: identity.map_or_else(Vec::new, |own| own.key.expose_secret().to_vec()),
            received: identity.map_or(0, |own| own.received.as_secs()),
            asked_with: self
                .asked_with
                .as_ref()
                .map_or_else(Vec::new, |key| key.expose_secret().to_vec()),
        };
        let bytes = Zeroizing::new(record.encode_to_vec());
        record.key.zeroize();
        record.asked_with.zeroize();
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, NodeStoreError> {
        let record = Record::decode(bytes).map_err(|_| NodeStoreError::Content("no record"))?;
        if record.format != FORMAT {
            return Err(NodeStoreError::Content("a format of another version"));
        }
        // From here on the keys are in types that zero themselves.
        let (key, asked_with) = (SecretBytes::new(record.key), SecretBytes::new(record.asked_with));
        let trust_domain: TrustDomain = record
            .trust_domain
            .parse()
            .map_err(|_| NodeStoreError::Content("no trust domain"))?;
        let bundle = Bundle::from_document(trust_domain.clone(), record.bundle.as_bytes())
            .map_err(|_| NodeStoreError::Content("no trust bundle"))?
            .bundle;
        let identity = if record.chain.is_empty() {
            None
        } else {
            let chain = record.chain.into_iter().map(Into::into).collect();
            let svid = X509Svid::parse(chain).map_err(|_| NodeStoreError::Content("no certificate"))?;
            Some(NodeIdentity {
                svid,
                key,
                received: UnixTime::from_secs(record.received),
            })
        };
        let asked_with = (!asked_with.is_empty()).then_some(asked_with);
        Ok(Self {
            trust_domain,
            server: record.server,
            bundle: Arc::new(bundle),
            identity,
            asked_with,
        })
    }
}

#[cfg(test)]
mod tests {
    use muster_seal::KeyFile;

    use super::*;

    fn seal(folder: &Path) -> Arc<dyn Seal> {
        Arc::new(KeyFile::open_or_create(folder.join("seal.key")).unwrap())
    }

    fn unjoined(server: &str) -> NodeState {
        NodeState::unjoined(
            server.into(),
            Arc::new(Bundle::new("example.org".parse().unwrap())),
        )
    }

    #[tokio::test]
    async fn the_last_state_is_read_back_and_the_key_is_nowhere_in_the_clear() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, seal) = (folder.path().join("node"), seal(folder.path()));
        let key = LocalKey::generate(muster_pki::KeyAlgorithm::EcP256)
            .unwrap()
            .to_pkcs8()
            .unwrap();
        {
            let (mut store, before) = NodeStore::open(&journal, Arc::clone(&seal)).unwrap();
            assert!(before.is_none());
            for n in 0..COMPACT_AFTER + 3 {
                store.save(&unjoined(&format!("server:{n}"))).await.unwrap();
            }
            store
                .save(&NodeState {
                    asked_with: Some(key.clone()),
                    ..unjoined("last:1")
                })
                .await
                .unwrap();
        }
        let (_store, state) = NodeStore::open(&journal, seal).unwrap();
        let state = state.unwrap();
        assert_eq!(state.server, "last:1");
        assert_eq!(state.asked_with.unwrap().expose_secret(), key.expose_secret());
        for file in std::fs::read_dir(&journal).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(
                !bytes
                    .windows(32)
                    .any(|window| window == &key.expose_secret()[40..72])
            );
        }
    }

    #[tokio::test]
    async fn a_state_of_another_seal_or_with_damage_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("node");
        {
            let (mut store, _) = NodeStore::open(&journal, seal(folder.path())).unwrap();
            store.save(&unjoined("a:1")).await.unwrap();
            store.save(&unjoined("b:1")).await.unwrap();
        }
        let other = tempfile::tempdir().unwrap();
        assert!(matches!(
            NodeStore::open(&journal, seal(other.path())),
            Err(NodeStoreError::Seal(_))
        ));
        assert_eq!(
            NodeStore::open(&journal, seal(folder.path()))
                .unwrap()
                .1
                .unwrap()
                .server,
            "b:1"
        );
    }
}
