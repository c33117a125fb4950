//! One reading for many sessions: all that is in the stream from the oldest of their positions
//! on, each message handed to the sessions that it is for.
//!
//! To find the next message of one subject NATS goes through those of others. Where many
//! sessions come back at once, each missed some of the same range, and NATS would go through it
//! once for each message of each of them. A scan goes through it once for all.
//!
//! A scan answers a session only if it can prove the result complete; otherwise the session
//! reads for itself.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};

use super::{
    ANSWER, Bounds, Found, Look, Read, Reads, Stream, StreamError, Wanted,
    batch::{Ended, batch},
    odd::is_odd,
    read::found,
};
use crate::bus::interest::ServerMessage;

/// Messages, and bytes, of one question. Others on the connection wait for as long as one
/// takes.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// Messages that are kept for sessions have so much memory, until they are handed on. What
/// finds no room is only counted, and read when its session comes again.
pub(super) const ROOM: usize = 32 << 20;
/// A scan takes so long, or is given up.
const SCAN: Duration = Duration::from_secs(10);
/// Before a replica that lags is asked again, and how often that is done.
const LAG: (Duration, u32) = (Duration::from_millis(25), 10);

/// Reads for these sessions, each with the subjects that it wants; `before` is what the leader
/// had before they were judged to be behind. None for a session for which the scan cannot prove
/// its result complete.
pub(super) async fn scan(
    stream: &Stream,
    sessions: Vec<Vec<Option<Wanted>>>,
    bounds: Bounds,
    before: &Look,
) -> Result<Vec<Option<Reads>>, StreamError> {
    let wanted = sessions.iter().flatten().flatten();
    let oldest = wanted.map(|wanted| wanted.after).min().unwrap_or(0);
    let count = sessions.len();
    let mut handout = Handout::new(stream.0.room.clone(), stream.0.subjects.broadcast());
    for wanted in sessions {
        handout.add(wanted, bounds);
    }
    let scanned = timeout(SCAN, pass(stream, oldest, &mut handout)).await;
    let scanned = scanned.unwrap_or(Err(StreamError::TimedOut))?;
    let shares = handout.shares.into_iter();
    let answers: Vec<_> = shares.map(|share| scanned.answer(share, before)).collect();
    let answered = answers.iter().flatten().count();
    let up_to = scanned.up_to;
    tracing::debug!(
        count,
        answered,
        oldest,
        up_to,
        "many sessions were read for together"
    );
    Ok(answers)
}

/// Goes through what is after a sequence, up to what the leader has at the beginning.
async fn pass(stream: &Stream, after: u64, handout: &mut Handout) -> Result<Scanned, StreamError> {
    let look = stream.look().await?;
    let (mut up_to, mut lags) = (after, 0);
    while up_to < look.last {
        let read = timeout(ANSWER, from(stream, up_to + 1, handout)).await;
        let read = match read.unwrap_or(Err(StreamError::TimedOut))? {
            Ended::Whole(read) => Some(read),
            Ended::Nothing | Ended::TooMuch => None,
        };
        up_to = read.map_or(up_to, |read| read.last);
        if up_to >= look.last || read.is_some_and(|read| read.pending > 0) {
            continue;
        }
        if read.is_some() && !look.replicated {
            // The messages at its end are gone.
            up_to = look.last;
        } else if lags < LAG.1 {
            lags += 1;
            sleep(LAG.0).await;
        } else {
            return Err(StreamError::TimedOut);
        }
    }
    let now = stream.look().await?;
    if now.last < up_to {
        return Err(StreamError::Odd("it has lost its end".to_owned()));
    }
    Ok(Scanned { up_to, now })
}

async fn from(stream: &Stream, from: u64, handout: &mut Handout) -> Result<Ended, StreamError> {
    // Without a subject it would be that very message that is asked for, which may be gone.
    let question = json!({
        "seq": from,
        "next_by_subj": ">",
        "batch": BATCH,
        "max_bytes": BATCH_BYTES,
    });
    batch(stream, &question, BATCH, |seq, _, reply| {
        let subject = reply.headers.last("Nats-Subject").unwrap_or_default();
        let wanted = handout.hand(subject, |broadcast| by_itself(seq, reply, broadcast));
        if !wanted && is_odd(&stream.0.subjects, subject) {
            stream.0.metrics.odd_subjects.inc();
        }
    })
    .await
}

/// How far a scan came.
struct Scanned {
    /// It has seen all that there was up to here, at the moment at which it came by.
    up_to: u64,
    /// What the leader has after that.
    now: Look,
}

