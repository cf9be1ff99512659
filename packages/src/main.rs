//! `muster-packages`: what goes into the packages beside the programs, made of the programs themselves.
//!
//! ```text
//! pages FOLDER    command lines of muster, muster-server, muster-agent ─→ FOLDER/man/<program>/*.1
//!                                                                      └→ FOLDER/completions/{<program>.bash, _<program>, <program>.fish}
//! sbom PROGRAM    cargo metadata's JSON on standard input, cargo tree, Cargo.lock ─→ the CycloneDX document on standard output
//! terms PROGRAM   cargo metadata's JSON on standard input, cargo tree, the crates' files ─→ the licences' texts on standard output
//! ```
//!
//! A program of its own, so that no daemon carries what only a packager needs. `packages/assemble` runs it.

mod completions;
mod linked;
mod pages;
mod sbom;
mod terms;

use std::{
    fs,
    io::{stdin, stdout},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _, Parser};

use self::linked::Linked;

#[derive(Parser)]
#[command(name = "muster-packages")]
enum Arguments {
    /// Write man pages and completions.
    Pages {
        /// Where to.
        folder: PathBuf,
    },
    /// Say what a program is made of.
    Sbom {
        /// The program.
        program: String,
        /// The lock file.
        #[arg(long, default_value = "Cargo.lock")]
        lock: PathBuf,
        /// What `cargo tree --edges normal,no-proc-macro --prefix none` prints for this build.
        #[arg(long)]
        built: PathBuf,
    },
    /// Write the licences of what a program is made of.
    Terms {
        /// The program.
        program: String,
        /// As for the command before.
        #[arg(long)]
        built: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse() {
        Arguments::Pages { folder } => {
            for program in programs() {
                let name = program.get_name().to_owned();
                pages::write(&program, &folder.join("man").join(&name))
                    .with_context(|| format!("man pages of {name}"))?;
                completions::write(&program, &folder.join("completions"))
                    .with_context(|| format!("completions of {name}"))?;
            }
            Ok(())
        }
        Arguments::Sbom { program, lock, built } => sbom::write(
            &Linked::of(&program, stdin().lock(), &text(&built)?)?,
            &text(&lock)?,
            stdout().lock(),
        ),
        Arguments::Terms { program, built } => terms::write(
            &program,
            &Linked::of(&program, stdin().lock(), &text(&built)?)?,
            stdout().lock(),
        ),
    }
}

fn text(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| file.display().to_string())
}

/// What is packaged, by its command line.
fn programs() -> [Command; 3] {
    [
        muster_cli::command(),
        muster_server::arguments::Arguments::command(),
        muster_agent::arguments::Arguments::command(),
    ]
}
