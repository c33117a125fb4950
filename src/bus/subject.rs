//! The subjects of ours, built from checked parts only.

use crate::user::UserId;

/// Knows the names of all subjects under one prefix.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: String,
    /// A stream is between the publishers and us.
    durable: bool,
}

impl Subjects {
    /// Subjects under `nats.prefix`, which the configuration has checked.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            durable: false,
        }
    }

    /// The same where a stream captures what is published, and republishes it.
    #[must_use]
    pub fn durable(self, durable: bool) -> Self {
        Self { durable, ..self }
    }

    /// Where a user's messages are published: `usher.user.USER`.
    pub fn user(&self, user: &UserId) -> String {
        format!("{}.user.{}", self.prefix, user.subject_token())
    }

    /// Where messages for every session are published: `usher.broadcast`.
    pub fn broadcast(&self) -> String {
        format!("{}.broadcast", self.prefix)
    }

    /// Where a user's messages are heard: where they are published, or, with a
    /// stream between, `usher.live.user.USER`.
    pub fn heard_user(&self, user: &UserId) -> String {
        let live = if self.durable { "live." } else { "" };
        format!("{}.{live}user.{}", self.prefix, user.subject_token())
    }

    /// The same of the broadcast.
    pub fn heard_broadcast(&self) -> String {
        let live = if self.durable { "live." } else { "" };
        format!("{}.{live}broadcast", self.prefix)
    }

    /// What a stream captures.
    pub fn captured(&self) -> [String; 2] {
        [format!("{}.user.*", self.prefix), self.broadcast()]
    }

    /// From where a stream republishes, and whereto.
    pub fn republished(&self) -> [String; 2] {
        [
            format!("{}.>", self.prefix),
            format!("{}.live.>", self.prefix),
        ]
    }
}
