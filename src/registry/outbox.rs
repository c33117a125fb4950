//! What waits to be written to one session, bounded; and how the session is
//! told that it is admitted, or over.

mod catching_up;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

pub(super) use self::catching_up::{Audit, Brought, Done, Pace, Resumed};
use super::chain::{Before, Chain, Kind, Offer, Why};
use crate::{
    close::{CloseReason, Ending},
    frame::{Protocol, sse},
    message::Stored,
};

/// The bounds of a backlog.
#[derive(Debug)]
pub struct Limits {
    /// Messages of one session.
    pub messages: usize,
    /// Bytes of one session. A larger message still goes to an empty backlog.
    pub bytes: usize,
    /// Memory of all sessions.
    pub total_bytes: usize,
    /// Memory of all sessions now.
    pub total: Arc<AtomicUsize>,
}

impl Limits {
    /// Whether all backlogs together are half of what they may be.
    pub fn half_full(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.total_bytes / 2
    }

    /// Whether all backlogs together are over their bound.
    pub fn exceeded(&self) -> bool {
        self.total.load(Ordering::Relaxed) > self.total_bytes
    }
}

/// One frame on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// The frame's bytes, shared with other sessions.
    pub bytes: Bytes,
    /// When the message came from NATS; none for a frame of our own.
    pub arrived: Option<Instant>,
    /// Keep it for as long as the bytes.
    pub charge: Charge,
    /// What becomes of it where the backlog is given up.
    pub(super) origin: Origin,
}

impl Outgoing {
    /// Puts the client's position beside the frame (server-sent events).
    fn identify(&mut self, id: &str, limits: &Limits) {
        self.bytes = sse::with_id(&self.bytes, id);
        self.charge = Charge::new(self.bytes.len(), limits);
    }
}

/// Where a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// From us, or from where nothing is kept.
    Here,
    /// From us: the session is up to date. With the client's proof before it.
    Live(u64),
    /// From the stream: the message's kind, and how it was with that before it.
    Stream(Kind, Before),
}

/// The memory of one frame, counted among all sessions' until this is dropped:
/// wherever the frame is by then, and whether or not its session is over.
#[derive(Debug)]
pub struct Charge {
    total: Arc<AtomicUsize>,
    memory: usize,
}

