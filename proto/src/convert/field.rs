use std::{borrow::Cow, fmt};

/// Which field of a message is wrong, and why. Reads `selectors[2]: selector value is empty`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct FieldError {
    field: Cow<'static, str>,
    reason: String,
}

impl FieldError {
    /// The reason should not repeat the field's name.
    pub fn new(field: impl Into<Cow<'static, str>>, reason: impl fmt::Display) -> Self {
        Self {
            field: field.into(),
            reason: reason.to_string(),
        }
    }

    /// A field that must be set is not.
    pub fn missing(field: impl Into<Cow<'static, str>>) -> Self {
        Self::new(field, "is missing")
    }

    /// The item of a list is wrong.
    pub fn at(field: &str, index: usize, reason: impl fmt::Display) -> Self {
        Self::new(format!("{field}[{index}]"), reason)
    }

    /// The same error, seen from the message that holds this one in `field`.
    #[must_use]
    pub fn within(self, field: &str) -> Self {
        Self {
            field: format!("{field}.{}", self.field).into(),
            ..self
        }
    }

    /// The path of the field.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Refuses a list that is longer than anybody needs (I10).
pub(super) fn at_most<T>(field: &'static str, items: &[T], most: usize) -> Result<(), FieldError> {
    if items.len() <= most {
        return Ok(());
    }
    Err(FieldError::new(
        field,
        format_args!("has {} items, at most {most} are allowed", items.len()),
    ))
}
