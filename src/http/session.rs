//! A session over WebSocket, from its welcome to its close.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use prometheus::{IntCounter, IntGauge};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tungstenite::Message;
use warp::reply::Response;

use super::{admit::Admitted, closing, socket::Socket, upgrade::Upgrade};
use crate::{
    close::{CloseReason, Ending},
    frame::{self, Protocol, Welcome},
    jitter,
    metrics::Metrics,
    registry::{Next, Seat},
    tls::Stream,
};

/// Frames taken from the outbox at a time.
const BATCH: usize = 64;
/// Writes in one turn.
const WRITES: usize = 32;

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
    config: Config,
    metrics: Arc<Metrics>,
    open: IntGauge,
    delivered: IntCounter,
    /// The frame that answers a client's message: none, but in `conformance`.
    answer: fn(&Message) -> Option<Bytes>,
}

impl Sessions {
    /// None is open yet.
    pub fn new(config: Config, metrics: Arc<Metrics>) -> Self {
        Self {
            open: metrics.sessions.with_label_values(&["websocket"]),
            delivered: metrics.messages_delivered.with_label_values(&["websocket"]),
            config,
            metrics,
            answer: |_| None,
        }
    }

    /// Sessions that answer.
    pub(super) fn answering(self, answer: fn(&Message) -> Option<Bytes>) -> Self {
        Self { answer, ..self }
    }

    /// How many are open.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// Answers 101, and lets the session live in a task of its own.
    pub(super) fn begin(self: &Arc<Self>, upgrade: Upgrade, admitted: Admitted) -> Response {
        let sessions = self.clone();
        let (response, on_upgrade) = upgrade.accept();
        // A session's memory is this future, so nothing is in it twice: what a
        // session is made from stays on the stack of a plain function, and its
        // end is a box of its own.
        tokio::spawn(async move {
            // A failed upgrade merely drops the seat.
            let Ok(upgraded) = on_upgrade.await else {
                return;
            };
            let Some(mut session) = Session::begin(sessions, upgraded, admitted) else {
                tracing::error!("an upgraded connection is not the one that was accepted");
                return;
            };
            let ending = poll_fn(|cx| session.poll_open(cx)).await;
            Box::pin(session.close(ending)).await;
        });
        response
    }
}

struct Session {
    sessions: Arc<Sessions>,
    socket: Socket<Stream>,
    seat: Seat,
    /// One of `public.max_sessions`.
    place: OwnedSemaphorePermit,
    /// Fires at or before the next of the moments below.
    timer: Pin<Box<Sleep>>,
    ping_at: Instant,
    /// When the client last got a text frame.
    texted: Instant,
    heard: Instant,
    expires: Option<Instant>,
    /// Since when the kernel takes nothing.
    stalled: Option<Instant>,
}

impl Session {
    /// None where the connection is not the one that was accepted.
    fn begin(sessions: Arc<Sessions>, upgraded: Upgraded, admitted: Admitted) -> Option<Self> {
        let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Stream>>().ok()?;
        let Admitted {
            seat,
            opening,
            place,
            expires_at,
        } = admitted;
        let config = &sessions.config;
        let mut socket = Socket::new(
            io.into_inner(),
            &read_buf,
            config.max_frame,
            config.frames_per_second,
        );
        let now = Instant::now();
        if seat.outbox().protocol() == Protocol::UsherV1 {
            let welcome = Welcome {
                session: &ulid::Ulid::new().to_string(),
                user: seat.user().as_str(),
                gateway: &config.gateway,
                ping: config.ping_interval,
                epoch: opening.stream.as_ref().map(|(epoch, _)| &**epoch),
                seq: opening.stream.as_ref().map(|(_, last)| *last),
                resume: opening.resume,
            };
            socket.queue(welcome.frame());
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
        sessions.open.inc();
        let mut session = Self {
            timer: Box::pin(sleep_until(ping_at)),
            ping_at,
            texted: now,
            heard: now,
            expires: ticket_ends.into_iter().chain(lifetime_ends).min(),
            stalled: None,
            sessions,
            socket,
            seat,
            place,
        };
        session.arm();
        Some(session)
    }

    async fn close(self, ending: Ending) {
        let Self {
            sessions,
            mut socket,
            seat,
            place,
            ..
        } = self;
        let raw = seat.outbox().protocol() == Protocol::RawV1;
        // Nothing more is sent to it, so it holds no subscription while it goes.
        drop(seat);
        closing::close(&mut socket, ending, raw, sessions.config.write_timeout).await;
        let closes = &sessions.metrics.session_closes;
        closes.with_label_values(&[ending.reason.name()]).inc();
        sessions.open.dec();
        drop(place);
    }

    /// Serves both directions and the clock until the session is over.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if let Poll::Ready(reason) = self.poll_receive(cx) {
            return Poll::Ready(reason.into());
        }
        loop {
            if let Poll::Ready(ending) = self.poll_send(cx) {
                return Poll::Ready(ending);
            }
            match self.poll_timer(cx) {
                Poll::Ready(Some(reason)) => return Poll::Ready(reason.into()),
                Poll::Ready(None) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<CloseReason> {
        while let Poll::Ready(received) = self.socket.poll_receive(cx) {
            let message = match received {
                Ok(message) => message,
                Err(reason) => return Poll::Ready(reason),
            };
            self.heard = Instant::now();
            let understood = match &message {
                Message::Close(_) => return Poll::Ready(CloseReason::ClientLeft),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => true,
                Message::Text(text) => self.is_raw() || is_json_object(text),
                Message::Binary(_) => self.is_raw(),
            };
            if !understood {
                return Poll::Ready(CloseReason::BadFrame);
            }
            if let Some(answer) = (self.sessions.answer)(&message) {
                self.socket.queue(answer);
            }
        }
        Poll::Pending
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // Fewer writes than tokio grants a turn: a write that is pending then
        // means that the kernel takes no more, and nothing else.
        for _ in 0..WRITES {
            // Backlog stays in the outbox, where it is bounded and can be shed.
            if !self.socket.has_unsent() {
                let Self { seat, socket, .. } = self;
                let take = |outgoing| socket.queue_outgoing(outgoing);
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
            sessions.delivered.inc();
            let seconds = arrived.elapsed().as_secs_f64();
            sessions.metrics.delivery_seconds.observe(seconds);
        };
        match self.socket.poll_write(cx, delivered) {
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
                if self.stalled.is_none() {
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
            if self.timer.as_mut().poll(cx).is_pending() {
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
            if passed(self.heard, config.idle_timeout) {
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
                    self.socket.ping();
                    queued = true;
                }
            }
            if !self.is_raw() && passed(self.texted, config.ping_interval) && self.stalled.is_none()
            {
                self.texted = now;
                let proven = self.seat.outbox().proven();
                self.socket.queue(frame::ping(proven));
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
        let mut next = self.ping_at.min(self.heard + config.idle_timeout);
        if !self.is_raw() && self.stalled.is_none() {
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

    fn is_raw(&self) -> bool {
        self.seat.outbox().protocol() == Protocol::RawV1
    }
}

pub(super) fn is_json_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && frame::is_json(text)
}
