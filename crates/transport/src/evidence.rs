//! What the facts about a process rest on. If it changes, they are void.

use std::{fmt, io, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    kernel::{FileId, Kernel, Namespace, NamespaceId, PidfdInfo, ProcFile},
    namespaces::Namespaces,
    process::Process,
    refusal::{Changed, Refusal},
};

/// `/proc/PID/cgroup` has a line per hierarchy (a dozen) and a path of at most 4 KiB in each.
pub(crate) const CGROUP_LIMIT: usize = 64 * 1024;

/// `/proc/PID/stat` and `/proc/PID/status`; the group list is the only long part of the latter (65,536 groups).
const STATUS_LIMIT: usize = 1024 * 1024;

/// What a process is, as the kernel says: taken at one time, compared later.
///
/// ctime and size of the executable are no part of it: a package upgrade changes them under a running program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// Whether the kernel's word on sender and executable can be believed.
    pub standing: Standing,
    /// The program's file; none for a foreign caller, which could show whichever it likes.
    pub executable: Option<FileId>,
    /// When the process started, in clock ticks since boot.
    pub start_time: u64,
    /// Real, effective and saved user id, as our user namespace numbers them.
    pub uids: Ids,
    /// Real, effective and saved group id, as our user namespace numbers them.
    pub gids: Ids,
    /// Its supplementary groups.
    pub groups: GroupsHash,
    /// Its control groups.
    pub cgroups: Cgroups,
    /// Its user namespace, when we may see it.
    pub user_ns: Option<NamespaceId>,
    /// Its PID namespace, when we may see it.
    pub pid_ns: Option<NamespaceId>,
}

/// Three ids that usually are one. If real and effective differ, a set-id program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// Who started it: no exec changes this one.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// To whom it may go back.
    pub saved: u32,
}

/// The supplementary groups of a process as one value: there may be 65,536 of them.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct GroupsHash([u8; 32]);

/// How closely a process is looked at again.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Look {
    /// Only which program it runs: one call of the kernel, for looking often.
    Program,
    /// What an exec, a move or the process itself can change, in some calls: before each thing that is sent.
    Light,
    /// The supplementary groups too, for which the kernel writes a page of text: now and then.
    Whole,
}

/// The control groups a process is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cgroups {
    /// The id of its group in the unified hierarchy, where the kernel tells it (6.13).
    pub unified: Option<u64>,
    /// `/proc/PID/cgroup`, byte for byte: facts are parsed from here, so that they rest on what is compared later.
    pub text: Arc<[u8]>,
}

/// Whether a caller's presence and executable can be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Its namespaces are ours: only root could lie about who sends, and only root or its own user about what it runs.
    Native,
    /// It gets only facts that an exec can't change: real uid, cgroup and what is named after it, the door it came by.
    Foreign(ForeignReason),
}

/// Why a caller is foreign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForeignReason {
    /// It is in another user namespace.
    UserNamespace,
    /// Its PID namespace, or one above it, belongs to another user namespace.
    PidNamespace,
    /// We lack the right to look (`CAP_SYS_PTRACE`).
    Unreadable,
}

impl Standing {
    /// Whether presence and executable facts count.
    pub fn is_native(self) -> bool {
        self == Self::Native
    }
}

impl Evidence {
    /// Reads everything. The process is known to have been the pinned one all the while: it was alive afterwards.
    pub(crate) fn take(process: &Process, ours: &Namespaces) -> Result<Self, Refusal> {
        let kernel = process.kernel();
        let dir = process.proc_dir();
        let read = || -> io::Result<Self> {
            let start_time = start_time(&kernel.read(dir, ProcFile::Stat, STATUS_LIMIT)?)?;
            let info = ids_and_cgroup(kernel, process)?;
            let groups = GroupsHash::read(kernel, process)?;
            let text = kernel.read(dir, ProcFile::Cgroup, CGROUP_LIMIT)?.into();
            let mut evidence = Self {
                standing: Standing::Foreign(ForeignReason::Unreadable),
                executable: None,
                start_time,
                uids: info.uids.into(),
                gids: info.gids.into(),
                groups,
                cgroups: Cgroups {
                    unified: info.cgroup,
                    text,
                },
                user_ns: None,
                pid_ns: None,
            };
            // The executable first: a process that then is still in our user namespace had no power of its own to forge
            // it. One that shares its memory may have had it (`namespaces`).
            let executable = kernel.executable(dir);
            let namespaces = kernel
                .namespace(dir, Namespace::User)
                .and_then(|user| Ok((user, kernel.namespace(dir, Namespace::Pid)?)));
            let (user, pid) = match namespaces {
                Err(error) if is_forbidden(&error) => return Ok(evidence),
                other => other?,
            };
            evidence.user_ns = Some(user);
            evidence.pid_ns = Some(pid);
            evidence.standing = ours.standing(kernel, dir, user, pid)?;
            if evidence.standing.is_native() {
                match executable {
                    Err(error) if is_forbidden(&error) => {
                        evidence.standing = Standing::Foreign(ForeignReason::Unreadable);
                    }
                    other => evidence.executable = Some(other?),
                }
            }
            Ok(evidence)
        };
        finish(process, read())
    }

