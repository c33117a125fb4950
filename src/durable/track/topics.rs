//! Channels that come and go while the session is open: topics.

use super::Track;
use crate::{
    channel::{Channel, Topic},
    durable::chain::Chain,
    frame::Proof,
};

/// Topics that the session is about to follow, each with the last message that has come of it.
#[derive(Debug, Default)]
pub(super) struct Expected(Vec<(Topic, u64)>);

impl Track {
    /// Messages of this topic may come from now on.
    pub(in crate::durable) fn expect(&mut self, topic: &Topic) {
        self.cease_to_expect(topic);
        self.expected.0.push((topic.clone(), 0));
    }

    /// It is not followed after all.
    pub(in crate::durable) fn cease_to_expect(&mut self, topic: &Topic) {
        self.expected.take(topic);
    }

    /// A message has come of a channel that the session does not follow.
    pub(in crate::durable) fn came(&mut self, channel: &Channel, seq: u64) {
        if let Channel::Topic(topic) = channel {
            let mut expected = self.expected.0.iter_mut();
            if let Some((_, last)) = expected.find(|(expected, _)| expected == topic) {
                *last = seq.max(*last);
            }
        }
    }

    /// The session follows a topic from now on: it needs nothing up to the proof. Returns whether
    /// the session has to wait for a round, because a message after it has come already.
    pub(in crate::durable) fn follow(&mut self, topic: &Topic, proof: Proof) -> bool {
        let last = self.expected.take(topic).unwrap_or(0);
        let mut chain = Chain::new(Channel::Topic(topic.clone()));
        chain.start(proof.seq);
        chain.caught_up();
        self.chains.push(chain);
        self.channels_version = self.channels_version.wrapping_add(1);
        last > proof.seq && self.miss(self.chains.len() - 1)
    }

    /// The session follows a topic again. Its client has everything up to `offset` and missed
    /// `missed` messages after it. Returns whether the session has to wait for a round.
    pub(in crate::durable) fn follow_again(
        &mut self,
        topic: &Topic,
        offset: u64,
        missed: u64,
    ) -> bool {
        let last = self.expected.take(topic).unwrap_or(0);
        let mut chain = Chain::new(Channel::Topic(topic.clone()));
        chain.start(offset);
        chain.caught_up();
        chain.owed = missed;
        self.chains.push(chain);
        self.channels_version = self.channels_version.wrapping_add(1);
        (missed > 0 || last > offset) && self.miss(self.chains.len() - 1)
    }

    /// The session follows a topic no more. Its former index, if it did.
    pub(in crate::durable) fn unfollow(&mut self, topic: &Topic) -> Option<usize> {
        let gone = self.index(&Channel::Topic(topic.clone()))?;
        self.chains.remove(gone);
        self.channels_version = self.channels_version.wrapping_add(1);
        if let Some(pending) = self.state.pending() {
            pending.drop_channel(gone);
        }
        Some(gone)
    }

    /// What the client may be told about new topics: no proof that it has is above it.
    pub(in crate::durable) fn not_below_proofs(&self, proof: Proof) -> Proof {
        match self.proven.seq > proof.seq {
            true => self.proven,
            false => proof,
        }
    }

    /// Grows with every change of the channels: what was read or compared before it is of
    /// others.
    pub(in crate::durable) fn channels_version(&self) -> u32 {
        self.channels_version
    }

    /// Whether another round has to follow immediately. If its backlog is not written (`idle` is
    /// false), the session waits for a round when it is.
    pub(in crate::durable) fn reads_again(&mut self, idle: bool) -> bool {
        self.catching_up().is_some_and(|catching_up| {
            catching_up.queued = idle;
            idle
        })
    }
}

impl Expected {
    fn take(&mut self, topic: &Topic) -> Option<u64> {
        let mut all = self.0.iter();
        let index = all.position(|(expected, _)| expected == topic)?;
        let (_, last) = self.0.swap_remove(index);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
        Some(last)
    }
}
