//! Small files that others write, and write anew.

pub(crate) use muster_runtime::file::read;
