//! Who knows what is stored, and what each client was brought: the judge of durable mode.
//!
//! A pure state machine without clock or I/O, so that it can be proven by itself. It
//! shares no code with the gateway, and judges when all is over and known:
//!
//! - A client is owed everything after its first welcome that the stream acknowledged:
//!   what is to its user and what is to all, each channel in the stream's order, across all
//!   of its connections. A replay keeps the stream's order across channels too.
//! - Only a `gap` forgives, and only what began to be sent before the client was told, and
//!   what retention, or the bound of a replay, can really have taken.
//! - A `gap` is false where neither can have taken anything after what the client has of
//!   each channel, nor can have left too little to show it.
//! - A `gap` for one message stands for a message that is too large for a frame, and for no
//!   other; such a message never comes as an event.
//! - `live` and `ping` say that everything up to them has come.
//! - A client comes back with the position that the contract's five rules make of what it
//!   read. The auditor has its own version of these rules.
//! - A client that has seen what a stream lost, when it was set back, is told `gap`. Then it
//!   is owed all that the stream stored afterwards.
//! - The time beside a sequence is the time at which the stream stored that message.
//! - What comes twice is counted; it has to show by its sequence.
//!
//! What a message was when it was stored is known within the time between its sending and
//! its acknowledgement, so whoever is in doubt is believed: a message counts as stored as
//! soon as its sending began.

mod reader;

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    time::Duration,
};

use self::reader::Reader;

/// A message, as its publisher calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) publisher: usize,
    /// None: to all.
    pub(crate) user: Option<usize>,
    pub(crate) number: usize,
}

/// For how long the stream keeps a message, and how much a client is brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) age: Duration,
    /// Messages of each user, and broadcasts.
    pub(crate) per_channel: usize,
    pub(crate) replay: usize,
}

/// What `welcome` says of what was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    None,
    Complete,
    Gap,
}

/// What a client read, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    pub(crate) at: Duration,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Welcome {
        /// The position that it came back with.
        since: Option<Position>,
        end: Stored,
        resume: Resume,
    },
    Event {
        stored: Stored,
        prev: u64,
        id: Id,
    },
    Live(Stored),
    Ping(Stored),
    /// It stands for one message.
    TooLarge {
        stored: Stored,
        prev: u64,
        broadcast: bool,
    },
    Gap,
}

/// A sequence of the stream, and when the stream stored that message, in milliseconds since
/// 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) at: u64,
}

/// What a client says that it has: section 5 of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) proven: u64,
    pub(crate) top: Stored,
    /// Of the user and of the broadcast; 0 for none above `proven`.
    pub(crate) marks: [u64; 2],
}

impl Position {
    fn new(proven: u64) -> Self {
        Self {
            proven,
            top: Stored { seq: 0, at: 0 },
            marks: [0; 2],
        }
    }

    /// It has all of this channel up to there.
    fn has(&self, channel: usize) -> u64 {
        self.marks[channel].max(self.proven)
    }

    /// Rule 5.
    fn saw(&mut self, stored: Stored) {
        if stored.seq > self.top.seq {
            self.top = stored;
        }
    }

    /// Rule 4.
    fn is_proven(&mut self, stored: Stored) {
        self.saw(stored);
        self.proven = self.proven.max(stored.seq);
        for mark in &mut self.marks {
            if *mark <= self.proven {
                *mark = 0;
            }
        }
    }
}

/// So far apart two readings of the clock may be, in milliseconds.
const CLOCKS: u64 = 1000;

/// What is known of a message.
#[derive(Debug, Clone)]
struct Sent {
    begun: Duration,
    tries: usize,
    seq: Option<u64>,
    /// No frame may hold it.
    large: bool,
}

/// The books of a run.
#[derive(Debug, Clone)]
pub(crate) struct Auditor {
    retention: Retention,
    /// When the run began, in milliseconds since 1970.
    begin: u64,
    sent: HashMap<Id, Sent>,
    stored: BTreeMap<u64, Id>,
    /// Of each user, and of broadcasts: the sequence and the beginning of each.
    of: HashMap<Option<usize>, BTreeMap<u64, Duration>>,
    set_back: Option<SetBack>,
}

/// The stream was set back to an older state.
#[derive(Debug, Clone)]
struct SetBack {
    /// The last sequence of that state.
    to: u64,
    at: Duration,
    /// The books until then.
    before: Box<Auditor>,
}

