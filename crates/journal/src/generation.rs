//! One file of the journal, and the reading of all of them.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};
use crate::frame::{self, HEADER, Header};
use crate::witness::Witness;
use crate::{Cut, End};

const MAGIC: [u8; 8] = *b"MUSTERJ1";
const PREFIX: &str = "journal-";
/// Where the first frame begins.
pub(crate) const FIRST_FRAME: u64 = 64;

/// A generation whose frames up to `end` are sound; of one that was not read, only the name is known.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) path: PathBuf,
    pub(crate) salt: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) end: u64,
}

impl Generation {
    pub(crate) fn last(&self) -> u64 {
        self.last
    }
}

pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{first:020}"))
}

/// The head of a new file: magic, salt, first position, CRC32C.
pub(crate) fn head(salt: u64, first: u64) -> [u8; FIRST_FRAME as usize] {
    let mut head = [0; FIRST_FRAME as usize];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&salt.to_le_bytes());
    head[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&head[..24]);
    head[24..28].copy_from_slice(&crc.to_le_bytes());
    head
}

/// The generations of a folder by their first positions, oldest first.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let first = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|n| n.parse().ok());
        // Only what we would name so: positions begin at 1, and each name is the only one of its number.
        if let Some(first) = first
            && (1..u64::MAX).contains(&first)
            && entry.path() == path(dir, first)
        {
            found.push((first, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Everything that a folder holds, checked.
pub(crate) struct Scanned {
    pub(crate) generations: Vec<Generation>,
    pub(crate) end: End,
}

/// Reads every frame of every generation. Damage is an end, not an error: what lies before it is sound.
pub(crate) fn scan_all(dir: &Path) -> Result<Scanned, OpenError> {
    scan(dir, false)
}

/// Reads every frame of the newest generation. The others are not touched, and taken for what their names say.
pub(crate) fn scan_newest(dir: &Path) -> Result<Scanned, OpenError> {
    scan(dir, true)
}

fn scan(dir: &Path, newest_only: bool) -> Result<Scanned, OpenError> {
    // The witness first: on a live journal it may be overtaken by the frames, never overtake them.
    let witness = Witness::read(dir);
    let found = list(dir).map_err(OpenError::io(dir))?;
    let mut generations: Vec<Generation> = Vec::new();
    let files = found.clone();
    let damaged = |generations: Vec<Generation>, mut damage: Damage| {
        let last = generations.last().map_or(0, Generation::last);
        damage.written = files
            .iter()
            .map(|(first, path)| last_claimed(path, *first))
            .fold(last, u64::max);
        damage.written = damage.written.max(witness.unwrap_or(0));
        Ok(Scanned {
            generations,
            end: End::Damaged(damage),
        })
    };
    let count = found.len();
    for (index, (first, path)) in found.into_iter().enumerate() {
        if let Some(before) = generations.last()
            && before.last + 1 != first
        {
            let position = before.last + 1;
            let damage = Damage {
                file: path,
                offset: 0,
                position,
                what: "a generation is missing before this file",
                written: 0,
            };
            return damaged(generations, damage);
        }
        if newest_only && let Some((next, _)) = files.get(index + 1) {
            generations.push(Generation {
                path,
                salt: 0,
                first,
                last: next - 1,
                end: FIRST_FRAME,
            });
            continue;
        }
        let (generation, tail) = match scan_one(&path, first)? {
            Ok(scanned) => scanned,
            Err(damage) => return damaged(generations, damage),
        };
        let (position, offset) = (generation.last + 1, generation.end);
        generations.push(generation);
        let what = match tail {
            Tail::Clean if index + 1 < count => continue,
            Tail::Clean | Tail::Torn if witness.is_some_and(|durable| durable >= position) => {
                "an acknowledged record is missing"
            }
            Tail::Clean => {
                return Ok(Scanned {
                    generations,
                    end: End::Clean,
                });
            }
            Tail::Torn if index + 1 == count => {
                let cut = Cut {
                    file: path,
                    offset,
                    position,
                };
                return Ok(Scanned {
                    generations,
                    end: End::Torn(cut),
                });
            }
            Tail::Torn | Tail::Overwritten => "an acknowledged record is damaged",
        };
        return damaged(
            generations,
            Damage {
                file: path,
                offset,
                position,
                what,
                written: 0,
            },
        );
    }
    match witness {
        Some(durable) if durable > 0 => {
            let damage = Damage {
                file: path(dir, 1),
                offset: 0,
                position: durable,
                what: "the journal is missing",
                written: 0,
            };
            damaged(generations, damage)
        }
        _ => Ok(Scanned {
            generations,
            end: End::Clean,
        }),
    }
}

/// How far a damaged journal got, as far as any frame of this file can tell; one too many rather than too few.
fn last_claimed(path: &Path, first: u64) -> u64 {
    let Ok(bytes) = std::fs::read(path) else {
        return first.saturating_sub(1);
    };
    let salt = bytes
        .get(8..16)
        .and_then(|salt| salt.try_into().ok())
        .map_or(0, u64::from_le_bytes);
    let frames = bytes.get(FIRST_FRAME as usize..).unwrap_or_default();
    frame::highest(salt, first, frames).map_or(first.saturating_sub(1), |(position, _)| position)
}

enum Tail {
    /// Nothing but zeros behind the last frame.
    Clean,
    /// Bytes that were never acknowledged, as far as this file knows.
    Torn,
    /// A later frame says that the unsound one had been acknowledged.
    Overwritten,
}

/// What is known of a generation, or what is wrong with it.
type Scan = Result<(Generation, Tail), Damage>;

fn scan_one(path: &Path, first: u64) -> Result<Scan, OpenError> {
    let mut ended = None;
    loop {
        match scan_once(path, first)? {
            // Somebody who writes meanwhile looks like that. Where nobody does, it ends there again.
            Ok((generation, Tail::Overwritten)) if ended != Some(generation.end) => {
                ended = Some(generation.end);
            }
            scanned => return Ok(scanned),
        }
    }
}

fn scan_once(path: &Path, first: u64) -> Result<Scan, OpenError> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut frames = match Frames::begin(file, length, first).map_err(io)? {
        Some(frames) => frames,
        None if length >= 8 && !starts_with_magic(path).map_err(io)? => {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        None => {
            let (file, what) = (path.to_owned(), "the file's head is damaged");
            return Ok(Err(Damage {
                file,
                offset: 0,
                position: first,
                what,
                written: 0,
            }));
        }
    };
    while frames.next().map_err(io)?.is_some() {}
    let generation = Generation {
        path: path.to_owned(),
        salt: frames.salt,
        first,
        last: frames.position - 1,
        end: frames.offset,
    };
    let rest = frames.rest().map_err(io)?;
    let tail = if rest.iter().all(|byte| *byte == 0) {
        Tail::Clean
    } else {
        match frame::highest(generation.salt, generation.last + 1, &rest) {
            Some((_, durable)) if durable > generation.last => Tail::Overwritten,
            _ => Tail::Torn,
        }
    };
    Ok(Ok((generation, tail)))
}

fn starts_with_magic(path: &Path) -> io::Result<bool> {
    let mut magic = [0; 8];
    File::open(path)?.read_exact(&mut magic)?;
    // A head of zeros, or with a wrong bit, is damage; something else entirely is not ours.
    let differing: u32 = magic.iter().zip(MAGIC).map(|(a, b)| (a ^ b).count_ones()).sum();
    Ok(differing <= 8 || magic == [0; 8])
}

/// Reads frame after frame as long as they are sound.
pub(crate) struct Frames {
    file: BufReader<File>,
    length: u64,
    pub(crate) salt: u64,
    pub(crate) offset: u64,
    pub(crate) position: u64,
}

impl Frames {
    /// `None` when the head is not that of a generation beginning at `first`.
    pub(crate) fn begin(file: File, length: u64, first: u64) -> io::Result<Option<Self>> {
        let mut file = BufReader::with_capacity(256 << 10, file);
        let mut bytes = [0; FIRST_FRAME as usize];
        match file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let salt = u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes"));
        if bytes != head(salt, first) {
            return Ok(None);
        }
        Ok(Some(Self {
            file,
            length,
            salt,
            offset: FIRST_FRAME,
            position: first,
        }))
    }

    /// The next sound frame, or `None` at the first bytes that are none.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.length - self.offset < HEADER as u64 {
            return Ok(None);
        }
        let mut head = [0; HEADER];
        if !self.fill(&mut head)? {
            return Ok(None);
        }
        let header = Header::read(&head);
        let in_file = self.offset + header.size() <= self.length;
        if header.length == 0 || header.position != self.position || !in_file {
            return Ok(None);
        }
        let mut payload = vec![0; header.size() as usize - HEADER];
        if !self.fill(&mut payload)? {
            return Ok(None);
        }
        payload.truncate(header.length as usize);
        if !header.accepts(self.salt, &payload) {
            return Ok(None);
        }
        self.offset += header.size();
        self.position += 1;
        Ok(Some(payload))
    }

    /// Whether there was as much. A live file that is finished meanwhile gives back the space that was taken ahead: it is shorter than it was.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<bool> {
        match self.file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(self.offset))?;
        let mut rest = Vec::new();
        self.file.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
