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
pub use unix::{HashSettings, StartError, Unix, UnixSettings};
