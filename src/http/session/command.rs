//! What a client says over `usher.v1`: one JSON object a message, read as one command.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{channel::Topic, grants::CallName, secret::Secret};

/// The longest `id` of a command, in bytes.
const MAX_ID: usize = 64;
/// What an answer shows of an unknown command's keys, in bytes.
const MAX_NAMES: usize = 128;

/// What a command and its answer have in common: 1–64 bytes of the client's choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id(String);

impl Id {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// It has everything up to a sequence, which costs nobody a thing.
    Ack,
    /// The client asks for a `ping` frame now.
    Ping,
    /// Topics to follow.
    Follow(Vec<Topic>),
    /// Topics to follow no more.
    Unfollow(Vec<Topic>),
    /// A service's answer.
    Call {
        /// `None` if the name breaks the rule of names.
        name: Option<CallName>,
        /// The bytes of `data` as the client sent them; empty if it sent no `data`.
        data: Bytes,
    },
    /// The session goes on as this fresh ticket says.
    Ticket(Secret),
    /// The session goes on as this fresh token says.
    Token(Secret),
}

/// Why a message is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The message is not one JSON object.
    NotAnObject,
    /// Nothing that Usher knows; the names of its keys.
    Unknown(String),
    /// A known command, in a shape of its own; what is wrong with it.
    Shape(&'static str),
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// What its answer repeats.
    pub(super) id: Option<Id>,
    pub(super) command: Result<Command, Fault>,
}

/// A known key, and what reads its value.
type Reader = fn(&Entries<'_>, &RawValue) -> Result<Command, Fault>;

/// The keys of commands.
const COMMANDS: [(&str, Reader); 7] = [
    ("ack", |_, _| Ok(Command::Ack)),
    ("ping", ping),
    ("follow", |_, value| Ok(Command::Follow(topics(value)?))),
    ("unfollow", |_, value| Ok(Command::Unfollow(topics(value)?))),
    ("call", call),
    ("ticket", |_, value| {
        let fault = "ticket is a text: {\"ticket\":\"…\"}";
        secret(value, fault).map(Command::Ticket)
    }),
    ("token", |_, value| {
        let fault = "token is a text: {\"token\":\"…\"}";
        secret(value, fault).map(Command::Token)
    }),
];

/// Whether a message is one JSON object.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<Entries<'_>>(text).is_ok()
}

impl Said {
    /// Reads a message.
    pub(super) fn read(text: &str) -> Self {
        let none = |fault| Self {
            id: None,
            command: Err(fault),
        };
        let Ok(entries) = serde_json::from_str::<Entries<'_>>(text) else {
            return none(Fault::NotAnObject);
        };
        let known = COMMANDS.iter();
        let mut known = known.flat_map(|(name, read)| {
            let values = entries.all(name);
            values.map(move |value| (value, read))
        });
        let Some((value, read)) = known.next() else {
            return none(Fault::Unknown(entries.names()));
        };
        if known.next().is_some() {
            return none(Fault::Shape("a message holds one command, once"));
        }
        match entries.id() {
            Ok(id) => Self {
                id,
                command: read(&entries, value),
            },
            Err(fault) => none(fault),
        }
    }
}

fn ping(_: &Entries<'_>, value: &RawValue) -> Result<Command, Fault> {
    match value.get().starts_with('{') {
        true => Ok(Command::Ping),
        false => Err(Fault::Shape("ping is an object: {\"ping\":{}}")),
    }
}

fn topics(value: &RawValue) -> Result<Vec<Topic>, Fault> {
    let topics: Option<Vec<String>> = serde_json::from_str(value.get()).ok();
    let topics = topics.ok_or(Fault::Shape("topics are a list of texts: [\"news\"]"))?;
    let topics = topics.iter().map(|topic| Topic::parse(topic));
    let topics: Result<_, _> = topics.collect();
    topics.map_err(|_| {
        Fault::Shape(
            "a topic is 1–128 bytes without control characters; it neither begins nor ends with \
             white space, and does not begin with {",
        )
    })
}

fn call(entries: &Entries<'_>, value: &RawValue) -> Result<Command, Fault> {
    let name: Option<String> = serde_json::from_str(value.get()).ok();
    let name = name.ok_or(Fault::Shape("call is a text: {\"call\":\"orders.cancel\"}"))?;
    let mut data = entries.all("data").map(RawValue::get);
    let first = data.next().unwrap_or_default();
    match data.next() {
        Some(_) => Err(Fault::Shape("a call has data once")),
        None => Ok(Command::Call {
            name: CallName::parse(&name).ok(),
            data: Bytes::copy_from_slice(first.as_bytes()),
        }),
    }
}

fn secret(value: &RawValue, fault: &'static str) -> Result<Secret, Fault> {
    let text: Option<String> = serde_json::from_str(value.get()).ok();
    text.map(Secret::new).ok_or(Fault::Shape(fault))
}

