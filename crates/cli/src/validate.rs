//! `muster validate`: by the standards, offline. The answer is the exit code: 0 valid, 1 invalid with the section
//! that says so, 2 when the question could not be asked (no such file).

mod bundle;
mod id;
mod jwt;
mod lists;
mod sources;
mod verdict;
mod x509;

use clap::Subcommand;

use crate::{failure::Failure, output::Answer};

#[derive(Debug, Subcommand)]
pub(crate) enum ValidateCommand {
    /// A SPIFFE ID.
    Id(id::Id),
    /// An X.509-SVID: its profile, and its path to an authority.
    X509(x509::X509),
    /// A JWT-SVID: its form, claims, times and signature.
    Jwt(jwt::Jwt),
    /// A trust bundle.
    Bundle(bundle::BundleFile),
}

impl ValidateCommand {
    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Id(command) => Ok(command.run()),
            Self::X509(command) => command.run(),
            Self::Jwt(command) => command.run(),
            Self::Bundle(command) => command.run(),
        }
    }
}
