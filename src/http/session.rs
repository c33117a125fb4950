//! A session, from its welcome to its close, whatever carries it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use prometheus::{IntCounter, IntGauge};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    admit::Admitted,
    closing,
    transport::{Answer, Kind, Transport},
};
use crate::{
    close::{CloseReason, Ending},
    frame::{Protocol, Welcome},
    jitter,
    metrics::Metrics,
    registry::{Next, Seat},
};

/// Frames taken from the outbox at a time.
const BATCH: usize = 64;
/// Writes in one turn.
const WRITES: usize = 32;
/// Chunks that wait to be written where nothing more is read: a batch of the outbox, and
/// some answers.
const UNSENT: usize = BATCH + 16;

/// How sessions are kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// This gateway's name, in `welcome`.
    pub gateway: String,
    /// A protocol ping this often, and a text one where no other text was sent.
    pub ping_interval: Duration,
    /// Nothing heard for this long: closed 4002.
    pub idle_timeout: Duration,
    /// Ended at 90–100% of this; none for no such end.
    pub max_lifetime: Option<Duration>,
    /// Bytes of one message from the client.
    pub max_frame: usize,
    /// Messages and control frames from the client in one second.
    pub frames_per_second: u32,
    /// A write without progress for this long: closed 4000.
    pub write_timeout: Duration,
}

/// Begins sessions, and knows what they share.
#[derive(Debug)]
pub struct Sessions {
    pub(super) config: Config,
    metrics: Arc<Metrics>,
    counts: [Counts; Kind::ALL.len()],
    /// The frame that answers a client's message: none, but in `conformance`.
    answer: Answer,
}

/// What is counted by transport.
#[derive(Debug)]
struct Counts {
    open: IntGauge,
    delivered: IntCounter,
}

impl Sessions {
    /// None is open yet.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        let counts = |kind: Kind| Counts {
            open: metrics.sessions.with_label_values(&[kind.name()]),
            delivered: metrics.messages_delivered.with_label_values(&[kind.name()]),
        };
        Self {
            counts: Kind::ALL.map(counts),
            config,
            metrics,
            answer: |_| None,
        }
    }

    /// Sessions that answer.
    pub(super) fn answering(self, answer: Answer) -> Self {
        Self { answer, ..self }
    }

    /// How many are open.
    pub fn open(&self) -> i64 {
        self.counts.iter().map(|counts| counts.open.get()).sum()
    }

    /// Lets a session live in a task of its own.
    pub(super) fn begin<T>(self: Arc<Self>, transport: T, admitted: Admitted)
    where
        T: Transport + Send + 'static,
    {
        let mut session = Session::new(self, transport, admitted);
        // A session's memory is this future, so nothing is in it twice, and its end
        // is a box of its own.
        tokio::spawn(async move {
            let ending = poll_fn(|cx| session.poll_open(cx)).await;
            Box::pin(session.close(ending)).await;
        });
    }

    fn counts<T: Transport>(&self) -> &Counts {
        &self.counts[T::KIND as usize]
    }
}

struct Session<T> {
    sessions: Arc<Sessions>,
    transport: T,
    seat: Seat,
    /// One of `public.max_sessions`.
    place: OwnedSemaphorePermit,
    /// Fires at or before the next of the moments below.
    timer: Pin<Box<Sleep>>,
    ping_at: Instant,
    /// When the client last got a frame that its script sees.
    texted: Instant,
    heard: Instant,
    expires: Option<Instant>,
    /// Since when the kernel takes nothing.
    stalled: Option<Instant>,
}

impl<T: Transport> Session<T> {
    fn new(sessions: Arc<Sessions>, mut transport: T, admitted: Admitted) -> Self {
        let Admitted {
            seat,
            opening,
            place,
            expires_at,
        } = admitted;
        let config = &sessions.config;
        let now = Instant::now();
        let protocol = seat.outbox().protocol();
        if protocol.has_own_frames() {
            let welcome = Welcome {
                session: &ulid::Ulid::new().to_string(),
                user: seat.user().as_str(),
                gateway: &config.gateway,
                ping: config.ping_interval,
                epoch: opening.stream.as_ref().map(|(epoch, _)| &**epoch),
                seq: opening.stream.as_ref().map(|(_, last)| *last),
                resume: opening.resume,
            };
            transport.queue(protocol.frame(&welcome.json(), None));
        }
        let ticket_ends = expires_at.map(|at| {
            now + at
                .duration_since(SystemTime::now())
                .unwrap_or(Duration::ZERO)
        });
        let lifetime_ends = config
            .max_lifetime
            .map(|most| now + jitter::fraction_of(most, 0.9, 1.0));
        let ping_at = now + config.ping_interval;
        sessions.counts::<T>().open.inc();
        let mut session = Self {
            timer: Box::pin(sleep_until(ping_at)),
            ping_at,
            texted: now,
            heard: now,
            expires: ticket_ends.into_iter().chain(lifetime_ends).min(),
            stalled: None,
            sessions,
            transport,
            seat,
            place,
        };
        session.arm();
        session
    }

