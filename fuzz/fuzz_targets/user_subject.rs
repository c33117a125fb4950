//! A user id → one token of a subject, which is nobody else's.
//!
//! The input's first line is one id, the rest another.

#![no_main]

use libfuzzer_sys::fuzz_target;
use usher::{bus::Subjects, user::UserId};

fuzz_target!(|input: &str| {
    let (one, other) = input.split_once('\n').unwrap_or((input, ""));
    let (one, other) = (token(one), token(other));
    if let (Some((id, token)), Some((other_id, other_token))) = (one, other) {
        assert_eq!(id == other_id, token == other_token);
    }
});

/// The id with its token, if it is an id.
fn token(text: &str) -> Option<(UserId, String)> {
    let blank = |character: char| character.is_whitespace() || character == '\u{FEFF}';
    let good = (1..=128).contains(&text.len())
        && !text.chars().any(char::is_control)
        && text.trim_matches(blank) == text
        && !text.starts_with('{');
    let id = UserId::parse(text).ok();
    assert_eq!(id.is_some(), good, "{text:?}");
    let id = id?;
    assert_eq!(id.as_str(), text);

    let token = id.subject_token();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_%".contains(&byte);
    assert!(!token.is_empty() && token.bytes().all(allowed), "{token}");
    assert_eq!(decode(&token).as_deref(), Some(text.as_bytes()), "{token}");
    let subject = Subjects::new("usher").user(&id);
    assert_eq!(
        subject.split('.').collect::<Vec<_>>(),
        ["usher", "user", &token]
    );
    Some((id, token))
}

/// What a token stands for, as `docs/publishing.md` tells other languages.
fn decode(token: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = token.as_bytes();
    while let [first, tail @ ..] = rest {
        (rest, bytes) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                // Upper case only, or an id would have two tokens.
                let hex = std::str::from_utf8(&digits).ok()?;
                if hex != hex.to_uppercase() {
                    return None;
                }
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                (tail, bytes)
            }
            _ => {
                bytes.push(*first);
                (tail, bytes)
            }
        };
    }
    Some(bytes)
}
