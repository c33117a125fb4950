//! What is stored for a ticket: written by an issuer, read when the ticket is redeemed.
//!
//! Who issues tickets may be a program of somebody else's. So where a value can't be read,
//! the log says which field is wrong and how, and never what stands in it.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::{Grant, Order, RedeemError};
use crate::{
    grants::{Calls, Grants},
    origin::Origin,
    user::{UserId, UserIdError},
};

/// An end from here on, in Unix seconds, was meant in milliseconds: as seconds it is
/// beyond the year 5138.
const TOO_LATE: u64 = 100_000_000_000;
/// The longest name of an unknown key that a log shows: shorter than any ticket.
const LONGEST_NAME: usize = 15;

/// A ticket's value that can't be read. Holds nothing of the value but, where they are
/// harmless, the names of its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ticket's value is refused: {field}{fault}")]
pub struct ValueError {
    field: Field,
    fault: Fault,
}

/// Which part of a value is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Whole,
    Plain,
    Known(&'static str),
    Unknown(String),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Plain => f.write_str("the user id, which is all that stands there, "),
            Self::Known(name) => write!(f, "{name} "),
            Self::Unknown(name) if is_harmless(name) => write!(f, "{name} "),
            Self::Unknown(_) => f.write_str("a key "),
        }
    }
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not even text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Begins like JSON, and is none.
    #[error("it begins with {{ and is not one JSON object")]
    NotJson,
    /// JSON that is not at the beginning.
    #[error("white space or a byte order mark stands before {{; write the JSON without it")]
    Indented,
    /// Not JSON at all.
    #[error("it is not JSON, and tickets.accept_plain is off")]
    PlainIsOff,
    /// A key that tickets don't have.
    #[error("is not a key of tickets; leave it out")]
    UnknownKey,
    /// The same key again.
    #[error("stands there twice")]
    Twice,
    /// A key that must be there.
    #[error("is missing")]
    Missing,
    /// Another type than it must be; carries what it is, and what it must be.
    #[error("is {0}; write {1}")]
    Type(&'static str, &'static str),
    /// Milliseconds where seconds are meant.
    #[error("is 10^11 or above, as milliseconds are; write Unix seconds")]
    TooLate,
    /// Not an origin.
    #[error("is not an origin; write for example \"https://app.example.com\"")]
    Origin,
    /// Breaks the rule of user ids.
    #[error("{0}")]
    UserId(UserIdError),
}

/// Whether a log may show the name of an unknown key: a word, and too short for a ticket.
fn is_harmless(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(word)
}

/// Reads a ticket's value: JSON where it begins with `{`, otherwise, where
/// `accept_plain`, the user id itself.
pub(super) fn read(
    value: &[u8],
    accept_plain: bool,
    now: SystemTime,
) -> Result<Grant, RedeemError> {
    let text = std::str::from_utf8(value).map_err(|_| whole(Fault::NotUtf8))?;
    let grant = if text.starts_with('{') {
        json(text)?
    } else if is_indented(text) {
        return Err(whole(Fault::Indented).into());
    } else if accept_plain {
        Grant {
            user: user(Field::Plain, text)?,
            expires_at: None,
            origin: None,
            grants: None,
        }
    } else {
        return Err(whole(Fault::PlainIsOff).into());
    };
    match grant.expires_at {
        Some(at) if at <= now => Err(RedeemError::Unknown("its session has expired")),
        _ => Ok(grant),
    }
}

/// Whether JSON begins after white space, or after the mark that some editors put first.
fn is_indented(text: &str) -> bool {
    let json = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
    json.starts_with('{')
}

