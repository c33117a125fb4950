//! Sessions: what they share, and how one begins.

mod beat;
mod centrifuge;
mod closes;
mod command;
mod connected;
mod end;
mod expiry;
mod open;
mod refresh;
mod talk;
mod welcome;

use std::{
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use prometheus::{IntCounter, IntGauge};
use ulid::Ulid;

use self::{beat::Beat, closes::Closes, open::Session};
pub(super) use self::{centrifuge::burst, closes::Close};
use super::{
    admit::Admitted,
    closing,
    credentials::Credentials,
    frame_rate::FrameRate,
    running_clock::AwakeClock,
    transport::{Echo, Kind, Transport},
};
use crate::{
    bus::Calls, close::CloseReason, frame::Protocol, metrics::Metrics, provoke,
    supervision::contained_now, user::UserId,
};

/// How sessions are kept.
#[derive(Debug, Clone)]
pub struct Config {
    /// This gateway's name, in `welcome`.
    pub gateway: String,
    /// A protocol ping this often, and a text one where no other text was sent.
    pub ping_interval: Duration,
    /// Nothing heard for this long, in which the gateway ran: closed 4002.
    pub idle_timeout: Duration,
    /// Ended at 90–100% of this; `None` for no such end.
    pub max_lifetime: Option<Duration>,
    /// Bytes of one message from the client.
    pub max_frame: usize,
    /// The largest frame that a session is sent.
    pub max_outgoing_frame: usize,
    /// Frames from the client in one second: each fragment and each control frame counts.
    pub frames_per_second: u32,
    /// Topics that one session follows at most.
    pub max_topics: u32,
    /// A write without progress for this long, in which the gateway ran: closed 4000.
    pub write_timeout: Duration,
}

/// Begins sessions, and knows what they share.
#[derive(Debug)]
pub struct Sessions {
    pub(super) config: Config,
    /// When sessions are pinged.
    beat: Beat,
    /// By which clients are judged.
    pub(super) clock: Arc<AwakeClock>,
    /// What clients ask services for.
    calls: Calls,
    /// By which sessions are refreshed.
    credentials: Arc<Credentials>,
    metrics: Arc<Metrics>,
    counts: [Counts; Kind::ALL.len()],
    /// The last sessions that ended.
    closes: Closes,
    /// The frame that echoes a client's message: none, but in `conformance`.
    echo: Echo,
}

/// What is counted by transport.
#[derive(Debug)]
struct Counts {
    open: IntGauge,
    delivered: IntCounter,
}

/// Whether a session understands a text.
#[cfg(fuzzing)]
pub(super) fn understands(text: &str) -> bool {
    let said = command::Said::read(text);
    !matches!(said.command, Err(command::Fault::NotAnObject))
}

impl Sessions {
    /// None is open yet. Also returns their clock, which has to be polled for as long as
    /// there are sessions.
    pub fn new(
        config: Config,
        calls: Calls,
        credentials: Arc<Credentials>,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (clock, ticks) = AwakeClock::ticking();
        let counts = |kind: Kind| Counts {
            open: metrics.sessions.with_label_values(&[kind.name()]),
            delivered: metrics.messages_delivered.with_label_values(&[kind.name()]),
        };
        let sessions = Self {
            counts: Kind::ALL.map(counts),
            closes: Closes::default(),
            beat: Beat::new(config.ping_interval),
            config,
            clock,
            calls,
            credentials,
            metrics,
            echo: |_| None,
        };
        (sessions, ticks)
    }

    /// Sessions that echo.
    pub(super) fn echoing(self, echo: Echo) -> Self {
        Self { echo, ..self }
    }

    /// How many frames a client may send.
    pub(super) fn rate(&self) -> FrameRate {
        FrameRate::new(self.config.frames_per_second, self.clock.clone())
    }

    /// How many are open.
    pub fn open(&self) -> i64 {
        self.counts.iter().map(|counts| counts.open.get()).sum()
    }

    /// The ends of a user's sessions among the last ones here, the newest first.
    pub(super) fn closes_of(&self, user: &UserId) -> Vec<Close> {
        self.closes.of(user)
    }

    /// A session has ended, and its client is about to be told.
    fn ended(&self, user: &UserId, session: Ulid, protocol: Protocol, reason: CloseReason) {
        self.closes.add(Close {
            user: user.clone(),
            session,
            transport: Kind::of(protocol).name(),
            code: closing::code(reason, protocol),
            reason,
            at: SystemTime::now(),
        });
        tracing::debug!(
            %session,
            user = user.as_str(),
            code = closing::code(reason, protocol),
            reason = reason.name(),
            "a session closes"
        );
        let closes = &self.metrics.session_closes;
        closes.with_label_values(&[reason.name()]).inc();
    }

    /// Lets a session live in a task of its own.
    pub(super) fn begin<T>(self: Arc<Self>, transport: T, admitted: Admitted)
    where
        T: Transport + Send + 'static,
    {
        let transport_name = transport.kind().name();
        let mut session = Session::new(self, transport, admitted);
        tracing::debug!(
            session = %session.id,
            user = session.user().as_str(),
            transport = transport_name,
            "a session opens"
        );
        // A session's memory is this future, so nothing is in it twice, and its end
        // is a box of its own.
        tokio::spawn(async move {
            // A fault in it ends this session and no other; its client may reconnect.
            let ending = poll_fn(|cx| {
                let polled = contained_now(|| {
                    provoke::here("session", session.user().as_str());
                    session.poll_open(cx)
                });
                polled.unwrap_or(Poll::Ready(CloseReason::Internal.into()))
            })
            .await;
            Box::pin(session.close(ending)).await;
        });
    }

    fn counts(&self, kind: Kind) -> &Counts {
        &self.counts[kind as usize]
    }
}
