//! Live messages that wait until a session was sent what comes before them.

use std::collections::VecDeque;

use crate::{
    message::Stored,
    registry::{Limits, Outgoing},
};

/// They wait in the order in which they came; each is in the stream too.
#[derive(Debug, Default)]
pub(super) struct Pending {
    frames: VecDeque<(usize, Stored, Outgoing)>,
    bytes: usize,
    /// The client does not read: messages are left to the stream.
    paused: bool,
    /// A message was left to the stream.
    dropped: bool,
}

impl Pending {
    /// Keeps a message. False where there is no room, or none is kept now.
    pub(super) fn hold(
        &mut self,
        channel: usize,
        stored: Stored,
        outgoing: Outgoing,
        limits: &Limits,
    ) -> bool {
        let bytes = self.bytes + outgoing.bytes.len();
        let fits = self.frames.len() < limits.messages && bytes <= limits.bytes;
        let holds = !self.paused && (fits || self.frames.is_empty());
        if holds {
            self.bytes = bytes;
            self.frames.push_back((channel, stored, outgoing));
        }
        holds
    }

    /// The session has one channel less: what waits of it is dropped, and the channels behind it
    /// move up.
    pub(super) fn drop_channel(&mut self, gone: usize) {
        self.frames.retain(|(channel, ..)| *channel != gone);
        for (channel, ..) in &mut self.frames {
            *channel -= usize::from(*channel > gone);
        }
        self.bytes = self.frames.iter().map(|(.., one)| one.bytes.len()).sum();
    }

    /// The oldest message.
    pub(super) fn pop(&mut self) -> Option<(usize, Stored, Outgoing)> {
        let (channel, stored, outgoing) = self.frames.pop_front()?;
        self.bytes -= outgoing.bytes.len();
        Some((channel, stored, outgoing))
    }

    /// Leaves all messages to the stream; `of` gets the channel of each.
    pub(super) fn drop_all(&mut self, mut of: impl FnMut(usize)) {
        self.frames.drain(..).for_each(|(channel, ..)| of(channel));
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
        self.frames
            .drain(..)
            .map(|(channel, ..)| channel)
            .for_each(of);
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
