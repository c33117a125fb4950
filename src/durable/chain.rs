//! What a session has of one channel.
//!
//! Each message names the message before it in its channel, so the next one shows whether one
//! is missing between.

use std::collections::VecDeque;

use crate::{channel::Channel, message::Stored, registry::Source};

/// Messages that were too large are remembered for as long as somebody may ask about them:
/// moments.
const MAX_TOO_LARGE: usize = 64;

/// A session's messages of one channel.
///
/// The channel is *covered* up to a sequence if the client needs nothing up to there. *Owed* are
/// messages that the last read has found and that are not sent yet. A *doubtful* channel is one
/// that the next round must check.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) channel: Channel,
    /// The client needs nothing up to this sequence: each message is sent, queued, left out, or
    /// older than the session's beginning.
    pub(super) covered: u64,
    /// The last message that is sent or queued; 0 for none.
    pub(super) sent: u64,
    /// While the session catches up: something between `covered` and the stream's end may be
    /// missing, so that the next round has to check this channel.
    pub(super) doubtful: bool,
    /// While the session catches up: how many messages for it the stream had at the last read
    /// that are not sent yet. If a later read finds fewer, some are lost.
    pub(super) owed: u64,
    /// The last message that was covered without being sent, and the message before it.
    skipped: (u64, u64),
    /// The last messages that were too large to be sent; nearly no session has any.
    too_large: Option<Box<TooLarge>>,
    /// Earlier messages were never the session's.
    began: u64,
}

/// The last messages that were too large, the newest first. In a box: a pointer is all that most
/// sessions pay.
#[derive(Debug, Clone, Default)]
struct TooLarge(VecDeque<u64>);

/// What a live message is to a session that is up to date, compared with what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// The next one. The client has to be told that this is the message before it.
    Next { prev: u64 },
    /// A duplicate: the session has it already.
    Duplicate,
    /// One before it is missing.
    Hole,
}

impl Chain {
    pub(super) fn new(channel: Channel) -> Self {
        Self {
            channel,
            covered: 0,
            sent: 0,
            doubtful: true,
            owed: 0,
            skipped: (0, 0),
            too_large: None,
            began: 0,
        }
    }

    /// The session begins at a sequence.
    pub(super) fn start(&mut self, at: u64) {
        self.covered = at;
        self.began = at;
    }

    /// Compares a live message with what the session has. Changes nothing.
    pub(super) fn compare(&self, stored: Stored) -> Compared {
        if stored.seq <= self.covered {
            Compared::Duplicate
        } else if stored.prev > self.covered {
            Compared::Hole
        } else {
            // A message that the session was not sent is no predecessor to its client.
            let (skipped, before) = self.skipped;
            let is_skipped = skipped > 0 && stored.prev == skipped;
            let prev = if is_skipped { before } else { stored.prev };
            Compared::Next { prev }
        }
    }

    /// Notes that the caller queues this message, the next of the channel. Returns what
    /// [`Chain::rewind`] needs, for the session's channel of this index.
    pub(super) fn note_sent(&mut self, index: usize, seq: u64) -> Source {
        let before = Source::Kept {
            channel: index,
            covered: self.covered,
            sent: self.sent,
        };
        self.sent = seq;
        self.cover(seq);
        before
    }

    /// Notes that the session is not sent this message, the one after `prev`.
    pub(super) fn note_skipped(&mut self, seq: u64, prev: u64) {
        let (skipped, before) = self.skipped;
        let follows = prev == skipped && prev > 0;
        self.skipped = (seq, if follows { before } else { prev });
        self.cover(seq);
    }

    /// A message that was queued is taken back.
    pub(super) fn rewind(&mut self, covered: u64, sent: u64) {
        self.covered = covered.min(self.covered);
        self.sent = sent.min(self.sent);
        self.doubtful = true;
    }

    /// The session has everything up to here.
    pub(super) fn cover(&mut self, seq: u64) {
        self.covered = seq.max(self.covered);
    }

    /// Notes that the session is up to date.
    pub(super) fn caught_up(&mut self) {
        self.doubtful = false;
        self.owed = 0;
    }

    /// A `gap` replaces this message.
    pub(super) fn was_too_large(&mut self, seq: u64) {
        let TooLarge(last) = &mut **self.too_large.get_or_insert_default();
        last.truncate(MAX_TOO_LARGE - 1);
        last.push_front(seq);
    }

    /// Whether the session was given the message `seq` and everything before it.
    pub(super) fn was_given(&self, seq: u64) -> bool {
        let too_large = self.too_large.as_ref();
        let was_too_large = too_large.is_some_and(|last| last.0.contains(&seq));
        seq > self.began && seq <= self.covered && !was_too_large
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_was_given_what_was_too_large() {
        let mut chain = Chain::new(Channel::User);
        chain.start(5);
        for seq in 6..=9 {
            chain.note_sent(0, seq);
        }
        chain.was_too_large(7);
        chain.was_too_large(8);
        let given: Vec<_> = (5..=10).filter(|seq| chain.was_given(*seq)).collect();
        assert_eq!(given, [6, 9]);
    }
}
