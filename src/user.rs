//! A user id, and the one token of a NATS subject that stands for it.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

/// The longest user id, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// An id of a user: 1–128 bytes of UTF-8 without control characters.
///
/// Clones share the text, so that a user costs it once.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Arc<str>);

/// Why a text is not a user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserIdError {
    /// Nothing at all.
    #[error("is empty; a user id is 1–128 bytes")]
    Empty,
    /// More than [`MAX_USER_ID_BYTES`]; carries the length.
    #[error("has {0} bytes; a user id is 1–128 bytes")]
    TooLong(usize),
    /// A character of Unicode's category Cc, such as a line break.
    #[error("holds a control character, which a user id never does")]
    ControlCharacter,
}

impl UserId {
    /// Reads a user id.
    ///
    /// # Errors
    ///
    /// [`UserIdError`] says which rule `text` breaks.
    pub fn parse(text: &str) -> Result<Self, UserIdError> {
        match text.len() {
            0 => Err(UserIdError::Empty),
            n if n > MAX_USER_ID_BYTES => Err(UserIdError::TooLong(n)),
            _ if text.chars().any(char::is_control) => Err(UserIdError::ControlCharacter),
            _ => Ok(Self(text.into())),
        }
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as one token of a NATS subject.
    ///
    /// `A-Z a-z 0-9 - _` stand as they are, every other byte is `%XX`. So the
    /// token holds no `.`, `*`, `>` or space, two ids never share a token, and
    /// no id reaches another user's subject or a wildcard.
    pub fn subject_token(&self) -> String {
        subject_token(&self.0)
    }
}

/// Any text as one token of a NATS subject, by the rule of [`UserId::subject_token`].
pub fn subject_token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => token.push(byte as char),
            _ => write!(token, "%{byte:02X}").expect("a String takes all that is written"),
        }
    }
    token
}

/// The text that a token stands for; none where no text has this token.
pub fn from_subject_token(token: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(token);
    let text = text.decode_utf8().ok()?.into_owned();
    (subject_token(&text) == token).then_some(text)
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str) -> String {
        UserId::parse(id).expect("a user id").subject_token()
    }

    #[test]
    fn plain_ids_stand_as_they_are() {
        assert_eq!(token("AZaz09-_"), "AZaz09-_");
    }

    #[test]
    fn everything_else_is_escaped_in_upper_case_hex() {
        assert_eq!(token("bob@example.com"), "bob%40example%2Ecom");
        assert_eq!(token("*"), "%2A");
        assert_eq!(token(">"), "%3E");
        assert_eq!(token("a b"), "a%20b");
        assert_eq!(token("%2A"), "%252A");
        assert_eq!(token("ü"), "%C3%BC");
    }

    #[test]
    fn every_ascii_byte_is_plain_escaped_or_refused() {
        for byte in 0..=127u8 {
            let id = char::from(byte).to_string();
            match UserId::parse(&id) {
                Ok(user) => {
                    let token = user.subject_token();
                    let plain = byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                    assert_eq!(token, if plain { id } else { format!("%{byte:02X}") });
                }
                Err(error) => {
                    assert!(byte.is_ascii_control(), "{byte:#x}: {error}");
                    assert_eq!(error, UserIdError::ControlCharacter);
                }
            }
        }
    }

    #[test]
    fn lengths_are_counted_in_bytes() {
        assert_eq!(UserId::parse(""), Err(UserIdError::Empty));
        assert!(UserId::parse(&"x".repeat(128)).is_ok());
        assert_eq!(
            UserId::parse(&"x".repeat(129)),
            Err(UserIdError::TooLong(129))
        );
        assert!(UserId::parse(&"ü".repeat(64)).is_ok());
        assert_eq!(
            UserId::parse(&"ü".repeat(65)),
            Err(UserIdError::TooLong(130))
        );
    }

    #[test]
    fn control_characters_beyond_ascii_are_refused_too() {
        assert_eq!(
            UserId::parse("a\u{85}b"),
            Err(UserIdError::ControlCharacter)
        );
    }

    proptest::proptest! {
        #[test]
        fn two_ids_never_share_a_token(a in "\\PC{1,30}", b in "\\PC{1,30}") {
            let (a, b) = (UserId::parse(&a).unwrap(), UserId::parse(&b).unwrap());
            proptest::prop_assert_eq!(a == b, a.subject_token() == b.subject_token());
        }
    }
}
