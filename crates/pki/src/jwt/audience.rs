/// For whom a token is: one or more names, in the order in which they were asked for (JWT-SVID 3.2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Audience(Vec<String>);

/// Why a list is no audience.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AudienceError {
    /// A token for nobody is not issued (JWT-SVID 3.2).
    #[error("at least one audience is needed (JWT-SVID 3.2)")]
    None,
    /// A name of nothing.
    #[error("an audience is empty (JWT-SVID 3.2)")]
    Empty,
    /// A name longer than anybody's.
    #[error("an audience has {0} bytes, more than 1024")]
    TooLong(usize),
    /// A token for many can be used by each of them against the others (JWT-SVID 7.3 advises one).
    #[error("{0} audiences are asked for, at most 16 are given")]
    TooMany(usize),
}

impl Audience {
    /// How many names a token may have.
    pub const MAX_NAMES: usize = 16;
    /// How long a name may be.
    pub const MAX_LEN: usize = 1024;

    /// Takes the names as they are: nothing is sorted, folded or dropped.
    ///
    /// # Errors
    /// When there is no name, an empty one, or too much.
    pub fn new(names: Vec<String>) -> Result<Self, AudienceError> {
        if names.is_empty() {
            return Err(AudienceError::None);
        }
        if names.len() > Self::MAX_NAMES {
            return Err(AudienceError::TooMany(names.len()));
        }
        for name in &names {
            if name.is_empty() {
                return Err(AudienceError::Empty);
            }
            if name.len() > Self::MAX_LEN {
                return Err(AudienceError::TooLong(name.len()));
            }
        }
        Ok(Self(names))
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_has_one_to_sixteen_names() {
        let named = |n: usize| Audience::new(vec!["a".to_owned(); n]);
        assert_eq!(named(0), Err(AudienceError::None));
        assert!(named(1).is_ok() && named(16).is_ok());
        assert_eq!(named(17), Err(AudienceError::TooMany(17)));
        assert_eq!(
            Audience::new(vec!["a".into(), String::new()]),
            Err(AudienceError::Empty)
        );
        assert_eq!(
            Audience::new(vec!["a".repeat(1025)]),
            Err(AudienceError::TooLong(1025))
        );
        assert_eq!(
            Audience::new(vec!["b".into(), "a".into()]).unwrap().names(),
            ["b", "a"]
        );
    }
}
