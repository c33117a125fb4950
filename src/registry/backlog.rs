//! Frames that wait to be written to one session, bounded; and how the session learns that
//! it is admitted, or over.

mod outgoing;

use std::{
    cmp::Ordering,
    collections::VecDeque,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use ulid::Ulid;

pub use self::outgoing::{Outgoing, Source};
use super::{
    limits::Limits,
    session::Pushed,
    sync::{Mutex, MutexGuard, lock},
};
use crate::{
    close::{CloseReason, Ending},
    frame::Protocol,
};

/// What a write leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The session is open still.
    pub open: bool,
    /// Everything is written.
    pub idle: bool,
}

/// What a session has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Frames were added to the batch.
    Frames,
    /// It is over; nothing is queued any more.
    Ended(Ending),
}

/// The backlog of one session.
#[derive(Debug)]
pub struct Backlog {
    protocol: Protocol,
    /// The id of the session, once it has its welcome. As bytes, which need no alignment.
    session: OnceLock<[u8; 16]>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Outgoing>,
    /// Of what is queued and of what the session has taken but not written.
    unsent_messages: usize,
    unsent_bytes: usize,
    join_state: JoinState,
    ending: Option<Ending>,
    /// The backlog was discarded, with what the session has taken of it.
    discarded: bool,
    /// The kernel takes no more: it is the client that does not read.
    stalled: bool,
    waker: Option<Waker>,
}

/// How far a session is on its way in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JoinState {
    /// NATS has not confirmed the subscription.
    #[default]
    Waiting,
    /// It has.
    Confirmed,
    /// It will not.
    Refused,
    /// The session has been told `welcome`, or will be before anything else.
    Welcomed,
}

