//! The attacker's side: this test binary, run again with a role in its environment.

#![expect(unsafe_code, reason = "forks")]

use std::{
    env,
    ffi::CString,
    io::{self, IoSlice, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    str::FromStr,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sched::{CloneFlags, unshare},
    sys::{
        socket::{ControlMessage, MsgFlags, sendmsg},
        wait::waitpid,
    },
    unistd::{ForkResult, dup, execv, fork},
};

pub(super) const ROLE: &str = "DOORS_ATTACK_ROLE";
pub(super) const SOCKET: &str = "DOORS_ATTACK_SOCKET";

/// Written by whoever got an answer to the request.
pub(super) const WON: &str = "the answer came";

/// How an attacker cheats.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// Does not cheat.
    Honest,
    /// Asks, then becomes another program.
    ExecSilent,
    /// The same, with a child left behind that holds the connection and answers.
    ExecChildAnswers,
    /// The same, with answers to any PING it could think of sent beforehand.
    ExecPrepared,
    /// Waits to be believed, then becomes another program.
    ProvenThenExec,
    /// Passes its connection to another process, which asks.
    PassConnection,
    /// Lets a child ask on its connection.
    ChildSends,
    /// Asks, and ends; a child holds the connection and answers.
    LeaveToChild,
    /// Passes a descriptor to the door.
    SendDescriptor,
    /// Makes itself root in a user namespace first.
    OwnUserNamespace,
}

impl Role {
    const ALL: [Self; 10] = [
        Self::Honest,
        Self::ExecSilent,
        Self::ExecChildAnswers,
        Self::ExecPrepared,
        Self::ProvenThenExec,
        Self::PassConnection,
        Self::ChildSends,
        Self::LeaveToChild,
        Self::SendDescriptor,
        Self::OwnUserNamespace,
    ];

    pub(super) fn execs(self) -> bool {
        matches!(
            self,
            Self::ExecSilent | Self::ExecChildAnswers | Self::ExecPrepared | Self::ProvenThenExec
        )
    }

