//! The subjects of ours, built from checked parts only.

use crate::user::UserId;

/// Knows the names of all subjects under one prefix.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: String,
}

impl Subjects {
    /// Subjects under `nats.prefix`, which the configuration has checked.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Where a user's messages are published: `usher.user.USER`.
    pub fn user(&self, user: &UserId) -> String {
        format!("{}.user.{}", self.prefix, user.subject_token())
    }

    /// Where messages for every session are published: `usher.broadcast`.
    pub fn broadcast(&self) -> String {
        format!("{}.broadcast", self.prefix)
    }
}