fn json(text: &str) -> Result<Grant, ValueError> {
    let Object(entries) = serde_json::from_str(text).map_err(|_| whole(Fault::NotJson))?;
    let [mut user_id, mut expires_at, mut origin, mut calls] = [const { None }; 4];
    for (name, value) in entries {
        let (field, place) = match &name[..] {
            "user_id" => ("user_id", &mut user_id),
            "expires_at" => ("expires_at", &mut expires_at),
            "origin" => ("origin", &mut origin),
            "calls" => ("calls", &mut calls),
            _ => {
                return Err(ValueError {
                    field: Field::Unknown(name),
                    fault: Fault::UnknownKey,
                });
            }
        };
        if place.replace(value).is_some() {
            return Err(wrong(field, Fault::Twice));
        }
    }
    let user_id = user_id.ok_or_else(|| wrong("user_id", Fault::Missing))?;
    let Value::String(user_id) = user_id else {
        let fault = Fault::Type(kind(&user_id), "it as text, in quotes");
        return Err(wrong("user_id", fault));
    };
    Ok(Grant {
        user: user(Field::Known("user_id"), &user_id)?,
        expires_at: match expires_at {
            None | Some(Value::Null) => None,
            Some(value) => Some(end(&value).map_err(|fault| wrong("expires_at", fault))?),
        },
        origin: match origin {
            None | Some(Value::Null) => None,
            Some(Value::String(origin)) => {
                let origin = Origin::parse(&origin).map_err(|_| wrong("origin", Fault::Origin))?;
                Some(origin)
            }
            Some(other) => {
                let fault = Fault::Type(kind(&other), "an origin as text");
                return Err(wrong("origin", fault));
            }
        },
        grants: match calls {
            None | Some(Value::Null) => None,
            Some(list) => Some(calls_of(&list).map_err(|fault| wrong("calls", fault))?),
        },
    })
}

fn user(field: Field, text: &str) -> Result<UserId, ValueError> {
    UserId::parse(text).map_err(|error| ValueError {
        field,
        fault: Fault::UserId(error),
    })
}

fn end(value: &Value) -> Result<SystemTime, Fault> {
    let fault = Fault::Type(kind(value), "a whole number of Unix seconds");
    match value.as_u64().ok_or(fault)? {
        TOO_LATE.. => Err(Fault::TooLate),
        seconds => Ok(UNIX_EPOCH + Duration::from_secs(seconds)),
    }
}

fn calls_of(list: &Value) -> Result<Box<Grants>, Fault> {
    let fault = Fault::Type(kind(list), "a list of names of calls");
    let names = list.as_array().ok_or(fault)?.iter();
    let calls = names.map(|name| Calls::parse(name.as_str()?).ok());
    Ok(Box::new(Grants {
        calls: calls.collect::<Option<_>>().ok_or(fault)?,
        ..Grants::default()
    }))
}

fn whole(fault: Fault) -> ValueError {
    ValueError {
        field: Field::Whole,
        fault,
    }
}

fn wrong(field: &'static str, fault: Fault) -> ValueError {
    ValueError {
        field: Field::Known(field),
        fault,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a fraction",
        Value::Number(number) if number.is_i64() && !number.is_u64() => "a negative number",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An object's keys in their order: a key that stands there twice shows.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Object(entries))
            }
        }

        from.deserialize_map(Entries)
    }
}

