//! What can be done to a value before it is inserted.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// A function with its arguments; the value is what stands before the `|`, or last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Function {
    /// `lower`
    Lower,
    /// `upper`
    Upper,
    /// `trimPrefix "P"`
    TrimPrefix(String),
    /// `trimSuffix "S"`
    TrimSuffix(String),
    /// `replace "OLD" "NEW"`
    Replace(String, String),
    /// `trunc N`: the first N characters.
    Truncate(usize),
    /// `sha256sum`: in hexadecimal. For values that can't be in a name as they are.
    Sha256,
}

/// What stands behind a function's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Argument {
    Text(String),
    Number(usize),
}

impl Function {
    /// The function of that name with these arguments.
    pub(super) fn new(name: &str, arguments: Vec<Argument>) -> Option<Self> {
        use Argument::{Number, Text};
        let mut arguments = arguments.into_iter();
        let function = match (name, arguments.next(), arguments.next()) {
            ("lower", None, _) => Self::Lower,
            ("upper", None, _) => Self::Upper,
            ("sha256sum", None, _) => Self::Sha256,
            ("trimPrefix", Some(Text(prefix)), None) => Self::TrimPrefix(prefix),
            ("trimSuffix", Some(Text(suffix)), None) => Self::TrimSuffix(suffix),
            ("trunc", Some(Number(length)), None) => Self::Truncate(length),
            // An empty text is found between any two characters.
            ("replace", Some(Text(old)), Some(Text(new))) if !old.is_empty() => Self::Replace(old, new),
            _ => return None,
        };
        arguments.next().is_none().then_some(function)
    }

    /// The value after it. Whoever calls bounds what comes out before the next one sees it.
    pub(super) fn apply(&self, value: &str) -> String {
        match self {
            Self::Lower => value.to_lowercase(),
            Self::Upper => value.to_uppercase(),
            Self::TrimPrefix(prefix) => value.strip_prefix(prefix.as_str()).unwrap_or(value).to_owned(),
            Self::TrimSuffix(suffix) => value.strip_suffix(suffix.as_str()).unwrap_or(value).to_owned(),
            Self::Replace(old, new) => value.replace(old.as_str(), new),
            Self::Truncate(length) => value.chars().take(*length).collect(),
            Self::Sha256 => {
                let mut text = String::with_capacity(64);
                for byte in digest(&SHA256, value.as_bytes()).as_ref() {
                    write!(text, "{byte:02x}").expect("a text grows");
                }
                text
            }
        }
    }
}
