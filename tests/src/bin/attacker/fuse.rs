//! A file system of the attacker's own, with one program on it, that answers everybody but the daemon it is meant for.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
};

use nix::mount::{MsFlags, mount};

const ROOT: u64 = 1;
const PROGRAM: u64 = 2;

/// `frozen-files FOLDER VICTIM`: mounts on `FOLDER` one program, a copy of this one, that only the process `VICTIM` can't read.
pub(crate) fn play(role: &str, folder: &str, victim: usize) -> Option<io::Result<()>> {
    (role == "frozen-files").then(|| serve(folder, victim))
}

fn serve(folder: &str, victim: usize) -> io::Result<()> {
    let program = File::open(std::env::current_exe()?)?;
    let size = program.metadata()?.len();
    let mut device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let flags = MsFlags::MS_NODEV;
    mount(
        Some("frozen"),
        folder,
        Some("fuse"),
        flags,
        Some(options.as_str()),
    )?;
    println!("{}", serde_json::json!({ "event": "mounted" }));
    let mut buffer = vec![0; 1 << 20];
    let mut told = false;
    loop {
        let length = match device.read(&mut buffer) {
            // Unmounted.
            Err(error) if error.raw_os_error() == Some(19) => return Ok(()),
            read => read?,
        };
        let request = &buffer[..length];
        let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (kind, unique, node, thread) = (number(4), long(8), long(16), number(32));
        if Path::new(&format!("/proc/{victim}/task/{thread}")).exists() {
            // It waits for ever.
            if !told {
                println!("{}", serde_json::json!({ "event": "asked", "kind": kind }));
                told = true;
            }
            continue;
        }
        let answer = match kind {
            // FORGET, INTERRUPT, BATCH_FORGET want none.
            2 | 36 | 42 => continue,
            26 => Ok(init(number(40 + 8))),
            1 if node == ROOT && &request[40..length] == b"program\0" => Ok(entry(size)),
            1 => Err(2),
            3 => Ok(attributes(node, size)),
            14 | 27 => Ok(vec![0; 16]),
            15 => {
                let mut data = vec![0; number(40 + 16) as usize];
                let read = program.read_at(&mut data, long(40 + 8))?;
                data.truncate(read);
                Ok(data)
            }
            18 | 25 | 29 => Ok(Vec::new()),
            _ => Err(38),
        };
        let (error, body) = match answer {
            Ok(body) => (0i32, body),
            Err(code) => (-code, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let header = [
            length.to_ne_bytes().as_slice(),
            &error.to_ne_bytes(),
            &unique.to_ne_bytes(),
        ]
        .concat();
        // A request whose caller was killed is not waited for any more.
        let _ = device.write(&[header, body].concat());
    }
}

fn init(readahead: u32) -> Vec<u8> {
    let mut body: Vec<u8> = [7u32, 31, readahead, 0]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    body.extend([16u16, 12].iter().flat_map(|word| word.to_ne_bytes()));
    body.extend((128u32 << 10).to_ne_bytes());
    body.resize(64, 0);
    body
}

/// What a name stands for. It counts for no time at all: whoever looks the name up must ask again.
fn entry(size: u64) -> Vec<u8> {
    let mut body = vec![0; 40];
    body[..8].copy_from_slice(&PROGRAM.to_ne_bytes());
    body.extend(inode(PROGRAM, size));
    body
}

fn attributes(node: u64, size: u64) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend(inode(node, size));
    body
}

fn inode(node: u64, size: u64) -> Vec<u8> {
    let (size, mode) = if node == ROOT {
        (0, 0o40_755u32)
    } else {
        (size, 0o100_755)
    };
    let mut body: Vec<u8> = [node, size, size.div_ceil(512), 1, 1, 1]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    let words = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0u32];
    body.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    body
}
