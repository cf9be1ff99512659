//! What the node held for its workloads.

use std::path::PathBuf;
use std::sync::Arc;

use muster_identity::{EntryId, Position, Revision, StoreId, TrustDomain, UnixTime};
use muster_pki::SecretBytes;
use muster_pki::bundle::{Bundle, Scope};
use muster_proto::{convert, node::NodeEntry};
use muster_seal::{Purpose, Seal, SealedFile};
use prost::Message;
use tracing::warn;
use zeroize::{Zeroize, Zeroizing};

use crate::cache::{HeldX509, Kept};

/// The version of the record below.
const FORMAT: u32 = 1;

/// The sealed file of entries, SVIDs and foreign bundles.
///
/// It only saves time: all of it can be had from the server again. So it is written behind, and dropped when it is damaged.
#[derive(Debug)]
pub struct SvidStore {
    file: SealedFile,
    trust_domain: TrustDomain,
}

#[derive(Clone, Message)]
struct Record {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(bytes = "vec", tag = "2")]
    store: Vec<u8>,
    #[prost(uint64, tag = "3")]
    revision: u64,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<NodeEntry>,
    #[prost(message, repeated, tag = "5")]
    svids: Vec<SvidRecord>,
    #[prost(message, repeated, tag = "6")]
    federated: Vec<BundleRecord>,
}

#[derive(Clone, Message)]
struct SvidRecord {
    #[prost(string, tag = "1")]
    entry_id: String,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(bytes = "bytes", tag = "3")]
    chain: bytes::Bytes,
    #[prost(bytes = "vec", tag = "4")]
    key: Vec<u8>,
    #[prost(int64, tag = "5")]
    received: i64,
    #[prost(int64, tag = "6")]
    expires: i64,
    #[prost(uint64, tag = "7")]
    version: u64,
}

#[derive(Clone, Message)]
struct BundleRecord {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(string, tag = "2")]
    document: String,
    #[prost(string, repeated, tag = "3")]
    prefixes: Vec<String>,
}

impl SvidStore {
    /// The file at `path`, which need not exist.
    pub fn new(path: PathBuf, trust_domain: TrustDomain, seal: Arc<dyn Seal>) -> Self {
        // The trust domain is bound into the seal: a file of another one does not open.
        let purpose = Purpose::new("muster/agent/svids", trust_domain.as_str());
        Self {
            file: SealedFile::new(path, purpose, seal),
            trust_domain,
        }
    }

    /// What was kept; nothing when there is no file or it is damaged. A damaged one is removed. Blocks on the disk.
    pub fn read(&self) -> Kept {
        let kept = match self.file.read() {
            Ok(None) => return Kept::default(),
            Ok(Some(bytes)) => from_bytes(&bytes).ok_or("it does not hold what it should".into()),
            Err(error) => Err(Box::<dyn std::error::Error + Send + Sync>::from(error)),
        };
        kept.unwrap_or_else(|error| {
            warn!(trust_domain = %self.trust_domain, error = &*error as &dyn std::error::Error, "the kept SVIDs are damaged and dropped; the server will give them again");
            self.file.remove().ok();
            Kept::default()
        })
    }

    /// Writes `kept` in the place of what was kept. Blocks on the disk.
    pub fn write(&self, kept: &Kept) -> Result<(), muster_seal::SealedFileError> {
        self.file.write(&to_bytes(kept))
    }

    /// Forgets everything.
    pub fn remove(&self) -> Result<(), muster_seal::SealedFileError> {
        self.file.remove()
    }
}

fn to_bytes(kept: &Kept) -> Zeroizing<Vec<u8>> {
    let svids = kept.svids.iter().map(|(entry_id, svid)| SvidRecord {
        entry_id: entry_id.to_string(),
        id: svid.id.to_string(),
        chain: svid.chain.clone(),
        key: svid.key.expose_secret().to_vec(),
        received: svid.received.as_secs(),
        expires: svid.expires.as_secs(),
        version: svid.version,
    });
    let federated = kept.federated.iter().map(|(bundle, scope)| BundleRecord {
        trust_domain: bundle.trust_domain().to_string(),
        document: bundle.to_document(),
        prefixes: scope.prefixes().iter().map(ToString::to_string).collect(),
    });
    let mut record = Record {
        format: FORMAT,
        store: kept
            .position
            .map_or_else(Vec::new, |position| position.store.as_bytes().to_vec()),
        revision: kept.position.map_or(0, |position| position.revision.0),
        entries: kept
            .entries
            .iter()
            .map(|entry| NodeEntry::from(&**entry))
            .collect(),
        svids: svids.collect(),
        federated: federated.collect(),
    };
    let bytes = Zeroizing::new(record.encode_to_vec());
    record.svids.iter_mut().for_each(|svid| svid.key.zeroize());
    bytes
}

