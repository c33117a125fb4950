//! Reads JSON strictly: a text, objects with the fields that they may have, whole numbers,
//! arrays that are not long. What is wrong is said with its place in the body.

use std::{fmt, marker::PhantomData, str};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};

use super::{
    position::{DEEPEST, Position, too_deep},
    refusal::Refusal,
};

/// A body as text.
///
/// # Errors
///
/// Where it is none.
pub(super) fn text(body: &Bytes) -> Result<&str, Refusal> {
    str::from_utf8(body).map_err(|error| {
        let at = Position::START.after(&body[..error.valid_up_to()]);
        Refusal::bad(format!("{at}: the body is not UTF-8"))
    })
}

/// Reads a body that is one object.
///
/// # Errors
///
/// [`Refusal::Bad`], with the place in the body.
pub(in crate::api) fn whole<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, Refusal> {
    read(text(body)?, Position::START)
}

/// Reads an object that begins at this place of the body.
///
/// # Errors
///
/// Where it is none, nests too deep, or has other fields than it may have: with the place in
/// the body.
pub(super) fn read<'a, T: Deserialize<'a>>(text: &'a str, start: Position) -> Result<T, Refusal> {
    if let Some(end) = too_deep(text.as_bytes()) {
        let at = start.after(&text.as_bytes()[..end]);
        return Err(Refusal::bad(format!(
            "{at}: arrays and objects nest deeper than {DEEPEST}; send them as a string, or \
             flatten them"
        )));
    }
    read_raw(text, start)
}

/// Reads an object of which parts stay as they stand, however deep.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_raw<'a, T: Deserialize<'a>>(
    text: &'a str,
    start: Position,
) -> Result<T, Refusal> {
    let blank = text.len() - text.trim_ascii_start().len();
    // The derived reader would take the fields from an array, too.
    if text.as_bytes().get(blank) != Some(&b'{') {
        let at = start.after(&text.as_bytes()[..blank]);
        return Err(Refusal::bad(format!("{at}: send a JSON object")));
    }
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let says = error.to_string();
        let says = says
            .strip_suffix(&format!(" at line {line} column {column}"))
            .unwrap_or(&says);
        Refusal::bad(format!("{}: {says}", start.plus(line, column)))
    })
}

/// A field that is there, though it be `null`.
pub(super) fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Entries of one request.
const MOST: usize = 1000;

/// An array of 1–1,000 entries. No more of them are read.
pub(in crate::api) struct Few<T>(pub(in crate::api) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounded<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Bounded<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an array of 1–{MOST} entries")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == MOST {
                        let says = format!("a request has at most {MOST} entries; split it");
                        return Err(de::Error::custom(says));
                    }
                    entries.push(entry);
                }
                match entries.is_empty() {
                    true => {
                        let says = format!("a request has 1–{MOST} entries, not 0");
                        Err(de::Error::custom(says))
                    }
                    false => Ok(entries),
                }
            }
        }
        deserializer.deserialize_seq(Bounded(PhantomData)).map(Self)
    }
}

/// A whole number that is not negative. `30.0` is one, too (JSON Schema says so).
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Whole;
    impl de::Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number of seconds")
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
            u64::try_from(number)
                .map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
            let fits = (0.0..=2_f64.powi(53)).contains(&number) && number.fract() == 0.0;
            match fits {
                true => Ok(number as u64),
                false => Err(E::invalid_value(de::Unexpected::Float(number), &self)),
            }
        }
    }
    deserializer.deserialize_any(Whole).map(Some)
}
