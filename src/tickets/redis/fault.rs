//! Why a server cannot be used, in words that an operator can act on.

use std::{fmt, time::Duration};

use deadpool_redis::redis::{ErrorKind, RedisError};

use super::config::Address;

/// A server cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// The server that was tried, and what is wrong. It holds no secret.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It does not answer, or cannot serve for now.
    Away,
    /// It answers, and holds no tickets for us before somebody mends what the text says.
    Unusable,
}

impl Fault {
    pub(super) fn new(address: &Address, what: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Away,
            text: format!("{address}: {what}"),
        }
    }

    pub(super) fn unusable(address: &Address, what: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Unusable,
            ..Self::new(address, what)
        }
    }

    /// This fault as one that lasts until somebody mends it.
    pub(super) fn into_unusable(self) -> Self {
        Self {
            kind: Kind::Unusable,
            ..self
        }
    }

    /// What is wrong with several servers together.
    pub(super) fn of_many(what: String) -> Self {
        Self {
            kind: Kind::Away,
            text: what,
        }
    }

    pub(super) fn silent(address: &Address, limit: Duration) -> Self {
        Self::new(address, format_args!("no answer within {limit:?}"))
    }

    /// The login was refused; `keys` is the section of its keys.
    pub(super) fn of_login(address: &Address, error: &RedisError, keys: &str) -> Option<Self> {
        let what = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS")) => {
                format!("wrong user or password; set {keys}.user and {keys}.password")
            }
            (_, Some("NOAUTH")) => format!("it asks for a password; set {keys}.password"),
            _ => return None,
        };
        Some(Self::new(address, what))
    }

    /// What an error of the client library means.
    pub(super) fn read(address: &Address, error: &RedisError, limit: Duration) -> Self {
        if error.is_timeout() {
            return Self::silent(address, limit);
        }
        let what = match error.kind() {
            _ if error.is_connection_refusal() => {
                "refused: nothing listens there; is Redis running, and is redis.url right?".into()
            }
            ErrorKind::Parse => "it does not speak Redis's protocol; is the port right? Where it \
                                 speaks TLS, write rediss:// in redis.url"
                .into(),
            _ if error.is_connection_dropped() => {
                "it closed the connection; where it speaks TLS, write rediss:// in redis.url".into()
            }
            _ if error.is_io_error() => one_line(&error.to_string()),
            _ => describe(error),
        };
        Self::new(address, what)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An error's own words without ours: Redis repeats the arguments of a command that it
/// does not know, and a ticket is one.
pub(super) fn describe(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let detail = error.detail().unwrap_or_default();
            let detail = detail.split(", with args").next().unwrap_or_default();
            one_line(&format!("{code} {detail}"))
        }
        None => one_line(&error.to_string()),
    }
}

/// What a server sends may be anything.
fn one_line(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
