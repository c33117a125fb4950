//! One open session, from its welcome to its close, whatever carries it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};
use tungstenite::Message;
use ulid::Ulid;

use super::{
    Sessions,
    centrifuge::Rates,
    command,
    connected::connected,
    expiry::{Ends, in_seconds, instant},
    talk::Talk,
    welcome::{position, welcome},
};
use crate::{
    close::{CloseReason, Ending},
    frame::{self, Proof, Protocol, answer},
    grants::Grants,
    http::{admit::Admitted, credentials::OriginMark, running_clock::Awake, transport::Transport},
    jitter,
    position::Step,
    registry::{Arrival, Next, SessionHandle},
    user::UserId,
};

/// Frames taken from the backlog at a time.
const BATCH: usize = 64;
/// Writes in one turn.
const WRITES: usize = 32;
/// Chunks that wait to be written where nothing more is read: a batch of the backlog, and
/// some answers.
const UNSENT: usize = BATCH + 16;

pub(super) struct Session<T> {
    pub(super) sessions: Arc<Sessions>,
    pub(super) transport: T,
    pub(super) handle: SessionHandle,
    /// One of `public.max_sessions`.
    pub(super) permit: OwnedSemaphorePermit,
    /// Fires at or before the next of the moments below.
    timer: Pin<Box<Sleep>>,
    ping_at: Instant,
    /// When the client last got a frame that its script sees.
    texted: Instant,
    heard: Awake,
    pub(super) ends: Ends,
    /// What it keeps of its origin, where it may be refreshed.
    pub(super) origin: Option<OriginMark>,
    /// What the session may do besides receiving its user's messages.
    pub(super) grants: Option<Box<Grants>>,
    /// Since when the kernel takes nothing.
    stalled: Option<Awake>,
    /// A ping waits behind what it does not take.
    pinged: bool,
    /// As in `welcome`.
    pub(super) id: Ulid,
    /// What the client has said; `None` before it says anything.
    pub(super) talk: Option<Box<Talk>>,
    /// What it may send still over the Centrifuge protocol.
    pub(super) rates: Option<Box<Rates>>,
}

impl<T: Transport> Session<T> {
    pub(super) fn new(sessions: Arc<Sessions>, mut transport: T, admitted: Admitted) -> Self {
        let Admitted {
            handle,
            opening,
            permit,
            expires_at,
            origin,
            connect,
            grants,
        } = admitted;
        let config = &sessions.config;
        let (now, id) = (Instant::now(), Ulid::new());
        match opening {
            // A service has ended it on its way in: it gets no message, and keeps its position.
            None => drop(handle.backlog().cut(CloseReason::Disconnected)),
            Some(opening) => {
                if let Some(connect) = &connect {
                    let connect = (&**connect, expires_at);
                    transport.queue(connected(config, id, &handle, &opening, connect));
                } else if handle.backlog().protocol().has_own_frames() {
                    let welcome = welcome(config, id, &handle, &opening);
                    transport.queue_welcome(welcome, || position(&opening));
                }
                handle.started(id);
            }
        }
        let granted_end = expires_at.map(|at| instant(at, now));
        let lifetime_ends = config
            .max_lifetime
            .map(|most| now + jitter::fraction_of(most, 0.9, 1.0));
        let ping_at = sessions.beat.after(now);
        sessions.counts(transport.kind()).open.inc();
        let mut session = Self {
            timer: Box::pin(sleep_until(ping_at)),
            ping_at,
            texted: now,
            heard: sessions.clock.at(now),
            ends: Ends::new(granted_end, lifetime_ends, now),
            origin,
            grants,
            stalled: None,
            pinged: false,
            id,
            talk: None,
            rates: None,
            sessions,
            transport,
            handle,
            permit,
        };
        session.arm();
        if let Some(connect) = connect
            && let Err(reason) = session.obey(connect.rest)
        {
            session.handle.backlog().end(reason.into());
        }
        session
    }