    /// Reads again what may have changed, as closely as `look` says. Start time and PID namespace are not among it: they
    /// stay as long as the pinned process lives.
    pub(crate) fn check(&self, process: &Process, look: Look) -> Result<(), Refusal> {
        let changed = if look == Look::Program {
            match self.other_program(process) {
                // What is read below `/proc/PID` is of the pinned process or of none: this answer needs no second look.
                Ok(None) => return Ok(()),
                other => other,
            }
        } else {
            self.change(process, look)
        };
        match finish(process, changed)? {
            Some(changed) => Err(Refusal::Changed {
                pid: process.pid(),
                changed,
            }),
            None => Ok(()),
        }
    }

    fn change(&self, process: &Process, look: Look) -> io::Result<Option<Changed>> {
        let kernel = process.kernel();
        let dir = process.proc_dir();
        let info = ids_and_cgroup(kernel, process)?;
        if Ids::from(info.uids) != self.uids || Ids::from(info.gids) != self.gids {
            return Ok(Some(Changed::Ids));
        }
        if info.cgroup != self.cgroups.unified {
            return Ok(Some(Changed::Cgroup));
        }
        let told = info.cgroup.is_some() && self.cgroups.is_unified_only();
        if !told && !process.cgroups_read_as(&self.cgroups.text)? {
            return Ok(Some(Changed::Cgroup));
        }
        if let Some(changed) = self.other_program(process)? {
            return Ok(Some(changed));
        }
        if let Some(user_ns) = self.user_ns
            && kernel.namespace(dir, Namespace::User)? != user_ns
        {
            return Ok(Some(Changed::UserNamespace));
        }
        if look == Look::Whole && GroupsHash::read(kernel, process)? != self.groups {
            return Ok(Some(Changed::Groups));
        }
        Ok(None)
    }

    fn other_program(&self, process: &Process) -> io::Result<Option<Changed>> {
        match self.executable {
            Some(executable) if process.kernel().executable(process.proc_dir())? != executable => {
                Ok(Some(Changed::Executable))
            }
            _ => Ok(None),
        }
    }
}

impl GroupsHash {
    /// Of the list as `/proc/PID/status` writes it.
    pub fn of(list: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, list).as_ref());
        Self(hash)
    }

    fn read(kernel: &dyn Kernel, process: &Process) -> io::Result<Self> {
        let status = kernel.read(process.proc_dir(), ProcFile::Status, STATUS_LIMIT)?;
        status_line(&status, b"Groups:")
            .map(Self::of)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl fmt::Debug for GroupsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "GroupsHash({:08x}…)", u32::from_be_bytes([a, b, c, d]))
    }
}

impl Cgroups {
    /// Whether the unified hierarchy is the only one: then its group's id says everything.
    fn is_unified_only(&self) -> bool {
        self.text.starts_with(b"0::") && self.text.iter().filter(|&&byte| byte == b'\n').count() == 1
    }
}

impl From<[u32; 3]> for Ids {
    fn from([real, effective, saved]: [u32; 3]) -> Self {
        Self {
            real,
            effective,
            saved,
        }
    }
}

/// Nothing that was read counts, value or error, unless the process is alive afterwards.
fn finish<T>(process: &Process, read: io::Result<T>) -> Result<T, Refusal> {
    let pid = process.pid();
    if !process.alive() {
        return Err(Refusal::Ended { pid });
    }
    read.map_err(|error| Refusal::Unreadable {
        pid,
        reason: error.to_string(),
    })
}

/// In one call where the kernel has it, else from `status`.
fn ids_and_cgroup(kernel: &dyn Kernel, process: &Process) -> io::Result<PidfdInfo> {
    match kernel.pidfd_info(process.pidfd()) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let status = kernel.read(process.proc_dir(), ProcFile::Status, STATUS_LIMIT)?;
            Ok(PidfdInfo {
                uids: status_ids(&status, b"Uid:")?,
                gids: status_ids(&status, b"Gid:")?,
                cgroup: None,
            })
        }
        other => other,
    }
}

/// For fuzz targets: one text as `stat` and as `status`.
pub(crate) fn proc_texts(text: &[u8]) -> (Option<u64>, Option<[u32; 3]>) {
    (start_time(text).ok(), status_ids(text, b"Uid:").ok())
}

/// Field 22 of `stat`. The second field is the program's name in brackets, of which it may hold some itself.
fn start_time(stat: &[u8]) -> io::Result<u64> {
    let close = stat
        .iter()
        .rposition(|&byte| byte == b')')
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut fields = stat[close + 1..].split(|&byte| byte == b' ').skip(1);
    number(fields.nth(19)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A line of `status`. The process's name, which stands in the first one, can't hold a line break: the kernel writes it
/// escaped.
fn status_line<'a>(status: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    status
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(label))
}

/// The first three ids of a line such as `Uid:\t1000\t1000\t1000\t1000`.
fn status_ids(status: &[u8], label: &[u8]) -> io::Result<[u32; 3]> {
    let mut ids = status_line(status, label)
        .unwrap_or_default()
        .split(|&byte| byte == b'\t')
        .skip(1)
        .map(|field| number(Some(field)));
    match [ids.next().flatten(), ids.next().flatten(), ids.next().flatten()] {
        [Some(real), Some(effective), Some(saved)] => Ok([real, effective, saved]),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn number<N: std::str::FromStr>(field: Option<&[u8]>) -> Option<N> {
    std::str::from_utf8(field?).ok()?.trim_ascii_end().parse().ok()
}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests;
