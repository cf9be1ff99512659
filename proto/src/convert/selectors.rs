use muster_identity::{Selector, SelectorSet};

use super::{FieldError, field::at_most};
use crate::spire::types;

/// The most selectors that an entry, a node or a filter may have.
const MOST: usize = 1_024;

/// Reads selectors. Order and duplicates are lost: they never meant anything.
///
/// # Errors
/// When one of them has an empty type or value, or a colon in its type; or when there are too many.
pub fn selector_set(field: &'static str, selectors: &[types::Selector]) -> Result<SelectorSet, FieldError> {
    at_most(field, selectors, MOST)?;
    selectors
        .iter()
        .enumerate()
        .map(|(index, selector)| {
            Selector::new(&selector.r#type, &selector.value)
                .map_err(|error| FieldError::at(field, index, error))
        })
        .collect()
}

/// Writes selectors, sorted.
pub fn selectors_to_wire(selectors: &SelectorSet) -> Vec<types::Selector> {
    selectors.iter().map(types::Selector::from).collect()
}

impl From<&Selector> for types::Selector {
    fn from(selector: &Selector) -> Self {
        Self {
            r#type: selector.kind().to_owned(),
            value: selector.value().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wrong_selector_is_named_by_its_place() {
        let good = types::Selector {
            r#type: "unix".into(),
            value: "uid:0".into(),
        };
        let bad = types::Selector {
            r#type: "unix".into(),
            value: String::new(),
        };
        let error = selector_set("selectors", &[good.clone(), bad]).unwrap_err();
        assert_eq!(error.to_string(), "selectors[1]: selector value is empty");
        let error = selector_set("selectors", &vec![good; 1_025]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "selectors: has 1025 items, at most 1024 are allowed"
        );
    }

    proptest! {
        #[test]
        fn selectors_survive_the_wire(raw in prop::collection::vec(("[a-z_]{1,8}", "[ -~]{1,16}"), 0..8)) {
            let set: SelectorSet = raw.iter().map(|(kind, value)| Selector::new(kind, value).unwrap()).collect();
            prop_assert_eq!(selector_set("selectors", &selectors_to_wire(&set)), Ok(set));
        }
    }
}
