//! A client follows its topic, or no more.

use std::time::Duration;

use super::Reader;
use crate::auditor::{CHANNELS, Stored, TOPIC, To};

impl Reader<'_> {
    /// The channels that it follows now.
    pub(super) fn followed(&self) -> std::ops::Range<usize> {
        // The topic is the last.
        0..if self.follows { CHANNELS } else { TOPIC }
    }

    /// These sequences, each with its channel, of those that it follows now.
    pub(super) fn of_each(&self, seqs: [u64; CHANNELS]) -> Vec<(To, u64)> {
        let to = self.channels.to();
        self.followed()
            .map(|channel| (to[channel], seqs[channel]))
            .collect()
    }

    /// It comes with its topic, or without it. Without it, it has dropped the mark before.
    /// Returns whether it did not follow the topic until now.
    pub(super) fn is_to_follow(&mut self, follows: bool) -> bool {
        if !follows {
            self.position.marks[TOPIC] = 0;
        }
        let before = std::mem::replace(&mut self.follows, follows);
        follows && !before
    }

    /// Rule 3. What was published to a new topic before that is not owed.
    pub(super) fn is_following(&mut self, stored: Stored, follows: bool, at: Duration) {
        let before = std::mem::replace(&mut self.follows, follows);
        let Stored { seq, .. } = stored;
        let proven = self.position.proven;
        if follows && !before {
            if seq < proven {
                self.complain(format!("follows from {seq}, and {proven} is proven"));
            }
            self.covered[TOPIC] = seq;
            self.verdict.followed += 1;
            self.has_not_skipped(seq, at);
        }
        if follows != before {
            self.position.follows(follows, stored);
        }
        self.sees(stored, at);
    }

    /// What a publisher sent after the client knew that it follows is owed.
    fn has_not_skipped(&mut self, seq: u64, at: Duration) {
        let to = self.channels.to()[TOPIC];
        let skipped = self.books().of(to, 0..=seq);
        let skipped: Vec<_> = skipped.filter(|(_, begun)| *begun > at).collect();
        for (missing, begun) in skipped {
            self.verdict.lost += 1;
            self.verdict.missing.push(missing);
            self.complain(format!(
                "follows from {seq}, and {missing} of {begun:?} was sent after that"
            ));
        }
    }
}
