//! Messages of some subjects after a sequence, read for one session.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::json;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    ANSWER, LeaderState, Stream, StreamError,
    batch::{Ended, Reply, batch},
};
use crate::{
    bus::interest::{Headers, ServerMessage, event_name, is_probe, trace_parent},
    channel::Channel,
    frame::Proof,
    message::{Message, millis_of},
};

/// What is read of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its subject.
    pub subject: Arc<str>,
    /// Messages after this sequence.
    pub after: u64,
    /// Everything after this sequence, at or before it, was stored at or after this time.
    pub known: Proof,
}

/// How much of each channel one read brings at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages; with 0 they are only counted.
    pub messages: usize,
    /// Bytes. One message comes however large it is.
    pub bytes: usize,
}

impl Bounds {
    /// Asks for one message only, the smallest answer that there is: NATS tells beside it how
    /// many follow (`Nats-Num-Pending`).
    pub const COUNT_ONLY: Self = Self {
        messages: 0,
        bytes: 1,
    };
}

/// What one read for one session brought.
#[derive(Debug, Default)]
pub struct Reads {
    /// One entry for each channel; `None` for a channel of which nothing was wanted.
    pub of: Vec<Option<Read>>,
    /// Its part of the memory that there is for what was read and is not handed on yet.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl Reads {
    /// The reads of a session with this many channels, if nothing was to be read of any.
    pub fn none(channels: usize) -> Self {
        Self {
            of: (0..channels).map(|_| None).collect(),
            _room: None,
        }
    }
}

/// What was found after a sequence.
#[derive(Debug)]
pub struct Read {
    /// No message after that sequence was removed before the read. Either the message at that very
    /// sequence is still there, or the stream had everything after it and the subject has fewer
    /// messages than its limit. (Limits remove the oldest first.)
    pub intact: bool,
    /// That is certain without another leader query for the stream's beginning.
    pub proven: bool,
    /// Oldest first; not that one.
    pub found: Vec<Found>,
    /// How many more there were when the read began. What is removed while it is under
    /// way leaves no other trace: the next read has at least this many, or something is
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

/// The messages of each subject.
/// See [`Stream::read`].
///
/// # Errors
///
/// [`StreamError`]: a channel's read took more than two seconds, or failed. Then nothing is read.
pub(super) async fn read(
    stream: &Stream,
    wanted: &[Option<Wanted>],
    bounds: Bounds,
    leader: &LeaderState,
) -> Result<Reads, StreamError> {
    let one = async |wanted: &Option<Wanted>| match wanted {
        Some(wanted) => one(stream, wanted, bounds, leader).await.map(Some),
        None => Ok(None),
    };
    let of = try_join_all(wanted.iter().map(one)).await?;
    Ok(Reads { of, _room: None })
}

async fn one(
    stream: &Stream,
    wanted: &Wanted,
    bounds: Bounds,
    leader: &LeaderState,
) -> Result<Read, StreamError> {
    let after = wanted.after;
    let reading = async {
        let mut read = subject_after(stream, wanted, after, (bounds, leader)).await?;
        if read.found.is_empty() && read.more > 0 && bounds.messages > 0 {
            // The one at the sequence itself is as large as the bounds.
            let rest = subject_after(stream, wanted, after + 1, (bounds, leader)).await?;
            let Read { proven, intact, .. } = read;
            read = Read {
                proven,
                intact,
                ..rest
            };
        }
        let within = |limit| read.total() < limit;
        let kept = leader.has_all_after(after, wanted.known);
        read.intact |= kept && leader.limit_after(after).is_none_or(within);
        Ok(read)
    };
    timeout(ANSWER, reading)
        .await
        .unwrap_or(Err(StreamError::TimedOut))
}

async fn subject_after(
    stream: &Stream,
    wanted: &Wanted,
    from: u64,
    (bounds, leader): (Bounds, &LeaderState),
) -> Result<Read, StreamError> {
    // The one at the sequence itself says more than it costs.
    let count = bounds.messages + 1;
    let question = json!({
        "seq": from.max(1),
        "next_by_subj": &*wanted.subject,
        "batch": count,
        "max_bytes": bounds.bytes,
    });
    let mut read = Read {
        intact: false,
        proven: false,
        found: Vec::new(),
        more: 0,
    };
    let channel = stream.0.subjects.channel(&wanted.subject);
    let ended = batch(stream, &question, count, |seq, pending, reply| {
        read.more = pending;
        if seq == wanted.after {
            // One with an age of its own may outlive what came after it.
            let headers = &reply.headers;
            let at = headers.last("Nats-Time-Stamp").and_then(millis_of);
            let ages = headers.last("Nats-TTL").is_none();
            let keeps = ages || at.is_some_and(|at| leader.keeps(at));
            (read.intact, read.proven) = (keeps, keeps);
        } else if bounds.messages == 0 {
            read.more += 1;
        } else {
            read.found.push(found_in(seq, reply, channel.clone()));
        }
    });
    match ended.await? {
        Ended::Whole(_) | Ended::Nothing => Ok(read),
        Ended::TooMuch => Err(StreamError::Odd("one message is too much".to_owned())),
    }
}

/// The message at a sequence; `None` if it is gone, or of another subject.
pub(super) async fn by_sequence(
    stream: &Stream,
    subject: &str,
    seq: u64,
) -> Result<Option<Found>, StreamError> {
    let name = &stream.0.config.name;
    let question = json!({ "seq": seq });
    let reading = async {
        let asked = format!("$JS.API.DIRECT.GET.{name}");
        let reply = stream
            .0
            .caller
            .ask(&asked, &question, 1)
            .await?
            .next()
            .await?;
        stream.0.replies.fetch_add(1, Ordering::Relaxed);
        match Reply::of(&reply.headers) {
            Reply::Message { seq: at, .. } if at == seq => {
                let is_it = reply.headers.last("Nats-Subject") == Some(subject);
                let channel = stream.0.subjects.channel(subject);
                Ok(is_it.then(|| found_in(seq, &reply, channel)))
            }
            Reply::Status(404) => Ok(None),
            odd => Err(StreamError::Odd(format!("{odd:?} for one sequence"))),
        }
    };
    timeout(ANSWER, reading)
        .await
        .unwrap_or(Err(StreamError::TimedOut))
}

/// The message that a reply to a direct get brings.
pub(super) fn found(
    (seq, at): (u64, u64),
    headers: &Headers,
    payload: Bytes,
    channel: Channel,
) -> Found {
    Found {
        seq,
        at,
        message: Message {
            event: event_name(headers).unwrap_or_default(),
            payload,
            channel,
            stored: None,
            probe: is_probe(headers),
            trace: trace_parent(headers).and_then(|parent| parent.followed()),
        },
    }
}

/// When the message of such a reply was stored.
pub(super) fn stored_at(headers: &Headers) -> u64 {
    let at = headers.last("Nats-Time-Stamp");
    at.and_then(millis_of).unwrap_or(0)
}

fn found_in(seq: u64, reply: &ServerMessage, channel: Channel) -> Found {
    let at = stored_at(&reply.headers);
    found((seq, at), &reply.headers, reply.payload.clone(), channel)
}
