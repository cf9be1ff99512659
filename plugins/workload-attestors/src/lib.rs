//! What a process is: facts measured about a caller.
//!
//! | plugin | selector types | from |
//! |---|---|---|
//! | [`Unix`] | `unix:uid` `user` `gid` `group` `supplementary_gid` `supplementary_group` `path` `sha256` | evidence, `/proc/PID`, NSS, the running executable |
//! | [`Cgroup`] | `container:id` `container:runtime` | the caller's place in the host's cgroup hierarchies |
//!
//! Trusted: the kernel, the host's user database for names (numbers are the authority). Not trusted: whatever the process can write
//! (arguments, environment, its mounts), the content and speed of files it runs from. What is not known is a gap with a reason and
//! satisfies nothing. What root on the host can do is out of reach of any attestor: it can put any process into any cgroup.
//! Begin at [`Unix`].

mod cgroup;
mod kernel;
mod mountinfo;
mod unix;

pub use cgroup::Cgroup;
/// The parts that read what a process can shape, for fuzz targets; nothing of it is promised.
#[doc(hidden)]
pub mod fuzzing {
    /// Reads one text as each file below `/proc/PID` that facts are taken from.
    pub fn proc_texts(text: &[u8]) {
        crate::cgroup::read_text(text);
        crate::unix::read_status(text);
        let _ = crate::mountinfo::kind_of(text, u64::MAX);
    }
}

pub use unix::{HashSettings, StartError, Unix, UnixSettings};
