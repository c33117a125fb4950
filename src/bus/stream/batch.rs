//! Direct gets that answer with many messages (NATS's ADR-31), read as a whole or not at all.
//!
//! Anyone may have written the headers of a stored message, a status line and the server's
//! own names included. So a reply is a message where it carries `Nats-Sequence`, and of each
//! name the last value is the server's: it appends its own.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::{Stream, StreamError};
use crate::bus::interest::{Headers, ServerMessage};

/// What a reply to a direct get is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bus) enum Reply {
    /// A message of the stream: its sequence, that of the message before it in this batch
    /// (0: none), and how many come after it.
    Message {
        seq: u64,
        before: Option<u64>,
        pending: u64,
    },
    /// The end of a batch: the last sequence in it, how many it left out, and up to where
    /// the replica has the stream, where it says so.
    End {
        last: Option<u64>,
        pending: u64,
        up_to: Option<u64>,
    },
    /// An answer by its status alone: 404 where there is nothing, for example.
    Status(u16),
    /// Neither.
    Odd,
}

impl Reply {
    /// Reads the headers of a reply.
    pub(in crate::bus) fn of(headers: &Headers) -> Self {
        let number = |name| headers.last(name)?.parse().ok();
        let pending = number("Nats-Num-Pending").unwrap_or(0);
        if let Some(seq @ 1..) = number("Nats-Sequence") {
            let before = number("Nats-Last-Sequence");
            return Self::Message {
                seq,
                before,
                pending,
            };
        }
        match headers.status() {
            Some(204) => Self::End {
                last: number("Nats-Last-Sequence"),
                pending,
                up_to: number("Nats-UpTo-Sequence"),
            },
            Some(status) => Self::Status(status),
            None => Self::Odd,
        }
    }
}

/// How a batch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything in it has come.
    Whole(Whole),
    /// There is no message. A replica that lags says so too.
    Nothing,
    /// More than a server says in one answer.
    TooMuch,
}

/// A batch that has come as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole {
    /// The sequence of the last message.
    pub(super) last: u64,
    /// How many were left out.
    pub(super) pending: u64,
    /// Up to where the replica has the stream; only for the last messages of subjects.
    pub(super) up_to: Option<u64>,
}

/// Asks, and calls `each` for every message with its sequence and how many come after it.
/// Every message names the one before it in the batch, and the end names the last. So an
/// answer that is lost or comes twice fails the batch.
///
/// # Errors
///
/// [`StreamError`]; then what `each` was called with is of no use.
pub(super) async fn batch(
    stream: &Stream,
    question: &Value,
    most: usize,
    mut each: impl FnMut(u64, u64, &ServerMessage),
) -> Result<Ended, StreamError> {
    let name = &stream.0.config.name;
    let subject = format!("$JS.API.DIRECT.GET.{name}");
    let mut replies = stream.0.caller.ask(&subject, question, most + 1).await?;
    let mut chain = Chain::default();
    loop {
        let reply = replies.next().await?;
        stream.0.replies.fetch_add(1, Ordering::Relaxed);
        let read = Reply::of(&reply.headers);
        match chain.goes_on(read) {
            Some(None) => {
                if let Reply::Message { seq, pending, .. } = read {
                    each(seq, pending, &reply);
                }
            }
            Some(Some(ended)) => return Ok(ended),
            None if read == Reply::Status(503) => return Err(StreamError::NotThere(name.clone())),
            None => return Err(StreamError::Odd(format!("{read:?} after {chain:?}"))),
        }
    }
}

/// What has come of a batch: the last message's sequence, and how many come after it.
#[derive(Debug, Default)]
struct Chain {
    last: u64,
    pending: u64,
}

impl Chain {
    /// Takes the next reply. `None` if it does not follow the one before it; else how the batch
    /// ended, if it did.
    fn goes_on(&mut self, reply: Reply) -> Option<Option<Ended>> {
        match reply {
            Reply::Message {
                seq,
                before,
                pending,
            } if before == Some(self.last) && seq > self.last => {
                *self = Self { last: seq, pending };
                Some(None)
            }
            Reply::End {
                last,
                pending,
                up_to,
            } if last == Some(self.last) && pending == self.pending => {
                let last = self.last;
                Some(Some(Ended::Whole(Whole {
                    last,
                    pending,
                    up_to,
                })))
            }
            Reply::Status(404) if self.last == 0 => Some(Some(Ended::Nothing)),
            Reply::Status(413) if self.last == 0 => Some(Some(Ended::TooMuch)),
            // A server ends an answer that is too much for it without anything in it.
            Reply::End { pending: 1.., .. } if self.last == 0 => Some(Some(Ended::TooMuch)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server answers with messages of these sequences.
    fn answer(sequences: &[u64]) -> Vec<Reply> {
        let mut before = 0;
        let mut left = sequences.len() as u64;
        let mut replies = Vec::new();
        for &seq in sequences {
            left -= 1;
            replies.push(Reply::Message {
                seq,
                before: Some(before),
                pending: left,
            });
            before = seq;
        }
        replies.push(Reply::End {
            last: Some(before),
            pending: 0,
            up_to: None,
        });
        replies
    }

    /// The sequences of a batch that came as a whole.
    fn read(replies: &[Reply]) -> Option<Vec<u64>> {
        let mut chain = Chain::default();
        let mut seen = Vec::new();
        for &reply in replies {
            match chain.goes_on(reply)? {
                None => seen.push(chain.last),
                Some(_) => return Some(seen),
            }
        }
        None
    }

    proptest! {
        /// With an answer lost, repeated or out of order a batch fails; it is never short.
        #[test]
        fn a_batch_is_whole_or_fails(
            steps in proptest::collection::vec(1..9u64, 1..20),
            fault in 0..3usize,
            at in 0..1000usize,
        ) {
            let mut seq = 0;
            let sequences: Vec<u64> = steps.iter().map(|step| { seq += step; seq }).collect();
            let mut replies = answer(&sequences);
            prop_assert_eq!(read(&replies), Some(sequences));
            let at = at % (replies.len() - 1);
            match fault {
                0 => drop(replies.remove(at)),
                1 => replies.insert(at, replies[at]),
                _ => replies.swap(at, at + 1),
            }
            prop_assert_eq!(read(&replies), None);
        }
    }
}