/// All or nothing: a file that was sealed by us and can't be read is of another version, and half of it would be a guess.
fn from_bytes(bytes: &[u8]) -> Option<Kept> {
    let record = Record::decode(bytes)
        .ok()
        .filter(|record| record.format == FORMAT)?;
    let svids: Option<Vec<_>> = record.svids.into_iter().map(svid).collect();
    let entries: Option<Vec<_>> = record
        .entries
        .iter()
        .map(|entry| convert::NodeEntry::try_from(entry).ok().map(Arc::new))
        .collect();
    let federated: Option<Vec<_>> = record.federated.iter().map(bundle).collect();
    let position = match StoreId::try_from(record.store.as_slice()) {
        Ok(store) => Some(Position {
            store,
            revision: Revision(record.revision),
        }),
        Err(_) if record.store.is_empty() => None,
        Err(_) => return None,
    };
    Some(Kept {
        position,
        entries: entries?,
        svids: svids?,
        federated: federated?,
    })
}

fn svid(record: SvidRecord) -> Option<(EntryId, Arc<HeldX509>)> {
    let svid = HeldX509 {
        key: SecretBytes::new(record.key),
        id: record.id.parse().ok()?,
        chain: record.chain,
        received: UnixTime::from_secs(record.received),
        expires: UnixTime::from_secs(record.expires),
        version: record.version,
    };
    Some((record.entry_id.parse().ok()?, Arc::new(svid)))
}

fn bundle(record: &BundleRecord) -> Option<(Arc<Bundle>, Scope)> {
    let trust_domain = record.trust_domain.parse().ok()?;
    let bundle = Bundle::from_document(trust_domain, record.document.as_bytes())
        .ok()?
        .bundle;
    let prefixes: Result<Vec<_>, _> = record.prefixes.iter().map(|prefix| prefix.parse()).collect();
    Some((Arc::new(bundle), Scope::new(prefixes.ok()?).ok()?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_seal::KeyFile;

    use super::*;

    fn kept() -> Kept {
        let entry = NodeEntry {
            id: "a".into(),
            spiffe_id: "spiffe://example.org/a".into(),
            selectors: vec![muster_proto::spire::types::Selector {
                r#type: "unix".into(),
                value: "uid:1".into(),
            }],
            version: 4,
            ..Default::default()
        };
        let svid = HeldX509 {
            id: "spiffe://example.org/a".parse().unwrap(),
            chain: Bytes::from_static(b"chain"),
            key: SecretBytes::new(b"a key that must not be seen".to_vec()),
            received: UnixTime::from_secs(1),
            expires: UnixTime::from_secs(9),
            version: 4,
        };
        Kept {
            position: Some(Position {
                store: StoreId::from_bytes([7; 16]),
                revision: Revision(4),
            }),
            entries: vec![Arc::new(convert::NodeEntry::try_from(&entry).unwrap())],
            svids: vec![("a".parse().unwrap(), Arc::new(svid))],
            federated: vec![(
                Arc::new(Bundle::new("other.org".parse().unwrap())),
                Scope::new(vec!["/a".parse().unwrap()]).unwrap(),
            )],
        }
    }

    fn store(folder: &std::path::Path, trust_domain: &str) -> SvidStore {
        let seal = Arc::new(KeyFile::open_or_create(folder.join("seal.key")).unwrap());
        SvidStore::new(folder.join("svids.sealed"), trust_domain.parse().unwrap(), seal)
    }

    #[test]
    fn what_was_kept_is_read_back_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path(), "example.org");
        assert!(store.read().entries.is_empty());
        store.write(&kept()).unwrap();
        let (read, kept) = (store.read(), kept());
        assert_eq!((read.position, &read.entries), (kept.position, &kept.entries));
        assert_eq!(
            read.svids[0].1.key.expose_secret(),
            kept.svids[0].1.key.expose_secret()
        );
        assert_eq!(read.federated, kept.federated);
        let bytes = std::fs::read(folder.path().join("svids.sealed")).unwrap();
        assert!(!bytes.windows(9).any(|window| window == b"not be se"));
    }

    #[test]
    fn a_damaged_file_and_one_of_another_trust_domain_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("svids.sealed");
        store(folder.path(), "example.org").write(&kept()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(store(folder.path(), "example.org").read().svids.is_empty());
        assert!(!path.exists());

        store(folder.path(), "example.org").write(&kept()).unwrap();
        assert!(store(folder.path(), "other.org").read().entries.is_empty());
    }
}
