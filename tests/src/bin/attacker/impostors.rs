//! Roles that want to be taken for somebody else: for `/bin/sleep`, or for the user who connected.

use std::{
    ffi::CString,
    io::{self, IoSlice, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use nix::{
    cmsg_space,
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
    unistd::{ForkResult, Uid, dup, dup2_stdin, execv, fork, setuid},
};

use crate::h2::{answer_pings, frame, request};

/// A user who is nobody here.
const STRANGER: u32 = 54_321;

pub(crate) fn play(role: &str, socket: &str) -> Option<io::Result<()>> {
    let act = match role {
        "honest" => honest,
        "exec-silent" => exec_silent,
        "exec-child-answers" => exec_child_answers,
        "exec-prepared" => exec_prepared,
        "exec-after-svid" => exec_after_svid,
        "pass-connection" => pass_connection,
        "child-sends" => child_sends,
        "leave-to-child" => leave_to_child,
        "send-descriptor" => send_descriptor,
        // It connects from within.
        "own-user-namespace" => return Some(own_user_namespace(socket)),
        _ => return None,
    };
    Some(UnixStream::connect(socket).and_then(act))
}

/// Does not cheat: what it gets shows that the others do not lose by bad HTTP/2.
fn honest(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    answer_pings(&mut door)
}

/// Asks, then becomes another program.
fn exec_silent(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    become_sleep(&door, "0.2")
}

/// The same, with a child left behind that holds the connection and answers.
fn exec_child_answers(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    in_child(|| answer_pings(&mut door))?;
    become_sleep(&door, "2")
}

/// The same, with answers to PINGs that it guessed sent beforehand.
fn exec_prepared(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    for guess in 0..200u64 {
        door.write_all(&frame(
            6,
            1,
            0,
            &guess.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
        ))?;
    }
    become_sleep(&door, "0.2")
}

/// Earns an identity, then becomes a program that prints whatever else comes.
fn exec_after_svid(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    answer_pings(&mut door)?;
    dup2_stdin(&door)?;
    execv(c"/bin/cat", &[c"cat"])?;
    Ok(())
}

/// Earns an identity, then becomes `program`, which says what else comes.
pub(crate) fn exec_and_listen(socket: &str, program: &str) -> io::Result<()> {
    let mut door = UnixStream::connect(socket)?;
    door.write_all(&request())?;
    answer_pings(&mut door)?;
    dup2_stdin(&door)?;
    execv(
        &CString::new(program)?,
        &[c"listen".to_owned(), c"listen".to_owned(), c"-".to_owned()],
    )?;
    Ok(())
}

/// Says what comes on the connection that it was given as its standard input.
pub(crate) fn listen() -> io::Result<()> {
    println!("{}", serde_json::json!({ "event": "listening" }));
    let mut door = UnixStream::from(dup(io::stdin().as_fd())?);
    answer_pings(&mut door)
}

/// Passes its connection to another user's process, which asks.
#[expect(clippy::needless_pass_by_value, reason = "all roles have one signature")]
fn pass_connection(door: UnixStream) -> io::Result<()> {
    let (ours, theirs) = UnixStream::pair()?;
    in_child(|| {
        setuid(Uid::from_raw(STRANGER))?;
        honest(receive(&theirs)?.into())
    })?;
    pass(&ours, b"x", &door)?;
    until_hung_up(&door)
}

/// Lets another user's child ask.
#[expect(clippy::needless_pass_by_value, reason = "all roles have one signature")]
fn child_sends(door: UnixStream) -> io::Result<()> {
    let theirs = door.try_clone()?;
    in_child(|| {
        setuid(Uid::from_raw(STRANGER))?;
        honest(theirs)
    })?;
    until_hung_up(&door)
}

/// Asks, and ends, so that its pid is free; a child answers.
fn leave_to_child(mut door: UnixStream) -> io::Result<()> {
    door.write_all(&request())?;
    in_child(|| answer_pings(&mut door))
}

/// Passes a descriptor to the daemon itself.
fn send_descriptor(mut door: UnixStream) -> io::Result<()> {
    pass(&door, &request(), &door)?;
    answer_pings(&mut door)
}

/// Asks from a user namespace in which it could forge what `/proc` shows.
fn own_user_namespace(socket: &str) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWUSER)?;
    honest(UnixStream::connect(socket)?)
}

fn become_sleep(door: &UnixStream, seconds: &str) -> io::Result<()> {
    fcntl(door, FcntlArg::F_SETFD(FdFlag::empty()))?;
    // Who reads our output waits for those who might still write.
    fcntl(io::stdout(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    fcntl(io::stderr(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    execv(c"/bin/sleep", &[c"sleep".to_owned(), CString::new(seconds)?])?;
    Ok(())
}

fn in_child(act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: we have one thread, and the child ends by itself.
    if let ForkResult::Child = unsafe { fork() }? {
        if let Err(error) = act() {
            println!(
                "{}",
                serde_json::json!({ "event": "closed", "why": error.to_string() })
            );
        }
        std::process::exit(0);
    }
    Ok(())
}

fn pass(over: &UnixStream, bytes: &[u8], door: &UnixStream) -> io::Result<()> {
    let fds = [door.as_raw_fd()];
    sendmsg::<()>(
        over.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = cmsg_space!([i32; 1]);
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let message = recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            // SAFETY: the descriptor was just installed; the copy is ours alone.
            return Ok(dup(unsafe { BorrowedFd::borrow_raw(fds[0]) })?);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Holds the connection, silent, until the door shuts it. Asked for nothing, poll still tells that.
fn until_hung_up(door: &UnixStream) -> io::Result<()> {
    poll(
        &mut [PollFd::new(door.as_fd(), PollFlags::empty())],
        PollTimeout::from(20_000u16),
    )?;
    Ok(())
}
