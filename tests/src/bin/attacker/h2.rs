//! HTTP/2 by hand.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

/// What every connection begins with.
pub(crate) fn hello() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// The preface and a whole `FetchX509SVID`.
pub(crate) fn request() -> Vec<u8> {
    [hello(), fetch(1)].concat()
}

/// `FetchX509SVID` on a stream.
pub(crate) fn fetch(stream: u32) -> Vec<u8> {
    [frame(1, 4, stream, &headers()), frame(0, 1, stream, &[0; 5])].concat()
}

/// The header block of `FetchX509SVID`, spelled out.
pub(crate) fn headers() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (first, text) in [
        (&b"\x44"[..], "/SpiffeWorkloadAPI/FetchX509SVID"),
        (b"\x41", "localhost"),
        (b"\x5f", "application/grpc"),
        (b"\x40\x02te", "trailers"),
        (b"\x40\x12workload.spiffe.io", "true"),
    ] {
        block.extend(first);
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    block
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Answers each PING until an identity came, the request was refused or the door shut; says so if one came.
pub(crate) fn answer_pings(door: &mut UnixStream) -> io::Result<()> {
    loop {
        let (kind, flags, payload) = read(door)?;
        match (kind, flags & 1) {
            (6, 0) => door.write_all(&frame(6, 1, 0, &payload))?,
            (0, _) if !payload.is_empty() => {
                println!(
                    "{}",
                    serde_json::json!({ "event": "svid", "bytes": payload.len() })
                );
                return Ok(());
            }
            // A refusal has headers only; and so has the end of the stream.
            (1, 1) | (3 | 7, _) => return Err(io::Error::other("refused")),
            _ => {}
        }
    }
}

fn read(door: &mut UnixStream) -> io::Result<(u8, u8, Vec<u8>)> {
    let mut header = [0; 9];
    door.read_exact(&mut header)?;
    let [l0, l1, l2, kind, flags, ..] = header;
    let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
    door.read_exact(&mut payload)?;
    Ok((kind, flags, payload))
}
