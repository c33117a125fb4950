//! What a publisher sent, as far as a browser is told.

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use prost_types::Timestamp;

use crate::{channel::Channel, trace::Trace};

/// One published message.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its name, for the browser to tell messages apart.
    pub event: EventName,
    /// Any bytes.
    pub payload: Bytes,
    /// To whose sessions it went.
    pub channel: Channel,
    /// Where it is in the stream; `None` in live mode.
    pub stored: Option<Stored>,
    /// A question who is here, which a stream has stored: it is shown to nobody.
    pub probe: bool,
    /// Its trace, where that is recorded.
    pub trace: Option<Trace>,
}

/// Where a message is in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its own sequence.
    pub seq: u64,
    /// That of the message before it in its channel; 0 for none.
    pub prev: u64,
    /// When the stream stored it, in milliseconds since 1970.
    pub at: u64,
}

/// A time as NATS writes it (RFC 3339), in milliseconds since 1970.
pub fn millis_of(time: &str) -> Option<u64> {
    let time: Timestamp = time.parse().ok()?;
    let seconds = u64::try_from(time.seconds).ok()?;
    Some(seconds * 1000 + u64::try_from(time.nanos).ok()? / 1_000_000)
}

/// A time as people and tools read it (RFC 3339): in UTC, with milliseconds.
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let timestamp = Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or_default(),
        nanos: i32::try_from(since.subsec_millis()).unwrap_or_default() * 1_000_000,
    };
    timestamp.to_string()
}

/// What a message's id has to be, after its name.
pub const MESSAGE_ID_RULE: &str = "is not 1–128 printable ASCII characters without spaces";

/// Whether a publisher may give a message this id. Each API puts the channel before it.
pub fn is_message_id(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The name of an event: 1–64 of `A-Z a-z 0-9 . _ : -`, not beginning with
/// `usher.`. So a name needs no escaping in JSON, in a header or in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventName(Cow<'static, str>);

/// The text is not an event name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not 1–64 of `A-Z a-z 0-9 . _ : -`, or begins with `usher.`")]
pub struct EventNameError;

impl EventName {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`EventNameError`] where the text breaks the rule.
    pub fn parse(text: &str) -> Result<Self, EventNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(allowed)
            && !text.starts_with("usher.");
        if good {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(EventNameError)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for EventName {
    /// What a message without a name, or with a bad one, is called.
    fn default() -> Self {
        Self(Cow::Borrowed("message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rule() {
        for good in ["a", "order-123", "~!%", &"x".repeat(128)] {
            assert!(is_message_id(good), "{good}");
        }
        for bad in ["", "a b", "a\r\nb", "ü", "\0", &"x".repeat(129)] {
            assert!(!is_message_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_follow_the_rule() {
        for good in [
            "a",
            "order.completed",
            "A:b_c-d.9",
            "usher",
            "ushers.x",
            &"x".repeat(64),
        ] {
            assert_eq!(EventName::parse(good).expect(good).as_str(), good);
        }
        for bad in ["", "usher.gap", "a b", "a\"b", "ü", "a\n", &"x".repeat(65)] {
            assert_eq!(EventName::parse(bad), Err(EventNameError), "{bad:?}");
        }
    }
}
