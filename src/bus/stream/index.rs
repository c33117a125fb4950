//! What scans have seen of the stream, kept while sessions come back.
//!
//! The index covers a part of the stream: after one sequence, up to another. Messages leave that
//! part of the stream and never enter it, so the index stays true. It knows each message's
//! subject and sequence, and holds the newest messages themselves as far as there is room.

use std::{
    collections::{HashMap, VecDeque, vec_deque::Iter},
    sync::Arc,
};

use super::{Found, LeaderState, leader::History};
use crate::frame::Proof;

/// What a subject costs in memory besides its messages, in bytes: two strings, and the table.
const SUBJECT_BYTES: usize = 192;
/// What a message costs that is not held, in bytes.
const SEEN_BYTES: usize = 2 * size_of::<Seen>();

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
    subjects: HashMap<Arc<str>, VecDeque<Seen>>,
    /// The messages that it holds, the oldest first, with their subjects.
    held: VecDeque<(u64, Arc<str>)>,
    bytes: usize,
}

/// A message that a scan has seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) seq: u64,
    /// When it was stored.
    at: u64,
    /// Its memory while it is held, or handed on.
    bytes: u32,
    /// `None` if there was no room for it any more.
    pub(super) held: Option<Box<Found>>,
    /// It leaves the stream by itself (`Nats-TTL`).
    fades: bool,
}

/// What a message costs that is held, besides its own bytes, in bytes.
const FOUND_BYTES: usize = size_of::<Found>() + 64 + 2 * size_of::<(u64, Arc<str>)>();

impl Seen {
    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
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

    /// A scan has seen a message, the newest by now, which may leave the stream by itself.
    /// Whether the subject is new to it.
    pub(super) fn see(&mut self, subject: &str, (found, fades): (Found, bool)) -> bool {
        let (seq, at, message) = (found.seq, found.at, &found.message);
        let bytes = FOUND_BYTES + message.event.as_str().len() + message.payload.len();
        self.bytes += SEEN_BYTES + bytes;
        let seen = Seen {
            seq,
            at,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            held: Some(Box::new(found)),
            fades,
        };
        let known = self.subjects.get_key_value(subject);
        let known = known.map(|(subject, _)| subject.clone());
        let is_new = known.is_none();
        let subject = known.unwrap_or_else(|| subject.into());
        self.bytes += if is_new { SUBJECT_BYTES } else { 0 };
        self.held.push_back((seq, subject.clone()));
        self.subjects.entry(subject).or_default().push_back(seen);
        is_new
    }

    /// Lets go of the oldest messages that it holds until its memory is at most this, as far as
    /// that helps. Those who come back have missed the newest.
    pub(super) fn let_go(&mut self, most: usize) {
        while self.bytes > most
            && let Some((seq, subject)) = self.held.pop_front()
        {
            let Some(seen) = self.subjects.get_mut(&subject) else {
                continue;
            };
            if let Ok(place) = seen.binary_search_by_key(&seq, |seen| seen.seq)
                && seen[place].held.take().is_some()
            {
                self.bytes = self.bytes.saturating_sub(seen[place].bytes());
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
        for (subject, seen) in later.subjects.drain() {
            match self.subjects.get_mut(&subject) {
                Some(of) => {
                    self.bytes = self.bytes.saturating_sub(SUBJECT_BYTES);
                    of.extend(seen);
                }
                None => drop(self.subjects.insert(subject, seen)),
            }
        }
        self.held.append(&mut later.held);
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
        let gone = self.held.partition_point(|(seq, _)| *seq <= up_to);
        self.held.drain(..gone);
        self.subjects.retain(|_, seen| {
            let count = seen.partition_point(|seen| seen.seq <= up_to);
            for seen in seen.drain(..count) {
                let held = seen.held.as_ref().map_or(0, |_| seen.bytes());
                self.bytes = self.bytes.saturating_sub(SEEN_BYTES + held);
            }
            if seen.is_empty() {
                self.bytes = self.bytes.saturating_sub(SUBJECT_BYTES);
            }
            !seen.is_empty()
        });
    }

    /// When the stream stored the message of a subject at a sequence, as far as it has seen that.
    pub(super) fn stored_at(&self, subject: &str, seq: u64, leader: &LeaderState) -> Option<u64> {
        self.covers(leader)?;
        let seen = self.subjects.get(subject)?;
        let place = seen.binary_search_by_key(&seq, |seen| seen.seq).ok()?;
        Some(seen[place].at)
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
    pub(super) fn after<'a>(
        &'a self,
        subject: &str,
        (after, known): (u64, Proof),
        leader: &LeaderState,
    ) -> Option<Iter<'a, Seen>> {
        let seen = self.subjects.get(subject);
        let begin = seen.map_or(0, |seen| seen.partition_point(|seen| seen.seq <= after));
        let range = seen.map_or(0..0, |seen| begin..seen.len());
        let beyond = self.end.saturating_sub(self.up_to);
        let total = (range.len() as u64).saturating_add(beyond);
        let within = least(self.per_subject, leader.limit_after(after));
        let within = within.is_none_or(|limit| total < limit);
        static NONE: VecDeque<Seen> = VecDeque::new();
        let seen = seen.unwrap_or(&NONE).range(range);
        let stays = leader.has_all_after(after, known) && !seen.clone().any(|seen| seen.fades);
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