impl Order {
    /// As it is stored. An end that no reader would take is put off to the last one that
    /// all take.
    pub(super) fn to_value(&self) -> String {
        #[derive(Serialize)]
        struct Stored<'a> {
            user_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires_at: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            origin: Option<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            calls: Vec<&'a str>,
        }
        let grants = self.grants.iter();
        serde_json::to_string(&Stored {
            user_id: self.user.as_str(),
            expires_at: self.expires_at.map(|at| at.min(TOO_LATE - 1)),
            origin: self.origin.as_ref().map(ToString::to_string),
            calls: grants
                .flat_map(|grants| &grants.calls)
                .map(Calls::as_str)
                .collect(),
        })
        .expect("such a value is always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: impl AsRef<[u8]>) -> Result<Grant, RedeemError> {
        super::read(value.as_ref(), true, UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[test]
    fn plain_values_are_the_user_id() {
        assert_eq!(read("42").expect("a grant").user.as_str(), "42");
        assert!(super::read(b"42", false, UNIX_EPOCH).is_err());
    }

    #[test]
    fn json_values_say_more() {
        let grant = read(br#"{"user_id":"42","expires_at":1001,"origin":"https://a.example"}"#)
            .expect("a grant");
        assert_eq!(
            grant.expires_at,
            Some(UNIX_EPOCH + Duration::from_secs(1001))
        );
        assert_eq!(grant.origin, Origin::parse("https://a.example").ok());
        assert!(read(br#"{"user_id":"42","expires_at":99999999999}"#).is_ok());
    }

    /// Each says which field is wrong, and nothing of what stands there.
    #[test]
    fn a_value_that_cannot_be_read_says_why() {
        for (bad, why) in [
            (&b"\xff"[..], "not UTF-8"),
            (b"", "is empty"),
            (b"a\nb", "control character"),
            (&[b'x'; 129], "129 bytes"),
            (b"secret ", "white space"),
            (b"{", "not one JSON object"),
            (br#"{"user_id":"secret"} "x""#, "not one JSON object"),
            (b"{}", "user_id is missing"),
            (
                br#"{"user_id":4242}"#,
                "user_id is a number; write it as text",
            ),
            (br#"{"user_id":""}"#, "user_id is empty"),
            (br#"{"user_id":" secret"}"#, "user_id begins or ends"),
            (br#"{"user_id":"{secret"}"#, "user_id begins with {"),
            (
                br#"{"user_id":"secret","admin":true}"#,
                "admin is not a key",
            ),
            (br#"{"user_id":"secret","secret7":1}"#, "a key is not a key"),
            (
                br#"{"user_id":"42","averylongsecretofletters":1}"#,
                "a key is not a key",
            ),
            (
                br#"{"user_id":"secret","user_id":"43"}"#,
                "user_id stands there twice",
            ),
            (
                br#"{"user_id":"secret","expires_at":"2026-11-29T12:00:00Z"}"#,
                "expires_at is text; write a whole number of Unix seconds",
            ),
            (
                br#"{"user_id":"secret","expires_at":1e9}"#,
                "expires_at is a number with a",
            ),
            (
                br#"{"user_id":"secret","expires_at":-1}"#,
                "expires_at is a negative",
            ),
            (
                br#"{"user_id":"secret","expires_at":100000000000}"#,
                "expires_at is 10^11",
            ),
            (
                br#"{"user_id":"secret","expires_at":18446744073709551615}"#,
                "expires_at is 10^11",
            ),
            (br#"{"user_id":"secret","expires_at":1000}"#, "has expired"),
            (
                br#"{"user_id":"secret","origin":"a.secret"}"#,
                "origin is not an origin",
            ),
            (br#"{"user_id":"secret","origin":7}"#, "origin is a number"),
            (b" {\"user_id\":\"secret\"}", "before {"),
            (b"\xef\xbb\xbf{\"user_id\":\"secret\"}", "before {"),
            (b"\r\n\xe3\x80\x80{secret", "before {"),
        ] {
            let error = read(bad).expect_err(why).to_string();
            assert!(error.contains(why), "{why}: {error}");
            for value in ["secret", "4242", "2026", "184467"] {
                assert!(!error.contains(value), "{error}");
            }
        }
    }

    #[test]
    fn an_order_reads_back_as_its_grant() {
        let order = Order {
            user: UserId::parse("weird{}\"id").expect("an id"),
            expires_at: Some(2000),
            origin: Origin::parse("https://a.example:8443").ok(),
            grants: None,
        };
        let grant = super::read(order.to_value().as_bytes(), false, UNIX_EPOCH).expect("a grant");
        assert_eq!(grant.user, order.user);
        assert_eq!(grant.origin, order.origin);
        assert_eq!(
            grant.expires_at,
            Some(UNIX_EPOCH + Duration::from_secs(2000))
        );
        let late = Order {
            expires_at: Some(u64::MAX),
            ..order
        };
        assert!(read(late.to_value()).is_ok());
    }
}
