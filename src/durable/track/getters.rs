//! What others see of a track.

use super::{State, Track};
use crate::{
    channel::{Channel, Topic},
    durable::chain::Chain,
    frame::Proof,
};

impl Track {
    /// Nothing more of the stream is for this session.
    pub(in crate::durable) fn disown(&mut self) {
        self.disowned = true;
    }

    pub(in crate::durable) fn is_disowned(&self) -> bool {
        self.disowned
    }

    /// It is not told yet where it begins.
    pub(in crate::durable) fn is_joining(&self) -> bool {
        matches!(self.state, State::Joining(_))
    }

    pub(in crate::durable) fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    pub(in crate::durable) fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// The topics that it follows, in the order in which they were followed.
    pub(in crate::durable) fn topics(&self) -> Vec<Topic> {
        let topic = |chain: &Chain| match &chain.channel {
            Channel::Topic(topic) => Some(topic.clone()),
            Channel::User | Channel::Broadcast => None,
        };
        self.chains.iter().filter_map(topic).collect()
    }

    /// Of each channel: everything up to here is covered.
    pub(in crate::durable) fn covered(&self) -> Vec<u64> {
        self.chains.iter().map(|chain| chain.covered).collect()
    }

    /// The index of a channel; `None` if the session does not follow it.
    pub(in crate::durable) fn index(&self, channel: &Channel) -> Option<usize> {
        self.chains
            .iter()
            .position(|chain| chain.channel == *channel)
    }

    /// Bytes of live messages that wait.
    pub(in crate::durable) fn pending_bytes(&self) -> usize {
        match &self.state {
            State::Joining(pending) => pending.bytes(),
            State::CatchingUp(catching_up) => catching_up.pending.bytes(),
            State::Live => 0,
        }
    }

    /// What a `ping` may prove; `None` if the session is not up to date.
    pub(in crate::durable) fn proven(&self) -> Option<Proof> {
        match self.state {
            State::Live if !self.disowned => Some(self.proven),
            _ => None,
        }
    }

    /// The last proof that the client is told; `None` while it is sent what it missed.
    pub(in crate::durable) fn shown(&self) -> Option<Proof> {
        match self.state {
            State::Live if !self.disowned => self.shown,
            _ => None,
        }
    }
}
