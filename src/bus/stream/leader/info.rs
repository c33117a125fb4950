//! What `STREAM.INFO` answers.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::LeaderState;
use crate::{
    bus::stream::{ApiError, StreamError, limits},
    message::millis_of,
};

/// What there is to know of `STREAM.INFO`'s answer.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    error: Option<ApiError>,
    config: Option<Value>,
    created: Option<String>,
    state: Option<Sequences>,
    cluster: Option<Cluster>,
    /// The server's clock.
    #[serde(default)]
    ts: String,
}

/// How a time begins that never was.
const NEVER: &str = "0001-01-01T00:00:00";

#[derive(Debug, Deserialize)]
struct Limits {
    #[serde(default = "unlimited")]
    max_msgs_per_subject: i64,
    #[serde(default = "one")]
    num_replicas: u32,
    /// In nanoseconds.
    #[serde(default)]
    max_age: u64,
}

fn unlimited() -> i64 {
    -1
}

fn one() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
struct Sequences {
    first_seq: u64,
    last_seq: u64,
    #[serde(default)]
    first_ts: String,
    last_ts: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::bus::stream) struct Cluster {
    leader: Option<String>,
}

impl Cluster {
    /// A replica without a leader still answers; its numbers may be stale.
    pub(in crate::bus::stream) fn has_leader(&self) -> bool {
        self.leader
            .as_deref()
            .is_some_and(|leader| !leader.is_empty())
    }
}

impl Answer {
    /// When the oldest message was stored; a time to come where there is none.
    pub(super) fn first_at(&self) -> u64 {
        let state = self.state.as_ref().filter(|state| state.last_seq > 0);
        let at = state.and_then(|state| millis_of(&state.first_ts));
        at.unwrap_or(u64::MAX)
    }

    /// `None` if the replica has no leader; its numbers may be stale.
    pub(super) fn leader(self, name: &str) -> Result<Option<LeaderState>, StreamError> {
        if let Some(error) = self.error {
            return match error.code {
                404 => Err(StreamError::NotThere(name.to_owned())),
                503 => Ok(None),
                _ => Err(StreamError::Odd(error.description)),
            };
        }
        let (Some(config), Some(created), Some(state)) = (self.config, self.created, self.state)
        else {
            return Err(StreamError::Odd("no state".to_owned()));
        };
        let limits = Limits::deserialize(&config)
            .map_err(|error| StreamError::Odd(format!("its configuration: {error}")))?;
        if self
            .cluster
            .as_ref()
            .is_some_and(|cluster| !cluster.has_leader())
        {
            return Ok(None);
        }
        Ok(Some(LeaderState {
            epoch: epoch(&created)?,
            // A stream that never held anything says 0.
            first: state.first_seq.max(1),
            last: state.last_seq,
            last_at: match state.last_seq {
                0 => 0,
                // Nothing was stored yet, though the sequences begin elsewhere.
                _ if state.last_ts.starts_with(NEVER) => 0,
                _ => millis_of(&state.last_ts)
                    .ok_or_else(|| StreamError::Odd(format!("last_ts {}", state.last_ts)))?,
            },
            replacements: 0,
            unsure: 0,
            per_subject: u64::try_from(limits.max_msgs_per_subject)
                .ok()
                .filter(|limit| *limit > 0),
            replicated: limits.num_replicas > 1,
            pinned: false,
            now: millis_of(&self.ts).unwrap_or(0),
            max_age: limits.max_age / 1_000_000,
            raised: limits::of(&config),
        }))
    }
}

/// The time of creation as a word of `0-9 a-z`.
pub(super) fn epoch(created: &str) -> Result<Arc<str>, StreamError> {
    let created: prost_types::Timestamp = created
        .parse()
        .map_err(|_| StreamError::Odd(format!("created {created}")))?;
    let mut rest =
        created.seconds.unsigned_abs() * 1_000_000_000 + created.nanos.unsigned_abs() as u64;
    let mut word = Vec::new();
    while rest > 0 {
        let digit = u32::try_from(rest % 36).expect("less than 36");
        word.push(char::from_digit(digit, 36).expect("less than 36"));
        rest /= 36;
    }
    Ok(word.into_iter().rev().collect::<String>().into())
}
