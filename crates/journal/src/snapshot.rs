//! A whole state at one position, in one file, so that the journal's older generations can go.
//!
//! Written beside the journal: rotate, [`write`] the state as of the rotation's position, `drop_before(position + 1)`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Damage;
use crate::medium::sync_folder;

const MAGIC: [u8; 8] = *b"MUSTERS1";

/// A state that was read and is whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// The position of the last change that is in it.
    pub position: u64,
    /// Its records in the order they were written.
    pub records: Vec<Vec<u8>>,
}

/// Why a snapshot was not read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is not what was written.
    #[error("the snapshot is damaged")]
    Damaged(#[from] Damage),
    /// The operating system refused; [`io::ErrorKind::NotFound`] when there is none.
    #[error("reading a snapshot")]
    Io(#[from] io::Error),
}

/// Writes a state to `path`, durably and at once: until the end the file that was there stays.
///
/// # Errors
/// What the operating system said. Nothing is left behind then.
pub fn write(path: &Path, position: u64, records: impl IntoIterator<Item = Vec<u8>>) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let result = write_unfinished(&unfinished, position, records).and_then(|()| {
        std::fs::rename(&unfinished, path)?;
        path.parent().map_or(Ok(()), sync_folder)
    });
    result.inspect_err(|_| {
        let _ = std::fs::remove_file(&unfinished);
    })
}

fn write_unfinished(
    path: &Path,
    position: u64,
    records: impl IntoIterator<Item = Vec<u8>>,
) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut out = BufWriter::with_capacity(256 << 10, file);
    out.write_all(&MAGIC)?;
    out.write_all(&position.to_le_bytes())?;
    let mut crc = crc32c::crc32c(&position.to_le_bytes());
    let mut count = 0u64;
    for record in records {
        let length = u32::try_from(record.len()).ok().filter(|length| *length > 0);
        let length = length
            .ok_or_else(|| io::Error::other("a record of no bytes, or over 4 GiB"))?
            .to_le_bytes();
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &length), &record);
        out.write_all(&length)?;
        // A running checksum behind each record: damage is met where it is, not after reading everything.
        out.write_all(&record)?;
        out.write_all(&crc.to_le_bytes())?;
        count += 1;
    }
    out.write_all(&0u32.to_le_bytes())?;
    out.write_all(&count.to_le_bytes())?;
    crc = crc32c::crc32c_append(crc, &count.to_le_bytes());
    out.write_all(&crc.to_le_bytes())?;
    out.into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .sync_all()
}

/// Reads what [`write`] wrote, all of it or nothing.
///
/// # Errors
/// [`SnapshotError::Damaged`] when one bit of it is not as it was written.
pub fn read(path: &Path) -> Result<Snapshot, SnapshotError> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut cursor = Cursor {
        path,
        bytes: &bytes,
        at: 0,
        position: 0,
    };
    if cursor.take::<8>()? != MAGIC {
        return Err(cursor.damage("the file's head is damaged"));
    }
    let position = cursor.take::<8>()?;
    cursor.position = u64::from_le_bytes(position);
    let mut crc = crc32c::crc32c(&position);
    let mut records = Vec::new();
    loop {
        let length = cursor.take::<4>()?;
        if length == [0; 4] {
            break;
        }
        let record = cursor.slice(u32::from_le_bytes(length) as usize)?;
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &length), record);
        let record = record.to_vec();
        cursor.expect(crc)?;
        records.push(record);
    }
    let count = cursor.take::<8>()?;
    cursor.expect(crc32c::crc32c_append(crc, &count))?;
    if u64::from_le_bytes(count) != records.len() as u64 || cursor.at != bytes.len() {
        return Err(cursor.damage("the file's end is damaged"));
    }
    Ok(Snapshot {
        position: cursor.position,
        records,
    })
}

struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
    position: u64,
}

impl<'a> Cursor<'a> {
    fn slice(&mut self, length: usize) -> Result<&'a [u8], SnapshotError> {
        let end = self.at.checked_add(length);
        let Some(slice) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(self.damage("the file is cut short"));
        };
        self.at += length;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        Ok(self.slice(N)?.try_into().expect("a slice of N bytes"))
    }

    fn expect(&mut self, crc: u32) -> Result<(), SnapshotError> {
        let found = u32::from_le_bytes(self.take::<4>()?);
        if found == crc {
            Ok(())
        } else {
            Err(self.damage("a record is damaged"))
        }
    }

    fn damage(&self, what: &'static str) -> SnapshotError {
        let (file, offset) = (self.path.to_owned(), self.at as u64);
        Damage {
            file,
            offset,
            position: self.position,
            what,
            written: 0,
        }
        .into()
    }
}
