//! What arguments may be, by the same rules as everywhere else.

use std::{convert::Infallible, time::Duration};

use crate::{
    channel::{Topic, TopicError},
    config::{Config, ConfigError},
    message::{EventName, MESSAGE_ID_RULE, is_message_id},
    position::{PositionError, Since},
    secret::Secret,
    user::{UserId, UserIdError},
};

pub(super) fn user(text: &str) -> Result<UserId, UserIdError> {
    UserId::parse(text)
}

pub(super) fn topic(text: &str) -> Result<Topic, TopicError> {
    Topic::parse(text)
}

/// An event's name; the gateway takes it as text.
pub(super) fn event(text: &str) -> Result<String, String> {
    let name = EventName::parse(text).map_err(|error| error.to_string())?;
    Ok(name.as_str().to_owned())
}

/// A message's id; the gateway takes it as text.
pub(super) fn message_id(text: &str) -> Result<String, String> {
    match is_message_id(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("it {MESSAGE_ID_RULE}")),
    }
}

/// How long a ticket is good for: what `tickets.ttl` may be.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    as_key("USHER_TICKETS__TTL", text).map(|config| config.tickets.ttl)
}

/// A duration, as the configuration has them.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    as_key("USHER_DRAIN__DELAY", text).map(|config| config.drain.delay)
}

/// A number of bytes, as the configuration has them, or without a unit.
pub(super) fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) => Ok(bytes),
        Err(_) => as_key("USHER_SESSION__MAX_FRAME", text).map(|it| it.session.max_frame.0),
    }
}

/// Reads a value as that of a key.
fn as_key(variable: &str, text: &str) -> Result<Config, String> {
    let as_variable = (variable.to_owned(), text.to_owned());
    Config::load(None, [as_variable]).map_err(|errors| {
        let complaints = errors.iter().map(|error| match error {
            ConfigError::Value { complaint, .. } => complaint.clone(),
            other => other.to_string(),
        });
        complaints.collect::<Vec<_>>().join("; ")
    })
}

/// A position; the gateway takes it as text.
pub(super) fn since(text: &str) -> Result<String, PositionError> {
    Since::parse(text).map(|_| text.to_owned())
}

/// A text that is never shown, not even where it is no good.
pub(super) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}
