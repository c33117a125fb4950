//! A session's backlog and its place in the stream, in durable mode: what it is brought
//! from there, what is said of its place, and what becomes of it when NATS is lost.

use bytes::Bytes;

use super::{
    super::chain::{Beginning, Behind, Kind, Why},
    Charge, Limits, Origin, Outbox, Outgoing,
};
use crate::{
    frame::{Proof, Protocol},
    message::Stored,
};

/// How a session's catching up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Everything up to here is covered, of each kind.
    pub covered: [u64; 2],
    /// Kinds of which something may be missing.
    pub doubtful: [bool; 2],
    /// Of each kind: so many are there still.
    pub expected: [u64; 2],
    /// Why it is behind.
    pub why: Why,
    /// The first read has been judged.
    pub begun: bool,
    /// It was told that something up to here is lost; 0 where it was not.
    pub told: u64,
    /// Goes with what is read from here on: see [`Done`].
    pub losses: u32,
}

/// A session that goes on where another one ended; it is told when it is up to date.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Resumed {
    /// It was told that something up to here is lost; 0 where it was not.
    pub told: u64,
    /// So many of the oldest that it missed it does not get.
    pub skip: u64,
    /// So many it missed of each kind.
    pub missed: [u64; 2],
}

/// Everything that there is in the stream was brought to a session.
#[derive(Debug)]
pub struct Done {
    /// Up to here.
    pub up_to: u64,
    /// Up to where that was compared with the leader, which the client is told.
    pub proof: Proof,
    /// The frame that says so, to a client that waits for it.
    pub live: Bytes,
    /// [`Pace::losses`] when it was read; it counts for nothing where the connection to
    /// NATS was lost or came back since.
    pub losses: u32,
}

/// What a session that catches up is brought.
#[derive(Debug)]
pub struct Brought {
    /// The message's kind, and where it is in the stream.
    pub of: (Kind, Stored),
    /// Its frame; none where the session is not to get it.
    pub bytes: Option<Bytes>,
}

/// What a comparison with the stream says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audit {
    /// It has everything, or is being brought it.
    Good,
    /// Something is missing.
    Missing,
    /// It has more than there is.
    Beyond,
}

impl Outbox {
    /// Its place is in a stream that is no more: it gets nothing of another one, nor a
    /// position there, until somebody ends it.
    pub fn disown(&self) {
        self.inner().disowned = true;
    }

    /// The connection to NATS is lost, or has come back: what comes after that is held until
    /// the session has been brought what it missed.
    pub fn lose(&self) {
        if let Some(chain) = &mut self.inner().chain {
            chain.fall_behind(Why::Lost);
        }
    }

    /// A comparison with the stream has shown that something is missing. Whether
    /// somebody has to bring it.
    pub fn is_missing_something(&self) -> bool {
        let mut inner = self.inner();
        let Some(chain) = &mut inner.chain else {
            return false;
        };
        let was_behind = chain.is_behind();
        // A step that is under way may have begun before it.
        let behind = chain.fall_behind(Why::Lost);
        if was_behind {
            return false;
        }
        behind.why = Why::Hole;
        behind.queued = true;
        true
    }

    /// Where the session begins.
    pub(in crate::registry) fn begin(&self, beginning: Beginning, resumed: Option<Resumed>) {
        let mut inner = self.inner();
        let Some(chain) = &mut inner.chain else {
            return;
        };
        chain.begin(beginning, self.protocol == Protocol::Sse);
        if let (Some(resumed), Some(behind)) = (resumed, chain.behind()) {
            behind.announced = true;
            behind.begun = true;
            behind.told = resumed.told;
            behind.skip = resumed.skip;
            behind.expected = resumed.missed;
        }
    }

    /// Marks it as being brought further, unless it is already. Whether the caller has
    /// to see to it.
    pub fn queue_for_catching_up(&self) -> bool {
        let mut inner = self.inner();
        let open = inner.ending.is_none();
        let behind = inner.chain.as_mut();
        let behind = behind.and_then(|chain| chain.behind_since_it_began());
        behind.is_some_and(|behind| open && !std::mem::replace(&mut behind.queued, true))
    }

    /// Where to go on from; none where there is nothing to do now: it is over, or not
    /// behind, or has yet to write what it has.
    pub fn pace(&self) -> Option<Pace> {
        let mut inner = self.inner();
        let over = inner.is_over();
        let busy = inner.unsent_messages > 0;
        let chain = inner.chain.as_mut()?;
        let (covered, losses) = (chain.covered(), chain.losses());
        let behind = chain.behind_since_it_began()?;
        if over || busy {
            behind.queued = false;
            return None;
        }
        behind.holds_again();
        Some(Pace {
            covered,
            doubtful: behind.doubtful,
            expected: behind.expected,
            why: behind.why,
            begun: behind.begun,
            told: behind.told,
            losses,
        })
    }

