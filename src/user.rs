//! A user id, and the one token of a NATS subject that stands for it.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

/// The longest user id, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// An id of a user: 1–128 bytes of UTF-8 without control characters, that neither begins
/// nor ends with white space (Unicode White_Space) or U+FEFF and does not begin with `{`.
///
/// So a ticket's value that was meant as JSON is never an id, and two ids that look the
/// same on a screen differ by more than a blank at their end.
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
    /// White space, or a byte order mark (U+FEFF), at either end.
    #[error("begins or ends with white space or U+FEFF, which a user id never does")]
    Surrounded,
    /// As JSON does.
    #[error("begins with {{, which a user id never does")]
    Brace,
}

/// The whole rule, for answers that do not say which part of it was broken.
pub const USER_ID_RULE: &str = "a user id is 1–128 bytes of UTF-8 without control characters; it \
                                neither begins nor ends with white space or U+FEFF, and does not \
                                begin with {";

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
            _ if text.starts_with(is_blank) || text.ends_with(is_blank) => {
                Err(UserIdError::Surrounded)
            }
            _ if text.starts_with('{') => Err(UserIdError::Brace),
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

/// The text that a token stands for; `None` if no text has this token.
pub fn from_subject_token(token: &str) -> Option<String> {
    let text = percent_encoding::percent_decode_str(token);
    let text = text.decode_utf8().ok()?.into_owned();
    (subject_token(&text) == token).then_some(text)
}

/// White space, or the mark with which some editors begin a file.
fn is_blank(character: char) -> bool {
    character.is_whitespace() || character == '\u{FEFF}'
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
                    let expected = match byte {
                        b' ' => UserIdError::Surrounded,
                        b'{' => UserIdError::Brace,
                        _ => UserIdError::ControlCharacter,
                    };
                    assert_eq!(error, expected, "{byte:#x}");
                    assert!(
                        b" {".contains(&byte) || byte.is_ascii_control(),
                        "{byte:#x}"
                    );
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

    /// Each character of Unicode's property White_Space that is no control character.
    #[test]
    fn white_space_stands_only_inside() {
        for blank in " \u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\u{2005}\u{2006}\
                      \u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\
                      \u{feff}"
            .chars()
        {
            for bad in [
                format!("{blank}"),
                format!("{blank}a"),
                format!("a{blank}"),
                format!("{blank}{{"),
            ] {
                assert_eq!(UserId::parse(&bad), Err(UserIdError::Surrounded), "{bad:?}");
            }
            assert!(UserId::parse(&format!("a{blank}b")).is_ok(), "{blank:?}");
        }
        // No white space, though they show as nothing.
        assert!(UserId::parse("\u{200b}a\u{200d}").is_ok());
    }

    #[test]
    fn a_brace_stands_anywhere_but_first() {
        assert_eq!(UserId::parse("{"), Err(UserIdError::Brace));
        assert_eq!(
            UserId::parse("{\"user_id\":\"42\"}"),
            Err(UserIdError::Brace)
        );
        assert!(UserId::parse("a{}").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn two_ids_never_share_a_token(a in "\\PC{1,30}", b in "\\PC{1,30}") {
            let (Ok(a), Ok(b)) = (UserId::parse(&a), UserId::parse(&b)) else {
                return Ok(());
            };
            proptest::prop_assert_eq!(a == b, a.subject_token() == b.subject_token());
        }

        #[test]
        fn what_is_an_id_has_plain_ends(text in ".{1,4}") {
            let blank = |c: Option<char>| c.is_some_and(|c| c.is_whitespace() || c == '\u{feff}');
            let plain = !blank(text.chars().next()) && !blank(text.chars().last());
            let good = plain && !text.starts_with('{') && !text.chars().any(char::is_control);
            proptest::prop_assert_eq!(UserId::parse(&text).is_ok(), good);
        }
    }
}