impl Backlog {
    /// An empty backlog of a session that speaks `protocol`.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            session: OnceLock::new(),
            inner: Mutex::default(),
        }
    }

    /// What the session speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The session has its welcome, with this id.
    pub fn begins(&self, id: Ulid) {
        // A session has one welcome.
        let _ = self.session.set(id.to_bytes());
    }

    /// The id of the session; `None` before its welcome.
    pub fn session(&self) -> Option<Ulid> {
        self.session.get().map(|bytes| Ulid::from_bytes(*bytes))
    }

    /// How many frames are not written, and their bytes.
    pub fn unsent(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.unsent_messages, inner.unsent_bytes)
    }

    /// Queues a frame that can't be sent again; where the backlog would exceed a bound, it
    /// ends the session.
    pub fn push(&self, outgoing: Outgoing, limits: &Limits) -> Pushed {
        let mut inner = self.inner();
        inner.offer(outgoing, limits).unwrap_or_else(|| {
            inner.end(CloseReason::SlowConsumer.into());
            Pushed::Overflowed(inner.discard() + 1)
        })
    }

    /// Queues a frame; `None` if the backlog would exceed a bound.
    pub fn offer(&self, outgoing: Outgoing, limits: &Limits) -> Option<Pushed> {
        self.inner().offer(outgoing, limits)
    }

    /// Queues frames whatever the bounds are: the caller keeps to them.
    pub fn extend(&self, frames: Vec<Outgoing>) {
        let mut inner = self.inner();
        if inner.ending.is_none() {
            frames.into_iter().for_each(|frame| inner.queue(frame));
            inner.wake();
        }
    }

    /// Takes back what can be sent again and the session has not taken, the newest first.
    pub fn take_back(&self) -> Vec<Outgoing> {
        let mut inner = self.inner();
        let (own, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.queue)
            .into_iter()
            .partition(|outgoing| outgoing.source == Source::Own);
        inner.queue = own.into();
        for outgoing in &kept {
            inner.give_back(1, outgoing.bytes.len());
        }
        kept.into_iter().rev().collect()
    }

    /// The session has one channel less: what is queued of it stays, and the channels behind it
    /// move up.
    pub fn drop_channel(&self, gone: usize) {
        for outgoing in &mut self.inner().queue {
            if let Source::Kept { channel, .. } = &mut outgoing.source {
                match (*channel).cmp(&gone) {
                    Ordering::Less => {}
                    Ordering::Equal => outgoing.source = Source::Own,
                    Ordering::Greater => *channel -= 1,
                }
            }
        }
    }

    /// Bytes that [`Backlog::take_back`] would take.
    pub fn can_take_back(&self) -> usize {
        let inner = self.inner();
        let kept = inner.queue.iter().filter(|one| one.source != Source::Own);
        match inner.ending {
            None => kept.map(|outgoing| outgoing.bytes.len()).sum(),
            Some(_) => 0,
        }
    }

    /// Whether more than half of the backlog is full only because the session's task has not had
    /// its turn to write. Never while the kernel takes nothing: then it is the client that does
    /// not read.
    pub fn needs_turn(&self, limits: &Limits) -> bool {
        self.inner().needs_turn(limits)
    }

    /// Ends the session once what is queued is written. The first reason stays.
    pub fn end(&self, ending: Ending) {
        self.inner().end(ending);
    }

    /// Ends the session, and discards what is queued. Returns how many messages that was.
    pub fn cut(&self, reason: CloseReason) -> usize {
        let mut inner = self.inner();
        inner.end(reason.into());
        inner.discard()
    }

    /// Whether the session still takes messages.
    pub fn is_open(&self) -> bool {
        self.inner().ending.is_none()
    }

    /// Whether what was queued was discarded.
    pub fn is_discarded(&self) -> bool {
        self.inner().discarded
    }

    /// Whether a service ends the session.
    pub fn is_dismissed(&self) -> bool {
        self.inner().is_dismissed()
    }

    /// Pending until a service ends the session. For a session on its way in: one that was
    /// welcomed asks [`Backlog::poll_next`].
    pub fn poll_dismissed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.inner();
        if inner.is_dismissed() {
            return Poll::Ready(());
        }
        inner.wait(cx);
        Poll::Pending
    }

    /// Whether everything is written.
    pub fn is_idle(&self) -> bool {
        self.inner().unsent_messages == 0
    }

    /// Whether the session has taken everything: nothing waits, and nothing was discarded.
    pub fn is_taken(&self) -> bool {
        let inner = self.inner();
        inner.queue.is_empty() && !inner.discarded
    }

    /// The size of the backlog in bytes.
    pub fn bytes(&self) -> usize {
        self.inner().unsent_bytes
    }

    /// Hands up to `limit` frames to `take`, or says that the session is over.
    /// Pending while there is nothing to do.
    pub fn poll_next(
        &self,
        cx: &Context<'_>,
        limit: usize,
        take: impl FnMut(Outgoing),
    ) -> Poll<Next> {
        let mut inner = self.inner();
        if inner.queue.is_empty() {
            if let Some(ending) = &inner.ending {
                return Poll::Ready(Next::Ended(ending.clone()));
            }
            inner.wait(cx);
            return Poll::Pending;
        }
        let count = limit.min(inner.queue.len());
        inner.queue.drain(..count).for_each(take);
        if inner.queue.is_empty() && inner.queue.capacity() > 16 {
            inner.queue = VecDeque::new();
        }
        Poll::Ready(Next::Frames)
    }

    /// Call this while nothing can be written. If the session is stalled, since the kernel takes
    /// nothing, the registry gives it no extra turns until its task has written again; at the end
    /// of a turn it is not. Ready when the backlog was discarded.
    pub fn poll_cut(&self, cx: &Context<'_>, stalled: bool) -> Poll<Ending> {
        let mut inner = self.inner();
        inner.stalled |= stalled;
        match &inner.ending {
            Some(ending) if inner.discarded => Poll::Ready(ending.clone()),
            _ => {
                inner.wait(cx);
                Poll::Pending
            }
        }
    }

    /// The session has written frames that it had taken.
    pub fn sent(&self, messages: usize, bytes: usize) -> Sent {
        let mut inner = self.inner();
        inner.stalled = false;
        if !inner.discarded {
            inner.give_back(messages, bytes);
        }
        Sent {
            open: inner.ending.is_none(),
            idle: inner.unsent_messages == 0,
        }
    }

    /// NATS has confirmed the subscription. Who was welcomed before a reconnect
    /// stays so.
    pub fn confirm(&self) {
        let mut inner = self.inner();
        if inner.join_state == JoinState::Waiting {
            inner.join_state = JoinState::Confirmed;
            inner.wake();
        }
    }

    /// Sets how far the session is on its way in.
    pub fn set_join_state(&self, state: JoinState) {
        let mut inner = self.inner();
        inner.join_state = state;
        inner.wake();
    }

    /// Whether the session was welcomed, so that it may have missed something.
    pub fn is_welcomed(&self) -> bool {
        self.inner().join_state == JoinState::Welcomed
    }

    /// Pending while the subscription is neither confirmed nor refused.
    pub fn poll_join_state(&self, cx: &Context<'_>) -> Poll<JoinState> {
        let mut inner = self.inner();
        if inner.join_state == JoinState::Waiting && inner.ending.is_none() {
            inner.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(inner.join_state)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn offer(&mut self, outgoing: Outgoing, limits: &Limits) -> Option<Pushed> {
        if self.ending.is_some() {
            return Some(Pushed::Over);
        }
        if !self.has_room_for(outgoing.bytes.len(), limits) {
            return None;
        }
        self.queue(outgoing);
        self.wake();
        Some(match self.needs_turn(limits) {
            true => Pushed::NeedsTurn,
            false => Pushed::Queued,
        })
    }

    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.wake();
        }
    }

    fn is_dismissed(&self) -> bool {
        let ending = self.ending.as_ref();
        ending.is_some_and(|ending| ending.reason.is_of_a_service())
    }

    fn discard(&mut self) -> usize {
        let lost = self.unsent_messages;
        self.queue = VecDeque::new();
        self.give_back(lost, self.unsent_bytes);
        self.discarded = true;
        lost
    }

    fn has_room_for(&self, size: usize, limits: &Limits) -> bool {
        self.unsent_messages < limits.messages
            && (self.unsent_messages == 0 || self.unsent_bytes + size <= limits.bytes)
    }

    fn queue(&mut self, outgoing: Outgoing) {
        self.unsent_messages += 1;
        self.unsent_bytes += outgoing.bytes.len();
        self.queue.push_back(outgoing);
    }

    fn needs_turn(&self, limits: &Limits) -> bool {
        let half_full = self.unsent_messages > limits.messages / 2
            || (self.unsent_messages > 1 && self.unsent_bytes > limits.bytes / 2);
        half_full && !self.stalled && self.ending.is_none()
    }

    fn give_back(&mut self, messages: usize, bytes: usize) {
        self.unsent_messages -= messages;
        self.unsent_bytes -= bytes;
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