/// An object's keys in their order, values unread: a key that stands there twice shows.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Entries<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a RawValue> {
        let entries = self.0.iter().filter(move |(key, _)| key == name);
        entries.map(|(_, value)| *value)
    }

    fn id(&self) -> Result<Option<Id>, Fault> {
        let mut ids = self.all("id");
        let Some(id) = ids.next() else {
            return Ok(None);
        };
        let text: Option<String> = serde_json::from_str(id.get()).ok();
        let good = text.filter(|text| (1..=MAX_ID).contains(&text.len()) && ids.next().is_none());
        let bad = Fault::Shape("id is a text of 1–64 bytes, once");
        good.map(|id| Some(Id(id))).ok_or(bad)
    }

    /// As many of the keys as fit.
    fn names(&self) -> String {
        let mut names = String::new();
        for (name, _) in &self.0 {
            if names.len() + name.len() + 2 > MAX_NAMES {
                names += "…";
                break;
            }
            if !names.is_empty() {
                names += ", ";
            }
            names += name;
        }
        names
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }

        /// Borrowed where it holds no escape.
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        from.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        Said::read(text).command.expect_err(text)
    }

    #[test]
    fn commands_are_known_by_their_key() {
        let said = Said::read(r#" {"ping":{"any":1},"id":"7","more":[]} "#);
        assert_eq!(said.command, Ok(Command::Ping));
        assert_eq!(said.id.as_ref().map(Id::as_str), Some("7"));
        for good in [r#"{"ack":121}"#, r#"{"ack":"what"}"#, r#"{"\u0061ck":1}"#] {
            assert_eq!(Said::read(good).command, Ok(Command::Ack), "{good}");
        }
    }

    #[test]
    fn a_credential_is_a_text_and_never_shown() {
        let said = Said::read(r#"{"token":"a.b.c","id":"7"}"#);
        assert!(!format!("{said:?}").contains("a.b.c"));
        assert_eq!(said.command, Ok(Command::Token(Secret::new("a.b.c"))));
        let said = Said::read(r#"{"ticket":"a\u0062"}"#);
        assert_eq!(said.command, Ok(Command::Ticket(Secret::new("ab"))));
        for bad in [
            r#"{"token":7}"#,
            r#"{"ticket":null}"#,
            r#"{"ticket":"a","token":"b"}"#,
        ] {
            assert!(matches!(fault(bad), Fault::Shape(_)), "{bad}");
        }
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_unknown() {
        for bad in ["", "[]", "1", "{", "{}x", r#"{"a":01}"#, "null", r#""{}""#] {
            assert_eq!(fault(bad), Fault::NotAnObject, "{bad}");
        }
        assert_eq!(fault("{}"), Fault::Unknown(String::new()));
        let unknown = fault(r#"{"hello":1,"wor\nld":{},"id":7}"#);
        assert_eq!(unknown, Fault::Unknown("hello, wor\nld, id".to_owned()));
        let long = format!(r#"{{"{}":1,"b":2}}"#, "a".repeat(200));
        assert_eq!(fault(&long), Fault::Unknown("…".to_owned()));
    }

    #[test]
    fn topics_are_a_list() {
        let topic = |name: &str| Topic::parse(name).expect("a topic");
        let said = Said::read(r#"{"follow":["a","b.>"],"id":"1"}"#);
        let topics = vec![topic("a"), topic("b.>")];
        assert_eq!(said.command, Ok(Command::Follow(topics)));
        let said = Said::read(r#"{"unfollow":[]}"#);
        assert_eq!(said.command, Ok(Command::Unfollow(Vec::new())));
    }

    #[test]
    fn a_call_has_a_name_and_the_bytes_of_its_data() {
        let call = |text: &str| match Said::read(text).command {
            Ok(Command::Call { name, data }) => (name, data),
            other => panic!("{text}: {other:?}"),
        };
        let name = CallName::parse("orders.cancel").ok();
        let spaced = r#"{"data": {"a" : 1.0} ,"call":"orders.cancel"}"#;
        assert_eq!(call(spaced), (name.clone(), r#"{"a" : 1.0}"#.into()));
        let bare = r#"{"call":"orders\u002ecancel"}"#;
        assert_eq!(call(bare), (name, Bytes::new()));
        for wrong in ["", "a..b", "a b", "usher.>", "ü"] {
            let text = format!(r#"{{"call":"{wrong}","data":null}}"#);
            assert_eq!(call(&text), (None, "null".into()));
        }
    }

    #[test]
    fn a_wrong_shape_is_said() {
        for bad in [
            r#"{"follow":"a"}"#,
            r#"{"follow":[1]}"#,
            r#"{"follow":[""]}"#,
            r#"{"follow":["a"],"unfollow":["b"]}"#,
            r#"{"call":1}"#,
            r#"{"call":"a","data":1,"data":1}"#,
            r#"{"call":"a","ping":{}}"#,
            r#"{"ping":1}"#,
            r#"{"ping":{},"ping":{}}"#,
            r#"{"ping":{},"ack":1}"#,
            r#"{"ping":{},"id":7}"#,
            r#"{"ping":{},"id":""}"#,
            r#"{"ping":{},"id":"a","id":"a"}"#,
        ] {
            assert!(matches!(fault(bad), Fault::Shape(_)), "{bad}");
            assert_eq!(Said::read(bad).id, None, "{bad}");
        }
        let long = format!(r#"{{"ping":{{}},"id":"{}"}}"#, "a".repeat(65));
        assert!(matches!(fault(&long), Fault::Shape(_)));
    }
}
