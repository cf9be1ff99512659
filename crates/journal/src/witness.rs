//! A second word on how far the journal got.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const NAME: &str = "witness";
const MAGIC: u64 = u64::from_le_bytes(*b"MUSTERW1");

/// The last acknowledged position, in a file of its own.
///
/// It is written after each sync of the journal and not synced itself: after a power cut it may lag, never lead.
/// So it proves a lower bound: a journal that ends below it has lost something (a truncation, a zeroed page) that
/// would otherwise look like a torn tail.
#[derive(Debug)]
pub struct Witness {
    file: File,
}

impl Witness {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(NAME))?;
        Ok(Self { file })
    }

    pub(crate) fn note(&self, durable: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(durable), 0)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// What the witness of a folder says; `None` when there is none, or it is damaged (then it proves nothing).
    pub fn read(dir: &Path) -> Option<u64> {
        let bytes = std::fs::read(dir.join(NAME)).ok()?;
        let durable = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        (bytes == encode(durable)).then_some(durable)
    }
}

fn encode(durable: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&durable.to_le_bytes());
    let crc = u64::from(crc32c::crc32c(&bytes[..16]));
    bytes[16..].copy_from_slice(&crc.to_le_bytes());
    bytes
}
