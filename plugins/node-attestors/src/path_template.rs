//! How the path of a node's identity is made: the small part of Go's templates that names need.
//!
//! ```text
//! /x509pop/{{ .Fingerprint }}        /cn/{{ .Subject.CommonName | trimSuffix ".example.org" | lower }}
//! ```
//!
//! What is inserted was chosen by whoever made the node's certificate. So a value is one part of one segment, letters, digits, `.`, `-` and
//! `_`, or the node gets no name: it is refused, never altered (T-35). Everything has a bound.

mod function;
mod syntax;

use std::collections::BTreeMap;

use muster_plugin_api::{NodePath, NodePathError};

pub(crate) use function::Function;

/// The longest template, in bytes.
const LONGEST: usize = 1024;
/// The longest value before and after each function, and the longest path.
const LONGEST_VALUE: usize = 2048;

/// A template that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Insert {
        variable: String,
        functions: Vec<Function>,
    },
}

/// What can be inserted, by name.
#[derive(Debug, Default)]
pub(crate) struct Values {
    known: BTreeMap<String, (String, Shape)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    /// A part of one segment.
    Segment,
    /// A path that was checked as such.
    Path,
}

/// Why there is no template, or no path by it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// Longer than any.
    #[error("a template has at most {LONGEST} bytes")]
    TooLong,
    /// Not of this language.
    #[error("{0}")]
    Syntax(String),
    /// Something that this kind of attestation does not know.
    #[error("there is no .{0} here")]
    Unknown(String),
    /// This node has no such thing.
    #[error("this node has no .{0}")]
    Missing(String),
    /// It can't be a part of a segment.
    #[error(".{0} is not letters, digits, '.', '-' and '_' alone, so it can't be in a name")]
    NoSegment(String),
    /// It grew beyond the bound.
    #[error(".{0} is longer than {LONGEST_VALUE} bytes")]
    Value(String),
    /// What came out is no path.
    #[error(transparent)]
    Path(#[from] NodePathError),
}

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > LONGEST {
            return Err(TemplateError::TooLong);
        }
        Ok(Self {
            parts: syntax::parts(text)?,
        })
    }

    /// Makes sure that it names nothing but `known`; a name there may end in `*`.
    pub(crate) fn check(&self, known: &[&str]) -> Result<(), TemplateError> {
        let is_known = |variable: &str| {
            known.iter().any(|name| match name.strip_suffix('*') {
                Some(prefix) => variable.len() > prefix.len() && variable.starts_with(prefix),
                None => variable == *name,
            })
        };
        let mut variables = self.parts.iter().filter_map(|part| match part {
            Part::Insert { variable, .. } => Some(variable),
            Part::Text(_) => None,
        });
        match variables.find(|variable| !is_known(variable)) {
            Some(variable) => Err(TemplateError::Unknown(variable.clone())),
            None => Ok(()),
        }
    }

    /// The path of a node.
    pub(crate) fn expand(&self, values: &Values) -> Result<NodePath, TemplateError> {
        let mut path = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Insert { variable, functions } => path.push_str(&values.inserted(variable, functions)?),
            }
            if path.len() > LONGEST_VALUE {
                return Err(TemplateError::TooLong);
            }
        }
        // SPIRE's own documentation writes templates with and without it.
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        Ok(NodePath::parse(&path)?)
    }
}

impl Values {
    /// What a node has under `name`, as a part of one segment.
    pub(crate) fn segment(&mut self, name: &str, value: Option<&str>) {
        self.put(name, value, Shape::Segment);
    }

    /// The same for a path whose segments were checked.
    pub(crate) fn path(&mut self, name: &str, value: Option<&str>) {
        self.put(name, value, Shape::Path);
    }

    fn put(&mut self, name: &str, value: Option<&str>, shape: Shape) {
        if let Some(value) = value {
            self.known.insert(name.to_owned(), (value.to_owned(), shape));
        }
    }

    fn inserted(&self, variable: &str, functions: &[Function]) -> Result<String, TemplateError> {
        let missing = || TemplateError::Missing(variable.to_owned());
        let (value, shape) = self.known.get(variable).ok_or_else(missing)?;
        let mut value = value.clone();
        for function in functions {
            if value.len() > LONGEST_VALUE {
                return Err(TemplateError::Value(variable.to_owned()));
            }
            value = function.apply(&value);
        }
        if value.is_empty() {
            return Err(missing());
        }
        if value.len() > LONGEST_VALUE {
            return Err(TemplateError::Value(variable.to_owned()));
        }
        let fits = |byte: u8| {
            byte.is_ascii_alphanumeric() || b".-_".contains(&byte) || (byte == b'/' && *shape == Shape::Path)
        };
        if !value.bytes().all(fits) {
            return Err(TemplateError::NoSegment(variable.to_owned()));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
