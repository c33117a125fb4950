//! What a client says that it has: section 5 of the contract, as the auditor reads it.

use super::{CHANNELS, Stored, TOPIC};

/// A client's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) proven: u64,
    pub(crate) top: Stored,
    /// Of each channel; 0 for none above `proven`.
    pub(crate) marks: [u64; CHANNELS],
}

impl Position {
    pub(super) fn new(proven: u64) -> Self {
        Self {
            proven,
            top: Stored { seq: 0, at: 0 },
            marks: [0; CHANNELS],
        }
    }

    /// It has all of this channel up to there.
    pub(super) fn has(&self, channel: usize) -> u64 {
        self.marks[channel].max(self.proven)
    }

    /// The same of each channel.
    pub(super) fn of_each(self) -> [u64; CHANNELS] {
        std::array::from_fn(|channel| self.has(channel))
    }

    /// Rule 2.
    pub(super) fn is_marked(&mut self, channel: usize, stored: Stored) {
        self.saw(stored);
        if stored.seq > self.has(channel) {
            self.marks[channel] = stored.seq;
        }
    }

    /// Rule 3: it follows its topic from now on, or no more.
    pub(super) fn follows(&mut self, follows: bool, stored: Stored) {
        match follows {
            true => self.is_marked(TOPIC, stored),
            false => self.marks[TOPIC] = 0,
        }
        self.saw(stored);
    }

    /// Rule 5.
    pub(super) fn saw(&mut self, stored: Stored) {
        if stored.seq > self.top.seq {
            self.top = stored;
        }
    }

    /// Rule 4.
    pub(super) fn is_proven(&mut self, stored: Stored) {
        self.saw(stored);
        self.proven = self.proven.max(stored.seq);
        for mark in &mut self.marks {
            if *mark <= self.proven {
                *mark = 0;
            }
        }
    }
}
