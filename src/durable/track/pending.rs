//! Live messages that wait until a session was sent what comes before them.

use std::collections::VecDeque;

use crate::{
    message::Stored,
    registry::{Limits, Outgoing},
};

/// A live message that waits.
#[derive(Debug)]
pub(in crate::durable) struct Waits {
    /// The session's channel of this index.
    pub(in crate::durable) channel: usize,
    pub(in crate::durable) stored: Stored,
    /// Its frame, or that of a `gap` in its place.
    pub(in crate::durable) outgoing: Outgoing,
    /// It is no `gap`.
    pub(in crate::durable) whole: bool,
}

#[cfg(test)]
impl Waits {
    /// A message, for tests.
    pub(in crate::durable) fn whole(channel: usize, stored: Stored, outgoing: Outgoing) -> Self {
        Self {
            channel,
            stored,
            outgoing,
            whole: true,
        }
    }
}

/// They wait in the order in which they came; each is in the stream too.
#[derive(Debug, Default)]
pub(super) struct Pending {
    frames: VecDeque<Waits>,
    bytes: usize,
    /// The client does not read: messages are left to the stream.
    paused: bool,
    /// A message was left to the stream.
    dropped: bool,
}

impl Pending {
    /// Keeps a message. False where there is no room, or none is kept now.
    pub(super) fn hold(&mut self, waits: Waits, limits: &Limits) -> bool {
        let bytes = self.bytes + waits.outgoing.bytes.len();
        let fits = self.frames.len() < limits.messages && bytes <= limits.bytes;
        let holds = !self.paused && (fits || self.frames.is_empty());
        if holds {
            self.bytes = bytes;
            self.frames.push_back(waits);
        }
        holds
    }

    /// The session has one channel less: what waits of it is dropped, and the channels behind it
    /// move up.
    pub(super) fn drop_channel(&mut self, gone: usize) {
        self.frames.retain(|one| one.channel != gone);
        for one in &mut self.frames {
            one.channel -= usize::from(one.channel > gone);
        }
        let bytes = self.frames.iter().map(|one| one.outgoing.bytes.len());
        self.bytes = bytes.sum();
    }

    /// The oldest message.
    pub(super) fn pop(&mut self) -> Option<Waits> {
        let waits = self.frames.pop_front()?;
        self.bytes -= waits.outgoing.bytes.len();
        Some(waits)
    }

    /// Leaves all messages to the stream; `of` gets the channel of each.
    pub(super) fn drop_all(&mut self, mut of: impl FnMut(usize)) {
        self.frames.drain(..).for_each(|one| of(one.channel));
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.dropped = true;
    }

    /// Leaves all messages to the stream, and those to come too, until [`Pending::resume`].
    pub(super) fn pause(&mut self, of: impl FnMut(usize)) {
        self.drop_all(of);
        self.paused = true;
    }

    /// The client reads again.
    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    /// A read has brought all that was left to the stream before it; what is left is read too.
    pub(super) fn restart(&mut self, of: impl FnMut(usize)) {
        self.frames.drain(..).map(|one| one.channel).for_each(of);
        *self = Self::default();
    }

    /// Whether a message was left to the stream.
    pub(super) fn has_dropped(&self) -> bool {
        self.dropped
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
