//! Man pages: one for the program and one for each of its commands, as `git-commit(1)` is to `git(1)`.

use std::{fs, io, path::Path};

use clap::Command;

/// Writes all pages of `program` into `folder`, which is made.
pub(crate) fn write(program: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(program.clone(), folder)
}
