//! A stored message, as the leader knows it.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    bus::stream::{
        Stream, StreamError,
        api::{ask, found},
    },
    message::millis_of,
};

/// A stored message, as the leader tells of it.
#[derive(Deserialize)]
pub(in crate::bus::stream) struct Stored {
    pub(in crate::bus::stream) seq: u64,
    time: String,
    /// In base64.
    #[serde(default)]
    hdrs: String,
}

/// Whether a message has an age of its own (`Nats-TTL`). False if it is gone.
///
/// # Errors
///
/// [`StreamError`] of the question to the leader.
pub(super) async fn outlives(stream: &Stream, seq: u64) -> Result<bool, StreamError> {
    let Some(Stored { hdrs, .. }) = stored(stream, &json!({ "seq": seq })).await? else {
        return Ok(false);
    };
    let headers = BASE64_STANDARD.decode(hdrs).unwrap_or_default();
    let mut lines = headers.split(|byte| *byte == b'\n');
    let name = b"nats-ttl:";
    Ok(lines.any(|line| {
        line.get(..name.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(name))
    }))
}

/// When a message was stored, in milliseconds since 1970; `None` if it is gone.
///
/// # Errors
///
/// [`StreamError`] of the question to the leader.
pub(in crate::bus::stream) async fn stored_at(
    stream: &Stream,
    seq: u64,
) -> Result<Option<u64>, StreamError> {
    match stored(stream, &json!({ "seq": seq })).await? {
        None => Ok(None),
        Some(Stored { time, .. }) => match millis_of(&time) {
            Some(at) => Ok(Some(at)),
            None => Err(StreamError::Odd(format!("time {time}"))),
        },
    }
}

/// The message that a question names, by the leader, which never lags; `None` if there is none.
///
/// # Errors
///
/// [`StreamError`] of the question to the leader.
pub(in crate::bus::stream) async fn stored(
    stream: &Stream,
    question: &Value,
) -> Result<Option<Stored>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        message: Stored,
    }
    let what = format!("STREAM.MSG.GET.{}", stream.0.config.name);
    let answer = found(ask(&stream.0.client, &what, question).await)?;
    Ok(answer.map(|Answer { message }| message))
}
