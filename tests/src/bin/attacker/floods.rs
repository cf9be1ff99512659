//! Roles that want to use the daemon up.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::h2::{fetch, frame, headers, hello, request};

pub(crate) fn play(role: &str, socket: &str, count: usize) -> Option<io::Result<()>> {
    Some(match role {
        "connections" => connections(socket, count),
        "silence" => silence(socket),
        "no-reading" => no_reading(socket, count),
        "pings" => until_shut(socket, &frame(6, 0, 0, b"any body")),
        "settings" => until_shut(socket, &frame(4, 0, 0, &[])),
        "empty-data" => until_shut(socket, &frame(0, 0, 1, &[])),
        "windows" => until_shut(socket, &frame(8, 0, 0, &[0, 0, 0, 1])),
        "unknown" => until_shut(socket, &frame(0xee, 0, 0, &[])),
        "continuations" => {
            let mut bytes = frame(1, 0, 1, &headers());
            for _ in 0..64 {
                bytes.extend(frame(9, 0, 1, b"\x40\x01x\x01y"));
            }
            until_shut(socket, &bytes)
        }
        "giant-headers" => {
            let mut block = headers();
            block.extend(b"\x40\x01x\x7f\x80\xff\x3f");
            block.resize(1 << 20, b'y');
            let mut bytes = frame(1, 0, 1, &block[..16_000]);
            for part in block[16_000..].chunks(16_000) {
                bytes.extend(frame(9, 0, 1, part));
            }
            until_shut(socket, &bytes)
        }
        "giant-frame" => until_shut(socket, &frame(0, 0, 1, &vec![0; 1 << 20])),
        "rapid-reset" => rapid_reset(socket),
        _ => return None,
    })
}

/// Opens `count` connections, asks on each, and holds what it gets until its input ends.
fn connections(socket: &str, count: usize) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut held = Vec::new();
    let mut shut = 0;
    for _ in 0..count {
        match UnixStream::connect(socket).and_then(|mut door| {
            door.write_all(&request())?;
            Ok(door)
        }) {
            Ok(door) => held.push(door),
            Err(_) => shut += 1,
        }
    }
    println!(
        "{}",
        serde_json::json!({ "event": "flooding", "held": held.len(), "shut": shut })
    );
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Connects and says nothing.
fn silence(socket: &str) -> io::Result<()> {
    let mut door = UnixStream::connect(socket)?;
    door.read_to_end(&mut Vec::new())?;
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// Asks on `count` streams of as many connections as that takes and never reads, until its input ends.
fn no_reading(socket: &str, count: usize) -> io::Result<()> {
    let mut held = Vec::new();
    for stream in 0..count {
        let number = u32::try_from(stream % 100).unwrap() * 2 + 1;
        if number == 1 {
            let mut door = UnixStream::connect(socket)?;
            door.write_all(&hello())?;
            held.push(door);
        }
        held.last_mut().unwrap().write_all(&fetch(number))?;
    }
    println!(
        "{}",
        serde_json::json!({ "event": "flooding", "held": held.len() })
    );
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Writes the same over and over until the door shuts.
fn until_shut(socket: &str, bytes: &[u8]) -> io::Result<()> {
    let mut door = UnixStream::connect(socket)?;
    door.write_all(&hello())?;
    write_for_ever(door, |_| bytes.to_vec())
}

/// Opens a stream and resets it at once, over and over.
fn rapid_reset(socket: &str) -> io::Result<()> {
    let mut door = UnixStream::connect(socket)?;
    door.write_all(&hello())?;
    write_for_ever(door, |round| {
        let stream = round * 2 + 1;
        [fetch(stream), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    })
}

fn write_for_ever(mut door: UnixStream, bytes: impl Fn(u32) -> Vec<u8>) -> io::Result<()> {
    // The server's answers are read, or it would be us who is stuck.
    let mut answers = door.try_clone()?;
    let reader = std::thread::spawn(move || {
        let mut sink = [0; 16_384];
        while answers.read(&mut sink).is_ok_and(|count| count > 0) {}
    });
    door.set_write_timeout(Some(Duration::from_secs(30)))?;
    for round in 0..1_000_000 {
        if let Err(error) = door.write_all(&bytes(round)) {
            let _ = reader.join();
            println!("{}", serde_json::json!({ "event": "shut", "after": round }));
            return Err(error);
        }
    }
    println!("{}", serde_json::json!({ "event": "endless" }));
    Ok(())
}