/// What became of one client.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    /// Messages accepted.
    pub(crate) accepted: usize,
    pub(crate) duplicates: usize,
    /// Missing, and nobody said so.
    pub(crate) lost: usize,
    /// Of these, after the client was told that nothing would be missing.
    pub(crate) false_completes: usize,
    /// Missing as it was told.
    pub(crate) forgiven: usize,
    pub(crate) false_gaps: usize,
    /// Welcomes by what they said.
    pub(crate) begun: usize,
    pub(crate) complete: usize,
    pub(crate) gap: usize,
    /// `gap` frames that stand for more than one message.
    pub(crate) gap_frames: usize,
    /// Messages in whose place a `gap` frame came.
    pub(crate) too_large: usize,
    /// Events after a later event of the other channel, outside a replay.
    pub(crate) crossed: usize,
}

impl Verdict {
    /// Counts another client's too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.false_completes += other.false_completes;
        self.forgiven += other.forgiven;
        self.false_gaps += other.false_gaps;
        self.begun += other.begun;
        self.complete += other.complete;
        self.gap += other.gap;
        self.gap_frames += other.gap_frames;
        self.too_large += other.too_large;
        self.crossed += other.crossed;
    }
}

impl Auditor {
    pub(crate) fn new(retention: Retention, begin: u64) -> Self {
        Self {
            retention,
            begin,
            sent: HashMap::new(),
            stored: BTreeMap::new(),
            of: HashMap::new(),
            set_back: None,
        }
    }

    /// A message is about to be sent, for the first time or again.
    pub(crate) fn sending(&mut self, id: Id, large: bool, now: Duration) {
        let fresh = || Sent {
            begun: now,
            tries: 0,
            seq: None,
            large,
        };
        self.sent.entry(id).or_insert_with(fresh).tries += 1;
    }

    /// The stream has acknowledged it.
    pub(crate) fn acknowledged(&mut self, id: Id, seq: u64) {
        let sent = self.sent.get_mut(&id).expect("it was sent");
        sent.seq = Some(seq);
        self.of.entry(id.user).or_default().insert(seq, sent.begun);
        self.stored.insert(seq, id);
    }

    /// The stream has lost all after a sequence, and goes on from there.
    pub(crate) fn is_set_back(&mut self, to: u64, now: Duration) {
        let before = Box::new(self.clone());
        for id in self.stored.split_off(&(to + 1)).into_values() {
            self.sent.remove(&id);
        }
        for of in self.of.values_mut() {
            of.split_off(&(to + 1));
        }
        let at = now;
        self.set_back = Some(SetBack { to, at, before });
    }

    /// Messages that the stream acknowledged.
    pub(crate) fn stored(&self) -> usize {
        self.stored.len()
    }

    /// Messages of which that is not known.
    pub(crate) fn unknown(&self) -> usize {
        self.sent.values().filter(|sent| sent.seq.is_none()).count()
    }

    /// The sequence of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.stored.last_key_value().map_or(0, |(&seq, _)| seq)
    }

    /// Judges all that a client of this user read, in its order.
    pub(crate) fn judge(&self, user: usize, heard: &[Heard]) -> Verdict {
        let Some(SetBack { at, before, .. }) = &self.set_back else {
            return self.judge_one_state(user, heard);
        };
        let until = heard.partition_point(|heard| heard.at <= *at);
        let (earlier, later) = heard.split_at(until);
        let mut verdict = before.judge(user, earlier);
        // Until the gateway has found it, a session hears of both.
        let is_welcome = |heard: &Heard| matches!(heard.what, What::Welcome { .. });
        let welcome = later.iter().position(is_welcome);
        let after = welcome.map(|welcome| self.judge_one_state(user, &later[welcome..]));
        if let Some(mut after) = after {
            verdict.add(&after);
            verdict.complaints.append(&mut after.complaints);
        }
        verdict
    }

    /// Of a stream that was not set back meanwhile.
    fn judge_one_state(&self, user: usize, heard: &[Heard]) -> Verdict {
        let mut reader = Reader::new(self, user);
        for heard in heard {
            reader.hears(*heard);
        }
        // What is still missing has not come at all.
        reader.ends(heard.last().map(|last| last.at))
    }

    /// What is of this kind in that range, with its beginning.
    fn of(
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
    fn may_be_gone(&self, seq: u64, by: Duration) -> bool {
        let id = self.stored[&seq];
        let begun = self.sent[&id].begun;
        let limit = self.retention.per_channel;
        by.saturating_sub(begun) >= self.retention.age
            || self.after(id.user, seq, by, limit) >= limit
    }

    /// So many newer ones of both channels may have been stored by then.
    fn after_both(&self, user: usize, seqs: [u64; 2], by: Duration, limit: usize) -> usize {
        self.after(Some(user), seqs[0], by, limit) + self.after(None, seqs[1], by, limit)
    }

    /// Whether it may be true, or impossible to show otherwise, that something is lost after
    /// what a client has of each channel.
    fn is_gap(&self, user: usize, has: [u64; 2], by: Duration) -> bool {
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
    fn misdates(&self, Stored { seq, at }: Stored, by: Duration) -> Option<String> {
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

#[cfg(test)]
mod tests;
