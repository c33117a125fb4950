//! Whether this gateway should be sent new sessions, and why not.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Something that speaks against new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// NATS has never answered since the start.
    NatsNotReached,
    /// Redis has never answered since the start.
    RedisNotReached,
    /// Durable mode has not found its stream, or not as it must be, since the start.
    StreamNotReady,
    /// NATS has been away for longer than `ops.nats_grace`.
    NatsAway,
    /// This gateway is going away.
    Draining,
}

/// Latches and states, set by the rooms that know and read by whoever answers.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// 0 stands for never.
    nats_grace: Duration,
    facts: Mutex<Facts>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    nats_reached: bool,
    /// The other connection to NATS, on which pushes leave.
    publisher_reached: bool,
    redis_reached: bool,
    /// Not waited for in live mode.
    stream_awaited: bool,
    /// Since when NATS is away; none while it is there.
    nats_away: Option<Instant>,
    draining: bool,
}

impl Readiness {
    /// Nothing has answered yet. `nats_grace` of zero: an outage of NATS never
    /// takes a gateway out of service.
    pub fn new(nats_grace: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                nats_grace,
                facts: Mutex::default(),
                changed: watch::Sender::new(()),
            }),
        }
    }

    /// NATS has answered, and what is held is subscribed.
    pub fn nats_up(&self) {
        self.change(|facts| {
            facts.nats_reached = true;
            facts.nats_away = None;
        });
    }

    /// NATS takes pushes.
    pub fn publisher_up(&self) {
        self.change(|facts| facts.publisher_reached = true);
    }

    /// The connection to NATS is lost.
    pub fn nats_down(&self) {
        self.change(|facts| facts.nats_away = facts.nats_away.or(Some(Instant::now())));
    }

    /// Redis has answered.
    pub fn redis_up(&self) {
        self.change(|facts| facts.redis_reached = true);
    }

    /// Durable mode needs a stream.
    pub fn await_stream(&self) {
        self.change(|facts| facts.stream_awaited = true);
    }

    /// The stream is there, as it must be.
    pub fn stream_up(&self) {
        self.change(|facts| facts.stream_awaited = false);
    }

    /// This gateway is going away.
    pub fn drain(&self) {
        self.change(|facts| facts.draining = true);
    }

    /// What speaks against new sessions now; nothing where this gateway is ready.
    pub fn reasons(&self) -> Vec<Reason> {
        let facts = self.facts();
        let grace = self.shared.nats_grace;
        let too_long = |since: Instant| !grace.is_zero() && since.elapsed() > grace;
        [
            (
                !(facts.nats_reached && facts.publisher_reached),
                Reason::NatsNotReached,
            ),
            (!facts.redis_reached, Reason::RedisNotReached),
            (facts.stream_awaited, Reason::StreamNotReady),
            (facts.nats_away.is_some_and(too_long), Reason::NatsAway),
            (facts.draining, Reason::Draining),
        ]
        .into_iter()
        .filter_map(|(holds, reason)| holds.then_some(reason))
        .collect()
    }

    /// Whether nothing speaks against new sessions.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }

    /// Waits until [`Readiness::is_ready`] is no longer `ready`.
    pub async fn changed_from(&self, ready: bool) {
        let mut changes = self.shared.changed.subscribe();
        let grace = self.shared.nats_grace;
        while self.is_ready() == ready {
            let grace_ends = self
                .facts()
                .nats_away
                .filter(|_| !grace.is_zero())
                .map(|since| since + grace + Duration::from_millis(1))
                .filter(|at| *at > Instant::now());
            let grace_ends = async {
                match grace_ends {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `self`.
                _ = changes.changed() => {}
                () = grace_ends => {}
            }
        }
    }

    fn facts(&self) -> Facts {
        *self
            .shared
            .facts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(
            &mut self
                .shared
                .facts
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.shared.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_once_both_have_answered() {
        let readiness = Readiness::new(Duration::ZERO);
        assert_eq!(
            readiness.reasons(),
            [Reason::NatsNotReached, Reason::RedisNotReached]
        );
        readiness.nats_up();
        readiness.publisher_up();
        readiness.redis_up();
        assert_eq!(readiness.reasons(), []);
        readiness.nats_down();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(
            readiness.reasons(),
            [],
            "without a grace an outage changes nothing"
        );
        readiness.drain();
        assert_eq!(readiness.reasons(), [Reason::Draining]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_counts_when_the_grace_is_over() {
        let readiness = Readiness::new(Duration::from_secs(5));
        readiness.nats_up();
        readiness.publisher_up();
        readiness.redis_up();
        let start = Instant::now();
        readiness.nats_down();
        assert!(readiness.is_ready(), "within the grace");
        readiness.changed_from(true).await;
        assert!(start.elapsed() > Duration::from_secs(5));
        assert_eq!(readiness.reasons(), [Reason::NatsAway]);
        let waiting = readiness.clone();
        let waiting = tokio::spawn(async move { waiting.changed_from(false).await });
        tokio::task::yield_now().await;
        readiness.nats_up();
        waiting.await.expect("told");
        assert!(readiness.is_ready());
    }
}