    /// Changes how its catching up stands; nothing where it does not catch up.
    pub(in crate::registry) fn amend<R>(&self, amend: impl FnOnce(&mut Behind) -> R) -> Option<R> {
        let mut inner = self.inner();
        inner.chain.as_mut()?.behind().map(amend)
    }

    /// Queues what it missed, whatever the bounds are: whoever brings it keeps to them.
    /// Where it is `done`, the session goes on with what came meanwhile. Whether it has
    /// to be brought more at once.
    pub fn bring(
        &self,
        first: Option<Bytes>,
        brought: Vec<Brought>,
        done: Option<Done>,
        limits: &Limits,
    ) -> bool {
        let mut inner = self.inner();
        if inner.chain.is_none() || inner.is_over() {
            return false;
        }
        let frame = |bytes: Bytes, origin| Outgoing {
            charge: Charge::new(bytes.len(), limits),
            bytes,
            arrived: None,
            origin,
        };
        if let Some(bytes) = first {
            inner.queue(frame(bytes, Origin::Here));
        }
        for Brought {
            of: (kind, stored),
            bytes,
        } in brought
        {
            let Some(chain) = &mut inner.chain else { break };
            match bytes {
                Some(bytes) => {
                    let before = chain.send(kind, stored.seq, stored.at);
                    let mut outgoing = frame(bytes, Origin::Stream(kind, before));
                    if let Some(id) = chain.id() {
                        outgoing.identify(&id, limits);
                    }
                    inner.queue(outgoing);
                }
                None => chain.skip_to(kind, stored.seq, stored.prev),
            }
        }
        if let Some(Done {
            up_to,
            proof,
            live,
            losses,
        }) = done
            && inner.losses() == Some(losses)
            && let Some(mut chain) = inner.chain.take()
        {
            chain.prove(up_to, proof);
            if let Some(behind) = chain.behind()
                && std::mem::take(&mut behind.announced)
            {
                let before = chain.show(proof);
                let mut outgoing = frame(live, Origin::Live(before));
                if let Some(id) = chain.id() {
                    outgoing.identify(&id, limits);
                }
                inner.queue(outgoing);
            }
            chain.settle(|kind, before, mut outgoing, id| {
                outgoing.origin = Origin::Stream(kind, before);
                if let Some(id) = id {
                    outgoing.identify(&id, limits);
                }
                inner.queue(outgoing);
            });
            inner.chain = Some(chain);
        }
        inner.wake();
        let idle = inner.unsent_messages == 0;
        let behind = inner.chain.as_mut().and_then(|chain| chain.behind());
        behind.is_some_and(|behind| {
            // Else whoever writes the last of it asks for more.
            behind.queued = idle;
            idle
        })
    }

    /// Compares it with the last message of each kind in the stream. `before` is what it
    /// had before the stream was asked, `proof` the stream's last then, by its leader.
    pub fn audit(&self, before: [u64; 2], proof: Proof, lasts: [u64; 2], up_to: u64) -> Audit {
        let mut inner = self.inner();
        let over = inner.is_over();
        let Some(chain) = inner.chain.as_mut().filter(|chain| !chain.is_behind()) else {
            return Audit::Good;
        };
        if over {
            return Audit::Good;
        }
        if before.iter().any(|covered| *covered > proof.seq) {
            return Audit::Beyond;
        }
        let covered = chain.covered();
        if covered
            .iter()
            .zip(lasts)
            .any(|(covered, last)| last > *covered)
        {
            return Audit::Missing;
        }
        chain.prove(up_to, proof);
        Audit::Good
    }

    /// Everything up to here is covered, of each kind; none in live mode.
    pub fn covered(&self) -> Option<[u64; 2]> {
        self.inner().chain.as_ref().map(|chain| chain.covered())
    }

    /// This message was replaced by a `gap`.
    pub fn was_not_given(&self, kind: Kind, seq: u64) {
        if let (Kind::User, Some(chain)) = (kind, &mut self.inner().chain) {
            chain.was_not_given(seq);
        }
    }

    /// Whether everything of its user up to `seq` is queued.
    pub fn has_up_to(&self, seq: u64) -> bool {
        let inner = self.inner();
        let chain = inner.chain.as_ref();
        chain.is_some_and(|chain| chain.was_given(seq)) && !inner.is_over()
    }

    /// Up to where everything was compared with the stream and is written, or at least taken,
    /// as a `ping` is about to say it; none in live mode, and while something waits. And the
    /// position of a client that is told it beside each frame.
    pub fn proof(&self) -> Option<(Proof, Option<String>)> {
        let mut inner = self.inner();
        let idle = inner.queue.is_empty() && !inner.disowned;
        let chain = inner.chain.as_mut()?;
        if !idle || chain.is_behind() {
            return None;
        }
        let proof = chain.proven();
        chain.show(proof);
        Some((proof, chain.id()))
    }

    /// The client's position, where it is told that beside each frame.
    pub fn id(&self) -> Option<String> {
        self.inner().chain.as_ref()?.id()
    }
}
