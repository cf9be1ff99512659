//! The namespace rule: in which namespaces the kernel's word on a sender's pid and on an executable counts.
//!
//! Whoever has `CAP_SYS_ADMIN` over a PID namespace may claim any pid inside it in `SCM_CREDENTIALS`, and whoever has it
//! or `CAP_CHECKPOINT_RESTORE` in the user namespace that he stands in may change what `/proc/PID/exe` shows of his
//! memory (`PR_SET_MM_MAP`). Any user gets both by making a user namespace. So a caller is
//! [`Native`](crate::Standing::Native) only if its user namespace is ours and every PID namespace from its own up to
//! ours is owned by our user namespace. Then only root can lie about the sender.
//!
//! About the executable a native caller's own user still can: a child that shares its memory (`CLONE_VM`) and stands in
//! a user namespace of its own changes what both show, and the parent never left ours. The kernel asks that the shown
//! file may be read and run by that user. So an executable narrows within a uid, as it does beside `LD_PRELOAD` and
//! ptrace, and never proves more than the uid does; what set-id files need, the attestor asks beyond it.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Mutex, PoisonError},
};

use crate::{
    evidence::{ForeignReason, Standing},
    kernel::{Kernel, Namespace, NamespaceId},
};

/// PID namespaces nest at most this deep (`MAX_PID_NS_LEVEL`).
const DEPTH: usize = 32;

/// How many verdicts are remembered: containers with a PID namespace of their own that call at one time.
const REMEMBERED: usize = 256;

/// Our own namespaces, and what was found of others.
#[derive(Debug)]
pub(crate) struct Namespaces {
    user: NamespaceId,
    pid: NamespaceId,
    /// Verdicts by the PID namespace's identity. Each holds its namespace open: an inode number is given to another
    /// namespace as soon as the first has ended, so a remembered one must not end.
    verdicts: Mutex<HashMap<NamespaceId, Verdict>>,
}

#[derive(Debug)]
struct Verdict {
    ours: bool,
    _pinned: OwnedFd,
}

impl Namespaces {
    /// Learns which namespaces are ours.
    pub(crate) fn of_this_process(kernel: &dyn Kernel) -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let ourselves = kernel.open_proc(pid)?;
        Ok(Self {
            user: kernel.namespace(ourselves.as_fd(), Namespace::User)?,
            pid: kernel.namespace(ourselves.as_fd(), Namespace::Pid)?,
            verdicts: Mutex::default(),
        })
    }

    /// Judges a process by its two namespaces, which were just read from `proc_dir`.
    pub(crate) fn standing(
        &self,
        kernel: &dyn Kernel,
        proc_dir: BorrowedFd<'_>,
        user: NamespaceId,
        pid: NamespaceId,
    ) -> io::Result<Standing> {
        if user != self.user {
            return Ok(Standing::Foreign(ForeignReason::UserNamespace));
        }
        if pid == self.pid || self.is_owned_by_us(kernel, proc_dir, pid)? {
            return Ok(Standing::Native);
        }
        Ok(Standing::Foreign(ForeignReason::PidNamespace))
    }

    fn is_owned_by_us(
        &self,
        kernel: &dyn Kernel,
        proc_dir: BorrowedFd<'_>,
        pid: NamespaceId,
    ) -> io::Result<bool> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verdict) = verdicts.get(&pid) {
            return Ok(verdict.ours);
        }
        drop(verdicts);
        let namespace = kernel.open_namespace(proc_dir, Namespace::Pid)?;
        let id = kernel.namespace_id(namespace.as_fd())?;
        let ours = self.walk(kernel, namespace.as_fd())?;
        if id != pid {
            // A process never changes its own PID namespace: somebody else has the number now.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() >= REMEMBERED {
            // Rare, and forgetting all costs a few microseconds for each namespace that calls again.
            verdicts.clear();
        }
        verdicts.insert(
            id,
            Verdict {
                ours,
                _pinned: namespace,
            },
        );
        Ok(ours)
    }

    /// Whether each namespace from `first` up to ours (exclusive) is owned by our user namespace.
    fn walk(&self, kernel: &dyn Kernel, first: BorrowedFd<'_>) -> io::Result<bool> {
        let mut current = first.try_clone_to_owned()?;
        for _ in 0..=DEPTH {
            if kernel.namespace_id(current.as_fd())? == self.pid {
                return Ok(true);
            }
            let owner = match kernel.namespace_owner(current.as_fd()) {
                Ok(owner) => owner,
                Err(error) if is_out_of_sight(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            if kernel.namespace_id(owner.as_fd())? != self.user {
                return Ok(false);
            }
            current = match kernel.namespace_parent(current.as_fd()) {
                Ok(parent) => parent,
                Err(error) if is_out_of_sight(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
        }
        Ok(false)
    }
}

/// The kernel answers EPERM for an owner or parent that lies beyond our own namespaces.
fn is_out_of_sight(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests;
