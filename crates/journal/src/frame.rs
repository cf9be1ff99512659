//! One record on the disk.
//!
//! ```text
//! length u32 | crc u32 | position u64 | durable u64 | payload, padded with zeros to 8 bytes     (little endian)
//! ```
//! The CRC32C covers the generation's salt (so that bytes of another file never pass), length, position, durable and
//! payload. `durable` is the last position that was acknowledged when this frame was written: a sound frame behind
//! an unsound one tells by it whether the unsound one had been acknowledged (damage) or not (a torn tail).

pub(crate) const HEADER: usize = 24;

/// The bytes that a record of `payload` bytes takes.
pub(crate) fn size(payload: usize) -> usize {
    HEADER + payload.next_multiple_of(8)
}

pub(crate) fn put(out: &mut Vec<u8>, salt: u64, position: u64, durable: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("the writer bounds a record's length");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(salt, length, position, durable, payload).to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len() + payload.len().next_multiple_of(8) - payload.len(), 0);
}

/// What a frame's first bytes say; nothing of it is believed before [`Header::accepts`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) position: u64,
    pub(crate) durable: u64,
}

impl Header {
    pub(crate) fn read(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | (u64::from(word(at + 4)) << 32);
        Self {
            length: word(0),
            crc: word(4),
            position: long(8),
            durable: long(16),
        }
    }

    pub(crate) fn accepts(&self, salt: u64, payload: &[u8]) -> bool {
        self.crc == checksum(salt, self.length, self.position, self.durable, payload)
    }

    pub(crate) fn size(&self) -> u64 {
        size(self.length as usize) as u64
    }
}

fn checksum(salt: u64, length: u32, position: u64, durable: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 28];
    head[..8].copy_from_slice(&salt.to_le_bytes());
    head[8..12].copy_from_slice(&length.to_le_bytes());
    head[12..20].copy_from_slice(&position.to_le_bytes());
    head[20..].copy_from_slice(&durable.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// The highest position of any sound frame in `bytes`, and the highest `durable` that one claims: the search for what
/// lies behind an unsound frame.
pub(crate) fn highest(salt: u64, expected: u64, bytes: &[u8]) -> Option<(u64, u64)> {
    let mut highest: Option<(u64, u64)> = None;
    let mut at = 0;
    while let Some(head) = bytes.get(at..at + HEADER) {
        let header = Header::read(head.try_into().expect("HEADER bytes were taken"));
        let plausible = header.length > 0
            && header.position >= expected
            && header.position - expected <= bytes.len() as u64
            && header.durable < header.position;
        let payload = bytes.get(at + HEADER..at + HEADER + header.length as usize);
        match payload {
            Some(payload) if plausible && header.accepts(salt, payload) => {
                let (position, durable) = highest.unwrap_or_default();
                highest = Some((position.max(header.position), durable.max(header.durable)));
                at += size(payload.len());
            }
            _ => at += 8,
        }
    }
    highest
}
