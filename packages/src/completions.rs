//! Completions for the shells that people use, under the names by which each shell finds them.

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::{Shell, generate_to};

/// Writes the completions of `program` into `folder`, which is made.
pub(crate) fn write(program: &Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let name = program.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut program.clone(), &name, folder)?;
    }
    Ok(())
}
