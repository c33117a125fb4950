//! A stored message, as the leader knows it.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::json;

use crate::{
    bus::stream::{ApiError, Stream, StreamError, ask},
    message::millis_of,
};

/// A stored message, as the leader tells of it.
#[derive(Deserialize)]
struct Stored {
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
    let Some(Stored { hdrs, .. }) = stored(stream, seq).await? else {
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
    match stored(stream, seq).await? {
        None => Ok(None),
        Some(Stored { time, .. }) => match millis_of(&time) {
            Some(at) => Ok(Some(at)),
            None => Err(StreamError::Odd(format!("time {time}"))),
        },
    }
}

async fn stored(stream: &Stream, seq: u64) -> Result<Option<Stored>, StreamError> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<ApiError>,
        message: Option<Stored>,
    }
    let what = format!("STREAM.MSG.GET.{}", stream.0.config.name);
    let answer: Answer = ask(&stream.0.client, &what, &json!({ "seq": seq })).await?;
    match answer {
        Answer {
            message: Some(message),
            ..
        } => Ok(Some(message)),
        Answer {
            error: Some(ApiError { code: 404, .. }),
            ..
        } => Ok(None),
        Answer { error, .. } => Err(StreamError::Odd(
            error.map_or_else(|| "no message".to_owned(), |error| error.description),
        )),
    }
}
