//! The short code under which a person asks why.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::fill;

/// Letters and digits that a person can read out: no I, L, O or U (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A short random code such as `R-7K3Q9D2M`. It stands in the refusal, in the log line and in the audit record of one decision.
///
/// It is no secret and grants nothing: it only finds the record.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Reference([u8; 8]);

/// A text that is no reference.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a reference (expected the form R-7K3Q9D2M)")]
pub struct ParseReferenceError;

impl Reference {
    /// A new code.
    pub fn new() -> Self {
        let mut bytes = [0; 8];
        // Without random bytes references repeat, which makes an explanation harder to find and nothing less safe.
        fill(&mut bytes).ok();
        Self(bytes.map(|byte| ALPHABET[usize::from(byte) % ALPHABET.len()]))
    }

    /// `message (reference R-…)`, the form in which callers see it.
    pub fn sign(&self, message: impl fmt::Display) -> String {
        format!("{message} (reference {self})")
    }
}

impl Default for Reference {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("R-")?;
        self.0
            .iter()
            .try_for_each(|byte| write!(f, "{}", char::from(*byte)))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, ParseReferenceError> {
        let code = text.strip_prefix("R-").ok_or(ParseReferenceError)?;
        let code: [u8; 8] = code.as_bytes().try_into().map_err(|_| ParseReferenceError)?;
        if code.iter().all(|byte| ALPHABET.contains(byte)) {
            Ok(Self(code))
        } else {
            Err(ParseReferenceError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_back_as_it_was_shown() {
        let reference = Reference::new();
        assert_eq!(reference.to_string().parse(), Ok(reference));
        assert_ne!(reference, Reference::new());
        assert_eq!(
            reference.sign("no identity issued"),
            format!("no identity issued (reference {reference})")
        );
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "R-",
            "R-7K3Q9D2",
            "R-7K3Q9D2MM",
            "R-7K3Q9D2U",
            "r-7K3Q9D2M",
            "R-7K3Q9Dé",
        ] {
            assert_eq!(text.parse::<Reference>(), Err(ParseReferenceError), "{text}");
        }
    }
}