    fn play(self, socket: &str) -> io::Result<()> {
        if let Self::OwnUserNamespace = self {
            // A process of one thread only can do that.
            return in_child(|| {
                unshare(CloneFlags::CLONE_NEWUSER)?;
                let mut door = UnixStream::connect(socket)?;
                door.write_all(&request())?;
                answer_pings(&mut door)
            });
        }
        let mut door = UnixStream::connect(socket)?;
        match self {
            Self::Honest => {
                door.write_all(&request())?;
                answer_pings(&mut door)
            }
            Self::ExecSilent => {
                door.write_all(&request())?;
                become_sleep(&door, "0.15")
            }
            Self::ExecChildAnswers => {
                door.write_all(&request())?;
                leave_child(&mut door)?;
                become_sleep(&door, "60")
            }
            Self::ExecPrepared => {
                door.write_all(&request())?;
                for guess in [0u64, u64::MAX, 1, 0x0706_0504_0302_0100] {
                    door.write_all(&answer(guess.to_be_bytes()))?;
                }
                for guess in 0..200u64 {
                    door.write_all(&answer((guess.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes()))?;
                }
                become_sleep(&door, "0.15")
            }
            Self::ProvenThenExec => {
                door.write_all(&request())?;
                answer_pings(&mut door)?;
                become_sleep(&door, "60")
            }
            Self::PassConnection => {
                let (ours, theirs) = UnixStream::pair()?;
                // SAFETY: the child uses what it inherited and ends by _exit.
                if let ForkResult::Child = unsafe { fork() }? {
                    end_with(|| {
                        let mut door: UnixStream = receive(&theirs)?.into();
                        door.write_all(&request())?;
                        answer_pings(&mut door)
                    });
                }
                let fds = [door.as_raw_fd()];
                let parts = [IoSlice::new(b"x")];
                sendmsg::<()>(
                    ours.as_raw_fd(),
                    &parts,
                    &[ControlMessage::ScmRights(&fds)],
                    MsgFlags::empty(),
                    None,
                )?;
                wait_for_end(&door)
            }
            Self::ChildSends => {
                // SAFETY: the child uses what it inherited and ends by _exit.
                if let ForkResult::Child = unsafe { fork() }? {
                    end_with(|| {
                        door.write_all(&request())?;
                        answer_pings(&mut door)
                    });
                }
                wait_for_end(&door)
            }
            Self::LeaveToChild => {
                door.write_all(&request())?;
                leave_child(&mut door)
            }
            Self::SendDescriptor => {
                let bytes = request();
                let fds = [door.as_raw_fd()];
                let parts = [IoSlice::new(&bytes)];
                sendmsg::<()>(
                    door.as_raw_fd(),
                    &parts,
                    &[ControlMessage::ScmRights(&fds)],
                    MsgFlags::empty(),
                    None,
                )?;
                answer_pings(&mut door)
            }
            Self::OwnUserNamespace => Ok(()),
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|role| format!("{role:?}") == name)
            .ok_or(())
    }
}

#[test]
fn attacker() {
    let (Ok(role), Ok(socket)) = (env::var(ROLE), env::var(SOCKET)) else {
        return; // Run as a test, it has nothing to do.
    };
    // That the door closes the connection is no mishap here.
    let _ = role.parse::<Role>().unwrap().play(&socket);
    // The test harness above would wait for nothing and print its summary: not wanted.
    std::process::exit(0);
}

/// Preface, SETTINGS and a whole request.
fn request() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    let path = "/muster.test.Who/Ask";
    let mut block = vec![0x83, 0x86, 0x44, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    for (first, text) in [
        (&[0x41][..], "x"),
        (&[0x5f], "application/grpc"),
        (b"\x40\x02te", "trailers"),
    ] {
        block.extend(first);
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    bytes.extend(frame(1, 4, 1, &block));
    bytes.extend(frame(0, 1, 1, &[0; 5]));
    bytes
}

fn answer(nonce: [u8; 8]) -> Vec<u8> {
    frame(6, 1, 0, &nonce)
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

/// Answers each PING, until the request is answered or the door closes.
fn answer_pings(door: &mut UnixStream) -> io::Result<()> {
    loop {
        let mut header = [0; 9];
        door.read_exact(&mut header)?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; length as usize];
        door.read_exact(&mut payload)?;
        match (header[3], header[4] & 1) {
            (6, 0) => door.write_all(&frame(6, 1, 0, &payload))?,
            // The message of an answer; a refusal has headers only.
            (0, _) => {
                io::stdout().write_all(WON.as_bytes())?;
                return Ok(());
            }
            (1, 1) | (7, _) => return Ok(()),
            _ => {}
        }
    }
}

fn become_sleep(door: &UnixStream, seconds: &str) -> io::Result<()> {
    fcntl(door, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // Who reads our output waits for those who might still write.
    fcntl(io::stdout(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let arguments = [c"sleep".to_owned(), CString::new(seconds)?];
    execv(c"/bin/sleep", &arguments)?;
    Ok(())
}

/// Leaves a child behind that answers on the connection.
fn leave_child(door: &mut UnixStream) -> io::Result<()> {
    // SAFETY: the child uses what it inherited and ends by _exit.
    if let ForkResult::Child = unsafe { fork() }? {
        end_with(|| answer_pings(door));
    }
    Ok(())
}

fn in_child(act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: the child uses what it inherited and ends by _exit.
    match unsafe { fork() }? {
        ForkResult::Child => end_with(act),
        ForkResult::Parent { child } => {
            waitpid(child, None)?;
            Ok(())
        }
    }
}

fn end_with(act: impl FnOnce() -> io::Result<()>) -> ! {
    let _ = act();
    // SAFETY: ends the process without running what the parent registered.
    unsafe { nix::libc::_exit(0) }
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, recvmsg};
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the descriptor was just installed; the copy is ours alone.
            let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fds[0]) };
            return Ok(dup(borrowed)?);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Holds the connection, silent, until the door closes it.
fn wait_for_end(door: &UnixStream) -> io::Result<()> {
    let mut fds = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(door),
        nix::poll::PollFlags::empty(),
    )];
    // Asked for nothing, poll still says when the other side hung up.
    let patience = Duration::from_secs(20);
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::try_from(patience).unwrap())?;
    Ok(())
}
