//! What one state of the stream holds, and what retention may have taken of it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    time::Duration,
};

use super::{Id, Retention, Stored};

/// So far apart two readings of the clock may be, in milliseconds.
const CLOCKS: u64 = 1000;

/// What is known of a message.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    begun: Duration,
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
    /// Of each user, and of broadcasts: the sequence and the beginning of each.
    of: HashMap<Option<usize>, BTreeMap<u64, Duration>>,
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
        self.of.entry(id.user).or_default().insert(seq, sent.begun);
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

    /// What is of this kind in that range, with its beginning.
    pub(super) fn of(
        &self,
        user: Option<usize>,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Duration)> {
        let empty = range.is_empty();
        let all = self.of.get(&user).filter(|_| !empty);
        let found = all
            .into_iter()
            .flat_map(move |all| all.range(range.clone()));
        found.map(|(&seq, &begun)| (seq, begun))
    }

    /// How many of a kind may have been stored after a sequence by then, as far as it
    /// matters whether they are more than `limit`.
    fn after(&self, user: Option<usize>, seq: u64, by: Duration, limit: usize) -> usize {
        let all = self.of(user, seq.saturating_add(1)..=u64::MAX);
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
            || self.after(id.user, seq, by, limit) >= limit
    }

    /// So many newer ones of both channels may have been stored by then.
    pub(super) fn after_both(
        &self,
        user: usize,
        seqs: [u64; 2],
        by: Duration,
        limit: usize,
    ) -> usize {
        self.after(Some(user), seqs[0], by, limit) + self.after(None, seqs[1], by, limit)
    }

    /// Whether it may be true, or impossible to show otherwise, that something is lost after
    /// what a client has of each channel.
    pub(super) fn is_gap(&self, user: usize, has: [u64; 2], by: Duration) -> bool {
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
        self.after(Some(user), has[0], by, per_channel) >= per_channel
            || self.after(None, has[1], by, per_channel) >= per_channel
            || self.after_both(user, has, by, replay) > replay
            || has.into_iter().any(may_begin_later)
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
