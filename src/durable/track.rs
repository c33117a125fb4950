//! How a session stands to the stream: a state machine without clock, lock or I/O.
//!
//! A session is [`State::Joining`] until it is told where it begins. Then it is
//! [`State::CatchingUp`] until it was sent all that the stream has for it, and then
//! [`State::Live`]. It falls back to catching up whenever it may have missed something:
//! [`Why`]. All transitions are in this file. [`Chain`] explains *covered*, *owed*, *doubtful*.

mod getters;
mod pending;
mod topics;
mod types;

use self::{pending::Pending, topics::Expected};
pub(super) use self::{
    pending::Waits,
    types::{Beginning, CatchingUp, Finished, Resumed, Want, Why},
};
use super::chain::{Chain, Compared};
use crate::{
    channel::Channel,
    frame::Proof,
    message::Stored,
    registry::{Limits, Source},
};

/// How a session stands to the stream.
#[derive(Debug)]
pub(super) struct Track {
    chains: Vec<Chain>,
    /// The version of the list of channels: it grows with every change.
    channels_version: u32,
    expected: Expected,
    /// Everything of all channels up to here was compared with the stream.
    proven: Proof,
    /// Everything after this sequence was stored at or after this time.
    known: Proof,
    /// The last proof that the client is told.
    shown: Option<Proof>,
    /// How often the connection to NATS was lost or came back: what was read before that does
    /// not show what was missed by it.
    connection_changes: u32,
    /// The stream was made anew or set back: nothing more of it is for this session.
    disowned: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not yet told where it begins; live messages wait.
    Joining(Pending),
    /// Has to be sent what the stream has; newer live messages wait.
    CatchingUp(Box<CatchingUp>),
    /// Up to date: live messages are sent as they come.
    Live,
}

impl State {
    /// The live messages that wait.
    fn pending(&mut self) -> Option<&mut Pending> {
        match self {
            Self::Joining(pending) => Some(pending),
            Self::CatchingUp(catching_up) => Some(&mut catching_up.pending),
            Self::Live => None,
        }
    }
}

impl Track {
    /// Of a session on its way in, which follows these channels.
    pub(super) fn joining(channels: impl IntoIterator<Item = Channel>) -> Self {
        Self {
            chains: channels.into_iter().map(Chain::new).collect(),
            channels_version: 0,
            expected: Expected::default(),
            proven: Proof::default(),
            known: Proof::default(),
            shown: None,
            connection_changes: 0,
            disowned: false,
            state: State::Joining(Pending::default()),
        }
    }

    /// The session begins at these sequences: from here on it catches up. If there is nothing to
    /// read, the caller calls [`Track::finish`] immediately.
    pub(super) fn start(&mut self, beginning: Beginning) {
        let State::Joining(pending) = &mut self.state else {
            return;
        };
        let pending = std::mem::take(pending);
        let Beginning {
            at,
            proven,
            known,
            resumed,
        } = beginning;
        for (chain, at) in self.chains.iter_mut().zip(at) {
            chain.start(at);
        }
        self.proven = proven;
        self.known = known;
        let mut catching_up = Box::new(CatchingUp {
            judged: resumed.is_some(),
            // A client that begins here has nothing to wait for.
            announced: resumed.is_some(),
            // Who tells it where it begins also brings what it missed.
            queued: true,
            ..CatchingUp::new(Why::Resumed, pending)
        });
        if let Some(resumed) = resumed {
            let Resumed {
                gap_up_to,
                skip,
                missed,
            } = resumed;
            (catching_up.gap_up_to, catching_up.skip) = (gap_up_to, skip);
            for (chain, missed) in self.chains.iter_mut().zip(missed) {
                chain.owed = missed;
            }
        }
        self.state = State::CatchingUp(catching_up);
    }

    /// Compares a live message of a channel with what the session has. `None` while the session is
    /// not up to date: the message has to wait ([`Track::hold`]).
    pub(super) fn compare(&self, channel: usize, stored: Stored) -> Option<Compared> {
        match self.state {
            State::Live => Some(self.chains[channel].compare(stored)),
            // Also what seems known: where it begins may not be known yet.
            State::Joining(_) | State::CatchingUp(_) => None,
        }
    }

