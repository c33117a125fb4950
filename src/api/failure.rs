//! Why an operation failed, whichever protocol asked for it.

use crate::{bus::PublishError, control::ControlError};

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
    /// Too much is under way. Certainly not done.
    #[error("{0}")]
    Busy(String),
    /// This gateway is not set up for it. Certainly not done.
    #[error("{0}")]
    NotServed(String),
    /// It may have been done, or may still be.
    #[error("{0}")]
    Unconfirmed(String),
}

impl Failure {
    /// Whether it was certainly not done, and will not be.
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Unconfirmed(_))
    }

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
            PublishError::Unconfirmed | PublishError::Undecided(_) => Self::Unconfirmed(text),
            PublishError::Forbidden => Self::Forbidden(text),
            PublishError::TooLarge { .. } => Self::invalid("message:", text),
        }
    }
}

impl Failure {
    /// A call to all gateways failed; `field` is what makes it large.
    pub(super) fn of_control(field: &'static str, error: ControlError) -> Self {
        let text = error.to_string();
        match error {
            ControlError::Unavailable => Self::Unavailable(text),
            ControlError::Unconfirmed => Self::Unconfirmed(text),
            ControlError::Forbidden => Self::Forbidden(text),
            ControlError::TooLarge { .. } => Self::invalid(field, text),
            ControlError::Busy => Self::Busy(text),
        }
    }
}
