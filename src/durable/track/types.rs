//! What goes into a track, and what comes out.

use super::pending::Pending;
use crate::{
    durable::{chain::Chain, held_back::Held},
    frame::Proof,
    position::Position,
    registry::Outgoing,
    telemetry::Span,
};

/// Why a session catches up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::durable) enum Why {
    /// Its client was here before.
    Resumed,
    /// The connection to NATS was lost.
    Lost,
    /// A message did not come that should have.
    Hole,
    /// Its client did not read, and its backlog was taken back.
    Slow,
}

impl Why {
    /// The metric's label.
    pub(in crate::durable) fn name(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Lost => "lost",
            Self::Hole => "hole",
            Self::Slow => "slow",
        }
    }
}

/// A session that is sent what it missed.
#[derive(Debug)]
pub(in crate::durable) struct CatchingUp {
    pub(in crate::durable) why: Why,
    /// The first read has been judged.
    pub(in crate::durable) judged: bool,
    /// The client was told that something up to this sequence may be lost; 0 if it was not.
    pub(in crate::durable) gap_up_to: u64,
    /// The client is told when it is up to date.
    pub(in crate::durable) announced: bool,
    /// How many of the oldest messages that it missed are still to be left out.
    pub(in crate::durable) skip: u64,
    /// How often the stream had fewer messages than are owed. A replica that lags has fewer too.
    pub(in crate::durable) short: u32,
    /// It waits for a round, or a round is at it.
    pub(in crate::durable) queued: bool,
    /// The last round could not read for it.
    pub(in crate::durable) held_back: Option<Held>,
    /// Records it; ends with it.
    pub(in crate::durable) span: Option<Span>,
    /// Live messages that come after what it has to be sent.
    pub(super) pending: Pending,
}

/// Where a session begins.
#[derive(Debug)]
pub(in crate::durable) struct Beginning {
    /// For each channel: the client needs nothing up to this sequence.
    pub(in crate::durable) at: Vec<u64>,
    pub(in crate::durable) proven: Proof,
    /// Everything after this sequence was stored at or after this time.
    pub(in crate::durable) known: Proof,
    /// Where its client was here before.
    pub(in crate::durable) resumed: Option<Resumed>,
}

/// How a session begins whose client was here before.
#[derive(Debug, Clone)]
pub(in crate::durable) struct Resumed {
    /// The client is told that something up to this sequence may be lost; 0 if it is not.
    pub(in crate::durable) gap_up_to: u64,
    /// How many of the oldest messages that it missed are left out.
    pub(in crate::durable) skip: u64,
    /// For each channel: how many messages it missed.
    pub(in crate::durable) missed: Vec<u64>,
}

/// What a session needs from the stream.
#[derive(Debug, Clone)]
pub(in crate::durable) struct Want {
    pub(in crate::durable) chains: Vec<Chain>,
    pub(in crate::durable) why: Why,
    pub(in crate::durable) judged: bool,
    pub(in crate::durable) gap_up_to: u64,
    /// Goes with what is read from here on: see [`Track::finish`].
    pub(in crate::durable) connection_changes: u32,
    /// Of which channels it is: see [`Track::channels_version`].
    pub(in crate::durable) channels_version: u32,
    /// Everything after this sequence was stored at or after this time.
    pub(in crate::durable) known: Proof,
}

impl Want {
    /// Takes over what the client's position knows: when the message TOP was stored.
    pub(in crate::durable) fn knowing(mut self, position: Option<&Position>) -> Self {
        if let Some(position) = position {
            let (seq, at) = (position.top, position.at);
            self.known = Proof { seq, at };
        }
        self
    }
}

/// What follows the last message that a session had missed.
#[derive(Debug)]
pub(in crate::durable) struct Finished {
    /// The client waits for a `live`, before the messages.
    pub(in crate::durable) announced: bool,
    /// The live messages that waited.
    pub(in crate::durable) frames: Vec<Outgoing>,
    /// How many of them are a `gap`.
    pub(in crate::durable) too_large: usize,
}

impl CatchingUp {
    pub(super) fn new(why: Why, pending: Pending) -> Self {
        Self {
            why,
            judged: false,
            gap_up_to: 0,
            announced: true,
            skip: 0,
            short: 0,
            queued: false,
            held_back: None,
            span: None,
            pending,
        }
    }
}
