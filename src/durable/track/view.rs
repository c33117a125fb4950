//! A client's position, as it is after all that is queued for it.

use std::sync::Arc;

use crate::{channel::Channel, frame::Proof, position::Position};

/// The position without its marks, which the session's chains have.
#[derive(Debug)]
pub(in crate::durable) struct View {
    epoch: Arc<str>,
    proven: u64,
    top: u64,
    at: u64,
}

impl View {
    pub(super) fn new(position: &Position) -> Self {
        Self {
            epoch: position.epoch.clone(),
            proven: position.proven,
            top: position.top,
            at: position.at,
        }
    }

    /// The client sees this sequence, with its time.
    pub(super) fn saw(&mut self, seq: u64, at: u64) {
        if seq > self.top {
            (self.top, self.at) = (seq, at);
        }
    }

    /// The client sees a proof. Returns the proof before it.
    pub(super) fn prove(&mut self, proof: Proof) -> u64 {
        self.saw(proof.seq, proof.at);
        let proven = proof.seq.max(self.proven);
        std::mem::replace(&mut self.proven, proven)
    }

    /// A proof that was queued is taken back.
    pub(super) fn unprove(&mut self, before: u64) {
        self.proven = before.min(self.proven);
    }

    /// The position, with these marks.
    pub(super) fn id(&self, marks: impl Iterator<Item = (Channel, u64)>) -> String {
        let position = Position {
            epoch: self.epoch.clone(),
            proven: self.proven,
            top: self.top,
            at: self.at,
            marks: marks.collect(),
        };
        position.to_string()
    }
}