    /// Serves both directions and the clock until the session is over.
    ///
    /// What is received may use up all that tokio grants a turn, so it comes after what
    /// is sent; and before the clock, for which it counts that something was heard.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Poll::Ready(ending) = self.poll_send(cx) {
            return Poll::Ready(ending);
        }
        if let Poll::Ready(reason) = self.poll_receive(cx) {
            return Poll::Ready(reason.into());
        }
        if let Poll::Ready(reason) = self.poll_talk(cx) {
            return Poll::Ready(reason.into());
        }
        let unread = self.is_full();
        let mut has_more = self.transport.has_unsent() && self.stalled.is_none();
        loop {
            if has_more && let Poll::Ready(ending) = self.poll_send(cx) {
                return Poll::Ready(ending);
            }
            match self.poll_timer(cx) {
                Poll::Ready(Some(reason)) => return Poll::Ready(reason.into()),
                Poll::Ready(None) => has_more = true,
                Poll::Pending => break,
            }
        }
        if unread && !self.is_full() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether nothing is read from the client, because too much waits to be written to it.
    fn is_full(&self) -> bool {
        self.transport.unsent() >= UNSENT
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        // Whoever does not read the answers is asked nothing more: what wakes us then is
        // that the kernel takes something, or the clock.
        while !self.is_full() {
            let Poll::Ready(received) = self.transport.poll_receive(cx) else {
                break;
            };
            match received {
                Ok(message) => {
                    self.heard = self.sessions.clock.now();
                    if let Some(message) = message
                        && let Err(reason) = self.receive(&message)
                    {
                        return Poll::Ready(reason);
                    }
                }
                Err(reason) => return Poll::Ready(reason),
            }
        }
        Poll::Pending
    }

    /// A message of the client. The objects of a raw session's client say nothing to us; after
    /// the session's end nothing does.
    fn receive(&mut self, message: &Message) -> Result<(), CloseReason> {
        if !self.handle.backlog().is_open() {
            return Ok(());
        }
        if let Some(echo) = (self.sessions.echo)(message) {
            self.transport.queue(echo);
            return Ok(());
        }
        match message {
            _ if self.protocol().is_centrifuge() => self.hear_centrifuge(message),
            Message::Text(text) if self.protocol().has_own_frames() => self.hear(text),
            Message::Text(text) if command::is_object(text) => Ok(()),
            _ => Err(CloseReason::BadFrame),
        }
    }

    /// The client asks for a sign of life: it is told of no more than it was before.
    pub(super) fn answer_ping(&mut self) {
        self.transport.queue(self.handle.pong());
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // Fewer writes than tokio grants a turn.
        for _ in 0..WRITES {
            // Frames stay in the backlog, where it is bounded and can be shed.
            if !self.transport.has_unsent() {
                let Self {
                    handle, transport, ..
                } = self;
                let take = |outgoing| transport.queue_outgoing(outgoing);
                match handle.backlog().poll_next(cx, BATCH, take) {
                    Poll::Ready(Next::Frames) => {}
                    Poll::Ready(Next::Ended(ending)) => return Poll::Ready(ending),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(reason)) => return Poll::Ready(reason.into()),
                // The session may be ended meanwhile.
                Poll::Pending => {
                    let stalled = self.stalled.is_some();
                    return self.handle.backlog().poll_cut(cx, stalled);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One write; pending where the kernel takes nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let (sessions, kind) = (&self.sessions, self.transport.kind());
        let delivered = |arrival: Arrival| {
            if let Some(at) = arrival.written(kind.name()) {
                sessions.counts(kind).delivered.inc();
                let seconds = at.elapsed().as_secs_f64();
                sessions.metrics.delivery_seconds.observe(seconds);
            }
        };
        match self.transport.poll_write(cx, delivered) {
            Poll::Ready(Ok(written)) => {
                if written.visible {
                    self.texted = Instant::now();
                }
                if self.stalled.is_some() {
                    // There is room by what the client has acknowledged. Its answer to a ping
                    // may have to wait for a long while behind all the rest.
                    self.heard = self.sessions.clock.now();
                }
                if self.handle.sent(written.frames, written.bytes) {
                    (self.stalled, self.pinged) = (None, false);
                } else if self.stalled.is_none() {
                    // A session that is over has as long as one write may take
                    // for all that is left.
                    self.stalled = Some(self.sessions.clock.now());
                    self.arm();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::ConnectionLost)),
            Poll::Pending => {
                // Else it means that the turn is over, and nothing else.
                if self.stalled.is_none() && has_budget_remaining() {
                    self.stalled = Some(self.sessions.clock.now());
                    self.arm();
                }
                Poll::Pending
            }
        }
    }

    /// Ready with a reason when a time has run out, and with `None` when there is something new
    /// to write.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<CloseReason>> {
        loop {
            // At the end of a turn it would be pending for that alone.
            let over = !has_budget_remaining() && Instant::now() >= self.timer.deadline();
            if !over && self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let config = &self.sessions.config;
            let now = Instant::now();
            let awake = self.sessions.clock.at(now);
            let passed = |since: Awake, limit: Duration| awake >= since + limit;
            if self.ends.take_end(now) {
                self.handle
                    .backlog()
                    .end(CloseReason::SessionExpired.into());
                return Poll::Ready(None);
            }
            if T::ANSWERS && passed(self.heard, config.idle_timeout) {
                return Poll::Ready(Some(CloseReason::Idle));
            }
            if self
                .stalled
                .is_some_and(|since| passed(since, config.write_timeout))
            {
                // An ending that came before this one stays.
                self.handle.backlog().cut(CloseReason::SlowConsumer);
                self.stalled = None;
                return Poll::Ready(None);
            }
            let mut queued = false;
            let notice = self.ends.notice(now);
            if let Some(left) = notice.filter(|_| self.protocol().has_own_frames()) {
                self.say(&answer::expiring(in_seconds(left)));
                queued = true;
            }
            if now >= self.ping_at {
                self.ping_at = self.sessions.beat.after(now);
                // A client that does not read gets no pile of pings.
                if self.stalled.is_none() || !std::mem::replace(&mut self.pinged, true) {
                    self.transport.heartbeat();
                    if self.protocol().is_centrifuge() {
                        self.transport
                            .queue(frame::centrifuge::ping(self.protocol()));
                    }
                    queued = true;
                }
            }
            if self.protocol().has_own_frames()
                && now >= self.sessions.beat.after(self.texted)
                && self.stalled.is_none()
            {
                self.texted = now;
                let (ping, proof) = self.handle.ping();
                let step = proof.map(|Proof { seq, at }| Step::Proof { seq, at });
                self.transport.queue_step(ping, step);
                queued = true;
            }
            self.arm();
            if queued {
                return Poll::Ready(None);
            }
        }
    }

    /// Sets the timer to the next moment at which something is to be done.
    pub(super) fn arm(&mut self) {
        let config = &self.sessions.config;
        let now = Instant::now();
        let awake = self.sessions.clock.at(now);
        // If the gateway stands still before that moment, the timer fires too early, and
        // is set anew.
        let passes = |since: Awake, limit: Duration| now + (since + limit).saturating_sub(awake);
        let mut next = self.ping_at;
        if T::ANSWERS {
            next = next.min(passes(self.heard, config.idle_timeout));
        }
        if self.protocol().has_own_frames() && self.stalled.is_none() {
            next = next.min(self.sessions.beat.after(self.texted));
        }
        if let Some(at) = self.ends.next() {
            next = next.min(at);
        }
        if let Some(stalled) = self.stalled {
            next = next.min(passes(stalled, config.write_timeout));
        }
        self.timer.as_mut().reset(next);
    }

    pub(super) fn user(&self) -> &UserId {
        self.handle.user()
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.handle.backlog().protocol()
    }
}
