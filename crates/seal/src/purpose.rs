use std::fmt;

/// What a sealed value is, as far as this matters to whoever opens it: a constant name in the code, and what of this
/// kind it is. Both are bound into the value: one that was copied into the place of another does not open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Purpose {
    name: &'static str,
    subject: String,
}

impl Purpose {
    /// `name` is a constant such as `muster/agent/node-key`; `subject` says which one, such as the trust domain.
    pub fn new(name: &'static str, subject: impl Into<String>) -> Self {
        Self {
            name,
            subject: subject.into(),
        }
    }

    /// Both parts with their lengths in front, so that no two purposes have the same bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.name.len() + self.subject.len());
        for part in [self.name.as_bytes(), self.subject.as_bytes()] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {:?}", self.name, self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_purposes_have_the_same_bytes() {
        assert_ne!(
            Purpose::new("a", "bc").to_bytes(),
            Purpose::new("ab", "c").to_bytes()
        );
        assert_ne!(Purpose::new("a", "").to_bytes(), Purpose::new("", "a").to_bytes());
    }
}
