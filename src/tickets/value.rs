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
    grants::{Grants, GrantsError, ListFault, Lists, MILLISECONDS, texts},
    origin::Origin,
    user::{UserId, UserIdError},
};

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
    /// A key that stands there twice.
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
    /// A list that grants nothing.
    #[error("{0}")]
    List(ListFault),
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
            grants: Grants::default(),
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
    let [mut user_id, mut expires_at, mut origin] = [const { None }; 3];
    let [mut topics, mut may_follow, mut may_follow_prefix, mut calls] = [const { None }; 4];
    for (name, value) in entries {
        let (field, place) = match &name[..] {
            "user_id" => ("user_id", &mut user_id),
            "expires_at" => ("expires_at", &mut expires_at),
            "origin" => ("origin", &mut origin),
            "topics" => ("topics", &mut topics),
            "may_follow" => ("may_follow", &mut may_follow),
            "may_follow_prefix" => ("may_follow_prefix", &mut may_follow_prefix),
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
    let lists = Lists {
        topics: list("topics", topics)?,
        may_follow: list("may_follow", may_follow)?,
        may_follow_prefix: list("may_follow_prefix", may_follow_prefix)?,
        calls: list("calls", calls)?,
    };
    Ok(Grant {
        grants: Grants::parse(&lists)?,
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
    })
}

impl From<GrantsError> for ValueError {
    fn from(GrantsError { field, fault }: GrantsError) -> Self {
        wrong(field, Fault::List(fault))
    }
}

fn list(field: &'static str, value: Option<Value>) -> Result<Vec<String>, ValueError> {
    let texts = texts(&value.unwrap_or_default());
    texts.map_err(|fault| wrong(field, Fault::List(fault)))
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
        MILLISECONDS.. => Err(Fault::TooLate),
        seconds => Ok(UNIX_EPOCH + Duration::from_secs(seconds)),
    }
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
            topics: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            may_follow: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            may_follow_prefix: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            calls: Vec<String>,
        }
        let Lists {
            topics,
            may_follow,
            may_follow_prefix,
            calls,
        } = self.grants.lists();
        serde_json::to_string(&Stored {
            user_id: self.user.as_str(),
            expires_at: self.expires_at.map(|at| at.min(MILLISECONDS - 1)),
            origin: self.origin.as_ref().map(ToString::to_string),
            topics,
            may_follow,
            may_follow_prefix,
            calls,
        })
        .expect("such a value is always JSON")
    }
}

#[cfg(test)]
mod tests;
