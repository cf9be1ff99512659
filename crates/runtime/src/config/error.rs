//! What is wrong with a configuration, all of it.

use std::fmt;

use crate::logging::shown;

/// Every mistake of one configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    file: String,
    unreadable: Option<String>,
    problems: Vec<Problem>,
}

/// One mistake: where, what stands there, and what was expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The key with its tables, such as `logging.level`.
    pub key: String,
    /// What stands there, shortened; none when nothing does.
    pub value: Option<String>,
    /// What should stand there.
    pub expected: String,
}

impl ConfigError {
    pub(crate) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self {
            file: file.to_owned(),
            unreadable: None,
            problems,
        }
    }

    pub(crate) fn unreadable(file: &str, reason: String) -> Self {
        Self {
            file: file.to_owned(),
            unreadable: Some(reason),
            problems: Vec::new(),
        }
    }

    /// The mistakes, in the order of reading. Empty when the file could not be read at all.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.unreadable {
            return write!(f, "{}: {}", self.file, reason.trim_end());
        }
        let count = self.problems.len();
        write!(
            f,
            "{}: {count} {}",
            self.file,
            if count == 1 { "mistake" } else { "mistakes" }
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {}: expected {}", self.key, shown(value), self.expected),
            None => write!(f, "{} is missing: expected {}", self.key, self.expected),
        }
    }
}