    async fn close(self, ending: Ending) {
        let Self {
            sessions,
            mut transport,
            seat,
            place,
            ..
        } = self;
        let protocol = seat.outbox().protocol();
        // Nothing more is sent to it, so it holds no subscription while it goes.
        drop(seat);
        let closes = &sessions.metrics.session_closes;
        closes.with_label_values(&[ending.reason.name()]).inc();
        closing::close(
            &mut transport,
            ending,
            protocol,
            sessions.config.write_timeout,
        )
        .await;
        sessions.counts::<T>().open.dec();
        drop(place);
    }

    /// Serves both directions and the clock until the session is over.
    ///
    /// What is received may use up all that tokio grants a turn, so it comes after what
    /// is sent; and before the clock, for which it counts that something was heard.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Poll::Ready(ending) = self.poll_send(cx) {
            return Poll::Ready(ending);
        }
        if let Poll::Ready(reason) = self.poll_receive(cx) {
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

    /// Whether so much waits to be written that nothing is read.
    fn is_full(&self) -> bool {
        self.transport.unsent() >= UNSENT
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        let raw = !self.protocol().has_own_frames();
        let answer = self.sessions.answer;
        // Whoever does not read the answers is asked nothing more: what wakes us then is
        // that the kernel takes something, or the clock.
        while !self.is_full() {
            let Poll::Ready(received) = self.transport.poll_receive(cx, raw, answer) else {
                break;
            };
            match received {
                Ok(()) => self.heard = Instant::now(),
                Err(reason) => return Poll::Ready(reason),
            }
        }
        Poll::Pending
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // Fewer writes than tokio grants a turn.
        for _ in 0..WRITES {
            // Backlog stays in the outbox, where it is bounded and can be shed.
            if !self.transport.has_unsent() {
                let Self {
                    seat, transport, ..
                } = self;
                let take = |outgoing| transport.queue_outgoing(outgoing);
                match seat.outbox().poll_next(cx, BATCH, take) {
                    Poll::Ready(Next::Frames) => {}
                    Poll::Ready(Next::Ended(ending)) => return Poll::Ready(ending),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(reason)) => return Poll::Ready(reason.into()),
                // The session may be ended meanwhile.
                Poll::Pending => return self.seat.outbox().poll_cut(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One write; pending where the kernel takes nothing.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let sessions = &self.sessions;
        let delivered = |arrived: std::time::Instant| {
            sessions.counts::<T>().delivered.inc();
            let seconds = arrived.elapsed().as_secs_f64();
            sessions.metrics.delivery_seconds.observe(seconds);
        };
        match self.transport.poll_write(cx, delivered) {
            Poll::Ready(Ok(written)) => {
                if written.visible {
                    self.texted = Instant::now();
                }
                if self.seat.sent(written.frames, written.bytes) {
                    self.stalled = None;
                } else if self.stalled.is_none() {
                    // A session that is over has as long as one write may take
                    // for all that is left.
                    self.stalled = Some(Instant::now());
                    self.arm();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(CloseReason::ConnectionLost)),
            Poll::Pending => {
                // Else it means that the turn is over, and nothing else.
                if self.stalled.is_none() && has_budget_remaining() {
                    self.stalled = Some(Instant::now());
                    self.arm();
                }
                Poll::Pending
            }
        }
    }

    /// Ready with a reason when a time has run out, with none when there is
    /// something new to write.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<CloseReason>> {
        loop {
            // At the end of a turn it would be pending for that alone.
            let over = !has_budget_remaining() && Instant::now() >= self.timer.deadline();
            if !over && self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let config = &self.sessions.config;
            let now = Instant::now();
            let passed = |since: Instant, limit: Duration| now >= since + limit;
            if self.expires.is_some_and(|at| now >= at) {
                self.expires = None;
                self.seat.outbox().end(CloseReason::SessionExpired.into());
                return Poll::Ready(None);
            }
            if T::ANSWERS && passed(self.heard, config.idle_timeout) {
                return Poll::Ready(Some(CloseReason::Idle));
            }
            if self
                .stalled
                .is_some_and(|since| passed(since, config.write_timeout))
            {
                return Poll::Ready(Some(CloseReason::SlowConsumer));
            }
            let mut queued = false;
            if now >= self.ping_at {
                self.ping_at = now + config.ping_interval;
                // A client that does not read gets no pile of pings.
                if self.stalled.is_none() {
                    self.transport.heartbeat();
                    queued = true;
                }
            }
            if self.protocol().has_own_frames()
                && passed(self.texted, config.ping_interval)
                && self.stalled.is_none()
            {
                self.texted = now;
                self.transport.queue(self.seat.ping());
                queued = true;
            }
            self.arm();
            if queued {
                return Poll::Ready(None);
            }
        }
    }

    /// Sets the timer to the next moment at which something is to be done.
    fn arm(&mut self) {
        let config = &self.sessions.config;
        let mut next = self.ping_at;
        if T::ANSWERS {
            next = next.min(self.heard + config.idle_timeout);
        }
        if self.protocol().has_own_frames() && self.stalled.is_none() {
            next = next.min(self.texted + config.ping_interval);
        }
        if let Some(expires) = self.expires {
            next = next.min(expires);
        }
        if let Some(stalled) = self.stalled {
            next = next.min(stalled + config.write_timeout);
        }
        self.timer.as_mut().reset(next);
    }

    fn protocol(&self) -> Protocol {
        self.seat.outbox().protocol()
    }
}
