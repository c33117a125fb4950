//! When messages of the stream were stored, as far as this gateway has learned it lately.
//!
//! A client's position names the newest message that it saw (TOP), and when that was stored
//! (AT). That is often the stream's end at a leader query, which many clients were told. So the
//! leader is asked once for all of them, or not at all.

use std::{collections::HashMap, sync::Arc};

use super::{
    LeaderState, Stream, StreamError,
    leader::{self, History},
    lock,
};

/// Messages that are remembered at least; twice as many at most.
const MESSAGES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Times {
    /// Of this stream.
    of: Option<History>,
    newer: HashMap<u64, u64>,
    older: HashMap<u64, u64>,
}

impl Times {
    /// The message at a sequence was stored at this time.
    pub(super) fn learn(&mut self, history: History, seq: u64, at: u64) {
        if self.of.as_ref() != Some(&history) {
            *self = Self {
                of: Some(history),
                ..Self::default()
            };
        }
        if self.newer.len() >= MESSAGES {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(seq, at);
    }

    /// When the message at a sequence was stored.
    pub(super) fn of(&self, history: &History, seq: u64) -> Option<u64> {
        let same = self.of.as_ref() == Some(history);
        let at = self.newer.get(&seq).or_else(|| self.older.get(&seq));
        at.copied().filter(|_| same)
    }
}

impl Stream {
    /// When the message at a sequence was stored, if this gateway knows that. These are the
    /// subjects that the message may have.
    pub fn known_at(&self, subjects: &[Arc<str>], seq: u64, leader: &LeaderState) -> Option<u64> {
        let known = lock(&self.0.times).of(&leader.history(), seq);
        known.or_else(|| self.0.scans.stored_at(subjects, seq, leader))
    }

    /// When the stream stored the message at a sequence, by its leader; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// [`StreamError`], after four seconds at the latest: two until the question is handed over,
    /// two for the answer.
    pub async fn stored_at(
        &self,
        seq: u64,
        leader: &LeaderState,
    ) -> Result<Option<u64>, StreamError> {
        let at = leader::stored_at(self, seq).await?;
        if let Some(at) = at {
            lock(&self.0.times).learn(leader.history(), seq, at);
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_remembered_and_no_more_than_twice_the_bound() {
        let history = LeaderState::example(1, (7, 0), 1).history();
        let mut times = Times::default();
        for seq in 0..3 * MESSAGES as u64 {
            times.learn(history.clone(), seq, seq + 1);
        }
        assert_eq!(times.newer.len() + times.older.len(), 2 * MESSAGES);
        assert_eq!(times.of(&history, 0), None);
        let last = 3 * MESSAGES as u64 - 1;
        assert_eq!(times.of(&history, last), Some(last + 1));
        assert_eq!(times.of(&history, MESSAGES as u64), Some(4097));
    }

    #[test]
    fn of_another_stream_they_say_nothing() {
        let mut leader = LeaderState::example(1, (7, 0), 1);
        let mut times = Times::default();
        times.learn(leader.history(), 7, 70);
        assert_eq!(times.of(&leader.history(), 7), Some(70));
        leader.unsure = 1;
        assert_eq!(times.of(&leader.history(), 7), None);
        times.learn(leader.history(), 8, 80);
        assert_eq!(times.of(&leader.history(), 7), None);
    }
}
