//! Why a push is not known to be with NATS.

use crate::bus::client::Failure;

/// Why a push is not known to be with NATS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Certainly not published.
    #[error("NATS is away; nothing was published")]
    Unavailable,
    /// Published or not: nobody can say.
    #[error("NATS has not confirmed the message; whether it was published is unknown")]
    Unconfirmed,
    /// NATS has answered, and the answer does not say whether the message is stored.
    #[error("whether the stream stored the message is unknown: {0}")]
    Undecided(String),
    /// Certainly not published.
    #[error("NATS does not permit this gateway to publish there")]
    Forbidden,
    /// Certainly not stored, in the stream's own words.
    #[error("the stream did not store the message: {0}")]
    NotStored(String),
    /// Certainly not published.
    #[error("the message has {size} bytes with its headers; the NATS server takes at most {limit}")]
    TooLarge {
        /// Of payload and headers.
        size: usize,
        /// `max_payload` of the server.
        limit: usize,
    },
}

impl PublishError {
    /// In a word, for spans.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Unconfirmed | Self::Undecided(_) => "unconfirmed",
            Self::Forbidden => "forbidden",
            Self::NotStored(_) => "not stored",
            Self::TooLarge { .. } => "too large",
        }
    }
}

impl From<Failure> for PublishError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away => Self::Unavailable,
            Failure::Unknown => Self::Unconfirmed,
            Failure::Forbidden => Self::Forbidden,
            Failure::TooLarge { size, limit } => Self::TooLarge { size, limit },
        }
    }
}
