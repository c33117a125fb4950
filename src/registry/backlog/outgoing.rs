//! A frame on its way to one session.

use bytes::Bytes;

use crate::{
    position::Step,
    registry::{
        arrival::Arrival,
        limits::{Charge, Limits},
    },
};

/// One frame on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// The frame's bytes, shared with other sessions.
    pub bytes: Bytes,
    /// How the message came, where that is measured; `None` for a frame of our own.
    pub arrived: Option<Arrival>,
    /// Counts the frame's memory in [`Limits::total`] until it is dropped. Drop it together with
    /// `bytes`.
    pub charge: Charge,
    /// Where the frame comes from.
    pub source: Source,
    /// What it says of the client's position, where the client is told that beside it.
    pub step: Option<Box<Step>>,
}

impl Outgoing {
    /// A frame of the gateway's own.
    pub fn own(bytes: Bytes, limits: &Limits) -> Self {
        Self::new(bytes, None, Source::Own, limits)
    }

    /// A frame; its memory counts from here on.
    pub fn new(bytes: Bytes, arrived: Option<Arrival>, source: Source, limits: &Limits) -> Self {
        Self {
            charge: Charge::new(bytes.len(), limits),
            bytes,
            arrived,
            source,
            step: None,
        }
    }
}

/// Where a frame comes from, and what its session restores if the frame is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From the gateway, or from where nothing is kept: it can't be sent again.
    Own,
    /// A proof.
    Proof,
    /// A message that is kept, of one of the session's channels; with what the session had of
    /// that channel before it.
    Kept {
        /// Which channel, as the session numbers them.
        channel: usize,
        /// Everything up to here was covered.
        covered: u64,
        /// The last message that was sent.
        sent: u64,
    },
}
