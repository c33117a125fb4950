//! Why an operation failed, in the words of no door.

use crate::bus::PublishError;

/// Why an operation failed. Its text is for people: what happened, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A field breaks its rule.
    #[error("{field} {rule}")]
    Invalid {
        /// The field, as the proto names it.
        field: &'static str,
        /// What it has to be.
        rule: String,
    },
    /// NATS forbids it. Certainly not done.
    #[error("{0}")]
    Forbidden(String),
    /// A server is away. Certainly not done.
    #[error("{0}")]
    Unavailable(String),
    /// It may have been done, or may still be.
    #[error("{0}")]
    Unconfirmed(String),
}

impl Failure {
    /// A field breaks its rule.
    pub fn invalid(field: &'static str, rule: impl ToString) -> Self {
        let rule = rule.to_string();
        Self::Invalid { field, rule }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let text = error.to_string();
        match error {
            PublishError::Unavailable | PublishError::NotStored(_) => Self::Unavailable(text),
            PublishError::Unconfirmed => Self::Unconfirmed(text),
            PublishError::Forbidden => Self::Forbidden(text),
            PublishError::TooLarge { .. } => Self::invalid("message:", text),
        }
    }
}
