//! `muster`: the process around the operator's command.
//!
//! ```text
//! arguments ─→ muster_cli::main ─→ one command ─→ its answer or its failure, printed ─→ exit code
//! ```
//!
//! All of it is in the library, so that man pages and completions are made of the same command line. Nothing that concerns
//! the process as a whole is set up here: only `muster dev` holds keys and hears signals, and it sees to that itself.
//! Begin at [`muster_cli::main`].

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_cli::main()
}
