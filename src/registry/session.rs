//! A session, as the registry sees it, and the session of live mode. Durable mode brings its
//! own (`durable/session.rs`).

use std::{fmt, sync::Arc};

use super::{arrival::Arrival, backlog::Backlog, limits::Limits, membership::Member};
use crate::{
    close::CloseReason,
    frame::{Framed, Frames, Proof, Protocol},
};

/// What became of a message at one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The session will write it.
    Queued,
    /// The session will write it. The backlog is half of what it may be, and only because the
    /// session has not had its turn: see [`Backlog::is_behind`].
    Behind,
    /// The session is over.
    Over,
    /// The session is over now: so many messages are lost, with this one.
    Overflowed(usize),
    /// The message is too large for a frame. The session is told so in its place, or has
    /// ended.
    TooLarge,
    /// The session has the message already, or gets it later.
    Later,
}

/// A session that follows channels. The registry calls it for what the bus says.
pub trait Session: fmt::Debug + Send + Sync {
    /// What waits for the client.
    fn backlog(&self) -> &Backlog;

    /// A message comes on one of its channels. All sessions that it is for share `frames`.
    fn offer(self: Arc<Self>, frames: &mut Frames<'_>, arrival: Arrival, limits: &Limits)
    -> Pushed;

    /// The connection to NATS is lost, or about to be used again.
    fn lost(&self) {}

    /// The connection to NATS is back. Whether the session sees to what it missed by itself;
    /// else it has to be told.
    fn catches_up(self: Arc<Self>) -> bool {
        false
    }

    /// Takes its backlog back, to be sent again later. False where it can't be.
    fn shed(self: Arc<Self>) -> bool {
        false
    }

    /// Bytes that [`Session::shed`] frees.
    fn sheddable(&self) -> usize {
        0
    }

    /// The client was written everything that was queued.
    fn idle(self: Arc<Self>) {}

    /// What a `ping` tells the client: up to where it has everything, and its position where
    /// it is told that beside each frame.
    fn proof(&self) -> Option<(Proof, Option<String>)> {
        None
    }

    /// The last proof that the client was told; none where it was told none, or has since
    /// fallen behind.
    fn last_proof(&self) -> Option<Proof> {
        None
    }

    /// Whether everything to its user up to a sequence is queued.
    fn has_up_to(&self, _seq: u64) -> bool {
        false
    }
}

/// A session of live mode: what its backlog can't hold ends it.
#[derive(Debug)]
pub struct Live(Backlog);

impl Live {
    /// A session on its way in.
    pub fn new(protocol: Protocol) -> Arc<Self> {
        Arc::new(Self(Backlog::new(protocol)))
    }
}

impl Session for Live {
    fn backlog(&self) -> &Backlog {
        &self.0
    }

    fn offer(
        self: Arc<Self>,
        frames: &mut Frames<'_>,
        arrival: Arrival,
        limits: &Limits,
    ) -> Pushed {
        let arrived = Some(arrival);
        match frames.get(self.0.protocol()) {
            Framed::Whole(bytes) => self.0.push(bytes, arrived, limits),
            Framed::TooLarge(Some(gap)) => match self.0.push(gap, arrived, limits) {
                Pushed::Queued | Pushed::Behind => Pushed::TooLarge,
                pushed => pushed,
            },
            Framed::TooLarge(None) => {
                self.0.end(CloseReason::TooLarge.into());
                Pushed::TooLarge
            }
        }
    }
}

impl Member for Arc<dyn Session> {
    fn confirmed(&self) {
        self.backlog().confirm();
    }

    fn is_welcomed(&self) -> bool {
        self.backlog().is_welcomed()
    }

    fn replaced(&self) {
        self.backlog().end(CloseReason::Replaced.into());
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}
