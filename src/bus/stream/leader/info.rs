//! The state of the stream, as `STREAM.INFO` says it.

use std::sync::Arc;

use serde::Deserialize;

use super::LeaderState;
use crate::{
    bus::stream::{StreamError, info::StreamInfo, limits},
    message::millis_of,
};

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

impl StreamInfo {
    /// When the oldest message was stored; a time to come where there is none.
    pub(super) fn first_at(&self) -> u64 {
        let at = match self.state.last_seq {
            0 => None,
            _ => millis_of(&self.state.first_ts),
        };
        at.unwrap_or(u64::MAX)
    }

    /// What the leader says of the stream itself.
    pub(super) fn leader(self) -> Result<LeaderState, StreamError> {
        let state = self.state;
        let limits = Limits::deserialize(&self.config)
            .map_err(|error| StreamError::Odd(format!("its configuration: {error}")))?;
        Ok(LeaderState {
            epoch: epoch(&self.created)?,
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
            raised: limits::of(&self.config),
        })
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
