//! What a session may do besides receiving its user's messages: its ticket or token says it.

mod lists;

pub use self::lists::{GrantsError, ListFault, Lists, texts};
use crate::channel::{Topic, TopicError};

/// Entries of one list.
pub const MAX_ENTRIES: usize = 256;
/// The longest name or pattern of a call, in bytes.
const MAX_CALL_BYTES: usize = 64;

/// An end of a session from here on, in Unix seconds, was meant in milliseconds: as seconds it
/// is beyond the year 5138.
pub const MILLISECONDS: u64 = 100_000_000_000;

/// What a ticket or a token grants. Most grant nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Followed from the beginning.
    pub topics: Vec<Topic>,
    /// May be followed.
    pub may_follow: Vec<Topic>,
    /// Topics that begin so may be followed.
    pub may_follow_prefix: Vec<Prefix>,
    /// Calls that may be made.
    pub calls: Vec<Calls>,
}

impl Grants {
    /// Whether nothing is granted.
    pub fn are_none(&self) -> bool {
        let Self {
            topics,
            may_follow,
            may_follow_prefix,
            calls,
        } = self;
        topics.is_empty()
            && may_follow.is_empty()
            && may_follow_prefix.is_empty()
            && calls.is_empty()
    }

    /// Whether the session may follow a topic.
    pub fn may_follow(&self, topic: &Topic) -> bool {
        let begins = |prefix: &Prefix| topic.as_str().starts_with(&prefix.0);
        self.topics.contains(topic)
            || self.may_follow.contains(topic)
            || self.may_follow_prefix.iter().any(begins)
    }

    /// Whether the session may make a call.
    pub fn may_call(&self, name: &CallName) -> bool {
        self.calls.iter().any(|calls| calls.allow(name))
    }
}

/// What topics begin with: 1–128 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl Prefix {
    /// Reads a prefix.
    ///
    /// # Errors
    ///
    /// [`TopicError`]: no topic begins so, or all do.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        // A topic may go on after white space.
        Topic::parse(&format!("{text}_")).map_err(|error| match error {
            TopicError::TooLong(length) => TopicError::TooLong(length - 1),
            error => error,
        })?;
        match text {
            "" => Err(TopicError::Empty),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a call: 1–64 of `A-Z a-z 0-9 - _ .` without empty tokens. So it stands in a
/// subject as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallName(String);

/// A text that is not a name of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 1–64 of `A-Z a-z 0-9 - _ .` without empty tokens")]
pub struct CallNameError;

impl CallName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`CallNameError`] where the text breaks the rule.
    pub fn parse(text: &str) -> Result<Self, CallNameError> {
        let good = text.len() <= MAX_CALL_BYTES && text.split('.').all(is_token);
        good.then(|| Self(text.to_owned())).ok_or(CallNameError)
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Calls that are allowed: a name, in which `*` is any one token and a last `>` the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls(String);

/// A text that names no calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names no calls; write a call's name, where * is any one token and a last > the rest")]
pub struct CallsError;

impl Calls {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`CallsError`] where the text is none.
    pub fn parse(text: &str) -> Result<Self, CallsError> {
        let mut tokens = text.split('.').peekable();
        let mut good = text.len() <= MAX_CALL_BYTES;
        while let Some(token) = tokens.next() {
            let last = tokens.peek().is_none();
            good &= is_token(token) || token == "*" || (token == ">" && last);
        }
        good.then(|| Self(text.to_owned())).ok_or(CallsError)
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn allow(&self, name: &CallName) -> bool {
        let mut tokens = name.0.split('.');
        for allowed in self.0.split('.') {
            match (allowed, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (allowed, Some(token)) if allowed == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

fn is_token(token: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !token.is_empty() && token.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_allowed_token_by_token() {
        let allows = |pattern: &str, name: &str| {
            let calls = Calls::parse(pattern).expect(pattern);
            calls.allow(&CallName::parse(name).expect(name))
        };
        assert!(allows("orders.cancel", "orders.cancel"));
        assert!(!allows("orders.cancel", "orders.cancel.all"));
        assert!(!allows("orders.cancel", "orders"));
        assert!(allows("orders.*", "orders.cancel"));
        assert!(!allows("orders.*", "orders"));
        assert!(!allows("orders.*", "orders.cancel.all"));
        assert!(allows("orders.>", "orders.cancel.all"));
        assert!(!allows("orders.>", "orders"));
        assert!(allows(">", "anything.at.all"));
        assert!(allows("*.cancel", "orders.cancel"));
    }

    #[test]
    fn names_and_patterns_follow_their_rules() {
        for good in ["a", "a.b-c_D.9", &"x".repeat(64)] {
            assert!(CallName::parse(good).is_ok(), "{good}");
            assert!(Calls::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "ü",
            "$x",
            &"x".repeat(65),
        ] {
            assert_eq!(CallName::parse(bad), Err(CallNameError), "{bad}");
            assert_eq!(Calls::parse(bad), Err(CallsError), "{bad}");
        }
        for (pattern, good) in [("*", true), (">", true), ("a.>.b", false), ("a*", false)] {
            assert_eq!(CallName::parse(pattern), Err(CallNameError));
            assert_eq!(Calls::parse(pattern).is_ok(), good, "{pattern}");
        }
    }

    #[test]
    fn topics_are_granted_by_name_or_prefix() {
        let topic = |text: &str| Topic::parse(text).expect("a topic");
        let grants = Grants {
            topics: vec![topic("news")],
            may_follow: vec![topic("room-7")],
            may_follow_prefix: vec![Prefix::parse("team ").expect("a prefix")],
            calls: Vec::new(),
        };
        for (name, granted) in [
            ("news", true),
            ("news2", false),
            ("room-7", true),
            ("room-70", false),
            ("team a", true),
            ("team", false),
        ] {
            assert_eq!(grants.may_follow(&topic(name)), granted, "{name}");
        }
        assert_eq!(Prefix::parse(""), Err(TopicError::Empty));
        assert_eq!(Prefix::parse(" a"), Err(TopicError::Surrounded));
    }
}
