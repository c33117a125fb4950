//! What scans have seen of the stream, kept while sessions come back.
//!
//! The index covers a part of the stream: after one sequence, up to another. Messages leave that
//! part of the stream and never enter it, so the index stays true. It knows each message's
//! subject and sequence, and holds the newest messages themselves as far as there is room.

use std::{
    collections::{HashMap, VecDeque},
    iter::successors,
    sync::Arc,
};

use bytes::Bytes;

use super::{Found, LeaderState, leader::History, read};
use crate::{
    bus::interest::{Headers, ServerMessage},
    channel::Channel,
    frame::Proof,
};

/// What a subject costs in memory besides its messages, in bytes: a string, and the table.
const SUBJECT_BYTES: usize = 128;
/// What a message costs that is not held, in bytes.
const SEEN_BYTES: usize = 2 * size_of::<Seen>();
/// What a message costs that is held, besides its own bytes, in bytes.
const HELD_BYTES: usize = 32;

/// A part of the stream, as scans have seen it.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Which stream it is.
    of: Option<History>,
    /// Everything after this sequence was seen, up to `up_to`.
    after: u64,
    /// Everything up to this sequence was seen, from `after` on.
    up_to: u64,
    /// The leader's last message when the last scan had ended.
    end: u64,
    /// The smallest number of messages that a subject could have.
    per_subject: Option<u64>,
    /// The messages, the oldest first.
    seen: VecDeque<Seen>,
    /// How many were forgotten before the first of them.
    forgotten: usize,
    /// Of how many from the beginning on none is held, the forgotten ones among them.
    unheld: usize,
    /// How many come before the last message of each subject, the forgotten ones among them.
    lasts: HashMap<Arc<str>, usize>,
    bytes: usize,
}

/// A message that a scan has seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) seq: u64,
    /// When it was stored.
    at: u64,
    /// How many places before it the last message of its subject is; 0 for the first one.
    back: usize,
    /// How long its own headers are.
    headers: usize,
    /// Its own headers and its payload. `None` if there was no room for them any more.
    held: Option<Arc<[u8]>>,
    /// Its memory while it is held, or handed on.
    bytes: u32,
    /// It leaves the stream by itself (`Nats-TTL`).
    fades: bool,
}

impl Seen {
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The message itself, if it is held. Its payload is shared.
    pub(super) fn found(&self, channel: &Channel) -> Option<Found> {
        let mut payload = Bytes::from_owner(self.held.clone()?);
        let headers = Headers::of(payload.split_to(self.headers));
        let at = self.at;
        Some(read::found(
            (self.seq, at),
            &headers,
            payload,
            channel.clone(),
        ))
    }
}

impl Index {
    /// Nothing yet of the stream at a leader query, after a sequence.
    pub(super) fn new(leader: &LeaderState, after: u64) -> Self {
        Self {
            of: Some(leader.history()),
            after,
            up_to: after,
            per_subject: leader.per_subject,
            ..Self::default()
        }
    }

    /// What it covers of the stream at a leader query: after which sequence, up to which. `None` if
    /// that is nothing.
    pub(super) fn covers(&self, leader: &LeaderState) -> Option<(u64, u64)> {
        let same = self.of.as_ref()? == &leader.history();
        (same && self.up_to > self.after).then_some((self.after, self.up_to))
    }

    /// Its memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sequences that it covers.
    pub(super) fn messages(&self) -> u64 {
        self.up_to - self.after
    }

    /// Everything up to here was seen.
    pub(super) fn up_to(&self) -> u64 {
        self.up_to
    }

    /// A scan has seen everything up to this sequence.
    pub(super) fn advance(&mut self, up_to: u64) {
        self.up_to = self.up_to.max(up_to);
    }

    /// A scan has seen a message, the newest by now. Whether its subject is new to it.
    pub(super) fn see(&mut self, seq: u64, message: &ServerMessage) -> bool {
        let (headers, payload) = (&message.headers, &message.payload);
        let subject = headers.last("Nats-Subject").unwrap_or_default();
        // What the server has appended is known by now.
        let own = headers.before("Nats-Stream");
        let bytes = HELD_BYTES + own.len() + payload.len();
        let count = self.forgotten + self.seen.len();
        let last = match self.lasts.get_mut(subject) {
            Some(last) => Some(std::mem::replace(last, count)),
            None => {
                self.lasts.insert(subject.into(), count);
                self.bytes += SUBJECT_BYTES;
                None
            }
        };
        self.seen.push_back(Seen {
            seq,
            at: read::stored_at(headers),
            back: last.map_or(0, |last| count - last),
            headers: own.len(),
            // By itself: what it came in has others' in it too.
            held: Some([own, payload].concat().into()),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            fades: headers.last("Nats-TTL").is_some(),
        });
        self.bytes += SEEN_BYTES + bytes;
        last.is_none()
    }

    /// Lets go of the oldest messages that it holds until its memory is at most this, as far as
    /// that helps. Those who come back have missed the newest.
    pub(super) fn let_go(&mut self, most: usize) {
        self.unheld = self.unheld.max(self.forgotten);
        while self.bytes > most
            && let Some(seen) = self.seen.get_mut(self.unheld - self.forgotten)
        {
            self.unheld += 1;
            if seen.held.take().is_some() {
                self.bytes = self.bytes.saturating_sub(seen.bytes());
            }
        }
    }