    /// Notes that the caller queues this message, the next of its channel. Returns what
    /// [`Track::rewind`] needs if the frame is taken back.
    pub(super) fn note_sent(&mut self, channel: usize, seq: u64) -> Source {
        self.chains[channel].note_sent(channel, seq)
    }

    /// Notes that the session is not sent this message, the one after `prev`.
    pub(super) fn note_skipped(&mut self, channel: usize, seq: u64, prev: u64) {
        self.chains[channel].note_skipped(seq, prev);
    }

    /// A `gap` replaces this message.
    pub(super) fn was_too_large(&mut self, channel: usize, seq: u64) {
        self.chains[channel].was_too_large(seq);
    }

    /// Keeps a live message until all before it are sent, within the bounds of a backlog;
    /// beyond them all such messages are left to the stream.
    pub(super) fn hold(&mut self, waits: Waits, limits: &Limits) {
        let Some(pending) = self.state.pending() else {
            return;
        };
        let channel = waits.channel;
        if !pending.hold(waits, limits) {
            let chains = &mut self.chains;
            pending.drop_all(|channel| chains[channel].doubtful = true);
            chains[channel].doubtful = true;
        }
    }

    /// A frame that was queued is taken back; [`Track::fall_behind`] with [`Why::Slow`] came
    /// before.
    pub(super) fn rewind(&mut self, source: Source) {
        match source {
            Source::Own => {}
            Source::Proof => {
                self.shown = None;
                if let State::CatchingUp(catching_up) = &mut self.state {
                    catching_up.announced = true;
                }
            }
            Source::Kept {
                channel,
                covered,
                sent,
            } => self.chains[channel].rewind(covered, sent),
        }
    }

    /// The connection to NATS is lost, or has come back: whatever comes after that waits until
    /// the session was sent what it missed.
    pub(super) fn lose(&mut self) {
        self.connection_changes = self.connection_changes.wrapping_add(1);
        self.chains
            .iter_mut()
            .for_each(|chain| chain.doubtful = true);
        self.fall_behind(Why::Lost);
    }

    /// One message of a channel is missing. Returns whether the session has to wait for a round.
    pub(super) fn miss(&mut self, channel: usize) -> bool {
        self.fall_behind(Why::Hole);
        self.chains[channel].doubtful = true;
        self.queue()
    }

    /// A comparison with the stream shows that something is missing: the session falls back to
    /// catching up. Returns whether it has to wait for a round.
    pub(super) fn fall_behind_after_audit(&mut self) -> bool {
        let live = matches!(self.state, State::Live);
        // A round that is under way may have read before it.
        self.lose();
        match self.catching_up() {
            Some(catching_up) if live => {
                catching_up.why = Why::Hole;
                self.queue()
            }
            _ => false,
        }
    }

    /// The client does not read, or all sessions together use too much memory: its backlog is
    /// taken back, and live messages are left to the stream until the next [`Track::want`].
    pub(super) fn take_back(&mut self) {
        self.fall_behind(Why::Slow);
        if let State::CatchingUp(catching_up) = &mut self.state {
            catching_up.why = Why::Slow;
        }
        let chains = &mut self.chains;
        if let Some(pending) = self.state.pending() {
            pending.pause(|channel| chains[channel].doubtful = true);
        }
    }

    /// The session has left: no live message waits any more.
    pub(super) fn leave(&mut self) {
        if let Some(pending) = self.state.pending() {
            *pending = Pending::default();
        }
    }

    fn fall_behind(&mut self, why: Why) {
        if let State::Live = self.state {
            self.state = State::CatchingUp(Box::new(CatchingUp::new(why, Pending::default())));
        }
    }

    /// Marks the session as waiting for a round. False where it waits already, or is not
    /// catching up.
    pub(super) fn queue(&mut self) -> bool {
        let catching_up = self.catching_up();
        catching_up.is_some_and(|catching_up| !std::mem::replace(&mut catching_up.queued, true))
    }

    /// The session is catching up.
    pub(super) fn catching_up(&mut self) -> Option<&mut CatchingUp> {
        match &mut self.state {
            State::CatchingUp(catching_up) => Some(catching_up),
            State::Joining(_) | State::Live => None,
        }
    }

