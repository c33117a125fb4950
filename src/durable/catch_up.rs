//! What a round and an audit do to a session: a round queues what the session missed, an audit
//! compares the session with the stream.

use bytes::Bytes;

use super::{Session, track::Why};
use crate::{
    bus::stream::LeaderState,
    frame::{self, Framed, Proof},
    message::{EventName, Stored},
    position::Step,
    registry::{Arrival, Outgoing, Source},
    telemetry::Span,
    trace::Trace,
};

/// What a round brings to a session.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// A `gap` before all else.
    pub(super) gap: Option<Bytes>,
    /// Messages in the stream's order.
    pub(super) messages: Vec<Missed>,
    /// For each channel: how many messages the stream has that are not among these.
    pub(super) remaining: Vec<u64>,
    /// These were all.
    pub(super) done: Option<Done>,
    /// [`Want::channels_version`] of the read.
    pub(super) channels_version: u32,
}

/// A message that a session missed.
#[derive(Debug)]
pub(super) struct Missed {
    /// The session's channel of this index.
    pub(super) channel: usize,
    pub(super) stored: Stored,
    /// Its frame; `None` if the client gets nothing in its place.
    pub(super) frame: Option<Framed>,
    /// Its trace, where that is recorded.
    pub(super) trace: Option<Trace>,
    pub(super) event: EventName,
}

/// Everything that the stream had for a session was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    /// Up to here.
    pub(super) up_to: u64,
    /// Up to where the leader confirms it, which the client is told.
    pub(super) proof: Proof,
    /// By [`LeaderState::known`].
    pub(super) known: Proof,
    /// [`Want::connection_changes`] of the read.
    pub(super) connection_changes: u32,
}

/// What a comparison with the stream says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audit {
    /// It has everything, or catches up.
    Good,
    /// Something is missing.
    Missing,
    /// It has more than the stream has.
    Beyond,
}

impl Session {
    /// Queues what it missed, whatever the bounds of a backlog are: a round keeps to them. Returns whether
    /// another round has to follow immediately.
    pub(super) fn catch_up(&self, catch_up: CatchUp) -> bool {
        let limits = &*self.durable.limits;
        let mut track = self.track();
        if self.is_over(&track) {
            return false;
        }
        let frame = |bytes: Bytes, source| Outgoing::new(bytes, None, source, limits);
        let gap = catch_up.gap.map(|gap| frame(gap, Source::Own));
        let mut frames: Vec<_> = gap.into_iter().collect();
        if track.channels_version() != catch_up.channels_version {
            // It follows other channels by now: that is read.
            self.backlog().extend(frames);
            return track.reads_again(self.backlog().is_idle());
        }
        let mut replayed = 0;
        for Missed {
            channel,
            stored,
            frame: framed,
            trace,
            event,
        } in catch_up.messages
        {
            let whole = matches!(framed, Some(Framed::Whole(_)));
            match framed {
                Some(Framed::Whole(bytes) | Framed::TooLarge(Some(bytes))) => {
                    let source = track.note_sent(channel, stored.seq);
                    if !whole {
                        track.was_too_large(channel, stored.seq);
                    }
                    let (tracer, event) = (&self.durable.tracer, event.as_str());
                    let arrived = Arrival::replayed(tracer, trace, event, stored.seq);
                    frames.push(Outgoing {
                        arrived,
                        step: self.step(&track, channel, stored),
                        ..frame(bytes, source)
                    });
                    replayed += 1;
                }
                Some(Framed::TooLarge(None)) | None => {
                    track.note_skipped(channel, stored.seq, stored.prev);
                }
            }
        }
        track.owe(&catch_up.remaining);
        let catching_up = track.catching_up();
        if let Some(span) = catching_up.and_then(|catching_up| catching_up.span.as_mut()) {
            span.add("usher.messages", replayed);
        }
        if let Some(Done {
            up_to,
            proof,
            known,
            connection_changes,
        }) = catch_up.done
            && let Some(finished) = track.finish(up_to, proof, connection_changes)
        {
            track.know(known);
            let protocol = self.backlog().protocol();
            if finished.announced && protocol.has_own_frames() {
                let live = protocol.frame(&frame::live(proof));
                let Proof { seq, at } = proof;
                frames.push(Outgoing {
                    step: self.tells(|| Step::Proof { seq, at }),
                    ..frame(live, Source::Proof)
                });
            }
            self.durable
                .metrics
                .dropped("too_large", finished.too_large);
            frames.extend(finished.frames);
        }
        self.backlog().extend(frames);
        limits.check();
        let idle = self.backlog().is_idle();
        // Else the client's task asks for more when it has written the last of it.
        track.reads_again(idle)
    }

    /// Records its catching up in this span; where that is over already, the span ends.
    pub(super) fn record(&self, why: Why, span: Option<Span>) {
        if let Some(mut span) = span {
            span.succeed();
            span.set("usher.reason", why.name());
            span.add("usher.messages", 0);
            self.amend(|catching_up| catching_up.span = Some(span));
        }
    }

    /// Compares it with the last message of each channel in the stream. `before` is what it
    /// had covered before the leader was asked.
    pub(super) fn audit(
        &self,
        (before, channels_version): (&[u64], u32),
        leader: &LeaderState,
        lasts: &[u64],
        up_to: u64,
    ) -> Audit {
        let mut track = self.track();
        if !track.is_live() || self.is_over(&track) || track.channels_version() != channels_version
        {
            return Audit::Good;
        }
        if before.iter().any(|covered| *covered > leader.last) {
            return Audit::Beyond;
        }
        let covered = track.covered();
        if covered
            .iter()
            .zip(lasts)
            .any(|(covered, last)| last > covered)
        {
            return Audit::Missing;
        }
        // What it missed may be removed by now: the next round tells.
        let known = track.known();
        let has_all = |covered: &u64| leader.has_all_after(*covered, known);
        if !covered.iter().all(has_all) {
            return Audit::Missing;
        }
        track.prove(up_to, leader.proof());
        track.know(leader.known());
        Audit::Good
    }
}