    /// A scan has ended, and this is what the leader had after that. False where the stream is
    /// not as it was.
    ///
    /// What was removed from the stream's beginning may be missing here, so only what is after
    /// that is covered.
    pub(super) fn end(&mut self, now: &LeaderState) -> bool {
        let of = Some(now.history());
        self.end = now.last;
        self.per_subject = least(self.per_subject, now.per_subject);
        if now.is_pinned() {
            // What age removes does not show there.
            self.after = self.up_to;
        }
        self.after = self.after.max(now.first.saturating_sub(1)).min(self.up_to);
        self.of == of && now.last >= self.up_to
    }

    /// Adds what follows it without a gap. Anything else takes its place.
    pub(super) fn join(&mut self, mut later: Self) {
        if self.of != later.of || self.up_to != later.after {
            *self = later;
            return;
        }
        let count = self.forgotten + self.seen.len();
        for (subject, last) in std::mem::take(&mut later.lasts) {
            let first = later.chain(last).last().unwrap_or(last);
            let (first_here, last_here) = (
                count + first - later.forgotten,
                count + last - later.forgotten,
            );
            match self.lasts.get_mut(&subject) {
                Some(before) => {
                    let before = std::mem::replace(before, last_here);
                    later.seen[first - later.forgotten].back = first_here - before;
                    self.bytes = self.bytes.saturating_sub(SUBJECT_BYTES);
                }
                None => drop(self.lasts.insert(subject, last_here)),
            }
        }
        self.seen.append(&mut later.seen);
        self.bytes += later.bytes;
        self.up_to = later.up_to;
        self.end = self.end.max(later.end);
        self.per_subject = least(self.per_subject, later.per_subject);
    }

    /// Forgets what is not after a sequence.
    pub(super) fn forget(&mut self, up_to: u64) {
        if up_to <= self.after {
            return;
        }
        self.after = up_to.min(self.up_to);
        let count = self.seen.partition_point(|seen| seen.seq <= up_to);
        for seen in self.seen.drain(..count) {
            let held = seen.held.as_ref().map_or(0, |_| seen.bytes());
            self.bytes = self.bytes.saturating_sub(SEEN_BYTES + held);
        }
        self.forgotten += count;
        let subjects = self.lasts.len();
        self.lasts.retain(|_, last| *last >= self.forgotten);
        let gone = subjects - self.lasts.len();
        self.bytes = self.bytes.saturating_sub(gone * SUBJECT_BYTES);
    }

    /// How many come before each message of a subject, beginning with this, its last one.
    fn chain(&self, last: usize) -> impl Iterator<Item = usize> {
        successors(Some(last), |place| {
            let back = self.seen[place - self.forgotten].back;
            let before = place.checked_sub(back).filter(|_| back > 0)?;
            (before >= self.forgotten).then_some(before)
        })
    }

    /// The messages of a subject, the newest first.
    fn newest_first(&self, subject: &str) -> impl Iterator<Item = &Seen> {
        let last = self.lasts.get(subject).copied();
        let places = last.into_iter().flat_map(|last| self.chain(last));
        places.map(|place| &self.seen[place - self.forgotten])
    }

    /// When the stream stored the message of a subject at a sequence, as far as it has seen that.
    pub(super) fn stored_at(&self, subject: &str, seq: u64, leader: &LeaderState) -> Option<u64> {
        self.covers(leader)?;
        let mut newer = self
            .newest_first(subject)
            .take_while(|seen| seen.seq >= seq);
        newer.find(|seen| seen.seq == seq).map(|seen| seen.at)
    }

    /// The messages of a subject after a sequence, where it is certain that these are all that
    /// there were, up to the end of what is covered.
    ///
    /// Why the result is complete. A message that a scan did not see was removed before the scan
    /// came to it: by its subject's limit, or from the stream's beginning.
    ///
    /// - The subject's limit removes a message only when `limit` newer messages of the subject
    ///   exist. Take the newest message that it removed unseen. Each of these newer messages was
    ///   seen by a scan, or has a sequence after the index's end (`up_to`), up to the leader's
    ///   last when the last scan had ended (`end`). We count the first, and take each sequence
    ///   from `up_to` to `end` for one of the second. If the sum is less than `limit`, the limit
    ///   has removed nothing unseen.
    /// - From the stream's beginning nothing is removed after `after`: the leader says so
    ///   ([`LeaderState::has_all_after`]), and [`Index::end`] has said so for what was removed
    ///   before the scan's end.
    ///
    /// `None` also if the stream's beginning has since lost a message that the index holds:
    /// nobody is sent what an operator has removed. And if one of the messages has its own
    /// `Nats-TTL`: nobody can say whether it is still there.
    pub(super) fn after(
        &self,
        subject: &str,
        (after, known): (u64, Proof),
        leader: &LeaderState,
    ) -> Option<Vec<&Seen>> {
        let seen = self
            .newest_first(subject)
            .take_while(|seen| seen.seq > after);
        let mut seen: Vec<_> = seen.collect();
        seen.reverse();
        let beyond = self.end.saturating_sub(self.up_to);
        let total = (seen.len() as u64).saturating_add(beyond);
        let within = least(self.per_subject, leader.limit_after(after));
        let within = within.is_none_or(|limit| total < limit);
        let stays = leader.has_all_after(after, known) && !seen.iter().any(|seen| seen.fades);
        (after >= self.after && within && stays).then_some(seen)
    }
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
