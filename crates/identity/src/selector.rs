use std::{fmt, str::FromStr, sync::Arc};

/// `type:value`, as `unix:uid:1000`: what an entry asks for and what an attestor finds.
///
/// The type is not empty and holds no colon; the value is not empty. Both are compared byte by byte.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Selector {
    text: Arc<str>,
    kind_len: u16,
}

impl Selector {
    /// The longest `type:value` that is accepted, in bytes: longer than any path the kernel has (4096), with room.
    pub const MAX_LEN: usize = 8192;

    /// Puts a selector together from its two parts.
    pub fn new(kind: &str, value: &str) -> Result<Self, ParseSelectorError> {
        if kind.is_empty() {
            return Err(ParseSelectorError::EmptyType);
        }
        if kind.contains(':') {
            return Err(ParseSelectorError::ColonInType);
        }
        if value.is_empty() {
            return Err(ParseSelectorError::EmptyValue);
        }
        let len = kind.len() + 1 + value.len();
        if len > Self::MAX_LEN {
            return Err(ParseSelectorError::TooLong { len });
        }
        if value.chars().chain(kind.chars()).any(char::is_control) {
            return Err(ParseSelectorError::ControlCharacter);
        }
        let kind_len = u16::try_from(kind.len()).map_err(|_| ParseSelectorError::TooLong { len })?;
        Ok(Self {
            text: format!("{kind}:{value}").into(),
            kind_len,
        })
    }

    /// The type: the attestor that can know it.
    pub fn kind(&self) -> &str {
        &self.text[..usize::from(self.kind_len)]
    }

    /// The value: everything behind the first colon.
    pub fn value(&self) -> &str {
        &self.text[usize::from(self.kind_len) + 1..]
    }

    /// `type:value`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Selector {
    type Err = ParseSelectorError;

    fn from_str(text: &str) -> Result<Self, ParseSelectorError> {
        let (kind, value) = text.split_once(':').ok_or(ParseSelectorError::NoColon)?;
        Self::new(kind, value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({})", self.text)
    }
}

/// Why something is no selector.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseSelectorError {
    /// A text without a colon.
    #[error("selector has no colon, expected type:value")]
    NoColon,
    /// The type is empty.
    #[error("selector type is empty")]
    EmptyType,
    /// The type holds a colon.
    #[error("selector type holds a colon")]
    ColonInType,
    /// The value is empty.
    #[error("selector value is empty")]
    EmptyValue,
    /// Longer than [`Selector::MAX_LEN`].
    #[error("selector has {len} bytes, at most 8192 are allowed")]
    TooLong {
        /// How long it is, in bytes.
        len: usize,
    },
    /// A control character: nothing that attests makes one, and logs would suffer.
    #[error("selector holds a control character")]
    ControlCharacter,
}

/// Selectors without order or duplicates. Kept sorted, so that equal sets are equal values and containment is one walk.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SelectorSet(Arc<[Selector]>);

impl SelectorSet {
    /// The selectors, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `selector` is one of these.
    pub fn contains(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// Whether each of these is in `other`. The empty set is a subset of every set.
    pub fn is_subset_of(&self, other: &SelectorSet) -> bool {
        let mut rest = other.0.iter();
        self.0
            .iter()
            .all(|wanted| rest.find(|have| *have >= wanted) == Some(wanted))
    }

    /// Whether the two share a selector.
    pub fn intersects(&self, other: &SelectorSet) -> bool {
        self.0.iter().any(|selector| other.contains(selector))
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut sorted: Vec<Selector> = selectors.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into())
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_value_is_everything_behind_the_first_colon() {
        let selector: Selector = "unix:path:/usr/bin/a:b".parse().unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "path:/usr/bin/a:b"));
        assert_eq!(selector.to_string(), "unix:path:/usr/bin/a:b");
    }

    #[test]
    fn wrong_selectors_say_what_is_wrong() {
        assert_eq!("unix".parse::<Selector>(), Err(ParseSelectorError::NoColon));
        assert_eq!(":a".parse::<Selector>(), Err(ParseSelectorError::EmptyType));
        assert_eq!("unix:".parse::<Selector>(), Err(ParseSelectorError::EmptyValue));
        assert_eq!(Selector::new("a:b", "c"), Err(ParseSelectorError::ColonInType));
        assert_eq!(
            "unix:a\nb".parse::<Selector>(),
            Err(ParseSelectorError::ControlCharacter)
        );
        assert!(Selector::new("unix", &"a".repeat(9000)).is_err());
    }

    fn set(names: &BTreeSet<u8>) -> SelectorSet {
        names
            .iter()
            .rev()
            .map(|n| Selector::new("t", &n.to_string()).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn containment_is_that_of_sets(a in prop::collection::btree_set(0..12u8, 0..8), b in prop::collection::btree_set(0..12u8, 0..12)) {
            prop_assert_eq!(set(&a).is_subset_of(&set(&b)), a.is_subset(&b));
            prop_assert_eq!(set(&a).intersects(&set(&b)), !a.is_disjoint(&b));
            prop_assert_eq!(set(&a) == set(&b), a == b);
        }
    }
}