impl Charge {
    fn new(bytes: usize, limits: &Limits) -> Self {
        let memory = allocated(bytes);
        limits.total.fetch_add(memory, Ordering::Relaxed);
        Self {
            total: limits.total.clone(),
            memory,
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.total.fetch_sub(self.memory, Ordering::Relaxed);
    }
}

/// What an allocator takes for so many bytes: jemalloc has four sizes to each
/// doubling, so the 16 KiB and a few bytes of a frame are 20 KiB.
fn allocated(bytes: usize) -> usize {
    let steps = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(steps.max(16))
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It will be written.
    Queued,
    /// It will be; but the backlog is half of what it may be, and only because
    /// the session has not had its turn: see [`Outbox::is_behind`].
    Behind,
    /// The session is over.
    Over,
    /// The session is over now: so many messages are lost with this one.
    Overflowed(usize),
    /// It has it already.
    Known,
    /// It gets it from the stream, or after what it gets from there.
    Later,
    /// It has to be told that this is the one before it: the one that the message names was
    /// shown to nobody. Nothing has happened yet.
    Relink(u64),
    /// The same; and somebody has to bring it that.
    Hole,
    /// It is told in the message's place that the message is too large, or has ended.
    Replaced,
    /// Its backlog was given up, so many messages with this one. It gets them from the
    /// stream when it has written what it has taken: `true` where that is nothing.
    Dropped(usize, bool),
}

/// What a write leaves to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The session is open still.
    pub open: bool,
    /// Everything is written, and it has to be brought more from the stream.
    pub wants: bool,
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
pub struct Outbox {
    protocol: Protocol,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Outgoing>,
    /// Where it is in the stream, in durable mode.
    chain: Option<Box<Chain>>,
    /// Of what is queued and of what the session has taken but not written.
    unsent_messages: usize,
    unsent_bytes: usize,
    admission: Admission,
    ending: Option<Ending>,
    /// The backlog was given up, with what the session has taken of it.
    discarded: bool,
    /// The kernel takes no more: it is the client that does not read.
    stalled: bool,
    /// Its place is in a stream that is no more.
    disowned: bool,
    waker: Option<Waker>,
}

/// How far a session is on its way in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
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

impl Outbox {
    /// An empty backlog of a session that speaks `protocol`.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            inner: Mutex::default(),
        }
    }

    /// The same in durable mode, where the session has yet to be told where it begins.
    pub fn durable(protocol: Protocol) -> Self {
        Self {
            protocol,
            inner: Mutex::new(Inner {
                chain: Some(Box::new(Chain::joining())),
                ..Inner::default()
            }),
        }
    }

    /// What the session speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Queues a frame; or, where its backlog would exceed a bound, ends the session, or
    /// has it catch up later where there is a stream.
    pub fn push(
        &self,
        bytes: Bytes,
        arrived: Option<Instant>,
        stored: Option<(Kind, Stored)>,
        limits: &Limits,
    ) -> Pushed {
        let mut inner = self.inner();
        if inner.ending.is_some() || inner.disowned && stored.is_some() {
            return Pushed::Over;
        }
        let mut outgoing = Outgoing {
            charge: Charge::new(bytes.len(), limits),
            bytes,
            arrived,
            origin: Origin::Here,
        };
        if let (Some(chain), Some((kind, stored))) = (&mut inner.chain, stored) {
            if let Some(prev) = chain.relinked(kind, stored) {
                return Pushed::Relink(prev);
            }
            let behind = match chain.offer(kind, stored) {
                Offer::Next(before) => {
                    outgoing.origin = Origin::Stream(kind, before);
                    if let Some(id) = chain.id() {
                        outgoing.identify(&id, limits);
                    }
                    None
                }
                Offer::Known => return Pushed::Known,
                Offer::Hole => Some((chain.fall_behind(Why::Hole), Pushed::Hole)),
                Offer::Behind => chain.behind().map(|behind| (behind, Pushed::Later)),
            };
            if let Some((behind, pushed)) = behind {
                if pushed == Pushed::Hole {
                    behind.doubtful[kind as usize] = true;
                    behind.queued = true;
                }
                behind.hold(kind, stored, outgoing, limits.messages, limits.bytes);
                return pushed;
            }
        }
        if inner.has_room_for(outgoing.bytes.len(), limits) {
            inner.queue(outgoing);
            inner.wake();
            return match inner.is_behind(limits) {
                true => Pushed::Behind,
                false => Pushed::Queued,
            };
        }
        if let Origin::Stream(kind, before) = outgoing.origin {
            let (lost, wants) = inner.give_up_backlog();
            inner.rewind(kind, before);
            return Pushed::Dropped(lost + 1, wants);
        }
        inner.end(CloseReason::SlowConsumer.into());
        Pushed::Overflowed(inner.discard() + 1)
    }

    /// A message of the stream comes that is shown to nobody. Whether somebody has to bring the
    /// session what is missing before it.
    pub fn skip(&self, kind: Kind, stored: Stored) -> bool {
        let mut inner = self.inner();
        if inner.is_over() {
            return false;
        }
        let Some(chain) = &mut inner.chain else {
            return false;
        };
        let hole = chain.skip(kind, stored);
        if hole {
            let behind = chain.fall_behind(Why::Hole);
            behind.doubtful[kind as usize] = true;
            behind.queued = true;
        }
        hole
    }

    /// Gives up what is queued, where the session can be brought it from the stream:
    /// so many messages, and whether somebody has to do so now. None where there is
    /// nothing to give up, or no stream.
    pub fn shed(&self) -> Option<(usize, bool)> {
        let mut inner = self.inner();
        (inner.droppable() > 0).then(|| inner.give_up_backlog())
    }

    /// Whether there is a backlog that the session could write at once, if it
    /// had its turn. A client that does not read makes no session behind.
    pub fn is_behind(&self, limits: &Limits) -> bool {
        self.inner().is_behind(limits)
    }

    /// Ends the session once what is queued is written. The first reason stays.
    pub fn end(&self, ending: Ending) {
        self.inner().end(ending);
    }

    /// Ends the session, and gives up what is queued: so many messages.
    pub fn cut(&self, reason: CloseReason) -> usize {
        let mut inner = self.inner();
        inner.end(reason.into());
        inner.discard()
    }

    /// Whether the session still takes messages.
    pub fn is_open(&self) -> bool {
        self.inner().ending.is_none()
    }

    /// Bytes that [`Outbox::shed`] would give up.
    pub fn droppable(&self) -> usize {
        self.inner().droppable()
    }

    /// The size of the backlog in bytes.
    pub fn backlog(&self) -> usize {
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
            if let Some(ending) = inner.ending {
                return Poll::Ready(Next::Ended(ending));
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

    /// Ready when what was queued has been given up; for a session whose client
    /// does not read, and which so does not ask for more.
    pub fn poll_cut(&self, cx: &Context<'_>) -> Poll<Ending> {
        let mut inner = self.inner();
        inner.stalled = true;
        match inner.ending {
            Some(ending) if inner.discarded => Poll::Ready(ending),
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
        let (idle, open) = (inner.unsent_messages == 0, inner.ending.is_none());
        let behind = inner.chain.as_mut().and_then(|chain| chain.behind());
        Sent {
            open,
            wants: idle && open && behind.is_some_and(|behind| !behind.queued),
        }
    }

    /// NATS has confirmed the subscription. Who was welcomed before a reconnect
    /// stays so.
    pub fn confirm(&self) {
        let mut inner = self.inner();
        if inner.admission == Admission::Waiting {
            inner.admission = Admission::Confirmed;
            inner.wake();
        }
    }

    /// Sets how far the session is on its way in.
    pub fn admit(&self, admission: Admission) {
        let mut inner = self.inner();
        inner.admission = admission;
        inner.wake();
    }

    /// Whether the session was welcomed, so that it may have missed something.
    pub fn is_welcomed(&self) -> bool {
        self.inner().admission == Admission::Welcomed
    }

    /// Pending while the subscription is neither confirmed nor refused.
    pub fn poll_admission(&self, cx: &Context<'_>) -> Poll<Admission> {
        let mut inner = self.inner();
        if inner.admission == Admission::Waiting && inner.ending.is_none() {
            inner.wait(cx);
            return Poll::Pending;
        }
        Poll::Ready(inner.admission)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether nothing more of the stream comes to it.
    fn is_over(&self) -> bool {
        self.ending.is_some() || self.disowned
    }

    fn end(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.ending = Some(ending);
            self.wake();
        }
    }

    fn discard(&mut self) -> usize {
        let lost = self.unsent_messages;
        self.queue = VecDeque::new();
        self.give_back(lost, self.unsent_bytes);
        self.discarded = true;
        lost
    }

    fn losses(&self) -> Option<u32> {
        self.chain.as_ref().map(|chain| chain.losses())
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

    fn droppable(&mut self) -> usize {
        let Self {
            chain: Some(chain),
            ending: None,
            queue,
            ..
        } = self
        else {
            return 0;
        };
        let queued = queue
            .iter()
            .filter(|outgoing| outgoing.origin != Origin::Here);
        let queued: usize = queued.map(|outgoing| outgoing.bytes.len()).sum();
        queued + chain.behind().map_or(0, |behind| behind.held_bytes())
    }

    /// Lets go of what is queued and not taken, to be brought from the stream later:
    /// so many messages, and whether nothing is left to be written before that.
    fn give_up_backlog(&mut self) -> (usize, bool) {
        if let Some(chain) = &mut self.chain {
            chain.fall_behind(Why::Slow);
        }
        let mut lost = 0;
        // The oldest of each kind last, which is the one that counts.
        for outgoing in std::mem::take(&mut self.queue).into_iter().rev() {
            match outgoing.origin {
                Origin::Here => {
                    self.queue.push_front(outgoing);
                    continue;
                }
                Origin::Stream(kind, before) => {
                    self.rewind(kind, before);
                    lost += 1;
                }
                Origin::Live(before) => {
                    if let Some(chain) = &mut self.chain {
                        chain.unshow(before);
                        if let Some(behind) = chain.behind() {
                            behind.announced = true;
                        }
                    }
                }
            }
            self.give_back(1, outgoing.bytes.len());
        }
        let idle = self.unsent_messages == 0;
        let behind = self.chain.as_mut();
        let behind = behind.and_then(|chain| chain.behind_since_it_began());
        let wants =
            behind.is_some_and(|behind| idle && !std::mem::replace(&mut behind.queued, idle));
        (lost, wants)
    }

    fn rewind(&mut self, kind: Kind, before: Before) {
        if let Some(chain) = &mut self.chain {
            chain.rewind(kind, before);
        }
    }

    fn is_behind(&self, limits: &Limits) -> bool {
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

/// A frame of so many bytes, for the tests of who hands it on.
#[cfg(test)]
pub(super) fn outgoing(bytes: u64, limits: &Limits) -> Outgoing {
    let bytes: Bytes = vec![0; bytes as usize].into();
    Outgoing {
        charge: Charge::new(bytes.len(), limits),
        bytes,
        arrived: None,
        origin: Origin::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(messages: usize, bytes: usize) -> Limits {
        Limits {
            messages,
            bytes,
            total_bytes: usize::MAX,
            total: Arc::default(),
        }
    }

    fn push(outbox: &Outbox, size: usize, limits: &Limits) -> Pushed {
        outbox.push(vec![0; size].into(), None, None, limits)
    }

    /// Takes frames, and drops them.
    fn take(outbox: &Outbox) -> Poll<(Next, usize)> {
        let mut taken = 0;
        let cx = Context::from_waker(Waker::noop());
        let next = outbox.poll_next(&cx, 64, |_| taken += 1);
        next.map(|next| (next, taken))
    }

    #[test]
    fn what_is_taken_counts_until_it_is_sent() {
        let limits = limits(2, 100);
        let outbox = Outbox::new(Protocol::UsherV1);
        assert_eq!(push(&outbox, 10, &limits), Pushed::Queued);
        assert_eq!(push(&outbox, 10, &limits), Pushed::Behind);
        assert_eq!(take(&outbox), Poll::Ready((Next::Frames, 2)));
        outbox.sent(1, 10);
        assert_eq!(outbox.backlog(), 10);
        assert_eq!(push(&outbox, 10, &limits), Pushed::Behind);
        assert_eq!(
            push(&outbox, 10, &limits),
            Pushed::Overflowed(3),
            "1 unsent, 1 queued"
        );
        let slow = CloseReason::SlowConsumer.into();
        assert_eq!(take(&outbox), Poll::Ready((Next::Ended(slow), 0)));
        assert_eq!(limits.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_does_not_read_is_not_behind() {
        let limits = limits(4, 100);
        let outbox = Outbox::new(Protocol::UsherV1);
        for _ in 0..3 {
            push(&outbox, 10, &limits);
        }
        assert!(outbox.is_behind(&limits));
        assert!(take(&outbox).is_ready());
        let cx = Context::from_waker(Waker::noop());
        assert!(outbox.poll_cut(&cx).is_pending());
        assert!(!outbox.is_behind(&limits), "the kernel takes no more");
        outbox.sent(1, 10);
        assert_eq!(push(&outbox, 10, &limits), Pushed::Behind);
        outbox.end(CloseReason::Drain.into());
        assert!(!outbox.is_behind(&limits));
    }

    #[test]
    fn a_large_message_goes_to_an_empty_backlog_only() {
        let limits = limits(10, 100);
        let outbox = Outbox::new(Protocol::UsherV1);
        assert_eq!(push(&outbox, 1000, &limits), Pushed::Queued);
        assert_eq!(push(&outbox, 1, &limits), Pushed::Overflowed(2));
        let outbox = Outbox::new(Protocol::UsherV1);
        assert_eq!(push(&outbox, 1, &limits), Pushed::Queued);
        assert_eq!(push(&outbox, 1000, &limits), Pushed::Overflowed(2));
    }

    #[test]
    fn an_ending_waits_for_what_is_queued_and_the_first_one_stays() {
        let limits = limits(10, 100);
        let outbox = Outbox::new(Protocol::RawV1);
        assert_eq!(push(&outbox, 1, &limits), Pushed::Queued);
        outbox.end(CloseReason::Replaced.into());
        outbox.end(CloseReason::Drain.into());
        assert_eq!(push(&outbox, 1, &limits), Pushed::Over);
        assert_eq!(take(&outbox), Poll::Ready((Next::Frames, 1)));
        outbox.sent(1, 1);
        let replaced = CloseReason::Replaced.into();
        assert_eq!(take(&outbox), Poll::Ready((Next::Ended(replaced), 0)));
        assert_eq!(limits.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_counts_for_as_long_as_the_frame_is_kept() {
        let limits = limits(10, usize::MAX);
        let outbox = Outbox::new(Protocol::UsherV1);
        let now = || limits.total.load(Ordering::Relaxed);
        push(&outbox, 16 * 1024 + 1, &limits);
        push(&outbox, 1, &limits);
        assert_eq!(now(), 20 * 1024 + 16);
        let mut kept = Vec::new();
        let cx = Context::from_waker(Waker::noop());
        let taken = outbox.poll_next(&cx, 1, |outgoing| kept.push(outgoing));
        assert_eq!(taken, Poll::Ready(Next::Frames));
        outbox.cut(CloseReason::SlowConsumer);
        assert_eq!(now(), 20 * 1024, "what the session still has of it");
        kept.clear();
        assert_eq!(now(), 0);
    }

    #[test]
    fn a_cut_gives_back_what_was_queued_and_taken() {
        let limits = limits(10, 100);
        let outbox = Outbox::new(Protocol::RawV1);
        assert_eq!(push(&outbox, 7, &limits), Pushed::Queued);
        assert!(take(&outbox).is_ready());
        assert_eq!(push(&outbox, 8, &limits), Pushed::Queued);
        assert_eq!(outbox.cut(CloseReason::ConnectionLost), 2);
        outbox.sent(1, 7);
        assert_eq!(outbox.cut(CloseReason::ConnectionLost), 0);
        assert_eq!(limits.total.load(Ordering::Relaxed), 0);
    }
}
