use std::{fmt, str::FromStr, sync::Arc};

/// The path of a SPIFFE ID: empty, or `/` and non-empty segments joined by `/` (SPIFFE-ID 2.2).
///
/// Segments hold letters, digits, dots, dashes and underscores, and are neither `.` nor `..`.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IdPath(Arc<str>);

impl IdPath {
    /// The empty path: that of a trust domain's own ID.
    pub fn root() -> Self {
        Self("".into())
    }

    /// The path with its leading slash, or the empty string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the empty path.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// This path with one more segment. The segment is checked, never altered: a value that somebody else chose
    /// can't add a second segment or climb out (SPIFFE-ID 2.2).
    pub fn join(&self, segment: &str) -> Result<Self, ParsePathError> {
        check_segment(segment)?;
        Ok(Self(format!("{}/{segment}", self.0).into()))
    }

    /// Whether this path is `prefix` or lies below it, segment by segment: `/a/b` is under `/a`, `/ab` is not.
    pub fn is_under(&self, prefix: &IdPath) -> bool {
        match self.0.strip_prefix(&*prefix.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether the path is `/spire` or below it: reserved for servers and nodes.
    pub fn is_reserved(&self) -> bool {
        self.segments().next() == Some("spire")
    }
}

impl FromStr for IdPath {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, ParsePathError> {
        if text.is_empty() {
            return Ok(Self::root());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(ParsePathError::LeadingSlash);
        };
        if rest.ends_with('/') || rest.is_empty() {
            return Err(ParsePathError::TrailingSlash);
        }
        rest.split('/').try_for_each(check_segment)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for IdPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IdPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdPath({})", self.0)
    }
}

/// Why a text is no path of a SPIFFE ID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePathError {
    /// The path does not begin with a slash.
    #[error("path does not begin with '/' (SPIFFE-ID 2.2)")]
    LeadingSlash,
    /// The path ends with a slash.
    #[error("path ends with '/' (SPIFFE-ID 2.2)")]
    TrailingSlash,
    /// Two slashes in a row, or an empty segment to add.
    #[error("path has an empty segment (SPIFFE-ID 2.2)")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("path has the relative segment {segment:?} (SPIFFE-ID 2.2)")]
    RelativeSegment {
        /// The segment.
        segment: String,
    },
    /// A character outside the set.
    #[error("path holds {found:?}, allowed are letters, digits, '.', '-' and '_' (SPIFFE-ID 2.2)")]
    Character {
        /// The first such character.
        found: char,
    },
}

fn check_segment(segment: &str) -> Result<(), ParsePathError> {
    if segment.is_empty() {
        return Err(ParsePathError::EmptySegment);
    }
    if let Some(found) = segment
        .chars()
        .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_'))
    {
        return Err(ParsePathError::Character { found });
    }
    if matches!(segment, "." | "..") {
        return Err(ParsePathError::RelativeSegment {
            segment: segment.into(),
        });
    }
    Ok(())
}
