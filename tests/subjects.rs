//! `docs/subjects.json` holds vectors for other languages; here they meet our
//! own code, and are shown to leave nothing out.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;
use usher::{
    bus::Subjects,
    user::{UserId, UserIdError},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    user_id: String,
    subject: Option<String>,
    error: Option<String>,
}

fn vectors() -> Vec<Vector> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/subjects.json");
    let text = fs::read_to_string(file).expect("the file");
    serde_json::from_str(&text).expect("a list of vectors")
}

fn name(error: UserIdError) -> &'static str {
    match error {
        UserIdError::Empty => "empty",
        UserIdError::TooLong(_) => "too_long",
        UserIdError::ControlCharacter => "control_character",
        UserIdError::Surrounded => "surrounded",
        UserIdError::Brace => "brace",
    }
}

#[test]
fn each_vector_is_what_the_code_says() {
    let subjects = Subjects::new("usher");
    for Vector {
        user_id,
        subject,
        error,
    } in vectors()
    {
        let (expected_subject, expected_error) = match UserId::parse(&user_id) {
            Ok(user) => (Some(subjects.user(&user)), None),
            Err(error) => (None, Some(name(error))),
        };
        assert_eq!(subject, expected_subject, "{user_id:?}");
        assert_eq!(error.as_deref(), expected_error, "{user_id:?}");
    }
}

#[test]
fn no_vector_stands_twice() {
    let mut seen = BTreeSet::new();
    for Vector { user_id, .. } in vectors() {
        assert!(seen.insert(user_id.clone()), "{user_id:?}");
    }
}

/// What a port to another language may get wrong by itself: each byte that ASCII
/// can print, each kind of byte of UTF-8 at both ends of its range, each rule,
/// and both ends of the length.
#[test]
fn every_class_of_bytes_and_every_rule_has_a_vector() {
    let vectors = vectors();
    let good: Vec<_> = vectors.iter().filter(|v| v.subject.is_some()).collect();
    let bytes: BTreeSet<u8> = good.iter().flat_map(|v| v.user_id.bytes()).collect();
    for byte in 0x20..=0x7E {
        assert!(bytes.contains(&byte), "{:?}", char::from(byte));
    }
    for (class, range) in [
        ("the first byte of two", 0xC2..=0xDF),
        ("the first byte of three", 0xE0..=0xEF),
        ("the first byte of four", 0xF0..=0xF4),
        ("a byte that follows", 0x80..=0xBF),
    ] {
        for end in [range.start(), range.end()] {
            assert!(bytes.contains(end), "{class}: {end:#x}");
        }
    }
    for length in [1, 128] {
        let ascii = |v: &&&Vector| v.user_id.len() == length && v.user_id.is_ascii();
        assert!(good.iter().any(|v| ascii(&v)), "{length} characters");
    }
    let in_bytes = |v: &&Vector| v.user_id.len() == 128 && v.user_id.chars().count() < 128;
    assert!(
        good.iter().any(in_bytes),
        "128 bytes that are fewer characters"
    );

    let refused = |text: &str| {
        vectors
            .iter()
            .any(|v| v.user_id.contains(text) && v.error.is_some())
    };
    for control in ["\0", "\n", "\t", "\u{1b}", "\u{7f}", "\u{85}"] {
        assert!(refused(control), "{control:?}");
    }
    for at_an_end in [
        " a",
        "a ",
        "\u{a0}a",
        "a\u{3000}",
        "\u{feff}a",
        "a\u{feff}",
        "{",
        " {",
    ] {
        assert!(refused(at_an_end), "{at_an_end:?}");
    }
    for inside in ["a b", "a\u{a0}b", "a\u{feff}b", "a{"] {
        assert!(good.iter().any(|v| v.user_id == inside), "{inside:?}");
    }
    let lengths: BTreeSet<_> = vectors
        .iter()
        .filter(|v| v.error.is_some())
        .map(|v| (v.user_id.len(), v.user_id.chars().count()))
        .collect();
    assert!(lengths.contains(&(0, 0)), "nothing at all");
    assert!(lengths.contains(&(129, 129)), "129 characters");
    let short = |&(bytes, characters): &(usize, usize)| bytes > 128 && characters <= 128;
    assert!(
        lengths.iter().any(short),
        "too many bytes, not too many characters"
    );
}
