//! Who knows what is stored, and what each client was brought: the judge of durable mode.
//!
//! A pure state machine without clock or I/O, so that it can be proven by itself. It
//! shares no code with the gateway, and judges when all is over and known:
//!
//! - A client is owed everything after its first welcome that the stream acknowledged:
//!   what is to its user, to all and to its topic, each channel in the stream's order, across
//!   all of its connections. A replay keeps the stream's order across channels too.
//! - A topic is owed while the client follows it: from the sequence of the `following` that
//!   says so, or from its position where it asked with `&follow=` when it came back, to the
//!   `following` without it. Nothing of the topic comes before or after that.
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
//!   owed every message that the stream stored afterwards. A `gap` frame tells it too; it
//!   forgives only what retention can have taken. A client that read no such message
//!   is owed what it is owed always.
//! - The time beside a sequence is the time at which the stream stored that message.
//! - Nothing comes twice to a client that did not forget what it had.
//! - A client of the Centrifuge protocol has an offset for each channel, and each channel is
//!   judged by itself: see [`each`].
//!
//! What a message was when it was stored is known within the time between its sending and
//! its acknowledgement, so whoever is in doubt is believed: a message counts as stored as
//! soon as its sending began.

mod books;
mod each;
mod position;
mod reader;
mod verdict;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::{books::Books, each::Each, reader::Reader};
pub(crate) use self::{position::Position, verdict::Verdict};

/// The channels of a client, in the order of [`Channels::to`].
pub(crate) const CHANNELS: usize = 3;
/// The broadcast's number among them.
pub(crate) const BROADCAST: usize = 1;
/// The topic's number among them.
pub(crate) const TOPIC: usize = 2;

/// To whom a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum To {
    User(usize),
    Topic(usize),
    All,
}

/// The channels that a client follows; its topic perhaps not always.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channels {
    pub(crate) user: usize,
    pub(crate) topic: usize,
}

impl Channels {
    /// To whom the messages of each are.
    pub(crate) fn to(self) -> [To; CHANNELS] {
        [To::User(self.user), To::All, To::Topic(self.topic)]
    }

    /// The number of the channel of these messages; none where they are not for this client.
    pub(crate) fn number(self, to: To) -> Option<usize> {
        self.to().iter().position(|own| *own == to)
    }
}

/// A message, as its publisher calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    pub(crate) publisher: usize,
    pub(crate) to: To,
    pub(crate) number: usize,
}

/// For how long the stream keeps a message, and how much a client is brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    pub(crate) age: Duration,
    /// Messages of each user, of each topic, and broadcasts.
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
        /// Its topic is among those that it follows.
        follows: bool,
    },
    /// What it follows changed, or is said again.
    Following {
        stored: Stored,
        follows: bool,
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
        channel: usize,
    },
    Gap,
    /// A session over the Centrifuge protocol; it asked for it at that time. It follows
    /// nothing yet.
    Connected {
        asked: Duration,
    },
    /// It follows a channel from now on, after its own offset where it recovers. It asked for
    /// it at that time.
    Subscribed {
        channel: usize,
        since: Option<u64>,
        offset: u64,
        recovered: bool,
        asked: Duration,
    },
    Unsubscribed {
        channel: usize,
    },
    Publication {
        channel: usize,
        seq: u64,
        /// None in the place of one that is too large.
        id: Option<Id>,
    },
}

/// A sequence of the stream, and when the stream stored that message, in milliseconds since
/// 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) at: u64,
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

    /// The sequence of the last one of these; 0 for none.
    pub(crate) fn last_of(&self, to: To) -> u64 {
        self.now().last_of(to)
    }

    /// Judges all that a client of these channels read, in its order.
    pub(crate) fn judge(&self, channels: Channels, heard: &[Heard]) -> Verdict {
        let mut reader = Reader::new(self, channels);
        for heard in heard {
            reader.hears(*heard);
        }
        // What is still missing has not come at all.
        reader.ends(heard.last().map(|last| last.at))
    }

    /// The same over the Centrifuge protocol.
    pub(crate) fn judge_each(&self, channels: Channels, heard: &[Heard]) -> Verdict {
        let mut each = Each::new(self, channels);
        for heard in heard {
            each.hears(*heard);
        }
        each.ends(heard.last().map(|last| last.at))
    }
}

#[cfg(test)]
mod tests;
