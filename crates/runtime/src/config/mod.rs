//! Configuration: one TOML file, read straight into domain types, every mistake reported at once.
//!
//! ```
//! use std::time::Duration;
//! use muster_runtime::config;
//!
//! struct Settings { name: String, every: Duration }
//!
//! let settings = config::parse("example.toml", "name = 'a'\nevery = '90s'", |table| {
//!     let name = table.required("name");
//!     let every = table.or("every", Duration::from_secs(60));
//!     Some(Settings { name: name?, every })
//! });
//! assert_eq!(settings.unwrap().every, Duration::from_secs(90));
//! ```
//!
//! The reader takes every key before it gives up on the first that lacks (`name?` stands at the end): that is what makes the report complete.
//! A key that nobody took is unknown and a mistake. There is no derive here because serde stops at the first error and can't say what it expected of a value.

mod error;
mod setting;
mod table;

use std::fs;
use std::path::Path;

pub use error::{ConfigError, Problem};
pub use setting::{FileMode, Setting, host_and_port};
pub use table::Table;

/// The largest file that is read.
const LARGEST_FILE: u64 = 1024 * 1024;

/// Reads the file at `path`. See [`parse`].
pub fn load<T>(path: &Path, read: impl FnOnce(&mut Table) -> Option<T>) -> Result<T, ConfigError> {
    let name = path.display().to_string();
    let unreadable = |what: String| ConfigError::unreadable(&name, what);
    let size = fs::metadata(path)
        .map_err(|error| unreadable(error.to_string()))?
        .len();
    if size > LARGEST_FILE {
        return Err(unreadable(format!(
            "it has {size} bytes, the most is {LARGEST_FILE}"
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse(&name, &text, read)
}

/// Reads `text` as TOML and hands its root table to `read`, which takes what it knows.
///
/// The answer is an error when `read` found a mistake, left a key untaken, or answered `None`.
pub fn parse<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(&mut Table) -> Option<T>,
) -> Result<T, ConfigError> {
    let values = text
        .parse::<toml::Table>()
        .map_err(|error| ConfigError::unreadable(name, error.to_string()))?;
    let (value, problems) = Table::read_root(values, read);
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(ConfigError::new(name, problems)),
    }
}

#[cfg(test)]
mod tests;
