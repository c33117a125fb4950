//! What a session follows: channels, and the topics among them.

use std::{fmt, sync::Arc};

use crate::user::{UserId, UserIdError, subject_token};

/// A topic: a name by the rule of user ids. In a subject it is one token, as a user id is.
///
/// Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Nothing at all.
    #[error("is empty; a topic is 1–128 bytes")]
    Empty,
    /// Too many; carries the length.
    #[error("has {0} bytes; a topic is 1–128 bytes")]
    TooLong(usize),
    /// A character of Unicode's category Cc, such as a line break.
    #[error("holds a control character, which a topic never does")]
    ControlCharacter,
    /// White space, or a byte order mark (U+FEFF), at either end.
    #[error("begins or ends with white space or U+FEFF, which a topic never does")]
    Surrounded,
    /// As JSON does.
    #[error("begins with {{, which a topic never does")]
    Brace,
}

impl Topic {
    /// Reads a topic.
    ///
    /// # Errors
    ///
    /// [`TopicError`] says which rule `text` breaks.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        match UserId::parse(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(UserIdError::Empty) => Err(TopicError::Empty),
            Err(UserIdError::TooLong(length)) => Err(TopicError::TooLong(length)),
            Err(UserIdError::ControlCharacter) => Err(TopicError::ControlCharacter),
            Err(UserIdError::Surrounded) => Err(TopicError::Surrounded),
            Err(UserIdError::Brace) => Err(TopicError::Brace),
        }
    }

    /// The topic as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic as one token of a NATS subject.
    pub fn subject_token(&self) -> String {
        subject_token(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Messages with a chain of their own: each names the one before it in its channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The user's own.
    User,
    /// To all.
    Broadcast,
    /// To those who follow this topic.
    Topic(Topic),
}

/// Who hears one subject of NATS: the sessions of a user, or those that follow a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Of this user.
    User(UserId),
    /// Of those who follow this topic.
    Topic(Topic),
}

impl Audience {
    /// The channel of what it hears.
    pub fn channel(&self) -> Channel {
        match self {
            Self::User(_) => Channel::User,
            Self::Topic(topic) => Channel::Topic(topic.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_the_rule_of_a_user_id() {
        assert!(Topic::parse(&"x".repeat(128)).is_ok());
        for (bad, why) in [
            ("", TopicError::Empty),
            (&*"x".repeat(129), TopicError::TooLong(129)),
            ("a\n", TopicError::ControlCharacter),
            (" a", TopicError::Surrounded),
            ("{a", TopicError::Brace),
        ] {
            assert_eq!(Topic::parse(bad), Err(why), "{bad:?}");
        }
        let topic = Topic::parse("a.b>*").expect("a topic");
        assert_eq!(topic.subject_token(), "a%2Eb%3E%2A");
    }
}
