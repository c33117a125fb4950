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
//!   each channel, nor can have left too little to show it. A client that a `gap` made forget
//!   its position has what it got since.
//! - A `gap` for one message stands for a message that is too large for a frame, and for no
//!   other; such a message never comes as an event.
//! - `live` and `ping` say that everything up to them has come.
//! - A client comes back with the position that the contract's five rules make of what it
//!   read. The auditor has its own version of these rules.
//! - A client that read a message which the stream lost, when somebody set it back, is told
//!   `gap` by its next welcome, and no frame proves anything to it before that. Then it is
//!   owed every message that the stream stored afterwards. A client that read no such message
//!   is owed what it is owed always.
//! - The time beside a sequence is the time at which the stream stored that message.
//! - What comes twice is counted; it has to show by its sequence.
//!
//! What a message was when it was stored is known within the time between its sending and
//! its acknowledgement, so whoever is in doubt is believed: a message counts as stored as
//! soon as its sending began.

mod books;
mod reader;

use std::time::Duration;

use self::{books::Books, reader::Reader};

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

/// What became of one client.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) complaints: Vec<String>,
    /// Messages accepted.
    pub(crate) accepted: usize,
    pub(crate) duplicates: usize,
    /// Missing, and nobody said so.
    pub(crate) lost: usize,
    /// Their sequences.
    pub(crate) missing: Vec<u64>,
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
    /// Welcomes that told a client of a set-back.
    pub(crate) told_of_set_back: usize,
    /// Events after a later event of the other channel, outside a replay.
    pub(crate) crossed: usize,
}

impl Verdict {
    /// Counts another client's too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.missing.extend(&other.missing);
        self.false_completes += other.false_completes;
        self.forgiven += other.forgiven;
        self.false_gaps += other.false_gaps;
        self.begun += other.begun;
        self.complete += other.complete;
        self.gap += other.gap;
        self.gap_frames += other.gap_frames;
        self.too_large += other.too_large;
        self.told_of_set_back += other.told_of_set_back;
        self.crossed += other.crossed;
    }
}

/// The books of a run: one after the other, the states between which somebody set the stream
/// back.
#[derive(Debug)]
pub(crate) struct Auditor {
    states: Vec<State>,
    lost_by_the_stream: usize,
}

#[derive(Debug)]
struct State {
    /// What it began with; none for the first.
    begins: Option<SetBack>,
    books: Books,
}

/// The stream was set back to an older state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetBack {
    /// The last sequence of that state.
    pub(crate) to: u64,
    /// When NATS did not run: what it stored before is of the state before.
    pub(crate) at: Duration,
    /// The same in milliseconds since 1970.
    pub(crate) time: u64,
}

impl SetBack {
    /// Whether the stream lost this message: it stored it in the state before, after the end
    /// of the older state.
    fn lost(&self, stored: Stored) -> bool {
        stored.seq > self.to && stored.at <= self.time
    }
}

impl Auditor {
    pub(crate) fn new(retention: Retention, begin: u64) -> Self {
        let books = Books::new(retention, begin);
        Self {
            states: vec![State {
                begins: None,
                books,
            }],
            lost_by_the_stream: 0,
        }
    }

    fn now(&self) -> &Books {
        &self.states.last().expect("there is a first").books
    }

    fn now_mut(&mut self) -> &mut Books {
        &mut self.states.last_mut().expect("there is a first").books
    }

    /// A message is about to be sent, for the first time or again.
    pub(crate) fn sending(&mut self, id: Id, large: bool, now: Duration) {
        self.now_mut().sending(id, large, now);
    }

    /// The stream has acknowledged it.
    pub(crate) fn acknowledged(&mut self, id: Id, seq: u64) {
        self.now_mut().acknowledged(id, seq);
    }

    /// The stream has lost every message after a sequence, and goes on from there. No
    /// publisher waits for an acknowledgement now.
    pub(crate) fn is_set_back(&mut self, set_back: SetBack) {
        let mut books = self.now().clone();
        self.lost_by_the_stream += books.forget_after(set_back.to);
        self.states.push(State {
            begins: Some(set_back),
            books,
        });
    }

    /// The last set-back.
    pub(crate) fn set_back(&self) -> Option<SetBack> {
        self.states.last().and_then(|state| state.begins)
    }

    /// Messages that the stream acknowledged, those included that it lost.
    pub(crate) fn acknowledged_in_all(&self) -> usize {
        self.now().stored.len() + self.lost_by_the_stream
    }

    /// Messages that the stream acknowledged, and lost when it was set back.
    pub(crate) fn lost_by_the_stream(&self) -> usize {
        self.lost_by_the_stream
    }

    /// Messages of which nobody knows whether the stream has them.
    pub(crate) fn unknown(&self) -> usize {
        let sent = self.now().sent.values();
        sent.filter(|sent| sent.seq.is_none()).count()
    }

    /// The sequence of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.now().last()
    }

    /// Judges all that a client of this user read, in its order.
    pub(crate) fn judge(&self, user: usize, heard: &[Heard]) -> Verdict {
        let mut reader = Reader::new(self, user);
        for heard in heard {
            reader.hears(*heard);
        }
        // What is still missing has not come at all.
        reader.ends(heard.last().map(|last| last.at))
    }
}

#[cfg(test)]
mod tests;
