//! What the command lines of the daemons have in common: how a command fails, and the commands that look after the configuration.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::process::exit;

/// Why a command did not do what it was told, and the code that the program ends with.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// It was refused, or it failed.
    pub fn refused(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (code, cause) = (exit::REFUSED, cause.into());
        Self { code, cause }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (code, cause) = (exit::USAGE, cause.into());
        Self { code, cause }
    }

    /// Whoever was to be spoken to could not be reached.
    pub fn unreachable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (code, cause) = (exit::UNREACHABLE, cause.into());
        Self { code, cause }
    }

    /// What goes to standard error: the cause, and what caused that.
    fn told(&self) -> String {
        let mut text = self.cause.to_string();
        let mut next = self.cause.source();
        while let Some(cause) = next {
            text.push_str(&format!(": {cause}"));
            next = cause.source();
        }
        text
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

/// Says on standard error why a command failed, and how the program ends.
pub fn finish(program: impl Display, outcome: Result<(), Failure>) -> ExitCode {
    let code = match outcome {
        Ok(()) => exit::DONE,
        Err(failure) => {
            eprintln!("{program}: {}", failure.told());
            failure.code
        }
    };
    ExitCode::from(code)
}

/// `config check`: every mistake of the file at `path`, by `load`.
pub fn check_config<C>(
    path: &Path,
    load: impl FnOnce(&Path) -> Result<C, ConfigError>,
) -> Result<(), Failure> {
    load(path)?;
    println!("{}: no mistakes", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_causes_and_ends_with_its_code() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading the token")]
        struct Token(#[source] std::io::Error);
        let cause = Token(std::io::Error::other("no such file"));
        let failure = Failure::usage(cause);
        assert_eq!(failure.told(), "reading the token: no such file");
        assert_eq!(failure.code, 2);
        assert_eq!(Failure::unreachable("nobody there").code, 3);
        assert_eq!(Failure::refused("no").code, 1);
    }
}