impl Scanned {
    /// Whether nothing after a sequence was removed before the scan came by, where it saw so
    /// many of the subject and the leader had this before.
    ///
    /// What a subject's limit removes has as many newer ones of its subject behind it as that
    /// allows. Of the newest that was removed unseen, all of these were seen, or are beyond
    /// the scan's end, where there are no more than sequences. With fewer of both together
    /// none was removed.
    fn shows_all(&self, after: u64, seen: u64, before: &Look) -> bool {
        let beyond = self.now.last - self.up_to;
        let shows = |look: &Look| {
            let within = |limit| seen + beyond < limit;
            look.has_all_after(after) && look.per_subject.is_none_or(within)
        };
        self.up_to >= before.last
            && self.now.epoch == before.epoch
            && shows(before)
            && shows(&self.now)
    }

    /// What was read for a session; none where it has to read for itself.
    fn answer(&self, share: Share, before: &Look) -> Option<Reads> {
        let goes_on = |part: &Part| part.more == 0 || !part.found.is_empty();
        let shown = |part: &Part| self.shows_all(part.after, part.total(), before);
        let mut parts = share.parts.iter().flatten();
        let good = parts.all(|part| goes_on(part) && shown(part));
        good.then(|| Reads {
            of: share
                .parts
                .into_iter()
                .map(|part| part.map(Part::read))
                .collect(),
            _room: share.room,
        })
    }
}

/// What each session is handed.
struct Handout {
    shares: Vec<Share>,
    /// Of each subject, the sessions that want it, each with the index of its part.
    wanted: HashMap<String, Vec<(usize, usize)>>,
    broadcast: String,
    /// Memory that is left, in bytes.
    room: Arc<Semaphore>,
}

/// What one session is handed.
#[derive(Default)]
struct Share {
    /// Of each channel that it wants.
    parts: Vec<Option<Part>>,
    room: Option<OwnedSemaphorePermit>,
}

/// What one session is handed of one channel.
struct Part {
    after: u64,
    bounds: Bounds,
    bytes: usize,
    found: Vec<Found>,
    more: u64,
}

impl Handout {
    fn new(room: Arc<Semaphore>, broadcast: String) -> Self {
        Self {
            shares: Vec::new(),
            wanted: HashMap::new(),
            broadcast,
            room,
        }
    }

    /// One more session.
    fn add(&mut self, wanted: Vec<Option<Wanted>>, bounds: Bounds) {
        let mut share = Share::default();
        for (index, wanted) in wanted.into_iter().enumerate() {
            share.parts.push(wanted.map(|Wanted { subject, after }| {
                let sessions = self.wanted.entry(subject).or_default();
                sessions.push((self.shares.len(), index));
                Part {
                    after,
                    bounds,
                    bytes: 0,
                    found: Vec::new(),
                    more: 0,
                }
            }));
        }
        self.shares.push(share);
    }

    /// A message comes by; `found` makes it, told whether it is a broadcast. Whether anybody
    /// wants it.
    fn hand(&mut self, subject: &str, found: impl FnOnce(bool) -> Found) -> bool {
        let Some(sessions) = self.wanted.get(subject) else {
            return false;
        };
        let found = found(subject == self.broadcast);
        for (session, part) in sessions {
            self.shares[*session].take(*part, &found, &self.room);
        }
        true
    }
}

/// A message by itself: what it came in has others' in it too.
fn by_itself(seq: u64, reply: &ServerMessage, broadcast: bool) -> Found {
    let mut found = found(seq, reply, broadcast);
    found.message.payload = Bytes::copy_from_slice(&found.message.payload);
    found
}

impl Share {
    /// A message for this part comes by: it is kept where there is room for it, else counted.
    fn take(&mut self, part: usize, found: &Found, room: &Arc<Semaphore>) {
        let Some(part) = self.parts[part]
            .as_mut()
            .filter(|part| part.after < found.seq)
        else {
            return;
        };
        let message = &found.message;
        let bytes = size_of::<Found>() + message.event.as_str().len() + message.payload.len();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if part.has_room_for(bytes)
            && let Ok(more) = room.clone().try_acquire_many_owned(permits)
        {
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
            part.found.push(found.clone());
            part.bytes += bytes;
        } else {
            part.more += 1;
        }
    }
}

impl Part {
    /// Whether its bounds allow one more, with none left out before it.
    fn has_room_for(&self, bytes: usize) -> bool {
        let fits = self.found.is_empty() || self.bytes + bytes <= self.bounds.bytes;
        self.more == 0 && fits && self.found.len() < self.bounds.messages
    }

    fn total(&self) -> u64 {
        self.found.len() as u64 + self.more
    }

    fn read(self) -> Read {
        Read {
            intact: true,
            proven: true,
            found: self.found,
            more: self.more,
        }
    }
}

#[cfg(test)]
mod tests;
