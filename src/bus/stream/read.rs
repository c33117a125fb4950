//! Batches of one subject's messages.

use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    ANSWER, Look, Stream, StreamError,
    batch::{Ended, batch},
};
use crate::{
    bus::interest::{ServerMessage, event_name, is_probe},
    message::{Message, millis_of},
    user::UserId,
};

/// How much of each kind is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages; where it is none, they are only counted.
    pub messages: usize,
    /// Bytes; one message comes however large it is.
    pub bytes: usize,
}

/// What was read for one session at once.
#[derive(Debug, Default)]
pub struct Reads {
    /// Of the messages to its user, and of the broadcasts; none of what it does not want.
    pub of: [Option<Read>; 2],
    /// Its part of the memory that there is for what was read and is not handed on yet.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// What was found after a sequence.
#[derive(Debug)]
pub struct Read {
    /// It can be shown that none after it is gone: the message at that very sequence is
    /// there still, or none was removed for its age or for want of room, and there are
    /// fewer than a subject may have. (Limits remove the oldest first.)
    pub intact: bool,
    /// The message at that very sequence is there still, which shows it by itself.
    pub anchored: bool,
    /// Oldest first; not that one.
    pub found: Vec<Found>,
    /// How many more there were when the read began. What is removed while it is under
    /// way leaves no other trace: the next read has at least so many, or something is
    /// lost.
    pub more: u64,
}

/// A message of the stream.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where it is.
    pub seq: u64,
    /// When it was stored, in milliseconds since 1970.
    pub at: u64,
    /// What was published; `stored` is not set.
    pub message: Message,
}

impl Read {
    /// How many there are after the sequence.
    pub fn total(&self) -> u64 {
        self.found.len() as u64 + self.more
    }
}

/// Which messages.
#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    /// Those to one user.
    User(&'a UserId),
    /// Those to all.
    Broadcast,
}

/// The messages to a user and the broadcasts, each after a sequence.
pub(super) async fn read(
    stream: &Stream,
    user: &UserId,
    after: [Option<u64>; 2],
    bounds: Bounds,
    look: &Look,
) -> Result<[Option<Read>; 2], StreamError> {
    let one = async |of, after| match after {
        Some(after) => one(stream, of, after, bounds, look).await.map(Some),
        None => Ok(None),
    };
    let (user, broadcast) =
        tokio::join!(one(Of::User(user), after[0]), one(Of::Broadcast, after[1]));
    Ok([user?, broadcast?])
}

async fn one(
    stream: &Stream,
    of: Of<'_>,
    after: u64,
    bounds: Bounds,
    look: &Look,
) -> Result<Read, StreamError> {
    let reading = async {
        let mut read = subject_after(stream, of, after, after, bounds).await?;
        if read.anchored && read.found.is_empty() && read.more > 0 && bounds.messages > 0 {
            // It alone is as large as the bounds.
            let rest = subject_after(stream, of, after, after + 1, bounds).await?;
            read = Read {
                anchored: true,
                intact: true,
                ..rest
            };
        }
        let within = |limit| read.total() < limit;
        read.intact |= look.has_all_after(after) && look.per_subject.is_none_or(within);
        Ok(read)
    };
    timeout(ANSWER, reading)
        .await
        .unwrap_or(Err(StreamError::TimedOut))
}

async fn subject_after(
    stream: &Stream,
    of: Of<'_>,
    after: u64,
    from: u64,
    bounds: Bounds,
) -> Result<Read, StreamError> {
    // The one at the sequence itself says more than it costs.
    let count = bounds.messages + 1;
    let question = json!({
        "seq": from.max(1),
        "next_by_subj": subject_of(stream, of),
        "batch": count,
        "max_bytes": bounds.bytes,
    });
    let mut read = Read {
        intact: false,
        anchored: false,
        found: Vec::new(),
        more: 0,
    };
    let ended = batch(stream, &question, count, |seq, pending, reply| {
        read.more = pending;
        if seq == after {
            read.intact = true;
            read.anchored = true;
        } else if bounds.messages == 0 {
            read.more += 1;
        } else {
            read.found
                .push(found(seq, reply, matches!(of, Of::Broadcast)));
        }
    });
    match ended.await? {
        Ended::Whole(_) | Ended::Nothing => Ok(read),
        Ended::TooMuch => Err(StreamError::Odd("one message is too much".to_owned())),
    }
}

fn subject_of(stream: &Stream, of: Of<'_>) -> String {
    match of {
        Of::User(user) => stream.0.subjects.user(user),
        Of::Broadcast => stream.0.subjects.broadcast(),
    }
}

pub(super) fn found(seq: u64, reply: &ServerMessage, broadcast: bool) -> Found {
    let headers = &reply.headers;
    Found {
        seq,
        at: headers
            .last("Nats-Time-Stamp")
            .and_then(millis_of)
            .unwrap_or(0),
        message: Message {
            event: event_name(headers).unwrap_or_default(),
            payload: reply.payload.clone(),
            broadcast,
            stored: None,
            probe: is_probe(headers),
        },
    }
}