    /// What the session needs from the stream, now that its client has been written everything.
    /// `None` if it needs nothing.
    pub(super) fn want(&mut self) -> Option<Want> {
        let State::CatchingUp(catching_up) = &mut self.state else {
            return None;
        };
        catching_up.pending.resume();
        Some(Want {
            chains: self.chains.clone(),
            why: catching_up.why,
            judged: catching_up.judged,
            gap_up_to: catching_up.gap_up_to,
            connection_changes: self.connection_changes,
            channels_version: self.channels_version,
            known: self.known,
        })
    }

    /// What a session on its way in needs from the stream, if its client has these sequences of
    /// its channels.
    pub(super) fn want_from(&self, at: &[u64]) -> Want {
        let mut chains = self.chains.clone();
        for (chain, at) in chains.iter_mut().zip(at) {
            chain.covered = *at;
        }
        Want {
            chains,
            why: Why::Resumed,
            judged: false,
            gap_up_to: 0,
            connection_changes: self.connection_changes,
            channels_version: self.channels_version,
            known: Proof::default(),
        }
    }

    /// For each channel: how many messages the stream has that are not sent yet.
    pub(super) fn owe(&mut self, remaining: &[u64]) {
        for (chain, remaining) in self.chains.iter_mut().zip(remaining) {
            chain.owed = *remaining;
        }
    }

    /// The session is queued everything that the stream had up to `up_to`, of which the leader
    /// confirms everything up to the proof. If `changes` is still [`Track::connection_changes`],
    /// the live messages that waited follow: they are returned in order. The session goes on
    /// catching up if they are not all.
    pub(super) fn finish(&mut self, up_to: u64, proof: Proof, changes: u32) -> Option<Finished> {
        if changes != self.connection_changes {
            return None;
        }
        let State::CatchingUp(catching_up) = &mut self.state else {
            return None;
        };
        let announced = std::mem::take(&mut catching_up.announced);
        let mut pending = std::mem::take(&mut catching_up.pending);
        self.prove(up_to, proof);
        if announced {
            self.show(proof);
        }
        let mut frames = Vec::new();
        let mut too_large = 0;
        let mut complete = !pending.has_dropped();
        while complete
            && let Some(Waits {
                channel,
                stored,
                mut outgoing,
                whole,
            }) = pending.pop()
        {
            match self.chains[channel].compare(stored) {
                Compared::Next { prev } if prev == stored.prev => {
                    outgoing.source = self.note_sent(channel, stored.seq);
                    if !whole {
                        self.was_too_large(channel, stored.seq);
                        too_large += 1;
                    }
                    frames.push(outgoing);
                }
                Compared::Duplicate => {}
                // Its frame names another message before it, or one is missing: the stream has it.
                Compared::Next { .. } | Compared::Hole => {
                    self.chains[channel].doubtful = true;
                    complete = false;
                }
            }
        }
        match &mut self.state {
            _ if complete => {
                self.chains.iter_mut().for_each(Chain::caught_up);
                self.state = State::Live;
            }
            State::CatchingUp(catching_up) => {
                let chains = &mut self.chains;
                pending.restart(|channel| chains[channel].doubtful = true);
                catching_up.pending = pending;
            }
            State::Joining(_) | State::Live => {}
        }
        Some(Finished {
            announced,
            frames,
            too_large,
        })
    }

    /// Everything of all channels up to `up_to` is covered, as the stream says, and everything
    /// up to the proof was compared with its leader.
    pub(super) fn prove(&mut self, up_to: u64, proof: Proof) {
        let covered = up_to.max(proof.seq);
        self.chains
            .iter_mut()
            .for_each(|chain| chain.cover(covered));
        if proof.seq > self.proven.seq {
            self.proven = proof;
        }
    }

    /// Everything after this sequence was stored at or after this time.
    pub(super) fn known(&self) -> Proof {
        self.known
    }

    /// It was compared with the stream, or its client told that something before this is lost.
    pub(super) fn know(&mut self, known: Proof) {
        if known.at > self.known.at {
            self.known = known;
        }
    }

    /// A proof is about to be written, or queued.
    pub(super) fn show(&mut self, proof: Proof) {
        self.shown = Some(proof);
    }
}

#[cfg(test)]
mod tests;
