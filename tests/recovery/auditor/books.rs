//! What one state of the stream holds, and what retention may have taken of it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    time::Duration,
};

use super::{Id, Retention, Stored, To};

/// So far apart two readings of the clock may be, in milliseconds.
const CLOCKS: u64 = 1000;

/// What is known of a message.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) begun: Duration,
    pub(super) tries: usize,
    pub(super) seq: Option<u64>,
    /// No frame may hold it.
    pub(super) large: bool,
}

/// The messages of one state.
#[derive(Debug, Clone)]
pub(super) struct Books {
    pub(super) retention: Retention,
    /// When the run began, in milliseconds since 1970.
    begin: u64,
    pub(super) sent: HashMap<Id, Sent>,
    pub(super) stored: BTreeMap<u64, Id>,
    /// Of each channel: the sequence and the beginning of each.
    of: HashMap<To, BTreeMap<u64, Duration>>,
}

impl Books {
    pub(super) fn new(retention: Retention, begin: u64) -> Self {
        Self {
            retention,
            begin,
            sent: HashMap::new(),
            stored: BTreeMap::new(),
            of: HashMap::new(),
        }
    }

    pub(super) fn sending(&mut self, id: Id, large: bool, now: Duration) {
        let fresh = || Sent {
            begun: now,
            tries: 0,
            seq: None,
            large,
        };
        self.sent.entry(id).or_insert_with(fresh).tries += 1;
    }

    pub(super) fn acknowledged(&mut self, id: Id, seq: u64) {
        let sent = self.sent.get_mut(&id).expect("it was sent");
        sent.seq = Some(seq);
        self.of.entry(id.to).or_default().insert(seq, sent.begun);
        self.stored.insert(seq, id);
    }

    /// Forgets every message after a sequence; returns how many.
    pub(super) fn forget_after(&mut self, seq: u64) -> usize {
        let lost = self.stored.split_off(&(seq + 1));
        for id in lost.values() {
            self.sent.remove(id);
        }
        for of in self.of.values_mut() {
            of.split_off(&(seq + 1));
        }
        lost.len()
    }

    /// The last sequence.
    pub(super) fn last(&self) -> u64 {
        self.stored.last_key_value().map_or(0, |(&seq, _)| seq)
    }

    /// The last sequence of a channel.
    pub(super) fn last_of(&self, to: To) -> u64 {
        let last = self.of.get(&to).and_then(BTreeMap::last_key_value);
        last.map_or(0, |(&seq, _)| seq)
    }

    /// Whether a message of that sequence, or of a later one, may have been stored by then.
    pub(super) fn may_reach(&self, seq: u64, by: Duration) -> bool {
        let mut later = self.stored.range(seq..);
        later.any(|(_, id)| self.sent[id].begun <= by)
    }

    /// Whether a message of this channel may be here that is too large. What is not
    /// acknowledged may be there.
    pub(super) fn may_be_too_large(&self, to: To, seq: u64) -> bool {
        let is_it = |id: &Id| id.to == to && self.sent[id].large;
        match self.stored.get(&seq) {
            Some(id) => is_it(id),
            None => self.sent.keys().any(is_it),
        }
    }

    /// Whether a message may have come with this sequence: it is stored so; or it was sent again
    /// after the stream had forgotten the first time, or never acknowledged, which is allowed
    /// and owed to nobody.
    pub(super) fn may_be_at(&self, seq: u64, id: &Id) -> bool {
        match (self.sent.get(id), self.stored.get(&seq)) {
            (Some(_), Some(stored)) => stored == id,
            (Some(sent), None) => sent.seq.is_none() || sent.tries > 1,
            (None, _) => false,
        }
    }

    /// What is of this channel in that range, with its beginning.
    pub(super) fn of(
        &self,
        to: To,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Duration)> {
        let empty = range.is_empty();
        let all = self.of.get(&to).filter(|_| !empty);
        let found = all
            .into_iter()
            .flat_map(move |all| all.range(range.clone()));
        found.map(|(&seq, &begun)| (seq, begun))
    }

    /// How many of a channel may have been stored after a sequence by then, as far as it
    /// matters whether they are more than `limit`.
    fn after(&self, (to, seq): (To, u64), by: Duration, limit: usize) -> usize {
        let all = self.of(to, seq.saturating_add(1)..=u64::MAX);
        all.filter(|(_, begun)| *begun <= by)
            .take(limit + 1)
            .count()
    }

    /// Whether a message may have been removed by then.
    pub(super) fn may_be_gone(&self, seq: u64, by: Duration) -> bool {
        let id = self.stored[&seq];
        let begun = self.sent[&id].begun;
        let limit = self.retention.per_channel;
        by.saturating_sub(begun) >= self.retention.age
            || self.after((id.to, seq), by, limit) >= limit
    }

    /// So many newer ones of these channels may have been stored by then, each after its
    /// sequence.
    pub(super) fn after_all(&self, has: &[(To, u64)], by: Duration, limit: usize) -> usize {
        let each = has.iter();
        each.map(|one| self.after(*one, by, limit)).sum()
    }

    /// Whether it may be true, or impossible to show otherwise, that something is lost after
    /// what a client has of each channel.
    pub(super) fn is_gap(&self, has: &[(To, u64)], by: Duration) -> bool {
        let Retention {
            per_channel,
            replay,
            ..
        } = self.retention;
        // Whose message it is makes no difference: where the stream begins later, nobody can
        // say what was there.
        let may_begin_later = |seq: u64| {
            let next = self.stored.range(seq + 1..).next();
            next.is_some_and(|(&seq, _)| self.may_be_gone(seq, by))
        };
        let mut each = has.iter();
        let beyond = each.any(|one| self.after(*one, by, per_channel) >= per_channel);
        beyond
            || self.after_all(has, by, replay) > replay
            || has.iter().any(|(_, seq)| may_begin_later(*seq))
    }

    /// What is wrong with a sequence and its time, as a client read them at `by`.
    pub(super) fn misdates(&self, Stored { seq, at }: Stored, by: Duration) -> Option<String> {
        if seq == 0 {
            return (at != 0).then(|| format!("0 was stored at {at}"));
        }
        let id = self.stored.get(&seq)?;
        let since_1970 = |time: Duration| self.begin + time.as_millis() as u64;
        let begun = since_1970(self.sent[id].begun);
        let possible = begun.saturating_sub(CLOCKS)..=since_1970(by) + CLOCKS;
        (!possible.contains(&at)).then(|| format!("{seq} was stored at {at}, not in {possible:?}"))
    }
}
